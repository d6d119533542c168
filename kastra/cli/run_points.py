"""`kastra history run/NAME --points`: from which steps a Run can be repeated.

Its steps at the top, in the order in which they began, each with how it went and what `kastra rerun` makes of it. Read next:
`kastra.engine.rerun`.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from .layout import Layout, one_line
from .session import say

if TYPE_CHECKING:
    from kastra.api.meta import ObjectRef
    from kastra.client.interface import Client

_WIDTHS = (24, 10, 10, 27)
_HEADERS = ("STEP", "KIND", "PHASE", "STARTED", "REPEAT FROM HERE")
_TOP = re.compile(r"[^/\[#~]+")


async def show_points(client: "Client", ref: "ObjectRef", as_json: bool) -> int:
    """Print them; with `as_json` one object a line."""
    import orjson

    run = await client.get(ref)
    ended = run.is_condition_true("Complete")
    layout, shown = Layout(_WIDTHS), 0
    async for row in client.connect(ref, "steps"):
        if not _is_point(row):
            continue
        command = f"kastra rerun run/{ref.name} --from {row['key']}" if ended else ""
        if as_json:
            click.echo(orjson.dumps({**row, "rerun": command or None}).decode())
        else:
            lines = [_HEADERS, _line(row, command)] if shown == 0 else [_line(row, command)]
            click.echo("\n".join(layout.lines(lines)))
        shown += 1
    if not shown:
        say(f"run/{ref.name} has no steps of its own: only Runs of workflows can be repeated from one")
    elif not ended:
        say(f"run/{ref.name} has not ended; it can be repeated from a step when it has")
    return 0


def _is_point(row: Mapping[str, Any]) -> bool:
    key = row["key"]
    return bool(key) and _TOP.fullmatch(key) is not None and key not in ("finally", "compensate")


def _line(row: Mapping[str, Any], command: str) -> tuple[str, ...]:
    return (one_line(row["key"]), row.get("kind", ""), row.get("phase", ""), row.get("startedAt", ""), command)
