"""What can be read below a Run besides its object: events, steps, journal and log.

    events    what happens, as it happens          steps    a record a step: how each went
    history   the journal, after `since`           log      a line an event, for people

All of it comes from the journal, so it is there as long as the Run is, and goes on where a reader stopped. Read next:
`kastra.app.streams`, `kastra.engine.steps`.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from kastra.apiserver.subresources import ConnectRequest
from kastra.engine.history import History
from kastra.engine.records import Record

from .streams import RunEvents

_PAGE = 500
_MOST_RECORDS = 10_000


class RunReads:
    """The four, over one store.

    Args:
        history: reads journals.
        events: reads and follows them as events.
    """

    def __init__(self, history: History, events: RunEvents) -> None:
        self._history = history
        self._events = events

    def connect(self, name: str, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """The records of one of them by its name."""
        return {"events": self._events.connect, "steps": self.steps, "history": self.history, "log": self.log}[name](
            request
        )

    async def steps(self, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """A record for each step that has begun, as `kastra.engine.steps` makes them."""
        from kastra.engine.steps import StepTable

        table = StepTable()
        async for record in self._records(request.object.uid, 0):
            table.feed((record,))
        for row in table.rows():
            yield row

    async def history(self, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """The journal after record `since`, at most 10,000 records at once; sensitive outputs are left out."""
        count = 0
        async for record in self._records(request.object.uid, request.since or 0):
            if count == _MOST_RECORDS:
                return
            count += 1
            yield _shown(record)

    async def log(self, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """`{seq, text}` for each event that says something to people; follows a Run that goes on."""
        from kastra.engine.lines import EventLines

        lines = EventLines(timestamps=True, everything=True)
        async for event in self._events.connect(request):
            line = lines.line(event)
            if line is not None:
                yield {"seq": event.get("seq"), "text": line}

    async def _records(self, uid: str, after: int) -> AsyncIterator[Record]:
        row = await self._history.run(uid)
        while row is not None:
            records = await self._history.records(row.id, after, _PAGE)
            for record in records:
                after = record.seq
                yield record
            if len(records) < _PAGE:
                return


def _shown(record: Record) -> dict[str, Any]:
    plain = record.plain()
    if record.body.get("sensitive"):
        plain["body"] = {key: value for key, value in record.body.items() if key != "output"}
    return plain
