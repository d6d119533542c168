"""Group `sql`: SQLite files of the folder, read only.

A query never touches the file: it and its journal are copied, through the jail, into a private folder, and SQLite opens the copy.
So a link that is put in the file's place leads nowhere, no lock of another process is held up, and the library that keeps
Kastra's own store never shares a file with this one. On the copy, an authorizer allows reading and nothing else (no ATTACH, no PRAGMA,
no writes, no extensions), and rows, bytes and time are bounded.

Source: sqlite3_set_authorizer, sqlite3_limit, sqlite3_progress_handler. Read next: `kastra.tool.toolkit.jail`.
"""

import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from kastra.tool.interface import ToolError
from kastra.tool.toolkit.bounds import MAX_TEXT
from kastra.tool.toolkit.builtin import READ, Builtin, unfit
from kastra.tool.toolkit.jail import Jail
from kastra.tool.toolkit.kit import Kit

MAX_DATABASE = 128 * 1024 * 1024
"""Bytes of a database and its journal, unless `maxBytes` says more."""
MAX_SECONDS = 10.0
"""Time for one query."""
MAX_ROWS = 1_000
MAX_VALUE = 1_000_000
"""Bytes of one value or row within SQLite."""
_MAX_CELL = 10_000
_MAX_SQL = 20_000
_INSTRUCTIONS = 10_000
_HEADER = b"SQLite format 3\0"
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS = frozenset(
    {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "zeroblob", "randomblob", "printf", "format"}
)
"""Those that reach files, and those that make something large in one call, which the time limit can't interrupt."""

Database = Annotated[str, "Path of the SQLite file in the tool's folder."]


def schema(kit: Kit, database: Database) -> dict[str, Any]:
    """List the tables and views of a database, with columns and types."""
    with _opened(kit.jail, database, kit) as connection:
        names = connection.execute(
            "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
            "ORDER BY name LIMIT 500"
        ).fetchall()
        tables = []
        for kind, name in names:
            columns = connection.execute(
                'SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (name,)
            ).fetchall()
            entry: dict[str, Any] = {
                "name": name,
                "columns": [
                    {
                        "name": column,
                        "type": typed,
                        **({"required": True} if needed else {}),
                        **({"primaryKey": True} if key else {}),
                    }
                    for column, typed, needed, key in columns
                ],
            }
            if kind == "view":
                entry["view"] = True
            tables.append(entry)
    return {"tables": tables}


def query(
    kit: Kit,
    database: Database,
    sql: Annotated[str, "One SELECT; values go in as ? or :name, with parameters."],
    parameters: Annotated[
        list[str | int | float | None] | dict[str, str | int | float | None], "For ? a list, for :name an object."
    ] = [],  # noqa: B006 - never changed; the schema shows it
    limit: Annotated[int, "Rows at most, up to 1000."] = 100,
) -> dict[str, Any]:
    """Query a database with one SELECT; nothing can be changed."""
    if not 1 <= limit <= MAX_ROWS or len(sql) > _MAX_SQL:
        raise unfit(f"limit must be from 1 to {MAX_ROWS}, sql at most {_MAX_SQL} characters long")
    with _opened(kit.jail, database, kit) as connection, _explained(sql):
        connection.set_authorizer(_authorize)
        cursor = connection.execute(sql, parameters)
        if cursor.description is None:
            raise unfit("sql: must be a SELECT")
        columns = [column[0] for column in cursor.description]
        rows: list[list[Any]] = []
        size, more = 0, ""
        for row in cursor:
            if len(rows) == limit:
                more = f"the first {limit} rows; use LIMIT and OFFSET, or raise limit"
                break
            cells = [_cell(cell) for cell in row]
            size += sum(len(str(cell)) for cell in cells)
            if size > MAX_TEXT and rows:
                more = f"the first {len(rows)} rows, since they are large; select fewer columns"
                break
            rows.append(cells)
    result: dict[str, Any] = {"columns": columns, "rows": rows}
    if more:
        result["truncated"] = more
    return result


def _authorize(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _cell(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, str) and len(value) > _MAX_CELL:
        return f"{value[:_MAX_CELL]} [truncated: {_MAX_CELL:,} of {len(value):,} characters]"
    return value


@contextmanager
def _opened(jail: Jail, path: str, kit: Kit) -> Iterator[sqlite3.Connection]:
    """A connection to a copy of a database, on which nothing can be written and no query takes for ever."""
    limit = max(MAX_DATABASE, int(kit.settings.get("maxBytes") or 0))
    with tempfile.TemporaryDirectory(prefix="kastra-sql-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "copy.db"
        _copy(jail, path, copy, limit)
        connection = sqlite3.connect(copy, isolation_level=None, check_same_thread=True)
        stopped = threading.Event()
        timer = threading.Timer(MAX_SECONDS, stopped.set)
        timer.daemon = True
        timer.start()
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 4 * _MAX_SQL)
            connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.set_progress_handler(lambda: int(stopped.is_set()), _INSTRUCTIONS)
            yield connection
        except sqlite3.DatabaseError as error:
            if stopped.is_set():
                raise ToolError(
                    f"the query took longer than {MAX_SECONDS:g}s", type="timeout", retryable=False
                ) from None
            raise unfit(f"{path!r}: {str(error)[:300]}") from None
        finally:
            timer.cancel()
            connection.close()


@contextmanager
def _explained(sql: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise unfit(f"sql: {str(error)[:300]}") from None
    except sqlite3.Error as error:
        if "not authorized" in str(error) or "prohibited" in str(error):
            raise unfit(
                "sql: only SELECT is allowed: no writes, ATTACH, PRAGMA, functions that reach files, or printf (use round and ||)"
            ) from None
        if "interrupted" in str(error):
            raise
        raise unfit(f"sql: {str(error)[:300]}") from None
    except (sqlite3.Warning, OverflowError, UnicodeEncodeError) as error:
        raise unfit(f"sql: {str(error)[:300]}") from None


def _copy(jail: Jail, path: str, target: Path, limit: int) -> None:
    """The file and its journal, as they were at one moment."""
    for _ in range(5):
        before = _copied(jail, path, target, limit)
        if before == _marks(jail, path):
            return
    raise ToolError(f"{path!r} is being written all the time; try again")


def _copied(jail: Jail, path: str, target: Path, limit: int) -> list[tuple[int, int] | None]:
    marks = _marks(jail, path)
    if marks[0] is None:
        jail.stat(path)
    for suffix, mark in zip(("", "-wal", "-journal"), marks, strict=True):
        copy = target.with_name(target.name + suffix)
        copy.unlink(missing_ok=True)
        if mark is None:
            continue
        size = 0
        with jail.opened(path + suffix) as descriptor, copy.open("wb") as file:
            while data := os.read(descriptor, 1 << 20):
                size += len(data)
                if size > limit:
                    raise unfit(f"{path!r} has more than {limit:,} bytes")
                if not suffix and size == len(data) and not data.startswith(_HEADER):
                    raise unfit(f"{path!r} is no SQLite file")
                file.write(data)
    return marks


def _marks(jail: Jail, path: str) -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = []
    for suffix in ("", "-wal", "-journal"):
        try:
            facts = jail.stat(path + suffix)
        except ToolError:
            found.append(None)
        else:
            found.append((facts.st_size, facts.st_mtime_ns))
    return found


_SETTINGS = ("folder", "maxBytes")
TOOLS = (Builtin("sql.schema", schema, READ, _SETTINGS), Builtin("sql.query", query, READ, _SETTINGS))
