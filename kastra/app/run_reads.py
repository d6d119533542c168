"""What can be read below a Run besides its object: events, steps, journal and log.

    events    what happens, as it happens          steps    a record a step: how each went
    history   the journal, after `since`           log      a line an event, for people
    definition    what it executes: its target as it was when it started, in normal form

All of it comes from the journal, so it is there as long as the Run is, and goes on where a reader stopped. Read next:
`kastra.app.streams`, `kastra.engine.steps`.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from kastra.api.types import Closure, ClosureObject
from kastra.apiserver.subresources import ConnectRequest
from kastra.engine.history import History
from kastra.engine.records import Record, decode

from .streams import RunEvents

_PAGE = 500
_MOST_RECORDS = 10_000


class RunReads:
    """All of these, over one store.

    Args:
        history: reads journals.
        events: reads and follows them as events.
    """

    def __init__(self, history: History, events: RunEvents) -> None:
        self._history = history
        self._events = events

    def connect(self, name: str, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """The records of one of them by its name."""
        reads = {
            "events": self._events.connect,
            "steps": self.steps,
            "history": self.history,
            "log": self.log,
            "definition": self.definition,
        }
        return reads[name](request)

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

    async def definition(self, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """One record: `{kind, namespace, name, generation, hash, spec, objects}`, the target of the Run as it is pinned.

        `spec` is the normal form that the engine compiles; `objects` are `{kind, namespace, name, generation}` of everything it
        resolved. None for a Run that has not begun.
        """
        row = await self._history.run(request.object.uid)
        if row is None:
            return
        [started, *_] = await self._history.records(row.id, 0, 1)
        closure: Closure = decode(await self._history.blob(started.body["closure"]))
        root = closure["objects"][closure["root"]]
        objects = [_named(obj) for obj in closure["objects"].values()]
        yield {**_named(root), "hash": closure.get("hash", ""), "spec": root["spec"], "objects": objects}

    async def _records(self, uid: str, after: int) -> AsyncIterator[Record]:
        row = await self._history.run(uid)
        while row is not None:
            records = await self._history.records(row.id, after, _PAGE)
            for record in records:
                after = record.seq
                yield record
            if len(records) < _PAGE:
                return


def _named(obj: ClosureObject) -> dict[str, Any]:
    return {
        "kind": obj["kind"],
        "namespace": obj["namespace"],
        "name": obj["name"],
        "generation": obj["generation"],
    }


def _shown(record: Record) -> dict[str, Any]:
    plain = record.plain()
    # What a compensation will see may come from steps that are sensitive although this one isn't.
    hidden = {"output", "value", "event", "data", "compensate"} if record.body.get("sensitive") else {"compensate"}
    if hidden & record.body.keys():
        plain["body"] = {key: value for key, value in record.body.items() if key not in hidden}
    return plain
