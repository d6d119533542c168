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

    from .run_view import RunView


@click.command(
    epilog=examples(
        "kastra logs run/recipe-suggestion-x7k2p",
        "kastra logs run/x -f                 a tree of its steps on a terminal, lines elsewhere",
        "kastra logs run/x -o json | jq 'select(.type == \"tool.call\")'",
    )
)
@click.argument("target", nargs=-1, required=True, metavar="run/NAME", shell_complete=complete_objects)
@namespace_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the Run has ended.")
@click.option(
    "--tree/--no-tree",
    default=None,
    help="The steps as a tree, drawn in place (default: with -f on a terminal); else a line an event.",
)
@click.option("--since-seq", type=int, default=0, metavar="NUMBER", help="Only events after this sequence number.")
@click.option("--timestamps", is_flag=True, help="Times instead of seconds since the start.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: one event per line.")
def logs(target: tuple[str, ...], **options: Any) -> int:
    """Show the events of a Run."""
    return reading(lambda client: _logs(client, target, options))


async def _logs(client: "Client", target: tuple[str, ...], options: dict[str, Any]) -> int:
    import orjson

    from kastra.app.following import follow_events
    from kastra.engine.lines import EventLines

    # `kastra logs NAME` can only mean a Run: nothing else has a log.
    named = ("run", *target) if len(target) == 1 and "/" not in target[0] else target
    resource, name = parse_one(client.scheme, named)
    if "events" not in resource.subresources and resource.kind != "Run":
        raise ValueError(f"a {resource.kind} has no log; Runs have: kastra logs run/NAME")
    lines = EventLines(timestamps=options["timestamps"], everything=True, color=sys.stdout.isatty())
    ref = ref_of(resource, name, options["namespace"])
    events = follow_events(client, ref, options["since_seq"], follow=options["follow"])
    if (view := _view(name, options)) is not None:
        async with view.drawing():
            async for event in events:
                view.event(event)
        return 0
    async for event in events:
        if options["output"] == "json":
            click.echo(orjson.dumps(event).decode())
        elif (line := lines.line(event)) is not None:
            click.echo(line)
    return 0


def _view(name: str, options: dict[str, Any]) -> "RunView | None":
    """What draws the tree; None where lines are wanted."""
    tree = options["tree"]
    if tree is None:
        tree = options["follow"] and options["output"] == "text" and not options["timestamps"] and sys.stdout.isatty()
    if not tree:
        return None
    if options["output"] == "json":
        raise click.UsageError("--tree and -o json exclude each other")
    from .run_view import view_on

    view = view_on(sys.stdout, f"run/{name}")
    if view is None and options["tree"]:
        raise click.UsageError("--tree needs a terminal")
    return view
