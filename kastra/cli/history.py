"""`kastra history run/NAME`: the journal of a Run, record by record.

What `kastra logs` shows is made from it; here is all of it, timers and decisions included, with the number that everything
else refers to (`history/118`). It is read in pages, so a long journal is no problem.
"""

import sys
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from .arguments import parse_one, ref_of
from .completing import complete_objects
from .layout import Layout, one_line
from .options import examples, namespace_option
from .session import reading, say

if TYPE_CHECKING:
    from kastra.api.meta import ObjectRef
    from kastra.client.interface import Client

_PAGE = 10_000
_SHOWN = 100
_WIDTHS = (8, 27, 20, 24)
_HEADERS = ("SEQ", "TIME", "TYPE", "STEP", "DATA")


@click.command(
    epilog=examples(
        "kastra history run/nightly",
        "kastra history run/nightly --since 100 --limit 20",
        "kastra history run/nightly --points                  the steps that it can be repeated from",
        "kastra history run/nightly --step 'fan[17]' -o json | jq .body",
    )
)
@click.argument("target", nargs=-1, required=True, metavar="run/NAME", shell_complete=complete_objects)
@namespace_option
@click.option("--since", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only records after this one.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=None, metavar="NUMBER", help="At most so many (default: all)."
)
@click.option("--step", default="", metavar="KEY", help="Only of this step and of what is below it.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="json: one record per line, whole."
)
@click.option("--points", is_flag=True, help="Show from which steps the Run can be repeated (kastra rerun --from).")
def history(target: tuple[str, ...], **options: Any) -> int:
    """Show the journal of a Run."""
    return reading(lambda client: _history(client, target, options))


async def _history(client: "Client", target: tuple[str, ...], options: dict[str, Any]) -> int:
    import orjson

    named = ("run", *target) if len(target) == 1 and "/" not in target[0] else target
    resource, name = parse_one(client.scheme, named)
    if resource.kind != "Run":
        raise ValueError(f"a {resource.kind} has no journal; Runs have: kastra history run/NAME")
    if options["points"]:
        from .run_points import show_points

        return await show_points(client, ref_of(resource, name, options["namespace"]), options["output"] == "json")
    layout, count = Layout(_WIDTHS), 0
    async for record in _records(client, ref_of(resource, name, options["namespace"]), options["since"]):
        if not _is_of(record, options["step"]):
            continue
        if options["limit"] is not None and count == options["limit"]:
            if sys.stdout.isatty():
                say(f"more: --since {record['seq'] - 1}")
            break
        if options["output"] == "json":
            click.echo(orjson.dumps(record).decode())
        else:
            rows = [_HEADERS, _row(record)] if count == 0 else [_row(record)]
            click.echo("\n".join(layout.lines(rows)))
        count += 1
    return 0


async def _records(client: "Client", ref: "ObjectRef", since: int) -> AsyncIterator[Mapping[str, Any]]:
    """All records after one, page by page."""
    while True:
        count = 0
        async for record in client.connect(ref, "history", None, since):
            count, since = count + 1, record["seq"]
            yield record
        if count < _PAGE:
            return


def _is_of(record: Mapping[str, Any], step: str) -> bool:
    key = record.get("stepKey")
    return not step or (key is not None and (key == step or (key.startswith(step) and key[len(step)] in "/[#@~")))


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
    import orjson

    from kastra.engine.frame import rfc3339_ms

    body = record.get("body") or {}
    data = orjson.dumps(body).decode() if body else ""
    attempt = record.get("attempt") or 1
    step = (record.get("stepKey") or "") + (f" (attempt {attempt})" if attempt > 1 else "")
    shown = data if len(data) <= _SHOWN else data[: _SHOWN - 1] + "…"
    return (str(record["seq"]), rfc3339_ms(record["time"]), record["type"], one_line(step), one_line(shown))
