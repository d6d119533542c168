"""`kastra init`: a project that runs at once. The files are `kastra.scaffold.project`'s."""

from pathlib import Path

import click

from .options import examples

_TEMPLATES = ("minimal", "chat", "workflow", "network", "kind")


@click.command(
    epilog=examples(
        "kastra init library",
        "kastra init glossary --template kind",
        "kastra init .",
    )
)
@click.argument("path", metavar="NAME", type=click.Path(path_type=Path))
@click.option(
    "--template",
    type=click.Choice(_TEMPLATES),
    default="minimal",
    show_default=True,
    help="What is in it: an agent with a tool, an agent with two, a workflow, a network, or a kind of your own.",
)
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
def init(path: Path, template: str, force: bool) -> int:
    """Make a project in a new folder.

    Everything in it runs at once, without a key and without a network. NAME is the folder; its last part is the project's
    name. No file that exists is overwritten unless you say --force.
    """
    from kastra.scaffold.project import create

    created = create(path, template, force=force)
    here = created.folder == Path.cwd()
    click.echo(f"project {created.folder.name} created in {path}: {len(created.files)} files")
    commands = created.commands if here else (f"cd {path}", *created.commands)
    for command in commands:
        click.echo(f"  {command}")
    return 0
