"""What hangs below a Run as a stream: its events.

A Run's durable events are read from its journal, so a reader can come at any time and go on where it stopped, without a gap
and without a repetition. Ephemeral ones (a token, progress) are passed on while they happen; a reader who was away for a moment
gets those that the topic's ring still has. Both come in one order, by position: see `kastra.engine.events`.

A reader is never waited for. One that is slower than what happens is cut off by the bus and goes on from the journal; what it
misses then are ephemeral events only. Read next: `kastra.app.following`, the other end.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from kastra.api.errors import BadRequest
from kastra.apiserver.subresources import ConnectRequest
from kastra.bus import Bus, Subscription
from kastra.clock import Clock
from kastra.engine.events import LAST, event_of, place, position
from kastra.engine.history import History

_PAGE = 500
_POLL = 0.25
_TERMINAL = frozenset({"Succeeded", "Failed", "Cancelled"})


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

        With the body `{"follow": False}` it ends with what there is; `{"part": 2}` says that the first two ephemeral events
        after record `since` are known.

        Raises:
            BadRequest: `part` is no number.
        """
        body = request.body or {}
        part = body.get("part") or 0
        if not isinstance(part, int) or part < 0:
            raise BadRequest("part: must be a whole number of 0 or more")
        return self.follow(request.object.uid, request.since or 0, part, wait=body.get("follow") is not False)

    async def follow(
        self, uid: str, since: int = 0, part: int = 0, *, wait: bool = True
    ) -> AsyncIterator[dict[str, Any]]:
        """Events after the position `since.part`; ends with the Run's last event, or with what there is if not `wait`."""
        at = position(since, part)
        while True:
            live = self._subscribe(uid, at) if self._bus is not None and wait else None
            try:
                if live is None or live.upcoming is None:
                    # Nobody publishes what was there before somebody listened; the journal has all of it.
                    async for event in self._recorded(uid, place(at)[0]):
                        if live is not None and live.upcoming is not None and live.upcoming <= position(event["seq"]):
                            break  # from here on everything comes live, ephemeral events in their places
                        at = position(event["seq"])
                        yield event
                        if event["type"] in LAST:
                            return
                    if not wait or ((live is None or live.upcoming is None) and await self._is_over(uid, place(at)[0])):
                        return
                if live is None:
                    await self._clock.sleep(_POLL)
                    continue
                async for number, event in live:
                    if number <= at:
                        continue
                    seq = place(number)[0]
                    before = seq if event.get("seq") is None else seq - 1
                    if before > place(at)[0]:
                        # Records that say nothing to followers, or what came before the ring.
                        async for missed in self._recorded(uid, place(at)[0], before):
                            yield missed
                    at = number
                    yield event
                    if event["type"] in LAST:
                        return
            finally:
                if live is not None:
                    live.close()

    def _subscribe(self, uid: str, at: int) -> Subscription:
        assert self._bus is not None
        topic = f"run/{uid}"
        floor = self._bus.floor(topic)
        return self._bus.subscribe(topic, None if floor is None else max(at, floor))

    async def _recorded(self, uid: str, since: int, last: int | None = None) -> AsyncIterator[dict[str, Any]]:
        """Durable events after record `since`, up to record `last`; None for all."""
        row = await self._history.run(uid)
        while row is not None and (last is None or since < last):
            limit = _PAGE if last is None else min(_PAGE, last - since)
            records = await self._history.records(row.id, since, limit)
            for record in records:
                since = record.seq
                event = event_of(record)
                if event is not None:
                    yield event
            if len(records) < limit:
                return

    async def _is_over(self, uid: str, since: int) -> bool:
        """Whether a reader who knows record `since` knows the last one."""
        row = await self._history.run(uid)
        return row is not None and row.phase in _TERMINAL and since >= row.last_seq
