"""The default driver: the official `libsql` package, a fork of SQLite 3.45 written for embedding.

What its binding does differently, and what is done about it: every error is a ValueError with SQLite's text (classified by
it); a result without columns is None (given as no rows); a closed connection panics (refused here); integers from 2^31 are
bound as REAL, which INTEGER columns turn back exactly up to 2^53 (so never compare one with an untyped expression); a str
is cut at NUL when read (so bodies are bytes); it keeps the interpreter lock for the length of every call, also while it
waits for the disk, so commits are synced by `kastra.sql.syncing`.

Read next: `kastra.sql.driver`.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import libsql

from .bulk import insert_many
from .driver import MEMORY, Connection, Rows
from .errors import SqlError, classify

# The package is compiled and has no stubs.
_library: Any = libsql


class _LibsqlConnection:
    driver = "libsql"

    def __init__(self, path: str, read_only: bool) -> None:
        target = path if path == MEMORY or not read_only else f"file:{quote(path)}?mode=ro"
        try:
            # None for the isolation level: transactions begin where we say so, nowhere else.
            self._raw: Any = _library.connect(target, isolation_level=None, _check_same_thread=False)
        except ValueError as error:
            raise classify(str(error)) from None

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        try:
            changed: int = self._open().execute(sql, tuple(parameters)).rowcount
        except ValueError as error:
            raise classify(str(error)) from None
        return changed

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        return insert_many(self.execute, self._one_by_one, sql, rows)

    def _one_by_one(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        try:
            changed: int = self._open().executemany(sql, rows).rowcount
        except ValueError as error:
            raise classify(str(error)) from None
        return changed

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        try:
            return self._open().execute(sql, tuple(parameters)).fetchall() or []
        except ValueError as error:
            raise classify(str(error)) from None

    def rollback(self) -> None:
        if self._raw is not None and self._raw.in_transaction:
            self.execute("ROLLBACK")

    def close(self) -> None:
        if self._raw is not None:
            raw, self._raw = self._raw, None
            raw.close()

    def _open(self) -> Any:
        if self._raw is None:
            raise SqlError("this connection is closed")
        return self._raw


class LibsqlDriver:
    """The `libsql` package."""

    name = "libsql"
    keeps_lock = True

    def version(self) -> tuple[int, int, int]:
        """Of the SQLite that libSQL was forked from; the package itself reports that of the machine."""
        connection = _LibsqlConnection(MEMORY, read_only=False)
        try:
            ((text,),) = connection.query("SELECT sqlite_version()")
        finally:
            connection.close()
        major, minor, patch = (int(part) for part in text.split(".")[:3])
        return major, minor, patch

    def connect(self, path: str, *, read_only: bool) -> Connection:
        """Open a file."""
        return _LibsqlConnection(path, read_only)


DRIVER = LibsqlDriver()
