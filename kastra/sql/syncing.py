"""How does a commit reach the disk, without stopping the whole process while the disk works?

A library that gives up the interpreter lock syncs by itself (`PRAGMA synchronous=FULL`). One that keeps it would stop the
event loop for every sync, which is a tenth of a millisecond on a good disk and ten on a bad one. For it, commits are made
with `synchronous=NORMAL` and the log is synced here, before anybody is told: SQLite does nothing else in FULL, in the same
order, and syncs log and file by itself around a checkpoint in both.

Should the disk refuse that sync, the transaction is committed for every reader and yet may be gone after a power cut. It is
reported as neither: `Unsynced`, after which this process must not write the file any more.

Source: https://sqlite.org/pragma.html#pragma_synchronous; "fsync failures" in the PostgreSQL wiki. Read next:
`kastra.sql.writer`.
"""

import os
import sys
from pathlib import Path
from typing import Protocol

from .errors import IoFault

_FULL, _NORMAL = "PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"


class Unsynced(IoFault):
    """A transaction is committed, and the disk refused to take it."""


class _Statements(Protocol):
    def execute(self, sql: str) -> int: ...

    def query(self, sql: str) -> object: ...


class CommitSync:
    """Begins and commits the transactions of one connection, each as durable as it must be.

    Args:
        connection: is at `synchronous=FULL`.
        log: of the database, to be synced here; None to leave that to the library.
    """

    def __init__(self, connection: _Statements, log: Path | None) -> None:
        self._connection = connection
        self._log = log
        self._descriptor: int | None = None
        self._full = True
        self._durable = True

    def begin(self, *, durable: bool) -> None:
        """Begin a transaction that takes the lock for writing."""
        self._durable = durable
        full = durable and self._log is None
        if full is not self._full:
            self._connection.query(_FULL if full else _NORMAL)
            self._full = full
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit it. Raises Unsynced."""
        self._connection.execute("COMMIT")
        if self._durable and self._log is not None:
            try:
                if self._descriptor is None:
                    # No lock is ever held on the log, so closing this one gives none up.
                    self._descriptor = os.open(self._log, os.O_RDWR | getattr(os, "O_BINARY", 0))
                sync(self._descriptor)
            except OSError as error:
                why = f"committed, but the disk refused to take it ({error}); restart this process"
                raise Unsynced(f"{self._log}: {why}") from error

    def close(self) -> None:
        """Close what is open here."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


if sys.platform == "darwin":
    import fcntl

    def sync(descriptor: int) -> None:
        """Return when what was written is on the disk: on macOS fsync alone doesn't wait for that. Raises OSError."""
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)

elif hasattr(os, "fdatasync"):

    def sync(descriptor: int) -> None:
        """Return when what was written is on the disk. Raises OSError."""
        os.fdatasync(descriptor)

else:

    def sync(descriptor: int) -> None:
        """Return when what was written is on the disk. Raises OSError."""
        os.fsync(descriptor)
