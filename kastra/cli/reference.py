"""The reference page of the command line, generated from the commands themselves: `docs/reference/cli.md`.

python -m kastra.cli.reference > docs/reference/cli.md
"""

import inspect
from collections.abc import Iterator, Sequence

import click

from .main import cli

_INTRODUCTION = """\
# The command line

Generated from the commands by `python -m kastra.cli.reference`; do not edit.

`kastra VERB ...` opens the store itself: verbs that only read do so beside whoever owns the store; verbs that write own it
while they run, and are told who holds it otherwise.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted, 143 terminated. `kastra diff` uses 1 for
differences and 2 for errors.
"""


def page() -> str:
    """The whole page as Markdown."""
    context = click.Context(cli, info_name="kastra", **cli.context_settings)
    lines = [_INTRODUCTION, "## Options of every verb", "", *_options(cli, context), ""]
    for verb in cli.list_commands(context):
        command = cli.get_command(context, verb)
        assert command is not None
        lines += _command(command, click.Context(command, info_name=verb, parent=context))
    return "\n".join(lines).rstrip() + "\n"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## kastra {context.info_name}"
    yield ""
    yield from [inspect.cleandoc(command.help or ""), ""]
    if command.epilog:
        yield from ["```", *(line.strip() for line in command.epilog.splitlines()[2:]), "```", ""]
    usage = " ".join(piece for piece in command.collect_usage_pieces(context))
    yield f"Usage: `kastra {context.info_name} {usage}`"
    yield ""
    yield from _options(command, context)
    yield ""


def _options(command: click.Command, context: click.Context) -> Sequence[str]:
    rows = [
        record
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None
    ]
    if not rows:
        return ["No options."]
    return ["| option | meaning |", "|---|---|", *(f"| `{_cell(name)}` | {_cell(text)} |" for name, text in rows)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    click.echo(page(), nl=False)
