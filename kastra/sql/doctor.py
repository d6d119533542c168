"""Is this database sound, and how fast is its disk? What `kastra doctor` prints of the store.

Only reads, except for a scratch file beside the database on which the disk is timed. May run while a server owns the file.
Repairs nothing: a damaged file is replaced by a backup. Read next: `kastra.sql.backup`.
"""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from kastra.clock import Clock, SystemClock

from .driver import Driver, choose, has_wal_reset_fix, open_reader
from .errors import SqlError
from .migrations import schema_of
from .owner import Holder, holder_of

_SYNC_SECONDS = 0.3
_BLOCK = 4096
_BLOCKS = 256


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Args:
        driver: library that opened the file, with the SQLite inside.
        schema: number of the schema.
        revision: of the last committed change.
        size: of the file, in bytes.
        log_size: of the write-ahead log beside it, in bytes.
        syncs_per_second: how often the disk can be made to keep something; what bounds single writes.
        holder: the process that owns the file, if any.
        problems: what is wrong; empty for a sound file.
        warnings: what is not wrong yet.
    """

    driver: str = ""
    sqlite: tuple[int, int, int] = (0, 0, 0)
    schema: int = 0
    revision: int = 0
    size: int = 0
    log_size: int = 0
    syncs_per_second: int = 0
    holder: Holder | None = None
    problems: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())


def diagnose(path: str | Path, *, driver: str | Driver | None = None, clock: Clock | None = None) -> Diagnosis:
    """Look at the database at `path`. Blocks: about a second, more for a large file.

    Raises:
        SqlError: there is no such driver. A file that can't be opened is a problem in the result, not an error.
    """
    path = Path(path)
    chosen = choose(path, driver)
    version = chosen.version()
    problems: list[str] = []
    warnings: list[str] = []
    if not has_wal_reset_fix(version):
        warnings.append(
            f"SQLite {'.'.join(map(str, version))} can corrupt a file that two connections write at the same instant "
            "(fixed in 3.51.3); Kastra writes with one only, so let nothing else write this file"
        )
    schema = revision = 0
    try:
        connection = open_reader(path, chosen)
        try:
            for pragma in ("quick_check", "integrity_check"):
                found = [str(row[0]) for row in connection.query(f"PRAGMA {pragma}")]
                if found != ["ok"]:
                    problems += [f"{pragma}: {line}" for line in found[:20]]
                    break
            schema = schema_of(connection)
            ((revision,),) = connection.query("SELECT i FROM meta WHERE k = 'rev'")
        finally:
            connection.close()
    except SqlError as error:
        problems.append(str(error))
    log = path.with_name(path.name + "-wal")
    return Diagnosis(
        driver=chosen.name,
        sqlite=version,
        schema=schema,
        revision=revision,
        size=path.stat().st_size if path.exists() else 0,
        log_size=log.stat().st_size if log.exists() else 0,
        syncs_per_second=_syncs_per_second(path.absolute().parent, clock or SystemClock(), warnings),
        holder=holder_of(path),
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _syncs_per_second(folder: Path, clock: Clock, warnings: list[str]) -> int:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            descriptor = file.fileno()
            os.pwrite(descriptor, bytes(_BLOCK * _BLOCKS), 0)
            os.fsync(descriptor)
            started = clock.monotonic()
            count = 0
            while (elapsed := clock.monotonic() - started) < _SYNC_SECONDS and count < 10_000:
                os.pwrite(descriptor, b"k" * _BLOCK, count % _BLOCKS * _BLOCK)
                os.fsync(descriptor)
                count += 1
    except OSError as error:
        warnings.append(f"the disk could not be timed: {folder}: {error.strerror}")
        return 0
    return int(count / elapsed) if elapsed > 0 else 0
