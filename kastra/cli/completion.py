"""`kastra completion SHELL`: the script that teaches a shell to complete kastra's verbs, options, kinds and names."""

import click

from .options import examples


@click.command(
    epilog=examples(
        "source <(kastra completion bash)                       this shell",
        "kastra completion bash > /etc/bash_completion.d/kastra every shell",
        'kastra completion zsh > "${fpath[1]}/_kastra"',
        "kastra completion fish > ~/.config/fish/completions/kastra.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print a shell completion script."""
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(context.find_root().command, {}, "kastra", "_KASTRA_COMPLETE").source())
    return 0
