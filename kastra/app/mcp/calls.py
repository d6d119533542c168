"""How is a call of an exported tool performed? As a Run, so that it is durable, budgeted, audited and seen like any other.

The caller's rights decide whether the Run may be made. Its events are the call's progress, its output the result. Who gives the call
up cancels the Run; a server that stops doesn't, and the Run goes on with the next. Read next: `kastra.app.running`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

from kastra.api.errors import NotFound, StatusError
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.app.running import RunResult, create_run, follow_run, has_ended
from kastra.client.interface import Client

from .exports import Export

KEPT = "1h"
"""How long a Run made here is kept after its end."""
_LONGEST_CANCEL = 5.0

Tell = Callable[[int, str], Awaitable[None]]
"""Progress: a rising number, and a line for people."""


async def begin(client: Client, export: Export, arguments: Mapping[str, Any]) -> Object:
    """Make the Run of a call.

    Args:
        client: of the caller.
        arguments: checked by the export's schema.

    Raises:
        StatusError: the caller may not, or the Run can't be made.
    """
    value: Any = arguments["prompt"] if export.asked else dict(arguments)
    return await create_run(
        client,
        f"{export.kind}/{export.name}",
        value,
        namespace=export.namespace,
        spec={"ttlAfterFinished": KEPT},
    )


async def follow(
    client: Client,
    run: Object,
    tell: Tell,
    stopping: Callable[[], bool],
    until: Callable[[Object], bool] = has_ended,
) -> RunResult:
    """Follow the Run of a call to its end; a caller who is cancelled cancels it.

    Args:
        tell: told of each step.
        stopping: whether this process is going away.
        until: when to stop before the end.

    Raises:
        StatusError: the Run can't be followed.
    """
    lines, heard = anyio.create_memory_object_stream[str](100)
    result: RunResult | None = None
    failure: Exception | None = None

    def note(event: Mapping[str, Any]) -> None:
        line = _line(event)
        if line:
            try:
                lines.send_nowait(line)
            except anyio.WouldBlock:
                # A client that reads slowly misses some of what is only for people.
                return

    async def forward() -> None:
        count = 0
        async for line in heard:
            count += 1
            await tell(count, line)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forward)
            try:
                result = await follow_run(client, run, note, until=until)
            except Exception as error:  # noqa: BLE001 - raised below, outside the group, which would wrap it
                failure = error
            lines.close()
            with anyio.move_on_after(1):
                while heard.statistics().current_buffer_used:  # noqa: ASYNC110 - the stream tells nobody when it is empty
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    except anyio.get_cancelled_exc_class():
        await give_up(client, run, stopping)
        raise
    finally:
        lines.close()
        heard.close()
    if failure is not None:
        raise failure
    assert result is not None
    return result


async def give_up(client: Client, run: Object, stopping: Callable[[], bool]) -> None:
    """The caller is gone: cancel the Run, unless it is this process that goes."""
    if not stopping():
        with anyio.CancelScope(shield=True), anyio.move_on_after(_LONGEST_CANCEL):
            await _cancel(client, run.ref)


async def _cancel(client: Client, run: ObjectRef) -> None:
    try:
        async for _ in client.connect(run, "cancel", {}):
            pass
    except NotFound:
        return
    except StatusError:
        # Whoever may make Runs and not cancel them leaves it to those who may.
        return


def _line(event: Mapping[str, Any]) -> str:
    kind = str(event.get("type", ""))
    if "delta" in kind or kind in ("", "text"):
        return ""
    key = str(event.get("key") or event.get("stepKey") or "")
    return f"{kind} {key}".strip()[:200]
