"""The reference page says what the commands say."""

from pathlib import Path

from kastra.cli.main import cli
from kastra.cli.reference import page

FILE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def test_the_page_is_what_the_commands_generate() -> None:
    assert FILE.read_text() == page(), "run: python -m kastra.cli.reference > docs/reference/cli.md"


def test_every_verb_and_option_is_on_it() -> None:
    import click

    context = click.Context(cli, **cli.context_settings)
    text = page()
    for verb in cli.list_commands(context):
        command = cli.get_command(context, verb)
        assert command is not None
        assert f"## kastra {verb}\n" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(f"{name}" in text for name in parameter.opts)
