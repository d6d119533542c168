"""What the store promises beyond one session: restarts, other libraries, other processes, history, secrets."""

import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.api.errors import AlreadyExists, Conflict, Expired, InternalError, ServiceUnavailable
from kastra.sql.errors import SqlError
from kastra.sql.owner import Owned
from kastra.store.encryption import SecretCodec
from kastra.store.interface import Draft, Entry, Key, SpecRevision
from kastra.store.objects import open_store
from kastra.testing.clock import VirtualClock
from tests.contract.storage import AGENTS, draft, key, labelled, names, shown, take

DRIVERS = ("libsql", "sqlite3")
OWNED = (
    b'{"metadata":{"name":"x","labels":{"team":"blue"},"ownerReferences":[{"uid":"parent"}]},'
    b'"apiVersion":"mastra.ai/v1","kind":"Agent"}'
)


@pytest.mark.parametrize("first", DRIVERS)
@pytest.mark.parametrize("second", DRIVERS)
async def test_a_file_written_with_one_library_is_read_and_continued_with_the_other(
    tmp_path: Path, first: str, second: str
) -> None:
    path = tmp_path / "k.db"
    async with await open_store(path, driver=first) as store:
        made = await store.create(key("a"), draft("one"))
        await store.create(key("b"), draft())
        await store.update(key("a"), draft("two"), made.revision)
    async with await open_store(path, driver=second) as store:
        present = store.get(key("a"))
        assert present is not None
        assert (present.body, present.revision, present.create_revision) == (draft("two").body, 3, 1)
        assert (await store.create(key("c"), draft())).revision == 4
        assert names(store.list(AGENTS).entries) == ["a", "b", "c"]


async def test_who_is_refused_because_of_an_object_can_read_it(tmp_path: Path) -> None:
    async with await open_store(tmp_path / "k.db") as store:
        refused: list[tuple[str, bool]] = []

        async def make(name: str, body: str) -> None:
            try:
                await store.create(key(name), draft(body))
            except AlreadyExists:
                refused.append((name, store.get(key(name)) is not None))

        async with anyio.create_task_group() as group:
            for body in ("one", "two", "three"):
                group.start_soon(make, "a", body)
                group.start_soon(make, body, "x")
        assert refused == [("a", True)] * 2
        found = store.get(key("a"))
        assert found is not None
        assert found.body == draft("one").body


async def test_who_is_refused_because_of_a_change_can_read_that(tmp_path: Path) -> None:
    async with await open_store(tmp_path / "k.db") as store:
        made = await store.create(key("a"), draft("one"))
        seen: list[bytes] = []

        async def change(body: str) -> None:
            try:
                await store.update(key("a"), draft(body), made.revision)
            except Conflict:
                seen.append(store.list(AGENTS).entries[0].body)

        async with anyio.create_task_group() as group:
            for body in ("two", "three"):
                group.start_soon(change, body)
        assert seen == [draft("two").body]


async def test_a_file_is_opened_again_with_the_library_it_was_made_with(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    async with await open_store(path, driver="sqlite3"):
        pass
    async with await open_store(path) as store:
        assert store.database is not None
        assert store.database.driver.name == "sqlite3"


async def test_labels_owners_and_expiry_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    async with await open_store(path) as store:
        made = await store.create(key("a"), Draft(OWNED, "u", {"team": "blue"}, ("parent",), expires_at=10**13))
    async with await open_store(path) as store:
        assert store.get(key("a")) == made


async def test_a_watch_goes_on_across_a_restart_and_sees_each_key_once(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    async with await open_store(path) as store:
        kept = await store.create(key("kept"), draft("1"))
        gone = await store.create(key("gone"), draft())
        await store.create(key("other", "elsewhere"), draft())
        since = store.revision
        await store.update(key("kept"), draft("2"), kept.revision)
        await store.delete(key("gone"), gone.revision)
        brief = await store.create(key("brief"), draft())
        await store.delete(key("brief"), brief.revision)
        again = await store.create(key("gone"), draft("again"))
        await store.update(key("gone"), draft("again2"), again.revision)
    async with await open_store(path) as store:
        watch = store.watch(AGENTS, since=since)
        await store.create(key("live"), draft())
        assert await take(watch, 4) == [
            ("MODIFIED", "kept", 4),
            ("DELETED", "gone", 5),
            ("ADDED", "gone", 9),
            ("ADDED", "live", 10),
        ]
        await watch.aclose()


async def test_a_watch_with_a_selector_from_before_the_restart_must_list_again(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    async with await open_store(path) as store:
        await store.create(key("a"), draft())
        await store.create(key("b"), draft())
    async with await open_store(path) as store:
        with pytest.raises(Expired):
            store.watch(AGENTS, since=1, predicate=labelled("x"))
        store.watch(AGENTS, since=2, predicate=labelled("x"))


async def test_compaction_while_a_catch_up_is_read_is_expired_not_a_lost_deletion(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    async with await open_store(path) as store:
        made = await store.create(key("a"), draft())
        await store.delete(key("a"), made.revision)
    async with await open_store(path) as store:
        watch = store.watch(AGENTS, since=1)
        await store.compact(2)
        with pytest.raises(Expired):
            await take(watch, 1)


async def test_old_deletions_are_forgotten_after_a_day(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with await open_store(tmp_path / "k.db", clock=clock) as store:
        made = await store.create(key("a"), draft())
        await store.delete(key("a"), made.revision)
        await clock.advance(3600)
        assert store.compact_revision == 0
        await clock.advance(24 * 3600)
        with anyio.fail_after(5):
            while store.compact_revision != 2:
                await clock.advance(60)
                await store.query("SELECT 1")
        assert await store.query("SELECT count(*) FROM tombstones") == [(0,)]


async def test_specs_are_kept_ten_deep_unless_a_live_run_is_older(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with await open_store(tmp_path / "k.db", clock=clock) as store:
        revision = 0
        for generation in range(1, 16):
            spec = SpecRevision(generation, f"hash-{generation}", b'{"n":%d}' % generation, "ann")
            change = Draft(draft("u").body, "uid-u", spec_revision=spec)
            if revision:
                revision = (await store.update(key("a"), change, revision)).revision
            else:
                revision = (await store.create(key("a"), change)).revision
            clock.jump(1)
        history = await store.history("uid-u")
        assert [spec.generation for spec in history] == list(range(1, 16))
        assert (history[2].spec, history[2].actor, history[2].revision) == (b'{"n":3}', "ann", 3)
        await clock.advance(61)
        with anyio.fail_after(5):
            # The housekeeper's commits take the disk's time, which isn't virtual.
            while [spec.generation for spec in await store.history("uid-u")] != list(range(6, 16)):
                await anyio.sleep(0.005)


async def test_another_process_reads_and_follows_a_file_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    async with await open_store(path) as store:
        await store.create(key("a"), draft("one"))
        script = """
import asyncio, sys
from kastra.store.interface import Draft, Key
from kastra.store.objects import open_store
from kastra.api.errors import ServiceUnavailable
async def main():
    async with await open_store(sys.argv[1], read_only=True) as store:
        print(store.revision, len(store.list("agents.mastra.ai").entries), flush=True)
        watch = store.watch("agents.mastra.ai", since=1)
        sys.stdin.readline()
        await store.refresh()
        async for event in watch:
            print(event.type, event.entry.key.name, event.revision, flush=True)
            if event.revision == 3:
                break
        print(store.revision, store.get(Key("agents.mastra.ai", "default", "a")), flush=True)
        try:
            await store.create(Key("agents.mastra.ai", "", "x"), Draft(b"{}", "u"))
        except ServiceUnavailable as error:
            print(error)
asyncio.run(main())
"""
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            assert await anyio.to_thread.run_sync(child.stdout.readline) == "1 1\n"
            await store.create(key("b"), draft())
            await store.delete(key("a"), 1)
            child.stdin.write("\n")
            child.stdin.close()
            output = await anyio.to_thread.run_sync(child.stdout.read)
        assert output.splitlines() == [
            "ADDED b 2",
            "DELETED a 3",
            "3 None",
            "the store is open for reading only; another process owns it",
        ]
        assert (await store.create(key("c"), draft())).revision == 4


async def test_reading_what_does_not_exist_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SqlError, match=r"none\.db: no such file"):
        await open_store(tmp_path / "none.db", read_only=True)


async def test_a_second_owner_waits_and_is_told_who_has_the_file(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    async with await open_store(path):
        with pytest.raises(Owned, match=r"is in use by .* \(pid \d+\)"):
            await open_store(path, wait=0)
    async with await open_store(path, wait=0):
        pass


async def test_after_closing_writes_are_refused_and_watches_end(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "k.db")
    await store.create(key("a"), draft())
    watch = store.watch(AGENTS)
    await store.aclose()
    assert [shown(event) async for event in watch] == [("ADDED", "a", 1)]
    with pytest.raises(ServiceUnavailable, match="closing"):
        await store.create(key("b"), draft())
    await store.aclose()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_the_writer_knows_what_it_committed_while_the_event_loop_is_busy(tmp_path: Path, driver: str) -> None:
    async with await open_store(tmp_path / "k.db", driver=driver) as store:

        def submit(call: Coroutine[Any, Any, Entry]) -> None:
            # Runs up to the point where it waits, and then keeps the loop from learning what the writer did.
            call.send(None)
            time.sleep(0.05)
            call.close()

        submit(store.create(key("a"), draft("one")))
        submit(store.update(key("a"), draft("two"), 1))
        submit(store.delete(key("a"), 2))
        submit(store.create(key("a"), draft("three")))
        assert (store.revision, store.get(key("a"))) == (0, None)
        await store.query("SELECT 1")
        present = store.get(key("a"))
        assert present is not None
        assert (present.revision, present.create_revision, present.body) == (4, 4, draft("three").body)


async def test_secrets_are_ciphertext_on_disk_and_plain_everywhere_else(tmp_path: Path) -> None:
    path, secret = tmp_path / "k.db", Key("secrets", "default", "s")
    canary = b'{"metadata":{"name":"s"},"data":{"token":"Y2FuYXJ5LTQyLWNhbmFyeQ=="}}'
    codec = SecretCodec(tmp_path / "secret.key")
    async with await open_store(path, codec=codec) as store:
        made = await store.create(secret, Draft(canary, "u"))
        await store.create(key("a"), draft("plain-text"))
        since = store.revision
        changed = await store.update(secret, Draft(canary, "u"), made.revision)
        await store.delete(secret, changed.revision)
        await store.create(secret, Draft(canary, "u"))
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.name.startswith("k.db"))
    assert b"canary" not in on_disk
    assert b"Y2FuYXJ5" not in on_disk
    assert b"plain-text" in on_disk
    async with await open_store(path, codec=SecretCodec(tmp_path / "secret.key")) as store:
        present = store.get(secret)
        assert present is not None
        assert present.body == canary
        watch = store.watch("secrets", since=since)
        event = await anext(watch)
        assert event.entry is not None
        assert (event.type, event.entry.body) == ("DELETED", canary)
        await watch.aclose()


@pytest.mark.parametrize("damage", ["missing", "other", "short", "none given"])
async def test_secrets_without_their_key_are_an_error_that_names_the_file(tmp_path: Path, damage: str) -> None:
    path, file = tmp_path / "k.db", tmp_path / "secret.key"
    async with await open_store(path, codec=SecretCodec(file)) as store:
        await store.create(Key("secrets", "default", "s"), Draft(b'{"metadata":{"name":"s"}}', "u"))
    file.unlink()
    if damage == "other":
        file.write_bytes(bytes(32))
    elif damage == "short":
        file.write_bytes(b"short")
    with pytest.raises(InternalError, match="key file" if damage == "none given" else "secret.key"):
        await open_store(path, codec=None if damage == "none given" else SecretCodec(file))


async def test_a_row_moved_to_another_secret_can_not_be_read(tmp_path: Path) -> None:
    codec = SecretCodec(tmp_path / "secret.key")
    row = codec.encode(Key("secrets", "a", "s"), b"value")
    assert codec.decode(Key("secrets", "a", "s"), row) == b"value"
    with pytest.raises(InternalError):
        codec.decode(Key("secrets", "b", "s"), row)
