"""`kastra watch`: run the controllers and the executor, and show the reconcile loop live.

One line per reconcile: when, which object, why it was queued, what came of it, how long it took, and when it will be looked at
again. Runs until interrupted; Runs that were left behind by a crash go on. Read next: `kastra.runtime.controller`.
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from kastra.api.durations import format_duration
from kastra.api.meta import DEFAULT_NAMESPACE
from kastra.clock import SystemClock, rfc3339

from .layout import Layout, one_line
from .options import examples, filename_option
from .session import owning_here, say

if TYPE_CHECKING:
    from kastra.app import Kastra

_HEADERS = ("TIME", "OBJECT", "WHY", "OUTCOME", "TOOK", "NEXT", "MESSAGE")
_WIDTHS = (11, 44, 24, 10, 10, 12)
_GOOD = ("success", "requeue")
_RED, _GREEN, _END = "\x1b[31m", "\x1b[32m", "\x1b[0m"


@click.command(
    epilog=examples(
        "kastra watch                       everything",
        "kastra watch -f manifests          apply these first",
        "kastra watch --kind run --failures",
    )
)
@filename_option
@click.option(
    "-n", "--namespace", default="", metavar="NAME", help="Show only this namespace; of files that name none."
)
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Show only this kind; can be repeated.")
@click.option("--failures", is_flag=True, help="Show only reconciles that failed.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="json: one outcome per line."
)
def watch(**options: Any) -> int:
    """Run the controllers and show the reconcile loop live."""
    return owning_here(lambda kastra: _watch(kastra, options), execute=True)


async def _watch(kastra: "Kastra", options: dict[str, Any]) -> int:
    from kastra.runtime.manager import RECONCILE_TOPIC

    from .arguments import find_resource

    kinds = frozenset(find_resource(kastra.client.scheme, kind).kind for kind in options["kinds"])
    # From the first outcome on: the controllers were started before this line.
    outcomes = kastra.bus.subscribe(RECONCILE_TOPIC, 0)
    say(f"controllers are running on {kastra.settings.store}; Ctrl-C ends")
    if options["filenames"]:
        await _apply(kastra, options)
    lines = OutcomeLines(json=options["output"] == "json", color=sys.stdout.isatty())
    while True:
        async for _, outcome in outcomes:
            if _is_shown(outcome, kinds, options):
                click.echo("\n".join(lines.lines(outcome)))
        # The terminal was too slow for what happened; the loop itself waits for nobody.
        say("some outcomes were not shown")
        outcomes = kastra.bus.subscribe(RECONCILE_TOPIC)


async def _apply(kastra: "Kastra", options: dict[str, Any]) -> None:
    """Apply the given files; what is wrong with them is shown and stops nothing."""
    from .apply import print_problems
    from .arguments import display_object
    from .options import load_files

    loaded = load_files(options["filenames"], recursive=options["recursive"])
    report = await kastra.apply(loaded, namespace=options["namespace"] or DEFAULT_NAMESPACE)
    print_problems(report)
    for one in report.applied:
        say(f"{display_object(kastra.client.scheme, one.ref)} {one.verb}")


def _is_shown(outcome: Mapping[str, Any], kinds: frozenset[str], options: dict[str, Any]) -> bool:
    return (
        (outcome["namespace"] in (options["namespace"], "") or not options["namespace"])
        and (outcome["kind"].partition(".")[0] in kinds or not kinds)
        and (outcome["outcome"] not in _GOOD or not options["failures"])
    )


class OutcomeLines:
    """Formats outcomes of reconciles, under headers that come with the first."""

    def __init__(self, *, json: bool = False, color: bool = False) -> None:
        self._json = json
        self._color = color
        self._layout = Layout(_WIDTHS)
        self._headers = not json

    def lines(self, outcome: Mapping[str, Any]) -> list[str]:
        """One outcome; `duration` and `requeueAfter` in seconds."""
        now = SystemClock().now()
        if self._json:
            import orjson

            return [orjson.dumps({"time": rfc3339(now), **outcome}).decode()]
        requeue = outcome.get("requeueAfter")
        row = (
            now.astimezone().strftime("%H:%M:%S"),
            "/".join(filter(None, (outcome["kind"].partition(".")[0], outcome["namespace"], outcome["name"]))),
            outcome["trigger"],
            outcome["outcome"],
            _milliseconds(outcome["duration"]),
            "" if requeue is None else f"in {format_duration(round(requeue, 1))}",
            one_line(outcome.get("message") or ""),
        )
        rows = [_HEADERS, row] if self._headers else [row]
        self._headers = False
        lines = self._layout.lines(rows)
        if self._color:
            shade = _GREEN if outcome["outcome"] in _GOOD else _RED
            lines[-1] = lines[-1].replace(f" {row[3]} ", f" {shade}{row[3]}{_END} ", 1)
        return lines


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}ms" if seconds < 1 else f"{seconds:.2f}s"
