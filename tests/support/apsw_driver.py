"""A SQL driver on APSW whose disk can fail or lose power; for child processes of the crash tests only.

`Disk` counts every write, truncation and sync of the database and its log. At the call numbered `at` it does what `fault`
says: `io` and `full` make `length` calls fail; `cut` ends the process as a power cut would, keeping of each file only what
was synced and, by the seed, some of the writes that were not: none, some, all, or torn ones.

APSW brings its own SQLite, so a process that imports this must open its files with nothing else.
"""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from kastra.sql.driver import Connection, Rows
from kastra.sql.errors import DiskFull, SqlError, classify

SECTOR = 512


class Disk:
    """The fault to come, shared by all files."""

    def __init__(self, fault: str = "", at: int = 0, length: int = 1, seed: int = 0) -> None:
        self.fault = fault
        self.at = at
        self.length = length
        self.calls = 0
        self.random = random.Random(seed)
        self.files: dict[str, _File] = {}

    def call(self) -> None:
        """One more access that changes the disk."""
        self.calls += 1
        if not self.at or not self.at <= self.calls < self.at + self.length:
            return
        if self.fault == "io":
            raise apsw.IOError("injected")
        if self.fault == "full":
            raise apsw.FullError("injected")
        if self.fault == "cut":
            for file in self.files.values():
                file.lose_power()
            os._exit(99)

    def sync_logs(self, descriptor: int) -> None:
        """What syncing the log by its descriptor would do: the real file has only what was synced before."""
        for path, file in self.files.items():
            if path.endswith("-wal"):
                file.xSync(0)


class _File(apsw.VFSFile):
    """A file whose unsynced changes are in memory only."""

    def __init__(self, disk: Disk, name: str, flags: list[int], path: str) -> None:
        super().__init__("", name, flags)
        self.disk = disk
        self.path = path
        size = super().xFileSize()
        self.image = bytearray(super().xRead(size, 0)) if size else bytearray()
        self.pending: list[tuple[int, bytes | None]] = []
        disk.files[path] = self

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self.image[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.call()
        if len(self.image) < offset:
            self.image.extend(bytes(offset - len(self.image)))
        self.image[offset : offset + len(data)] = data
        self.pending.append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        self.disk.call()
        del self.image[size:]
        self.pending.append((size, None))

    def xFileSize(self) -> int:
        return len(self.image)

    def xSync(self, flags: int) -> None:
        self.disk.call()
        for offset, data in self.pending:
            self.keep(offset, data)
        self.pending.clear()

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False

    def xClose(self) -> None:
        for offset, data in self.pending:
            self.keep(offset, data)
        self.disk.files.pop(self.path, None)
        super().xClose()

    def keep(self, offset: int, data: bytes | None) -> None:
        if data is None:
            super().xTruncate(offset)
        else:
            super().xWrite(data, offset)

    def lose_power(self) -> None:
        """Keep what a disk may have kept of the changes that were not synced."""
        luck = self.disk.random
        share = luck.choice((0.0, 0.3, 0.9))
        for offset, data in self.pending:
            if luck.random() >= share:
                continue
            if data is not None and len(data) > SECTOR and luck.random() < 0.3:
                data = data[: luck.randrange(1, len(data) // SECTOR + 1) * SECTOR]
            self.keep(offset, data)


class _Vfs(apsw.VFS):
    def __init__(self, name: str, disk: Disk) -> None:
        self.disk = disk
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        return _File(self.disk, name, flags, path)


class _ApswConnection:
    driver = "apsw"

    def __init__(self, path: str, vfs: str, read_only: bool) -> None:
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        try:
            self._raw = apsw.Connection(path, flags=flags, vfs=vfs)
        except apsw.Error as error:
            raise _translated(error) from None

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        self.query(sql, parameters)
        return self._raw.changes()

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        return sum(self.execute(sql, row) for row in rows)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        try:
            return list(self._raw.execute(sql, tuple(parameters)))
        except apsw.Error as error:
            raise _translated(error) from None

    def rollback(self) -> None:
        if self._raw.in_transaction:
            self.query("ROLLBACK")

    def close(self) -> None:
        try:
            self._raw.close()
        except apsw.Error as error:
            raise _translated(error) from None


def _translated(error: apsw.Error) -> SqlError:
    if isinstance(error, apsw.FullError):
        return DiskFull(str(error))
    if isinstance(error, apsw.IOError | apsw.CantOpenError):
        return classify(f"disk I/O error: {error}")
    return classify(str(error))


class ApswDriver:
    """APSW over a disk that can fail.

    Args:
        keeps_lock: behave like a library whose commits the store syncs itself. The process must then route
            `kastra.sql.syncing.sync` to `Disk.sync_logs`.
    """

    name = "apsw"

    def __init__(self, disk: Disk, *, keeps_lock: bool = False) -> None:
        self.keeps_lock = keeps_lock
        self._vfs = _Vfs(f"kastra-test-{id(disk)}", disk)
        self._name = f"kastra-test-{id(disk)}"

    def version(self) -> tuple[int, int, int]:
        major, minor, patch = (int(part) for part in apsw.sqlite_lib_version().split("."))
        return major, minor, patch

    def connect(self, path: str, *, read_only: bool) -> Connection:
        return _ApswConnection(str(Path(path)), self._name, read_only)
