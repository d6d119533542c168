"""F13: fifty writers on three objects. What each was answered agrees with one order of all that happened."""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import anyio

from kastra.api.errors import AlreadyExists, Conflict, NotFound
from kastra.api.object import Object
from kastra.apiserver.loopback import LoopbackClient
from kastra.client.interface import PatchType, WatchEvent, WriteOptions
from kastra.store.objects import ObjectStore
from tests.contract.client import at, widget

WRITERS = 50
NAMES = ("a", "b", "c")
SAMPLE, ALL = 1_500, 10_000
Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """One answered operation.

    Args:
        floor: the highest revision of the object that anybody had been told of when it was asked.
        seen: of the store when the answer came.
        change: what it meant to make of the spec it found; None for a read.
        expected: the revision it was to replace, if it said.
        got: None when it was refused by a Conflict.
    """

    name: str
    floor: int
    seen: int
    change: Callable[[Spec], Spec] | None
    expected: int | None
    got: Object | None


@dataclass
class History:
    """What was asked and answered, and what a watcher saw happen."""

    store: ObjectStore
    answers: list[Answer] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    happened: dict[str, list[WatchEvent]] = field(default_factory=lambda: defaultdict(list))

    def note(self, name: str, floor: int, got: Object | None, change: Any = None, expected: str | None = None) -> None:
        at = int(expected) if expected is not None else None
        self.answers.append(Answer(name, floor, self.store.revision, change, at, got))
        if got is not None:
            self.told[name] = max(self.told[name], revision_of(got))


def revision_of(obj: Object) -> int:
    return int(obj.resource_version)


class Writer:
    """One of the fifty, under a manager of its own."""

    def __init__(self, number: int, client: LoopbackClient, history: History) -> None:
        self.me, self.client, self.history = f"w{number}", client, history
        self.random = random.Random(number)
        self.options = WriteOptions(field_manager=self.me)

    async def run(self, operations: int) -> None:
        for turn in range(operations):
            name = self.random.choice(NAMES)
            operation = self.random.choices(
                (self.read, self.increment, self.patch, self.json_patch, self.apply, self.delete), (4, 6, 4, 3, 4, 1)
            )[0]
            try:
                await operation(name, turn)
            except NotFound:
                await self.create(name)

    async def create(self, name: str) -> None:
        floor = self.history.told[name]
        try:
            made = await self.client.create(widget(name, size=0), self.options)
        except AlreadyExists:
            return
        self.history.note(name, floor, made, lambda spec: {"size": 0})

    async def read(self, name: str, turn: int) -> None:
        floor = self.history.told[name]
        self.history.note(name, floor, await self.client.get(at(name)))

    async def increment(self, name: str, turn: int) -> None:
        """Read, change, write with the revision that was read."""
        obj = (await self.client.get(at(name))).to_dict()
        await anyio.lowlevel.checkpoint()
        expected = obj["metadata"]["resourceVersion"]
        obj["spec"]["size"] += 1
        floor, written = self.history.told[name], None
        try:
            written = await self.client.update(obj, self.options)
        except Conflict as conflict:
            assert conflict.status()["code"] == 409
        self.history.note(name, floor, written, lambda spec: {**spec, "size": spec["size"] + 1}, expected)

    async def patch(self, name: str, turn: int) -> None:
        floor, own = self.history.told[name], {self.me: str(turn)}
        written = await self.client.patch(at(name), {"spec": {"labels": own}}, PatchType.MERGE, self.options)
        self.history.note(name, floor, written, lambda spec: {**spec, "labels": {**spec.get("labels", {}), **own}})

    async def json_patch(self, name: str, turn: int) -> None:
        floor = self.history.told[name]
        patch = [{"op": "add", "path": "/spec/replicas", "value": turn}]
        written = await self.client.patch(at(name), patch, PatchType.JSON, self.options)
        self.history.note(name, floor, written, lambda spec: {**spec, "replicas": turn})

    async def apply(self, name: str, turn: int) -> None:
        floor, part = self.history.told[name], {"name": self.me, "material": str(turn)}
        written = await self.client.apply(widget(name, parts=[part]), self.options)

        def change(spec: Spec) -> Spec:
            # Apply creates what is not there.
            return {"size": 1, **spec, "parts": {**spec.get("parts", {}), self.me: part}}

        self.history.note(name, floor, written, change)

    async def delete(self, name: str, turn: int) -> None:
        obj = await self.client.get(at(name))
        try:
            await self.client.delete(at(name), resource_version=obj.resource_version)
        except Conflict:
            self.history.note(name, 0, None, expected=obj.resource_version)


def normal(spec: Spec) -> Spec:
    """A spec whose keyed list is in no order."""
    parts = spec.get("parts")
    return {**spec, "parts": {item["name"]: item for item in parts}} if isinstance(parts, list) else spec


def check(history: History) -> None:
    """One order explains everything: that of the revisions, and it keeps to what was before what in real time."""
    for name in NAMES:
        events = history.happened[name]
        order = [revision_of(event.object) for event in events]
        assert order == sorted(set(order))
        states = dict(zip(order, events, strict=True))
        previous = {after: before for before, after in pairwise(order)}
        following = dict(pairwise(order))
        unexplained = {revision for revision, event in states.items() if event.type != "DELETED"} - {order[0]}
        for answer in (answer for answer in history.answers if answer.name == name):
            if answer.got is None:
                # Refused: so somebody had written in between, and not only afterwards.
                assert answer.expected is not None
                assert following[answer.expected] <= answer.seen
                continue
            revision = revision_of(answer.got)
            assert states[revision].object == answer.got, "what was answered is what was stored"
            assert revision >= answer.floor, "nobody is told of a state older than one already known"
            if answer.change is None:
                continue
            if answer.expected is not None:
                assert previous[revision] == answer.expected, "a compare-and-swap replaces what it names"
            stored = normal(answer.got.spec)
            if stored == normal(answer.change(normal(spec_before(states.get(previous.get(revision, -1)))))):
                unexplained.discard(revision)
            else:
                assert stored == normal(answer.change(stored)), "what isn't a change of its own found nothing to change"
        assert not unexplained, "every state is the one before it, changed by one writer: no update is lost"


def spec_before(event: WatchEvent | None) -> Spec:
    return event.object.spec if event is not None and event.type != "DELETED" else {}


async def test_fifty_writers_lose_no_update(plane, client, crash_full: bool) -> None:
    history = History(plane.store)
    operations = ALL if crash_full else SAMPLE
    for name in NAMES:
        await client.create(widget(name, size=0))
    async with client.watch("widgets", "default") as events, anyio.create_task_group() as watcher:

        async def follow() -> None:
            async for event in events:
                history.happened[event.object.name].append(event)

        watcher.start_soon(follow)
        async with anyio.create_task_group() as group:
            for number in range(WRITERS):
                group.start_soon(Writer(number, client, history).run, operations // WRITERS)
        while sum(map(len, history.happened.values())) == 0 or plane.store.revision > max(
            revision_of(events[-1].object) for events in history.happened.values()
        ):
            await anyio.lowlevel.checkpoint()
        watcher.cancel_scope.cancel()
    refused = sum(answer.got is None for answer in history.answers)
    assert refused > operations / 50, "the writers should get in each other's way"
    check(history)
