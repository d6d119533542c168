"""How is a database file opened, and by which library?

A `Driver` is one SQLite library behind five verbs. Two are built in: `libsql`, the default, and the standard library's
`sqlite3` where libsql has no wheel or where `KASTRA_SQL_DRIVER` says so. Both read and write the same files, but two
libraries in one process would defeat each other's locks and lose writes, so a process opens a file with one only; this
module refuses the second. Which one a file was made with is written in its header (`application_id`).

Only one connection of a process writes and checkpoints (SQLite before 3.51.3 can corrupt a file when two do at the same
instant); all others are opened by `open_reader`. Never runs a transaction of its own: that is `kastra.sql.writer`.

Source: https://sqlite.org/howtocorrupt.html 2.2.1, https://sqlite.org/wal.html. Read next: `kastra.sql.writer`.
"""

import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from .errors import Corrupt, IoFault, SqlError
from .syncing import CommitSync

PAGE_SIZE = 8192
"""Three objects of 2 KB fill such a page; in the usual 4096 bytes there is room for one and much waste."""

CHECKPOINT_PAGES = 700
"""A checkpoint every 5.5 MB of log: long enough that pages which change often are moved once, and short enough that the
commit which has to do it is over in a few milliseconds."""

APPLICATION_IDS = {"libsql": 0x4B53_0001, "sqlite3": 0x4B53_0002}
"""Values of the header's application_id (`KS`), by driver."""

MEMORY = ":memory:"
"""The path of a database without a file: for tests; it can't be opened twice."""

_HEADER = b"SQLite format 3\x00"
_WAL_RESERVE = 12 << 20
_BUILT_IN = {"libsql": "kastra.sql.driver_libsql", "sqlite3": "kastra.sql.driver_sqlite3"}


Row = tuple[Any, ...]
Rows = list[Row]
"""What a query gives."""


class Connection(Protocol):
    """An open database. Used by one thread at a time. Raises `kastra.sql.errors` only."""

    driver: str

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement without result rows; returns how many rows it changed."""
        ...

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement once per row of parameters; returns how many rows were changed in all."""
        ...

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """The result rows of a statement; none for one that has no result."""
        ...

    def rollback(self) -> None:
        """End the transaction, if there is one, without its changes."""
        ...

    def close(self) -> None:
        """Close; a second time does nothing. The last writer to close moves the log into the file."""
        ...


class WriterConnection(Connection, Protocol):
    """The one connection that writes."""

    def begin(self, *, durable: bool) -> None:
        """Begin a transaction; `durable` says whether its commit must reach the disk."""
        ...

    def commit(self) -> None:
        """Commit it. Raises Unsynced (`kastra.sql.syncing`) if it is committed and the disk refused to take it."""
        ...


class Driver(Protocol):
    """A SQLite library.

    Args:
        keeps_lock: it keeps the interpreter lock while it waits for the disk.
    """

    name: str
    keeps_lock: bool

    def version(self) -> tuple[int, int, int]:
        """Of the SQLite inside."""
        ...

    def connect(self, path: str, *, read_only: bool) -> Connection:
        """Open a file; `read_only` ones must exist.

        Raises:
            IoFault: it can't be opened.
        """
        ...


_users: dict[tuple[int, int], tuple[str, int]] = {}
_users_lock = threading.Lock()


class _Registered:
    """A connection that is known to this module, so that another library is kept off the file while it is open."""

    def __init__(self, inner: Connection, identity: tuple[int, int] | None, log: Path | None) -> None:
        self.driver = inner.driver
        self._commits = CommitSync(inner, log)
        self.begin = self._commits.begin
        self.commit = self._commits.commit
        self.execute = inner.execute
        self.executemany = inner.executemany
        self.rollback = inner.rollback
        self._inner = inner
        self._identity = identity
        self._lock = threading.Lock()
        self._closed = False

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        # Readers are shared by worker threads; nothing else is.
        with self._lock:
            return self._inner.query(sql, parameters)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            with self._lock:
                self._inner.close()
        finally:
            self._commits.close()
            _release(self._identity)


def installed() -> list[str]:
    """Names of the built-in drivers that can be loaded here, the default first."""
    names = []
    for name in _BUILT_IN:
        try:
            load(name)
        except SqlError:
            continue
        names.append(name)
    return names


def load(name: str) -> Driver:
    """The built-in driver of that name.

    Raises:
        SqlError: there is none, or its library isn't installed.
    """
    if name not in _BUILT_IN:
        raise SqlError(f"unknown SQL driver {name!r}: choose one of {', '.join(_BUILT_IN)}")
    try:
        driver: Driver = import_module(_BUILT_IN[name]).DRIVER
    except ImportError as error:
        raise SqlError(f"SQL driver {name!r} is not installed here ({error})") from error
    return driver


def choose(path: str | Path, requested: str | Driver | None = None) -> Driver:
    """The driver for a file.

    In this order: the one `requested`, that of the environment variable KASTRA_SQL_DRIVER, the one that has the file open
    in this process, the one the file was made with, libsql, sqlite3.

    Raises:
        SqlError: the one asked for doesn't exist.
    """
    if requested is not None and not isinstance(requested, str):
        return requested
    wanted = requested or os.environ.get("KASTRA_SQL_DRIVER")
    if wanted:
        return load(wanted)
    for name in (recorded(path), *_BUILT_IN):
        if name in _BUILT_IN:
            try:
                return load(name)
            except SqlError:
                continue
    raise SqlError("no SQLite library is installed: install libsql")


def recorded(path: str | Path) -> str | None:
    """The driver that has `path` open in this process or, if none has, the one named in its header."""
    identity = _identity(str(path))
    if identity is None:
        return None
    with _users_lock:
        if identity in _users:
            return _users[identity][0]
        # Only while nobody here has it open: closing a file drops this process's locks on it.
        with open(path, "rb") as file:  # noqa: PTH123
            header = file.read(100)
    number = int.from_bytes(header[68:72], "big") if header.startswith(_HEADER) else 0
    return next((name for name, id_ in APPLICATION_IDS.items() if id_ == number), None)


def open_writer(path: str | Path, driver: Driver) -> WriterConnection:
    """Open the one connection of this process that writes; makes the file if there is none.

    Raises:
        IoFault, Corrupt: it can't be opened.
        SqlError: another library has it open in this process.
    """
    connection = _connect(str(path), driver, read_only=False)
    try:
        for pragma in (
            "PRAGMA busy_timeout=5000",
            f"PRAGMA page_size={PAGE_SIZE}",
            "PRAGMA auto_vacuum=INCREMENTAL",
            "PRAGMA synchronous=FULL",
            f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}",
        ):
            connection.query(pragma)
        if sys.platform == "darwin":
            # Without these, macOS answers fsync before the disk has the data.
            connection.query("PRAGMA fullfsync=1")
            connection.query("PRAGMA checkpoint_fullfsync=1")
        (mode,) = connection.query("PRAGMA journal_mode=WAL")[0]
        if mode not in ("wal", "memory"):
            raise IoFault(f"{path}: the file system can't hold a write-ahead log (journal mode stayed {mode})")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: str | Path, driver: Driver) -> Connection:
    """Open a file that must exist, for reading; allowed at any time, also while another process writes it.

    Raises:
        IoFault, Corrupt: it can't be opened.
        SqlError: another library has it open in this process.
    """
    connection = _connect(str(path), driver, read_only=True)
    try:
        connection.query("PRAGMA busy_timeout=5000")
        connection.query("PRAGMA wal_autocheckpoint=0")
        connection.query("SELECT count(*) FROM sqlite_master")
    except BaseException:
        connection.close()
        raise
    return connection


def reserve_log(path: str | Path) -> None:
    """Lengthen the file's log with zeros, so that commits needn't allocate blocks: singles are then twice as fast.

    SQLite takes what follows the last commit of the log for void. To be called by the writer, before it writes.
    """
    log = Path(f"{path}-wal")
    if not log.exists():
        return
    descriptor = os.open(log, os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        while size < _WAL_RESERVE:
            size += os.pwrite(descriptor, bytes(min(1 << 20, _WAL_RESERVE - size)), size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def has_wal_reset_fix(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite survives two connections that checkpoint at the same instant (fixed in 3.51.3)."""
    return version >= (3, 51, 3)


def _identity(path: str) -> tuple[int, int] | None:
    if path == MEMORY:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connect(path: str, driver: Driver, *, read_only: bool) -> WriterConnection:
    if path != MEMORY:
        path = str(Path(path).absolute())
        if not read_only and not Path(path).exists():
            try:
                # Made here, not by SQLite, so that it has an identity to register before it is opened.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            except OSError as error:
                raise IoFault(f"{path}: {error.strerror}") from error
    identity = _identity(path)
    if identity is None and path != MEMORY:
        raise IoFault(f"{path}: no such file")
    with _users_lock:
        if identity is not None:
            name, count = _users.get(identity, (driver.name, 0))
            if name != driver.name:
                raise SqlError(
                    f"{path} is open in this process with the driver {name}; opening it with {driver.name} too would "
                    "defeat both libraries' locks"
                )
            _users[identity] = (name, count + 1)
    try:
        log = Path(f"{path}-wal") if driver.keeps_lock and path != MEMORY else None
        connection = _Registered(driver.connect(path, read_only=read_only), identity, log)
    except BaseException:
        _release(identity)
        raise
    try:
        connection.query("PRAGMA schema_version")
    except Corrupt as error:
        connection.close()
        raise Corrupt(f"{path}: {error}; see `kastra doctor`, or restore a backup") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _release(identity: tuple[int, int] | None) -> None:
    if identity is None:
        return
    with _users_lock:
        name, count = _users[identity]
        if count == 1:
            del _users[identity]
        else:
            _users[identity] = (name, count - 1)
