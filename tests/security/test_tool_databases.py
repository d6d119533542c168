"""A query of a model reads one database, and neither writes, nor attaches, nor goes on for ever."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from tests.support.toolbox import Toolbox, toolbox

CANARY = "other-4711"


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Toolbox]:
    async with toolbox(tmp_path / "project") as made:
        for name in ("own.db", "other.db"):
            with closing(sqlite3.connect(made.folder / name)) as connection:
                connection.executescript(
                    f"CREATE TABLE t (x); INSERT INTO t VALUES ('{CANARY if name == 'other.db' else 1}')"
                )
        yield made


FORBIDDEN = [
    "INSERT INTO t VALUES (2)",
    "UPDATE t SET x = 2",
    "DELETE FROM t",
    "DROP TABLE t",
    "CREATE TABLE u (x)",
    "CREATE TEMP TABLE u (x)",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
    "ALTER TABLE t RENAME TO u",
    "VACUUM",
    "VACUUM INTO 'stolen.db'",
    "REINDEX",
    "ANALYZE",
    "ATTACH 'other.db' AS o",
    "ATTACH 'file:{folder}/other.db' AS o",
    "DETACH main",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA database_list",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_table_info('t')",
    "SELECT load_extension('x')",
    "SELECT writefile('x', 'y')",
    "SELECT readfile('/etc/passwd')",
    "SELECT zeroblob(1000000000)",
    "SELECT randomblob(1000000000)",
    "BEGIN",
    "SAVEPOINT s",
    "SELECT 1; DROP TABLE t",
    "EXPLAIN SELECT 1; DELETE FROM t",
    "WITH c AS (SELECT 1) DELETE FROM t",
    "REPLACE INTO t VALUES (3)",
]


@pytest.mark.parametrize("sql", FORBIDDEN)
async def test_nothing_but_reading_is_allowed(sql: str, box: Toolbox) -> None:
    before = {path.name: path.read_bytes() for path in box.folder.iterdir()}
    refused = await box.refused("sql.query", {"database": "own.db", "sql": sql.format(folder=box.folder)})
    assert CANARY not in refused.message
    assert not refused.retryable
    assert {path.name: path.read_bytes() for path in box.folder.iterdir()} == before
    assert (await box.call("sql.query", {"database": "own.db", "sql": "SELECT x FROM t"}))["rows"] == [["1"]]


ENDLESS = [
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT count(*) FROM n a, n b, n c",
]


@pytest.mark.parametrize("sql", ENDLESS, ids=["recursion", "product"])
async def test_a_query_without_end_is_stopped(sql: str, box: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kastra.tool.toolkit.databases.MAX_SECONDS", 0.3)
    with anyio.fail_after(45):
        refused = await box.refused("sql.query", {"database": "own.db", "sql": sql})
    assert (refused.type, refused.retryable) == ("timeout", False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT printf('%.*c', 999999999, 'x')",
        "SELECT replace(printf('%.*c', 9000000, 'x'), 'x', 'xxxxxxxxxx')",
        "SELECT " + "(" * 900 + "1" + ")" * 900,
        "SELECT " + "1+" * 9_000 + "1",
        "SELECT 'a' LIKE '" + "%a" * 9_000 + "'",
    ],
    ids=["width", "replace", "brackets", "sum", "like"],
)
async def test_a_query_that_grows_is_refused_or_cut(sql: str, box: Toolbox) -> None:
    with anyio.fail_after(45):
        try:
            found = await box.call("sql.query", {"database": "own.db", "sql": sql})
        except Exception as error:
            assert len(str(error)) < 3_000
        else:
            assert len(str(found)) < 30_000


async def test_a_damaged_database_is_an_error_and_nothing_else(box: Toolbox) -> None:
    whole = (box.folder / "own.db").read_bytes()
    for cut in (100, 1_000, len(whole) - 1):
        (box.folder / "cut.db").write_bytes(whole[:cut] + b"\xff" * (len(whole) - cut))
        try:
            await box.call("sql.query", {"database": "cut.db", "sql": "SELECT * FROM t"})
        except Exception as error:
            assert "cut.db" in str(error) or "sql" in str(error)
