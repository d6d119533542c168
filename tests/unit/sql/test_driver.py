"""Both libraries behave alike behind the driver protocol, and never touch one file in the same process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kastra.sql.bulk import widened
from kastra.sql.driver import (
    MEMORY,
    Connection,
    choose,
    has_wal_reset_fix,
    installed,
    load,
    open_reader,
    open_writer,
    recorded,
    reserve_log,
)
from kastra.sql.errors import (
    Busy,
    ConstraintViolation,
    Corrupt,
    DiskFull,
    IoFault,
    ReadOnly,
    SqlError,
    StorageFault,
    UniqueViolation,
    classify,
)

BOTH = pytest.mark.parametrize("name", ["libsql", "sqlite3"])


@pytest.fixture(params=["libsql", "sqlite3"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    opened = open_writer(tmp_path / "t.db", load(request.param))
    opened.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT NOT NULL UNIQUE, n INTEGER, b BLOB) STRICT")
    yield opened
    opened.close()


def test_statements_return_how_many_rows_they_changed(connection: Connection) -> None:
    assert connection.execute("INSERT INTO t(k, n) VALUES (?, ?)", ("a", 1)) == 1
    assert connection.executemany("INSERT INTO t(k, n) VALUES (?, ?)", [("b", 2), ("c", 3)]) == 2
    assert connection.executemany("UPDATE t SET n = 0 WHERE k = ?", [("a",), ("none",), ("c",)]) == 2
    assert connection.execute("DELETE FROM t WHERE k = 'none'") == 0
    assert connection.query("SELECT k, n FROM t ORDER BY k") == [("a", 0), ("b", 2), ("c", 0)]


def test_rows_changed_by_triggers_are_not_counted(connection: Connection) -> None:
    connection.execute("CREATE TABLE log(k TEXT)")
    connection.execute("CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.k), (new.k); END")
    assert connection.execute("INSERT INTO t(k) VALUES ('a')") == 1
    assert connection.executemany("INSERT INTO t(k) VALUES (?)", [("b",), ("c",)]) == 2


@pytest.mark.parametrize(
    "value", [0, 2**31, 2**40 + 1, 2**53, 1_900_000_000_123, -(2**40), b"", b"\x00\xff" * 3, "", "\u6587\u5b57", None]
)
def test_values_come_back_as_they_went_in(connection: Connection, value: object) -> None:
    column = "b" if isinstance(value, bytes) else "n" if isinstance(value, int) or value is None else "k"
    connection.execute(
        f"INSERT INTO t(k, {column}) VALUES ('key', ?)" if column != "k" else "INSERT INTO t(k) VALUES (?)", (value,)
    )
    assert connection.query(f"SELECT {column} FROM t") == [(value,)]
    assert connection.query(f"SELECT count(*) FROM t WHERE {column} IS ?", (value,)) == [(1,)]


def test_errors_are_told_apart(connection: Connection) -> None:
    connection.execute("INSERT INTO t(k) VALUES ('a')")
    with pytest.raises(UniqueViolation, match=r"t\.k"):
        connection.execute("INSERT INTO t(k) VALUES ('a')")
    with pytest.raises(ConstraintViolation):
        connection.execute("INSERT INTO t(k) VALUES (NULL)")
    with pytest.raises(ConstraintViolation):
        connection.execute("INSERT INTO t(k, n) VALUES ('b', 'text')")
    with pytest.raises(SqlError, match="no such table") as caught:
        connection.query("SELECT * FROM no_such")
    assert type(caught.value) is SqlError


def test_a_transaction_can_be_rolled_back_and_rolling_back_nothing_is_fine(connection: Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t(k) VALUES ('a')")
    connection.rollback()
    connection.rollback()
    assert connection.query("SELECT * FROM t") == []


def test_a_closed_connection_refuses_and_can_be_closed_again(connection: Connection) -> None:
    connection.close()
    connection.close()
    with pytest.raises(SqlError, match=r"(?i)closed"):
        connection.query("SELECT 1")


def test_a_writer_that_can_not_get_the_lock_is_told_busy(tmp_path: Path, connection: Connection) -> None:
    other = open_writer(tmp_path / "t.db", load(connection.driver))
    other.query("PRAGMA busy_timeout=1")
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy):
        other.execute("BEGIN IMMEDIATE")
    connection.rollback()
    other.close()


def test_a_reader_sees_commits_and_can_not_write(tmp_path: Path, connection: Connection) -> None:
    reader = open_reader(tmp_path / "t.db", load(connection.driver))
    connection.execute("INSERT INTO t(k) VALUES ('a')")
    assert reader.query("SELECT k FROM t") == [("a",)]
    with pytest.raises(ReadOnly):
        reader.execute("DELETE FROM t")
    reader.close()


@BOTH
def test_writers_are_durable_and_use_a_log(tmp_path: Path, name: str) -> None:
    connection = open_writer(tmp_path / "t.db", load(name))
    pragmas = {
        pragma: connection.query(f"PRAGMA {pragma}")[0][0]
        for pragma in ("journal_mode", "synchronous", "auto_vacuum", "page_size")
    }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2, "page_size": 8192}
    connection.close()


@BOTH
def test_paths_with_special_characters_are_only_paths(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a b%20?mode=ro#x.db"
    connection = open_writer(path, load(name))
    connection.execute("CREATE TABLE t(x)")
    connection.close()
    reader = open_reader(path, load(name))
    assert reader.query("SELECT name FROM sqlite_master") == [("t",)]
    reader.close()
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".db"] == [path.name]


@BOTH
def test_what_can_not_be_opened_says_why(tmp_path: Path, name: str) -> None:
    with pytest.raises(IoFault, match="no such file"):
        open_reader(tmp_path / "none.db", load(name))
    with pytest.raises(IoFault, match="No such file or directory"):
        open_writer(tmp_path / "no" / "folder.db", load(name))
    (tmp_path / "text.db").write_text("this is not a database, whatever its name may say " * 50)
    for opener in (open_reader, open_writer):
        with pytest.raises(Corrupt, match=r"text\.db: .*kastra doctor"):
            opener(tmp_path / "text.db", load(name))


@BOTH
def test_the_second_library_is_kept_off_a_file_until_the_first_has_closed_it(tmp_path: Path, name: str) -> None:
    other = "sqlite3" if name == "libsql" else "libsql"
    first, second = open_writer(tmp_path / "t.db", load(name)), open_reader(tmp_path / "t.db", load(name))
    (tmp_path / "link.db").symlink_to(tmp_path / "t.db")
    for path in ("t.db", "link.db"):
        with pytest.raises(SqlError, match=f"open in this process with the driver {name}"):
            open_reader(tmp_path / path, load(other))
    first.close()
    with pytest.raises(SqlError, match="open in this process"):
        open_writer(tmp_path / "t.db", load(other))
    assert choose(tmp_path / "t.db").name == name
    second.close()
    open_writer(tmp_path / "t.db", load(other)).close()


def test_the_driver_is_the_one_asked_for_then_the_one_of_the_environment_then_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KASTRA_SQL_DRIVER", raising=False)
    assert choose(tmp_path / "new.db").name == installed()[0] == "libsql"
    monkeypatch.setenv("KASTRA_SQL_DRIVER", "sqlite3")
    assert choose(tmp_path / "new.db").name == "sqlite3"
    assert choose(tmp_path / "new.db", "libsql").name == "libsql"
    assert choose(MEMORY, load("libsql")).name == "libsql"
    monkeypatch.setenv("KASTRA_SQL_DRIVER", "oracle")
    with pytest.raises(SqlError, match="unknown SQL driver 'oracle': choose one of libsql, sqlite3"):
        choose(tmp_path / "new.db")


def test_a_file_without_a_header_of_ours_records_no_driver(tmp_path: Path) -> None:
    assert recorded(tmp_path / "none.db") is None
    (tmp_path / "short.db").write_bytes(b"x")
    assert recorded(tmp_path / "short.db") is None


@BOTH
def test_a_reserved_log_is_empty_for_readers_and_survives_use(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.db"
    reserve_log(path)
    connection = open_writer(path, load(name))
    connection.execute("CREATE TABLE t(x)")
    reserve_log(path)
    assert (tmp_path / "t.db-wal").stat().st_size == 12 << 20
    connection.execute("INSERT INTO t VALUES (1)")
    reader = open_reader(path, load(name))
    assert reader.query("SELECT x FROM t") == [(1,)]
    reader.close()
    connection.close()


def test_the_repair_of_the_log_reset_is_known_by_version() -> None:
    assert not has_wal_reset_fix((3, 45, 1))
    assert has_wal_reset_fix((3, 51, 3))
    assert load("libsql").version() < (3, 51, 3)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("database or disk is full", DiskFull),
        ("disk I/O error", IoFault),
        ("attempt to write a readonly database", ReadOnly),
        ("database disk image is malformed", Corrupt),
        ("file is not a database", Corrupt),
        ("database is locked", Busy),
        ("UNIQUE constraint failed: t.k", UniqueViolation),
        ("malformed JSON", SqlError),
    ],
)
def test_texts_of_sqlite_are_classified(text: str, error: type[SqlError]) -> None:
    assert type(classify(text)) is error
    assert isinstance(classify(text), StorageFault) == issubclass(error, StorageFault)


@pytest.mark.parametrize("count", [1, 3, 4, 15, 16, 17, 29, 64, 100])
def test_many_rows_go_in_however_many_there_are(connection: Connection, count: int) -> None:
    sql = "INSERT INTO t(k, n, b) VALUES (?, ?, ?)"
    rows = [(f"k{number:03}", number, bytes([number])) for number in range(count)]
    assert connection.executemany(sql, rows) == count
    assert connection.query("SELECT k, n, b FROM t ORDER BY k") == rows
    with pytest.raises(UniqueViolation):
        connection.executemany(sql, rows)


@pytest.mark.parametrize("count", [3, 4, 29])
def test_rows_that_are_there_already_do_nothing_and_are_not_counted(connection: Connection, count: int) -> None:
    sql = "INSERT INTO t(k, n) VALUES (?, 1) ON CONFLICT(k) DO NOTHING"
    rows = [(f"k{number:03}",) for number in range(count)]
    assert connection.executemany(sql, rows[::2]) == len(rows[::2])
    assert connection.executemany(sql, [*rows, rows[1]]) == len(rows[1::2])
    assert connection.executemany(sql, rows) == 0
    assert connection.query("SELECT k, n FROM t ORDER BY k") == [(key, 1) for (key,) in rows]


def test_only_plain_inserts_are_widened() -> None:
    plain, settled = "INSERT INTO t(a, b) VALUES (?, 'x')", " ON CONFLICT(a) DO NOTHING"
    for tail in ("", settled):
        assert widened(plain + tail) == tuple(
            (width, plain + ", (?, 'x')" * (width - 1) + tail) for width in (16, 8, 4)
        )
    for sql in (
        "INSERT INTO t(a) VALUES (?) ON CONFLICT(a) DO UPDATE SET a = excluded.a",
        "INSERT INTO t(a) VALUES (?1)",
        "INSERT INTO t(a) VALUES (lower(?))",
        "INSERT INTO t(a) SELECT ?",
        "UPDATE t SET a = ?",
    ):
        assert widened(sql) == ()
