"""A file is at one schema or the next, never between; newer ones and strangers are refused."""

from pathlib import Path

import pytest

from kastra.sql import migrations
from kastra.sql.database import open_database
from kastra.sql.driver import Connection, load, open_reader, open_writer
from kastra.sql.errors import SqlError
from kastra.sql.migrations import LATEST, SchemaTooNew, check_readable, migrate, schema_of

BOTH = pytest.mark.parametrize("name", ["libsql", "sqlite3"])


def opened(path: Path, name: str = "libsql") -> Connection:
    return open_writer(path, load(name))


@BOTH
def test_a_new_file_gets_every_table_and_no_copy(tmp_path: Path, name: str) -> None:
    connection = opened(tmp_path / "k.db", name)
    assert migrate(connection, tmp_path / "k.db") is None
    tables = {row[0] for row in connection.query("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables >= {
        "meta", "objects", "tombstones", "revisions", "runs", "journal", "blobs", "inbox", "threads", "messages",
        "messages_fts", "embeddings", "kv", "leases",
    }  # fmt: skip
    assert schema_of(connection) == LATEST
    assert migrate(connection, tmp_path / "k.db") is None
    connection.close()


@BOTH
def test_messages_are_found_by_their_text(tmp_path: Path, name: str) -> None:
    connection = opened(tmp_path / "k.db", name)
    migrate(connection, tmp_path / "k.db")
    insert = "INSERT INTO messages(thread, seq, uid, role, ts, text) VALUES (1, ?, ?, 'user', 0, ?)"
    assert connection.execute(insert, (1, "u1", "eggs and spinach")) == 1
    connection.execute(insert, (2, "u2", "\u8fd0\u884c\u65f6"))
    find = "SELECT rowid FROM messages_fts WHERE messages_fts MATCH ?"
    assert connection.query(find, ('"spin"',)) == [(1,)]
    assert connection.query(find, ('"\u8fd0\u884c\u65f6"',)) == [(2,)]
    connection.execute("DELETE FROM messages WHERE seq = 1")
    assert connection.query(find, ('"spin"',)) == []
    connection.close()


@BOTH
def test_a_second_completion_of_a_step_is_impossible(tmp_path: Path, name: str) -> None:
    connection = opened(tmp_path / "k.db", name)
    migrate(connection, tmp_path / "k.db")
    insert = "INSERT INTO journal(run, seq, ts, type, step_key) VALUES (1, ?, 0, ?, 'a')"
    connection.execute(insert, (1, 3))
    connection.execute(insert, (2, 4))
    with pytest.raises(SqlError, match="UNIQUE"):
        connection.execute(insert, (3, 4))
    connection.close()


def test_an_older_file_is_copied_and_then_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "k.db"
    connection = opened(path)
    migrate(connection, path)
    connection.execute("INSERT INTO kv(scope, key, ver, value) VALUES ('s', 'k', 1, x'01')")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, ("ALTER TABLE kv ADD COLUMN note TEXT",)))
    monkeypatch.setattr(migrations, "LATEST", LATEST + 1)
    copy = migrate(connection, path)
    assert copy is not None
    assert connection.query("SELECT key, note FROM kv") == [("k", None)]
    assert schema_of(connection) == LATEST + 1
    before = open_reader(copy, load("libsql"))
    assert (schema_of(before), before.query("SELECT key FROM kv")) == (LATEST, [("k",)])
    before.close()
    connection.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "k.db"
    connection = opened(path)
    migrate(connection, path)
    broken = ("ALTER TABLE kv ADD COLUMN note TEXT", "this is not SQL")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, broken))
    monkeypatch.setattr(migrations, "LATEST", LATEST + 1)
    with pytest.raises(SqlError, match="syntax error"):
        migrate(connection, path)
    assert schema_of(connection) == LATEST
    assert "note" not in [row[1] for row in connection.query("PRAGMA table_info(kv)")]
    connection.close()


def test_a_newer_file_is_refused_by_writers_and_readers(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    connection = opened(path)
    migrate(connection, path)
    connection.query(f"PRAGMA user_version={LATEST + 5}")
    for refuse in (migrate, check_readable):
        with pytest.raises(SchemaTooNew, match=rf"schema {LATEST + 5}, this Kastra knows {LATEST}"):
            refuse(connection, path)
    connection.close()


def test_a_file_that_is_not_kastras_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = opened(path)
    with pytest.raises(SqlError, match="not a Kastra database"):
        check_readable(connection, path)
    connection.execute("CREATE TABLE theirs(x)")
    with pytest.raises(SqlError, match="tables that are not Kastra's"):
        migrate(connection, path)
    connection.close()


def test_every_opening_is_a_new_epoch_of_the_same_instance(tmp_path: Path) -> None:
    first = open_database(tmp_path / "k.db")
    first.connection.close()
    second = open_database(tmp_path / "k.db", reserve=True)
    assert second.epoch == first.epoch + 1
    assert second.instance == first.instance
    second.connection.close()
