"""`kastra cancel|suspend|resume|signal|rerun run/NAME`: what one can do to a Run.

On a server each is an action below the Run, with a permission of its own. On a store of one's own, cancelling and suspending
are wishes that hold when somebody executes next; resuming, signalling and repeating execute here, as `kastra run` does.
"""

from typing import TYPE_CHECKING, Any

import click

from .approve import follow_here
from .arguments import parse_one, ref_of
from .completing import complete_objects
from .options import examples, namespace_option
from .run import read_input
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
        "kastra resume run/order --data '{\"amount\": 10}'           the answer that the step waits for",
        'kastra resume run/pay --data \'{"action": "retry"}\'       a step in doubt: retry, fail, or complete with an output',
    )
)
@_run
@namespace_option
@click.option("--data", "--answer", "answer", metavar="JSON|@FILE|-", help="What the step that is held waits for.")
@click.option("--step", default="", metavar="KEY", help="Which step, if more than one is held.")
def resume(target: tuple[str, ...], namespace: str, answer: str | None, step: str) -> int:
    """Let a Run go on, or answer the step that is held."""
    body: dict[str, Any] = {}
    if answer is not None:
        body["data"] = read_input(answer, "--data")
    if step:
        body["stepKey"] = step
    return owning(lambda operations: _act(operations, "resume", target, namespace, body), execute=True)


@click.command(
    epilog=examples(
        "kastra signal run/order-17 payment.ok",
        "kastra signal run/order-17 payment.ok --data '{\"amount\": 10}' --id pay-4711     a second of this id changes nothing",
    )
)
@click.argument("target", metavar="run/NAME", shell_complete=complete_objects)
@click.argument("event", metavar="TYPE")
@namespace_option
@click.option("--data", metavar="JSON|@FILE|-", help="Data of the event.")
@click.option("--id", "identity", default="", metavar="ID", help="By which a second one is known (default: a new one).")
def signal(target: str, event: str, namespace: str, data: str | None, identity: str) -> int:
    """Send an event to a Run: the first of its waits that it fits takes it, now or later."""
    body: dict[str, Any] = {"type": event}
    if data is not None:
        body["data"] = read_input(data, "--data")
    if identity:
        body["id"] = identity
    return owning(lambda operations: _signal(operations, (target,), namespace, body), execute=True)


@click.command(
    epilog=examples(
        "kastra rerun run/nightly",
        'kastra rerun run/nightly --input \'{"day": "friday"}\'',
        "kastra rerun run/nightly --from publish --override review='{\"ok\": true}'",
    )
)
@_run
@namespace_option
@click.option("-i", "--input", "given", metavar="JSON|@FILE|-", help="Another input than before.")
@click.option("--name", default="", help="Of the new Run; made from the old one's by default.")
@click.option(
    "--from", "start", default="", metavar="STEP", help="Take over what was done before this step (kastra history)."
)
@click.option(
    "--override", "overrides", multiple=True, metavar="STEP=JSON", help="An output to use instead of executing a step."
)
@click.option("--keep-keys", is_flag=True, help="Use the idempotency keys of the old Run again.")
def rerun(
    target: tuple[str, ...],
    namespace: str,
    given: str | None,
    name: str,
    start: str,
    overrides: tuple[str, ...],
    keep_keys: bool,
) -> int:
    """Do what a Run did once more, as a new Run, whole or from one of its steps.

    With --from the outcomes of the steps before it are taken over, and nothing of them is done again.
    """
    body: dict[str, Any] = {"input": read_input(given)} if given is not None else {}
    if name:
        body["name"] = name
    if start:
        body["fromStep"] = start
    if overrides:
        body["overrides"] = dict(_override(text) for text in overrides)
    if keep_keys:
        body["keepKeys"] = True
    return owning(lambda operations: _act(operations, "rerun", target, namespace, body), execute=True)


def _override(text: str) -> tuple[str, Any]:
    step, equals, value = text.partition("=")
    if not step or not equals:
        raise ValueError(f"--override {text}: write STEP=JSON")
    return step, read_input(value, "--override")


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

    run = await _find(operations, target, namespace)
    held = [wait["stepKey"] for wait in run.status.get("waitingFor") or () if wait["kind"] == "Resume"]
    answered = (body["stepKey"],) if body.get("stepKey") else tuple(held) if len(held) == 1 else ()
    async for record in operations.client.connect(run.ref, action, body):
        run = Object.of(record) if action == "rerun" else run
    say(f"run/{run.name} {'created' if action == 'rerun' else 'goes on'}")
    if not hasattr(operations, "bus"):
        return 0
    return await follow_here(operations, run, answered)


async def _signal(operations: "Operations", target: tuple[str, ...], namespace: str, body: dict[str, Any]) -> int:
    run = await _find(operations, target, namespace)
    async for _ in operations.client.connect(run.ref, "signal", body):
        click.echo(f"run/{run.name} signalled")
    if not hasattr(operations, "bus"):
        return 0
    last = (run.status.get("journal") or {}).get("lastSeq", 0)
    async for record in operations.client.connect(run.ref, "history", since=last):
        last = record["seq"]
    return await follow_here(operations, run, since=last)


async def _find(operations: "Operations", target: tuple[str, ...], namespace: str) -> "Object":
    # A name alone can only mean a Run.
    named = ("run", *target) if len(target) == 1 and "/" not in target[0] else target
    resource, name = parse_one(operations.client.scheme, named)
    if resource.kind != "Run":
        raise ValueError(f"a {resource.kind} can't be controlled so; Runs can: run/NAME")
    return await operations.client.get(ref_of(resource, name, namespace))
