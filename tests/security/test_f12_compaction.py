"""F12: whatever is compacted while it watches, a client that lists again on 410 never misses a deletion."""

import random
from dataclasses import dataclass, field

import anyio

from kastra.api.errors import Expired, NotFound
from kastra.apiserver.loopback import LoopbackClient
from kastra.client.interface import Watch
from kastra.store.objects import ObjectStore
from tests.contract.client import at, widget

SAMPLE, ALL = 120, 500
NAMES = ("a", "b", "c", "d")
State = dict[str, str]
"""resourceVersion by name."""


@dataclass
class Follower:
    """A client as controllers are: list, watch from there, list again when told that it is too late."""

    client: LoopbackClient
    color: str = ""
    state: State = field(default_factory=dict)
    version: int = 0
    relists: int = 0

    @property
    def selector(self) -> str:
        return f"spec.color={self.color}" if self.color else ""

    async def relist(self) -> None:
        page = await self.client.list("widgets", "default", field_selector=self.selector)
        self.state = {obj.name: obj.resource_version for obj in page.items}
        self.version = int(page.resource_version)
        self.relists += 1

    async def catch_up(self, wanted: State, compacted: int) -> None:
        """Until the state is `wanted`, which is what the server has."""
        with anyio.fail_after(5):
            while self.state != wanted:
                try:
                    await self._watch(wanted)
                except Expired as gone:
                    assert gone.status()["code"] == 410
                    # Without a selector everything that is not compacted can be told.
                    assert self.color or self.version < compacted
                    await self.relist()

    async def _watch(self, wanted: State) -> None:
        start = self.version
        async with self.client.watch(
            "widgets", "default", field_selector=self.selector, resource_version=str(start)
        ) as events:
            await self._read(events, wanted)

    async def _read(self, events: Watch, wanted: State) -> None:
        async for event in events:
            revision, name = int(event.object.resource_version), event.object.name
            assert revision > self.version, "events come once and in order"
            assert (name in self.state) == (event.type != "ADDED"), f"{event.type} of {name}"
            self.version = revision
            if event.type == "DELETED":
                del self.state[name]
            else:
                self.state[name] = event.object.resource_version
            if self.state == wanted:
                return


class Schedule:
    """A random order of writes, compactions and catch-ups; the seed says which."""

    def __init__(self, store: ObjectStore, client: LoopbackClient, seed: int) -> None:
        self.store, self.client, self.random = store, client, random.Random(seed)
        self.colors: dict[str, str] = {}
        self.state: State = {}
        self.followers = [Follower(client), Follower(client), Follower(client, "red")]

    async def write(self) -> None:
        name, color = self.random.choice(NAMES), self.random.choice(("red", "blue"))
        if name in self.state and self.random.random() < 0.5:
            await self.client.delete(at(name))
            del self.state[name], self.colors[name]
            return
        written = await self.client.apply(widget(name, color=color, size=self.random.randrange(1000)))
        self.state[name], self.colors[name] = written.resource_version, color

    async def compact(self) -> None:
        await self.store.compact(self.random.randint(self.store.compact_revision, self.store.revision))

    def wanted(self, follower: Follower) -> State:
        return {n: v for n, v in self.state.items() if follower.color in ("", self.colors[n])}

    async def run(self) -> None:
        for follower in self.followers:
            await follower.relist()
        for _ in range(12):
            for _ in range(self.random.randint(0, 4)):
                await self.write()
            if self.random.random() < 0.3:
                await self.compact()
            if self.random.random() < 0.4:
                follower = self.random.choice(self.followers)
                compacted = self.store.compact_revision
                async with anyio.create_task_group() as group:
                    if self.random.random() < 0.5:
                        # While the follower reads what it missed, what it reads from is taken away.
                        compacted = self.store.revision
                        group.start_soon(self.store.compact, compacted)
                    group.start_soon(follower.catch_up, self.wanted(follower), compacted)
        for follower in self.followers:
            await follower.catch_up(self.wanted(follower), self.store.compact_revision)
        for name in NAMES:
            try:
                await self.client.delete(at(name))
            except NotFound:
                assert name not in self.state


async def test_no_schedule_of_compactions_hides_a_deletion(plane, client, crash_full: bool) -> None:
    relists, schedules = 0, ALL if crash_full else SAMPLE
    for seed in range(schedules):
        schedule = Schedule(plane.store, client, seed)
        try:
            await schedule.run()
        except BaseException as error:
            error.add_note(f"schedule {seed}")
            raise
        relists += sum(follower.relists for follower in schedule.followers) - len(schedule.followers)
    assert relists > schedules / 2, "the schedules should compact under the watchers' feet"
