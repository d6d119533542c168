"""The fallback driver: the standard library's `sqlite3`, with the SQLite of the machine.

It gives up the interpreter lock for every statement it runs, and a busy event loop gives it back only after a while;
`kastra.sql.bulk` makes statements fewer, `kastra.sql.writer` the while shorter.

Read next: `kastra.sql.driver`.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from .bulk import insert_many
from .driver import MEMORY, Connection, Rows
from .errors import DiskFull, IoFault, SqlError, classify


def _translated(error: sqlite3.Error) -> SqlError:
    # Extended codes say IOERR where the text is vague; the text says more everywhere else.
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL"):
        return DiskFull(str(error))
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")):
        return IoFault(f"{error} ({name})")
    return classify(str(error))


class _SqliteConnection:
    driver = "sqlite3"

    def __init__(self, path: str, read_only: bool) -> None:
        target = path if path == MEMORY else f"file:{quote(path)}?mode={'ro' if read_only else 'rwc'}"
        try:
            self._raw = sqlite3.connect(target, uri=True, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _translated(error) from None

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        try:
            return self._raw.execute(sql, parameters).rowcount
        except sqlite3.Error as error:
            raise _translated(error) from None

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        return insert_many(self.execute, self._one_by_one, sql, rows)

    def _one_by_one(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        try:
            return self._raw.executemany(sql, rows).rowcount
        except sqlite3.Error as error:
            raise _translated(error) from None

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        try:
            return self._raw.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise _translated(error) from None

    def rollback(self) -> None:
        try:
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise _translated(error) from None

    def close(self) -> None:
        self._raw.close()


class SqliteDriver:
    """The standard library's sqlite3."""

    name = "sqlite3"
    keeps_lock = False

    def version(self) -> tuple[int, int, int]:
        """Of the SQLite that Python was linked with."""
        major, minor, patch = sqlite3.sqlite_version_info
        return major, minor, patch

    def connect(self, path: str, *, read_only: bool) -> Connection:
        """Open a file."""
        return _SqliteConnection(path, read_only)


DRIVER = SqliteDriver()
