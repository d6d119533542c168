"""The tools of SQLite files and of programs."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.toolbox import Toolbox

PYTHON = sys.executable


@pytest.fixture
def shop(box: Toolbox) -> Path:
    path = box.folder / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, photo BLOB);"
            "INSERT INTO items VALUES (1, 'tea', 3.5, NULL), (2, 'cup', 8, x'0102');"
            "CREATE VIEW cheap AS SELECT * FROM items WHERE price < 5;"
        )
    return path


async def test_tables_are_listed_with_their_columns(box: Toolbox, shop: Path) -> None:
    found = await box.call("sql.schema", {"database": "shop.db"})
    assert [(table["name"], table.get("view", False)) for table in found["tables"]] == [
        ("cheap", True),
        ("items", False),
    ]
    assert found["tables"][1]["columns"][:2] == [
        {"name": "id", "type": "INTEGER", "primaryKey": True},
        {"name": "name", "type": "TEXT", "required": True},
    ]


async def test_rows_are_queried_with_parameters(box: Toolbox, shop: Path) -> None:
    found = await box.call(
        "sql.query", {"database": "shop.db", "sql": "SELECT * FROM items WHERE price > ?", "parameters": [5]}
    )
    assert found == {"columns": ["id", "name", "price", "photo"], "rows": [[2, "cup", 8.0, "<2 bytes>"]]}
    named = {"sql": "WITH c AS (SELECT * FROM cheap) SELECT name FROM c WHERE name = :n", "parameters": {"n": "tea"}}
    assert (await box.call("sql.query", {"database": "shop.db", **named}))["rows"] == [["tea"]]


async def test_what_is_found_is_bounded_and_says_so(box: Toolbox, shop: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    found = await box.call("sql.query", {"database": "shop.db", "sql": endless, "limit": 3})
    assert found["rows"] == [[1], [2], [3]]
    assert "the first 3 rows" in found["truncated"]
    large = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT group_concat(i) FROM n"
    )
    found = await box.call("sql.query", {"database": "shop.db", "sql": large})
    assert "characters]" in found["rows"][0][0]


async def test_what_another_process_has_written_and_not_yet_merged_is_seen(box: Toolbox, shop: Path) -> None:
    with closing(sqlite3.connect(shop)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE items SET price = 9 WHERE id = 1")
        writer.commit()
        found = await box.call("sql.query", {"database": "shop.db", "sql": "SELECT price FROM items WHERE id = 1"})
        assert found["rows"] == [[9.0]]
        writer.execute("UPDATE items SET price = 10 WHERE id = 1")
        found = await box.call("sql.query", {"database": "shop.db", "sql": "SELECT price FROM items WHERE id = 1"})
        assert found["rows"] == [[9.0]], "what isn't committed isn't there"


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT * FROM absent", "no such table: absent"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT ?", "binding"),
        ("", "must be a SELECT"),
    ],
)
async def test_a_query_that_makes_no_sense_says_why(sql: str, words: str, box: Toolbox, shop: Path) -> None:
    refused = await box.refused("sql.query", {"database": "shop.db", "sql": sql, "parameters": []})
    assert words in refused.message
    assert refused.type == "validation"


async def test_what_is_no_database_is_refused(box: Toolbox) -> None:
    (box.folder / "x.db").write_text("not a database, whatever its name")
    assert "no SQLite file" in (await box.refused("sql.schema", {"database": "x.db"})).message
    assert "does not exist" in (await box.refused("sql.schema", {"database": "y.db"})).message
    assert not (box.folder / "y.db").exists()


async def test_an_allowed_program_is_run_with_its_arguments_as_they_are(box: Toolbox) -> None:
    source = "import sys, os; print(sys.argv[1:], sys.stdin.read()); print(os.getcwd(), file=sys.stderr); sys.exit(3)"
    found = await box.call(
        "process.run",
        {"program": PYTHON, "arguments": ["-c", source, "$HOME; rm *", "a b"], "stdin": "in", "path": ""},
        programs=[PYTHON],
    )
    assert found == {"exitCode": 3, "stdout": "['$HOME; rm *', 'a b'] in\n", "stderr": f"{box.folder}\n"}


async def test_a_program_that_is_not_allowed_is_not_run(box: Toolbox) -> None:
    refused = await box.refused("process.run", {"program": "/bin/sh", "arguments": ["-c", "true"]}, programs=[PYTHON])
    assert refused.type == "authorization"
    assert PYTHON in refused.message


async def test_what_a_program_prints_beyond_the_limit_is_dropped_and_said(box: Toolbox) -> None:
    source = "import sys; print('x' * 300_000); print('end', file=sys.stderr)"
    found = await box.call("process.run", {"program": PYTHON, "arguments": ["-c", source]}, programs=[PYTHON])
    assert (found["exitCode"], len(found["stdout"]), found["stderr"]) == (0, 100_000, "end\n")
    assert found["truncated"] == "stdout: the first 100,000 of 300,001 bytes"
