"""Whatever is done to the store, it equals a dict, and every watcher that applies what it sees equals it too."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kastra.api.errors import AlreadyExists, Conflict, Expired, NotFound
from kastra.store.interface import Draft, Key, StoreEvent
from kastra.store.objects import ObjectStore, open_store
from kastra.store.watch import Watch
from tests.contract.storage import AGENTS, draft, key

NAMES = st.sampled_from(["a", "b", "c", "d"])
SPACES = st.sampled_from(["n1", "n2"])
State = dict[Key, tuple[int, bytes]]


class Follower:
    """Applies the events of a watch and checks what must hold of each live one."""

    def __init__(self, watch: Watch, state: State, since: int) -> None:
        self.watch = watch
        self.state = dict(state)
        self.last = since

    async def read_to(self, target: State, revision: int) -> None:
        while self.state != target:
            event = await asyncio.wait_for(anext(self.watch), 5)
            self.apply(event)
        assert self.last <= revision

    def apply(self, event: StoreEvent) -> None:
        assert event.entry is not None
        place, known = event.entry.key, event.entry.key in self.state
        assert event.revision > self.last, "events are ordered and come once"
        self.last = event.revision
        assert known == (event.type != "ADDED"), "a creation and nothing else is ADDED"
        if event.type == "DELETED":
            del self.state[place]
        else:
            self.state[place] = (event.entry.revision, event.entry.body)


class StoreMachine(RuleBasedStateMachine):
    driver = "libsql"

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kastra-model-"))
        self.runner = asyncio.Runner()
        self.state: State = {}
        self.past: dict[int, State] = {0: {}}
        self.revision = 0
        self.compacted = 0
        self.count = 0
        self.followers: list[Follower] = []
        self.open()

    def open(self) -> None:
        self.store: ObjectStore = self.runner.run(open_store(self.folder / "k.db", driver=self.driver))

    def fresh(self) -> Draft:
        self.count += 1
        return draft(str(self.count))

    def note(self, place: Key, value: tuple[int, bytes] | None, revision: int) -> None:
        assert revision == self.revision + 1
        self.revision = revision
        self.state = {k: v for k, v in self.state.items() if k != place}
        if value is not None:
            self.state[place] = value
        self.past[revision] = self.state

    @rule(name=NAMES, space=SPACES)
    def create(self, name: str, space: str) -> None:
        place, change = key(name, space), self.fresh()
        try:
            made = self.runner.run(self.store.create(place, change))
        except AlreadyExists:
            assert place in self.state
        else:
            assert place not in self.state
            self.note(place, (made.revision, change.body), made.revision)

    @rule(name=NAMES, space=SPACES, stale=st.booleans())
    def update(self, name: str, space: str, stale: bool) -> None:
        place, change = key(name, space), self.fresh()
        expected = self.state[place][0] if place in self.state else 1
        try:
            made = self.runner.run(self.store.update(place, change, expected - stale))
        except NotFound:
            assert place not in self.state
        except Conflict:
            assert stale
        else:
            self.note(place, (made.revision, change.body), made.revision)

    @rule(name=NAMES, space=SPACES)
    def delete(self, name: str, space: str) -> None:
        place = key(name, space)
        try:
            gone = self.runner.run(self.store.delete(place, self.state.get(place, (1, b""))[0]))
        except NotFound:
            assert place not in self.state
        else:
            self.note(place, None, gone.revision)

    @rule(count=st.integers(2, 8), space=SPACES)
    def create_many_at_once(self, count: int, space: str) -> None:
        places = [key(f"many-{self.count}-{number}", space) for number in range(count)]
        changes = [self.fresh() for _ in places]

        async def burst() -> list[Any]:
            return await asyncio.gather(*map(self.store.create, places, changes))

        made = self.runner.run(burst())
        for entry in sorted(made, key=lambda entry: entry.revision):
            self.note(entry.key, (entry.revision, entry.body), entry.revision)

    @rule()
    def watch_from_now(self) -> None:
        watch = self.runner.run(self.watch_at(self.revision))
        self.followers.append(Follower(watch, self.state, self.revision))

    @rule(data=st.data())
    def watch_from_the_past(self, data: st.DataObject) -> None:
        since = data.draw(st.integers(0, self.revision))
        try:
            watch = self.runner.run(self.watch_at(since))
        except Expired:
            assert since < self.compacted
        else:
            assert since >= self.compacted
            self.followers.append(Follower(watch, self.past[since], since))

    @precondition(lambda self: self.revision > 2)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        self.read_all()
        self.compacted = max(self.compacted, data.draw(st.integers(0, self.revision)))
        self.runner.run(self.store.compact(self.compacted))
        assert self.store.compact_revision == self.compacted

    @rule()
    def restart(self) -> None:
        self.read_all()
        self.followers.clear()
        self.runner.run(self.store.aclose())
        self.open()

    @rule()
    def read_all(self) -> None:
        for follower in self.followers:
            self.runner.run(follower.read_to(self.state, self.revision))

    @invariant()
    def equals_the_dict(self) -> None:
        if not hasattr(self, "store"):
            return
        snapshot = self.store.list(AGENTS)
        assert {entry.key: (entry.revision, entry.body) for entry in snapshot.entries} == self.state
        assert [entry.key for entry in snapshot.entries] == sorted(self.state)
        assert snapshot.revision == self.store.revision == self.revision

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.read_all()
            self.runner.run(self.store.aclose())
            self.runner.close()
            shutil.rmtree(self.folder)

    async def watch_at(self, since: int) -> Watch:
        return self.store.watch(AGENTS, since=since)


class Sqlite3Machine(StoreMachine):
    driver = "sqlite3"


PROFILE = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestLibsqlEqualsADict = StoreMachine.TestCase
TestLibsqlEqualsADict.settings = PROFILE
TestSqlite3EqualsADict = Sqlite3Machine.TestCase
TestSqlite3EqualsADict.settings = PROFILE
