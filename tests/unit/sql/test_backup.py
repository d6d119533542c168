"""A backup made in use is consistent, is checked before it is put back, and starts a new history."""

import json
from pathlib import Path

import pytest

from kastra.api.errors import Expired
from kastra.sql.backup import REVISION_GAP, backup, check, restore
from kastra.sql.doctor import diagnose
from kastra.sql.errors import SqlError
from kastra.sql.migrations import LATEST
from kastra.sql.owner import Owned
from kastra.store.encryption import SecretCodec
from kastra.store.interface import Draft, Key
from kastra.store.objects import open_store
from tests.contract.storage import AGENTS, draft, key, names

BOTH = pytest.mark.parametrize("name", ["libsql", "sqlite3"])


@BOTH
async def test_a_backup_made_while_writing_holds_what_was_committed(tmp_path: Path, name: str) -> None:
    async with await open_store(tmp_path / "k.db", driver=name) as store:
        await store.create(key("a"), draft())
        manifest = backup(tmp_path / "k.db", tmp_path / "b.db")
        await store.create(key("b"), draft())
        assert store.database is not None
        assert manifest.instance == store.database.instance
    assert (manifest.revision, manifest.driver, manifest.size) == (1, name, (tmp_path / "b.db").stat().st_size)
    assert check(tmp_path / "b.db") == manifest
    assert sorted(file.name for file in tmp_path.iterdir() if "b.db" in file.name) == ["b.db", "b.db.json"]
    assert (tmp_path / "b.db").stat().st_mode & 0o777 == 0o600


@BOTH
async def test_a_restored_database_is_a_new_history_far_ahead(tmp_path: Path, name: str) -> None:
    async with await open_store(tmp_path / "k.db", driver=name) as store:
        made = await store.create(key("a"), draft())
        await store.create(key("b"), draft())
        await store.delete(key("a"), made.revision)
        backup(tmp_path / "k.db", tmp_path / "b.db")
        await store.create(key("late"), draft())
        assert store.database is not None
        instance = store.database.instance
    restore(tmp_path / "b.db", tmp_path / "k.db", force=True)
    async with await open_store(tmp_path / "k.db") as store:
        assert names(store.list(AGENTS).entries) == ["b"]
        assert store.revision == store.compact_revision == 3 + REVISION_GAP
        assert store.database is not None
        assert store.database.instance != instance
        assert store.database.driver.name == name
        with pytest.raises(Expired):
            store.watch(AGENTS, since=4)
        assert (await store.create(key("c"), draft())).revision == 4 + REVISION_GAP


async def test_restoring_never_replaces_by_accident_or_under_an_owner(tmp_path: Path) -> None:
    async with await open_store(tmp_path / "k.db") as store:
        await store.create(key("a"), draft())
        backup(tmp_path / "k.db", tmp_path / "b.db")
        with pytest.raises(SqlError, match=r"b\.db exists"):
            backup(tmp_path / "k.db", tmp_path / "b.db")
        with pytest.raises(Owned):
            restore(tmp_path / "b.db", tmp_path / "k.db", force=True)
    with pytest.raises(SqlError, match=r"k\.db exists; restoring would replace it"):
        restore(tmp_path / "b.db", tmp_path / "k.db")
    restore(tmp_path / "b.db", tmp_path / "new.db")
    assert sorted(file.name for file in tmp_path.iterdir() if "restoring" in file.name) == []


async def test_a_damaged_backup_is_not_put_back(tmp_path: Path) -> None:
    async with await open_store(tmp_path / "k.db") as store:
        await store.create(key("a"), draft())
        backup(tmp_path / "k.db", tmp_path / "b.db")
    data = bytearray((tmp_path / "b.db").read_bytes())
    data[5000] ^= 1
    (tmp_path / "b.db").write_bytes(data)
    with pytest.raises(SqlError, match=r"b\.db is damaged"):
        restore(tmp_path / "b.db", tmp_path / "new.db")
    (tmp_path / "b.db.json").write_text(json.dumps({"revision": 1}))
    with pytest.raises(SqlError, match="not the manifest of a backup"):
        restore(tmp_path / "b.db", tmp_path / "new.db")
    (tmp_path / "b.db.json").unlink()
    with pytest.raises(SqlError, match=r"b\.db\.json: No such file"):
        restore(tmp_path / "b.db", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


async def test_a_backup_has_no_plain_secret_and_no_key(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    codec = SecretCodec(tmp_path / "data" / "secret.key")
    async with await open_store(tmp_path / "data" / "k.db", codec=codec) as store:
        await store.create(Key("secrets", "n", "s"), Draft(b'{"metadata":{"name":"s"},"x":"canary-77"}', "u"))
        (tmp_path / "backups").mkdir()
        backup(tmp_path / "data" / "k.db", tmp_path / "backups" / "b.db")
    for file in (tmp_path / "backups").iterdir():
        assert b"canary-77" not in file.read_bytes()
        assert (tmp_path / "data" / "secret.key").read_bytes() not in file.read_bytes()


@BOTH
async def test_the_doctor_finds_a_sound_file_sound_while_it_is_in_use(tmp_path: Path, name: str) -> None:
    async with await open_store(tmp_path / "k.db", driver=name) as store:
        await store.create(key("a"), draft())
        found = diagnose(tmp_path / "k.db")
        assert (found.problems, found.driver, found.revision, found.schema) == ((), name, 1, LATEST)
        assert found.log_size > 0
        assert found.syncs_per_second > 0
        assert found.holder is not None
        assert any("3.51.3" in warning for warning in found.warnings)
    assert diagnose(tmp_path / "k.db").holder is None


async def test_the_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    async with await open_store(tmp_path / "k.db") as store:
        for number in range(200):
            await store.create(key(f"n{number}"), draft("x" * 2000))
    data = bytearray((tmp_path / "k.db").read_bytes())
    for place in range(8192 * 3, len(data), 8192):
        data[place : place + 64] = b"\xff" * 64
    (tmp_path / "k.db").write_bytes(data)
    assert diagnose(tmp_path / "k.db").problems
    assert "no such file" in diagnose(tmp_path / "none.db").problems[0]
    (tmp_path / "text.db").write_text("not a database at all, but long enough to look at" * 40)
    assert "not a database" in diagnose(tmp_path / "text.db").problems[0]
