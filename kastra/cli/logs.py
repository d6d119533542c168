"""`kastra logs run/NAME`: the events of a Run from its journal, whether it is under way, has ended, or crashed."""

import sys
from typing import TYPE_CHECKING, Any

import click

from .arguments import parse_one, ref_of
from .completing import complete_objects
from .options import examples, namespace_option
from .session import reading

if TYPE_CHECKING:
    from kastra.client.interface import Client


@click.command(
    epilog=examples(
        "kastra logs run/recipe-suggestion-x7k2p",
        "kastra logs run/x -f",
        "kastra logs run/x -o json | jq 'select(.type == \"tool.call\")'",
    )
)
@click.argument("target", nargs=-1, required=True, metavar="run/NAME", shell_complete=complete_objects)
@namespace_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the Run has ended.")
@click.option("--since-seq", type=int, default=0, metavar="NUMBER", help="Only events after this sequence number.")
@click.option("--timestamps", is_flag=True, help="Times instead of seconds since the start.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: one event per line.")
def logs(target: tuple[str, ...], **options: Any) -> int:
    """Show the events of a Run."""
    return reading(lambda client: _logs(client, target, options))


async def _logs(client: "Client", target: tuple[str, ...], options: dict[str, Any]) -> int:
    import orjson

    from kastra.engine.lines import EventLines

    # `kastra logs NAME` can only mean a Run: nothing else has a log.
    named = ("run", *target) if len(target) == 1 and "/" not in target[0] else target
    resource, name = parse_one(client.scheme, named)
    if "events" not in resource.subresources and resource.kind != "Run":
        raise ValueError(f"a {resource.kind} has no log; Runs have: kastra logs run/NAME")
    lines = EventLines(timestamps=options["timestamps"], everything=True, color=sys.stdout.isatty())
    ref = ref_of(resource, name, options["namespace"])
    async for event in client.connect(ref, "events", {"follow": options["follow"]}, options["since_seq"]):
        if options["output"] == "json":
            click.echo(orjson.dumps(event).decode())
        elif (line := lines.line(event)) is not None:
            click.echo(line)
    return 0
