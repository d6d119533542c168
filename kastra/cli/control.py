"""`kastra cancel|suspend|resume|rerun run/NAME`: what one can do to a Run.

On a server each is an action below the Run, with a permission of its own. On a store of one's own, cancelling and suspending
are wishes that hold when somebody executes next; resuming and repeating execute here, as `kastra run` does.
"""

import sys
from typing import TYPE_CHECKING, Any

import click

from .arguments import parse_one, ref_of
from .completing import complete_objects
from .options import examples, namespace_option
from .run import output_text, read_input
from .session import owning, say

if TYPE_CHECKING:
    from kastra.api.object import Object
    from kastra.app.operations import Operations

_run = click.argument("target", nargs=-1, required=True, metavar="run/NAME", shell_complete=complete_objects)
_STATES = {"cancel": "Cancelled", "suspend": "Suspended"}
_DONE = {"cancel": "cancelled", "suspend": "suspended"}


@click.command(epilog=examples("kastra cancel run/nightly"))
@_run
@namespace_option
def cancel(target: tuple[str, ...], namespace: str) -> int:
    """End a Run: what it does is cancelled, and nothing else begins."""
    return owning(lambda operations: _wish(operations, "cancel", target, namespace))


@click.command(epilog=examples("kastra suspend run/nightly"))
@_run
@namespace_option
def suspend(target: tuple[str, ...], namespace: str) -> int:
    """Let a Run begin nothing further; what is under way finishes."""
    return owning(lambda operations: _wish(operations, "suspend", target, namespace))


@click.command(
    epilog=examples(
        "kastra resume run/nightly",
        'kastra resume run/pay --answer \'{"action": "retry"}\'     a step in doubt: retry, fail, or complete with an output',
    )
)
@_run
@namespace_option
@click.option("--answer", metavar="JSON|@FILE|-", help="What the step that is held waits for.")
@click.option("--step", default="", metavar="KEY", help="Which step, if more than one is held.")
def resume(target: tuple[str, ...], namespace: str, answer: str | None, step: str) -> int:
    """Let a Run go on, or answer the step that is held."""
    body: dict[str, Any] = {}
    if answer is not None:
        body["data"] = read_input(answer)
    if step:
        body["stepKey"] = step
    return owning(lambda operations: _act(operations, "resume", target, namespace, body), execute=True)


@click.command(epilog=examples("kastra rerun run/nightly", 'kastra rerun run/nightly --input \'{"day": "friday"}\''))
@_run
@namespace_option
@click.option("-i", "--input", "given", metavar="JSON|@FILE|-", help="Another input than before.")
@click.option("--name", default="", help="Of the new Run; made from the old one's by default.")
def rerun(target: tuple[str, ...], namespace: str, given: str | None, name: str) -> int:
    """Do what a Run did once more, as a new Run."""
    body = {"input": read_input(given)} if given is not None else {}
    if name:
        body["name"] = name
    return owning(lambda operations: _act(operations, "rerun", target, namespace, body), execute=True)


async def _wish(operations: "Operations", action: str, target: tuple[str, ...], namespace: str) -> int:
    run = await _find(operations, target, namespace)
    if not hasattr(operations, "bus"):
        async for _ in operations.client.connect(run.ref, action, {}):
            click.echo(f"run/{run.name} {_DONE[action]}")
        return 0
    if run.is_condition_true("Complete"):
        say(f"error: run/{run.name} has ended ({run.status.get('phase')})")
        return 1
    await operations.client.patch(run.ref, {"spec": {"desiredState": _STATES[action]}})
    click.echo(f"run/{run.name} will be {_DONE[action]} when somebody executes it (kastra run, watch or serve)")
    return 0


async def _act(
    operations: "Operations", action: str, target: tuple[str, ...], namespace: str, body: dict[str, Any]
) -> int:
    from kastra.api.object import Object
    from kastra.app.running import RunFailed, follow_run
    from kastra.engine.lines import EventLines

    run = await _find(operations, target, namespace)
    async for record in operations.client.connect(run.ref, action, body):
        run = Object.of(record) if action == "rerun" else run
    say(f"run/{run.name} {'created' if action == 'rerun' else 'goes on'}")
    if not hasattr(operations, "bus"):
        return 0
    lines = EventLines(color=sys.stderr.isatty())

    def tell(event: Any) -> None:
        if (line := lines.line(event)) is not None:
            say(line)

    result = await follow_run(operations.client, run, tell)
    if result.phase != "Succeeded":
        say(f"error: {RunFailed(result)}")
        return 1
    click.echo(output_text(result.output, "text"), nl=False)
    return 0


async def _find(operations: "Operations", target: tuple[str, ...], namespace: str) -> "Object":
    # A name alone can only mean a Run.
    named = ("run", *target) if len(target) == 1 and "/" not in target[0] else target
    resource, name = parse_one(operations.client.scheme, named)
    if resource.kind != "Run":
        raise ValueError(f"a {resource.kind} can't be controlled so; Runs can: run/NAME")
    return await operations.client.get(ref_of(resource, name, namespace))
