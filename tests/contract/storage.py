"""What every Storage does, whatever library keeps the file.

Derive a class named `Test...` from `StorageContract` beside the fixtures `clock` (a VirtualClock) and `store` (an empty
store that uses it).
"""

from collections.abc import Mapping

import anyio
import pytest

from kastra.api.errors import AlreadyExists, Conflict, Expired, NotFound, ServerTimeout
from kastra.store.interface import Draft, Entry, Key, Predicate, Storage, StoreEvent, StoreWatch
from kastra.testing.clock import VirtualClock

AGENTS = "agents.mastra.ai"
TOOLS = "tools.mastra.ai"


def key(name: str, namespace: str = "default", resource: str = AGENTS) -> Key:
    return Key(resource, namespace, name)


def draft(text: str = "", labels: Mapping[str, str] | None = None, expires_at: int | None = None) -> Draft:
    body = b'{"metadata":{"name":"x"},"apiVersion":"mastra.ai/v1","kind":"Agent","spec":"%b"}' % text.encode()
    return Draft(body, f"uid-{text}", labels or {}, expires_at=expires_at)


async def take(watch: StoreWatch, count: int) -> list[tuple[str, str, int]]:
    """The next `count` events as (type, name, revision)."""
    found = []
    with anyio.fail_after(10):
        async for event in watch:
            found.append(shown(event))
            if len(found) == count:
                break
    return found


def shown(event: StoreEvent) -> tuple[str, str, int]:
    return event.type, event.entry.key.name if event.entry else "", event.revision


def names(entries: object) -> list[str]:
    assert isinstance(entries, list | tuple)
    return [entry.key.name for entry in entries]


def labelled(value: str) -> Predicate:
    def predicate(entry: Entry) -> bool:
        return entry.labels.get("team") == value

    return predicate


class StorageContract:
    async def test_what_was_created_is_read_back_at_its_revision(self, store: Storage) -> None:
        made = await store.create(key("a"), draft("one", {"team": "x"}))
        assert store.get(key("a")) == made
        assert (made.revision, made.create_revision, store.revision) == (1, 1, 1)
        assert made.body == draft("one").body
        assert made.labels == {"team": "x"}

    async def test_what_does_not_exist_is_none(self, store: Storage) -> None:
        assert store.get(key("a")) is None
        assert store.list(AGENTS).entries in ([], ())

    async def test_a_second_creation_is_refused_in_kubernetes_words(self, store: Storage) -> None:
        await store.create(key("a"), draft())
        with pytest.raises(AlreadyExists, match=r'^agents.mastra.ai "a" already exists$'):
            await store.create(key("a"), draft())
        assert store.revision == 1

    async def test_of_many_creations_of_one_name_exactly_one_succeeds(self, store: Storage) -> None:
        outcomes: list[bool] = []

        async def attempt() -> None:
            try:
                await store.create(key("a"), draft())
                outcomes.append(True)
            except AlreadyExists:
                outcomes.append(False)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(attempt)
        assert sorted(outcomes) == [False] * 19 + [True]
        assert store.revision == 1

    async def test_an_update_at_the_expected_revision_keeps_the_creation(self, store: Storage) -> None:
        made = await store.create(key("a"), draft("one"))
        changed = await store.update(key("a"), draft("two"), made.revision)
        assert (changed.revision, changed.create_revision) == (2, 1)
        assert store.get(key("a")) == changed

    async def test_an_update_at_another_revision_is_a_conflict_and_changes_nothing(self, store: Storage) -> None:
        made = await store.create(key("a"), draft("one"))
        await store.update(key("a"), draft("two"), made.revision)
        with pytest.raises(Conflict, match="the object has been modified"):
            await store.update(key("a"), draft("three"), made.revision)
        present = store.get(key("a"))
        assert present is not None
        assert (present.body, store.revision) == (draft("two").body, 2)

    async def test_an_update_of_nothing_is_not_found(self, store: Storage) -> None:
        with pytest.raises(NotFound, match=r'^agents.mastra.ai "a" not found$'):
            await store.update(key("a"), draft(), 1)

    async def test_of_concurrent_updates_at_one_revision_exactly_one_wins(self, store: Storage) -> None:
        made = await store.create(key("a"), draft())
        won: list[int] = []

        async def attempt(number: int) -> None:
            try:
                await store.update(key("a"), draft(str(number)), made.revision)
                won.append(number)
            except Conflict:
                pass

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(attempt, number)
        present = store.get(key("a"))
        assert present is not None
        assert len(won) == 1
        assert present.body == draft(str(won[0])).body

    async def test_fifty_clients_counting_on_one_object_lose_no_update(self, store: Storage) -> None:
        await store.create(key("a"), draft("0"))

        async def count() -> None:
            for _ in range(4):
                while True:
                    present = store.get(key("a"))
                    assert present is not None
                    number = int(present.uid.removeprefix("uid-"))
                    try:
                        await store.update(key("a"), draft(str(number + 1)), present.revision)
                        break
                    except Conflict:
                        continue

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(count)
        present = store.get(key("a"))
        assert present is not None
        assert present.uid == "uid-200"

    async def test_a_deletion_returns_the_last_state_at_its_own_revision(self, store: Storage) -> None:
        made = await store.create(key("a"), draft("one"))
        gone = await store.delete(key("a"), made.revision)
        assert (gone.revision, gone.body, store.get(key("a"))) == (2, made.body, None)

    async def test_a_deletion_may_say_what_the_last_state_was(self, store: Storage) -> None:
        made = await store.create(key("a"), draft("one"))
        watch = store.watch(AGENTS, since=store.revision)
        await store.delete(key("a"), made.revision, draft("final").body)
        event = await anext(aiter(watch))
        assert event.entry is not None
        assert event.entry.body == draft("final").body
        await watch.aclose()

    async def test_a_deletion_at_another_revision_is_a_conflict(self, store: Storage) -> None:
        made = await store.create(key("a"), draft())
        with pytest.raises(Conflict):
            await store.delete(key("a"), made.revision + 1)
        with pytest.raises(NotFound):
            await store.delete(key("b"), 1)

    async def test_a_name_can_be_used_again_after_its_deletion(self, store: Storage) -> None:
        made = await store.create(key("a"), draft("one"))
        await store.delete(key("a"), made.revision)
        again = await store.create(key("a"), draft("two"))
        assert (again.revision, again.create_revision) == (3, 3)

    async def test_a_burst_of_create_update_delete_of_one_name_keeps_its_order(self, store: Storage) -> None:
        for _ in range(5):
            made = await store.create(key("a"), draft("one"))
            changed = await store.update(key("a"), draft("two"), made.revision)
            await store.delete(key("a"), changed.revision)
        assert store.get(key("a")) is None
        assert store.revision == 15

    async def test_a_list_is_sorted_by_namespace_and_name_and_knows_its_revision(self, store: Storage) -> None:
        for namespace, name in (("b", "x"), ("a", "z"), ("a", "y"), ("c", "w")):
            await store.create(key(name, namespace), draft())
        await store.create(key("other", resource=TOOLS), draft())
        snapshot = store.list(AGENTS)
        assert snapshot.revision == 5
        assert [entry.key[1:] for entry in snapshot.entries] == [("a", "y"), ("a", "z"), ("b", "x"), ("c", "w")]
        assert names(store.list(AGENTS, "a").entries) == ["y", "z"]
        assert names(store.list(AGENTS, "none").entries) == []

    async def test_a_list_stays_as_it_was_when_objects_change_afterwards(self, store: Storage) -> None:
        made = await store.create(key("a"), draft("one"))
        before = store.list(AGENTS)
        await store.update(key("a"), draft("two"), made.revision)
        await store.create(key("b"), draft())
        assert [entry.body for entry in before.entries] == [draft("one").body]
        assert names(store.list(AGENTS).entries) == ["a", "b"]

    async def test_a_list_while_others_write_is_always_one_committed_state(self, store: Storage) -> None:
        done = anyio.Event()
        torn: list[int] = []

        async def observe() -> None:
            while not done.is_set():
                snapshot = store.list(AGENTS)
                if len(snapshot.entries) != snapshot.revision:
                    torn.append(snapshot.revision)
                await anyio.sleep(0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(observe)
            async with anyio.create_task_group() as writers:
                for number in range(100):
                    writers.start_soon(store.create, key(f"n{number}"), draft())
            done.set()
        assert torn == []
        assert store.list(AGENTS).revision == 100

    # Watches.

    async def test_a_watch_without_revision_shows_what_is_there_and_goes_on(self, store: Storage) -> None:
        await store.create(key("a"), draft())
        watch = store.watch(AGENTS)
        made = await store.create(key("b"), draft())
        await store.update(key("b"), draft("two"), made.revision)
        assert await take(watch, 3) == [("ADDED", "a", 1), ("ADDED", "b", 2), ("MODIFIED", "b", 3)]
        await watch.aclose()

    async def test_a_watch_from_a_revision_sees_what_came_after_it_and_nothing_else(self, store: Storage) -> None:
        await store.create(key("a"), draft())
        made = await store.create(key("b"), draft())
        await store.create(key("t", resource=TOOLS), draft())
        await store.delete(key("b"), made.revision)
        watch = store.watch(AGENTS, since=1)
        assert await take(watch, 2) == [("ADDED", "b", 2), ("DELETED", "b", 4)]
        await watch.aclose()

    async def test_a_watch_of_a_namespace_sees_only_that(self, store: Storage) -> None:
        watch = store.watch(AGENTS, "b", since=0)
        await store.create(key("a", "a"), draft())
        await store.create(key("b", "b"), draft())
        assert await take(watch, 1) == [("ADDED", "b", 2)]
        await watch.aclose()

    async def test_entering_and_leaving_a_selector_are_added_and_deleted(self, store: Storage) -> None:
        watch = store.watch(AGENTS, since=0, predicate=labelled("x"))
        revision = (await store.create(key("a"), draft("1", {"team": "y"}))).revision
        for text, team in (("2", "x"), ("3", "x"), ("4", "y"), ("5", "x")):
            revision = (await store.update(key("a"), draft(text, {"team": team}), revision)).revision
        await store.delete(key("a"), revision)
        events = []
        with anyio.fail_after(10):
            async for event in watch:
                assert event.entry is not None
                events.append((event.type, event.revision, event.entry.uid))
                if len(events) == 5:
                    break
        # On leaving, the last state inside the selector is shown, at the revision of leaving.
        assert events == [
            ("ADDED", 2, "uid-2"),
            ("MODIFIED", 3, "uid-3"),
            ("DELETED", 4, "uid-3"),
            ("ADDED", 5, "uid-5"),
            ("DELETED", 6, "uid-5"),
        ]
        await watch.aclose()

    async def test_initial_events_end_with_a_bookmark_at_the_revision_of_the_list(self, store: Storage) -> None:
        await store.create(key("a"), draft())
        await store.create(key("t", resource=TOOLS), draft())
        watch = store.watch(AGENTS, initial_events=True)
        await store.create(key("b"), draft())
        assert await take(watch, 3) == [("ADDED", "a", 1), ("BOOKMARK", "", 2), ("ADDED", "b", 3)]
        await watch.aclose()

    async def test_bookmarks_come_every_minute_to_those_who_want_them(
        self, store: Storage, clock: VirtualClock
    ) -> None:
        wanting, other = store.watch(AGENTS, bookmarks=True), store.watch(AGENTS)
        await store.create(key("t", resource=TOOLS), draft())
        await clock.advance(61)
        assert await take(wanting, 1) == [("BOOKMARK", "", 1)]
        await store.create(key("a"), draft())
        assert await take(other, 1) == [("ADDED", "a", 2)]
        await wanting.aclose()
        await other.aclose()

    async def test_a_watch_from_a_future_revision_waits_and_then_says_so(
        self, store: Storage, clock: VirtualClock
    ) -> None:
        watch = store.watch(AGENTS, since=2)
        errors: list[ServerTimeout] = []

        async def read() -> None:
            try:
                await take(watch, 1)
            except ServerTimeout as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await clock.advance(3.5)
        assert [error.message for error in errors] == ["Too large resource version: 2, current: 0"]

    async def test_a_watch_from_a_future_revision_begins_when_it_is_reached(self, store: Storage) -> None:
        watch = store.watch(AGENTS, since=1)
        found: list[tuple[str, str, int]] = []

        async def read() -> None:
            found.extend(await take(watch, 1))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.sleep(0)
            await store.create(key("a"), draft())
            await store.create(key("b"), draft())
        assert found == [("ADDED", "b", 2)]
        await watch.aclose()

    async def test_a_reader_who_falls_behind_gets_a_prefix_and_then_the_end(self, store: Storage) -> None:
        slow, quick = store.watch(AGENTS, since=0), store.watch(AGENTS, since=0)
        quick_seen: list[tuple[str, str, int]] = []

        async def read() -> None:
            quick_seen.extend(await take(quick, 1200))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            for start in range(0, 1200, 100):
                async with anyio.create_task_group() as writers:
                    for number in range(start, start + 100):
                        writers.start_soon(store.create, key(f"n{number}"), draft())
        with anyio.fail_after(10):
            slow_seen = [shown(event) async for event in slow]
        assert 1000 <= len(slow_seen) < 1200
        assert slow_seen == quick_seen[: len(slow_seen)]
        assert [event[2] for event in quick_seen] == list(range(1, 1201))
        # It can go on where it was cut off.
        rest = store.watch(AGENTS, since=slow_seen[-1][2])
        assert await take(rest, 1200 - len(slow_seen)) == quick_seen[len(slow_seen) :]
        await rest.aclose()
        await quick.aclose()

    async def test_a_watch_below_the_compact_revision_is_expired(self, store: Storage) -> None:
        made = await store.create(key("a"), draft())
        await store.delete(key("a"), made.revision)
        await store.create(key("b"), draft())
        await store.compact(2)
        assert store.compact_revision == 2
        with pytest.raises(Expired):
            store.watch(AGENTS, since=1)
        watch = store.watch(AGENTS, since=2)
        assert await take(watch, 1) == [("ADDED", "b", 3)]
        await watch.aclose()

    async def test_expired_objects_are_deleted_soon_after(self, store: Storage, clock: VirtualClock) -> None:
        now = int(clock.now().timestamp() * 1000)
        await store.create(key("short"), draft("s", expires_at=now + 5_000))
        await store.create(key("long"), draft("l", expires_at=now + 500_000))
        watch = store.watch(AGENTS, since=2)
        await clock.advance(4)
        assert store.get(key("short")) is not None
        await clock.advance(3)
        assert await take(watch, 1) == [("DELETED", "short", 3)]
        assert names(store.list(AGENTS).entries) == ["long"]
        await watch.aclose()
