"""What hangs below a Run as a stream: its events.

A Run's durable events are read from its journal, so a reader can come at any time and go on where it stopped; ephemeral
ones (a token, progress) are passed on while they happen. Read next: `kastra.engine.events`.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from kastra.apiserver.subresources import ConnectRequest
from kastra.bus import Bus
from kastra.clock import Clock
from kastra.engine.events import event_of
from kastra.engine.history import History

_LAST = frozenset({"run.completed", "run.failed", "run.cancelled"})
_PAGE = 500
_POLL = 0.25


class RunEvents:
    """The events of Runs, in the order of their journals.

    Args:
        history: reads journals.
        bus: on which a pool of this process publishes; None to look into the journal again and again instead.
        clock: paces that.
    """

    def __init__(self, history: History, bus: Bus | None, clock: Clock) -> None:
        self._history = history
        self._bus = bus
        self._clock = clock

    def connect(self, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """For the subresource `runs/events`: from record `since` until the Run has ended.

        With the body `{"follow": False}` it ends with what there is.
        """
        wait = (request.body or {}).get("follow") is not False
        return self.follow(request.object.uid, request.since or 0, wait=wait)

    async def follow(self, uid: str, since: int = 0, *, wait: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Events after record `since`; ends with the Run's last event, or with what there is if not `wait`."""
        live = self._bus.subscribe(f"run/{uid}", limit=65536) if self._bus is not None and wait else None
        try:
            while True:
                async for event in self._recorded(uid, since):
                    since = event["seq"]
                    yield event
                    if event["type"] in _LAST:
                        return
                if not wait:
                    return
                if live is None:
                    await self._clock.sleep(_POLL)
                    continue
                async for _, event in live:
                    seq = event.get("seq")
                    if seq is not None and seq > since + 1:
                        break  # something was missed on the bus; the journal has it
                    if seq is None or seq > since:
                        since = seq or since
                        yield event
                        if event["type"] in _LAST:
                            return
                else:
                    live = None
        finally:
            if live is not None:
                await live.aclose()

    async def _recorded(self, uid: str, since: int) -> AsyncIterator[dict[str, Any]]:
        row = await self._history.run(uid)
        while row is not None:
            records = await self._history.records(row.id, since, _PAGE)
            for record in records:
                since = record.seq
                event = event_of(record)
                if event is not None:
                    yield event
            if len(records) < _PAGE:
                return
