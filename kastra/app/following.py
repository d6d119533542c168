"""Following the events of a Run to its end, over any `Client`, whatever happens to the connection.

    async for event in follow_events(client, run.ref):
        print(event["type"], event.get("key", ""))

A connection that breaks, or a server that stops, is asked again from the position of the last event seen: each durable event
comes once and in order. Ephemeral ones (`step.output.delta`) come once too, as far as the server still has them. A Run that ends before it
begins, because it was refused, has no events: following it ends as well. Read next: `kastra.app.streams`, the other end.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import anyio

from kastra.api.errors import NotFound, ServiceUnavailable, TooManyRequests
from kastra.api.meta import ObjectRef
from kastra.client.interface import Client
from kastra.clock import Clock, SystemClock
from kastra.engine.events import LAST, cursor, id_of

PATIENCE = 30.0
"""Seconds for which a server that can't be reached is asked again."""
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)


async def follow_events(
    client: Client,
    run: ObjectRef,
    since: int | str = 0,
    *,
    follow: bool = True,
    clock: Clock | None = None,
) -> AsyncIterator[Mapping[str, Any]]:
    """The events of a Run after a position, until its last one.

    Args:
        since: `seq` of the last event known, or its id (`17.2` for an ephemeral one); 0 for all.
        follow: go on with a Run that has not ended; else the events so far.

    Raises:
        NotFound: there is no such Run.
        ConnectionError: the server could not be reached for 30 seconds.
        ValueError: `since` is no position.
    """
    clock = clock or SystemClock()
    seq, part = cursor(str(since))
    lost: float | None = None
    tries = 0
    while True:
        body: dict[str, Any] = {} if follow else {"follow": False}
        if part:
            body["part"] = part
        stream = client.connect(run, "events", body or None, seq)
        try:
            events = aiter(stream)
            while True:
                # Once there was an event there is a last one.
                event = await (
                    _first(events, client, run, seq, part, clock) if follow and not seq else anext(events, None)
                )
                if event is None:
                    break
                lost, tries = None, 0
                name = id_of(event)
                if name:
                    seq, part = cursor(name)
                yield event
                if event.get("type") in LAST:
                    return
            if not follow or await _has_ended(client, run, seq, part):
                return
        except (ConnectionError, ServiceUnavailable, TooManyRequests):
            now = clock.monotonic()
            lost = now if lost is None else lost
            if now - lost >= PATIENCE:
                raise
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        await clock.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
        tries += 1


async def _first(
    events: AsyncIterator[Mapping[str, Any]], client: Client, run: ObjectRef, seq: int, part: int, clock: Clock
) -> Mapping[str, Any] | None:
    """The next event of a Run of which none is known; None if there is none, also because it ended without any.

    Raises:
        NotFound: the Run was deleted.
    """
    found: Mapping[str, Any] | None = None
    failure: Exception | None = None

    async def look(scope: anyio.CancelScope) -> None:
        nonlocal failure
        tries = 0
        try:
            while True:
                await clock.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
                tries += 1
                with suppress(ConnectionError, ServiceUnavailable, TooManyRequests):
                    if await _has_ended(client, run, seq, part):
                        break
        except NotFound as error:
            failure = error
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(look, group.cancel_scope)
        try:
            found = await anext(events, None)
        except Exception as error:  # noqa: BLE001 - raised below; the group would wrap it
            failure = error
        group.cancel_scope.cancel()
    if failure is not None and found is None:
        raise failure
    return found


async def _has_ended(client: Client, run: ObjectRef, seq: int, part: int) -> bool:
    """Whether a stream that ended without the last event did so because the reader had seen that one before."""
    obj = await client.get(run)
    if not obj.is_condition_true("Complete"):
        return False
    body: dict[str, Any] = {"follow": False, **({"part": part} if part else {})}
    async for _ in client.connect(run, "events", body, seq):
        return False
    return True
