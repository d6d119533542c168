"""Copies of a database that can be trusted: made while it is in use, checked before they are put back.

A backup is one file (`VACUUM INTO`, one consistent state) and a manifest beside it (`<file>.json`) with the revision and
the SHA-256. It holds Secrets only encrypted, and never the key file. A restored database gets a new instance uid and
revisions far above those of the old one, and forgets every deletion, so that whoever followed the old history is told to
list again (410) instead of silently missing what diverged.

Read next: `kastra.sql.doctor`.
"""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from kastra.clock import Clock, SystemClock, rfc3339

from .driver import Driver, choose, open_reader, open_writer
from .errors import IoFault, SqlError
from .migrations import migrate, schema_of
from .owner import Owned, holder_of, try_own

REVISION_GAP = 1_000_000
"""How far a restored database's revisions are moved on."""

_META = "SELECT (SELECT i FROM meta WHERE k = 'rev'), (SELECT t FROM meta WHERE k = 'instance')"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds; `size` in bytes, `created` in RFC 3339."""

    revision: int
    instance: str
    schema: int
    driver: str
    sha256: str
    size: int
    created: str


def backup(
    path: str | Path, target: str | Path, *, driver: str | Driver | None = None, clock: Clock | None = None
) -> Manifest:
    """Copy the database at `path` to `target`, while it may be in use. Blocks for the length of the copy.

    Raises:
        SqlError: `target` exists, or can't be written.
    """
    target = Path(target)
    if target.exists():
        raise SqlError(f"{target} exists; choose another name for the backup")
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    chosen = choose(path, driver)
    try:
        source = open_reader(path, chosen)
        try:
            source.execute("VACUUM INTO ?", (str(partial.absolute()),))
        finally:
            source.close()
        partial.chmod(0o600)
        copy = open_reader(partial, chosen)
        try:
            ((revision, instance),) = copy.query(_META)
            schema = schema_of(copy)
        finally:
            copy.close()
        _sync(partial)
        manifest = Manifest(
            revision=int(revision),
            instance=str(instance),
            schema=schema,
            driver=chosen.name,
            sha256=_digest(partial),
            size=partial.stat().st_size,
            created=rfc3339((clock or SystemClock()).now()),
        )
        note = _note_of(target)
        note.write_text(json.dumps(asdict(manifest), indent=2) + "\n")
        _sync(note)
        partial.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise IoFault(f"backup to {target}: {error.strerror}") from error
    finally:
        for leftover in _family(partial):
            leftover.unlink(missing_ok=True)
    return manifest


def check(source: str | Path) -> Manifest:
    """The manifest of a backup, after comparing it with the file.

    Raises:
        SqlError: there is no manifest, or the file isn't what it says.
    """
    source = Path(source)
    try:
        manifest = Manifest(**json.loads(_note_of(source).read_text()))
        digest = _digest(source)
    except OSError as error:
        raise IoFault(f"{error.filename}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise SqlError(f"{_note_of(source)} is not the manifest of a backup") from error
    if digest != manifest.sha256:
        raise SqlError(f"{source} is damaged: its SHA-256 is {digest}, the manifest says {manifest.sha256}")
    return manifest


def restore(
    source: str | Path, path: str | Path, *, driver: str | Driver | None = None, force: bool = False
) -> Manifest:
    """Put a backup in place of the database at `path`; returns the manifest of what was put there.

    Args:
        force: replace a database that exists. One in use by a process is never replaced.

    Raises:
        SqlError: the backup is damaged, or `path` exists.
        Owned: a process uses it.
    """
    path = Path(path).absolute()
    manifest = check(source)
    ownership = try_own(path)
    if ownership is None:
        raise Owned(path, holder_of(path))
    with ownership:
        if path.exists() and not force:
            raise SqlError(f"{path} exists; restoring would replace it (--force)")
        fresh = path.with_name(path.name + ".restoring")
        try:
            for leftover in _family(fresh):
                leftover.unlink(missing_ok=True)
            shutil.copyfile(source, fresh)
            fresh.chmod(0o600)
            _renumber(fresh, choose(fresh, driver))
            _sync(fresh)
            _fold_log(path, driver)
            for old in _family(path)[1:]:
                old.unlink(missing_ok=True)
            fresh.replace(path)
            _sync(path.parent)
        except OSError as error:
            raise IoFault(f"restoring {path}: {error.strerror}") from error
        finally:
            for leftover in _family(fresh):
                leftover.unlink(missing_ok=True)
    return manifest


def _renumber(path: Path, driver: Driver) -> None:
    connection = open_writer(path, driver)
    try:
        migrate(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE meta SET i = i + ? WHERE k = 'rev'", (REVISION_GAP,))
        connection.execute("UPDATE meta SET i = (SELECT i FROM meta WHERE k = 'rev') WHERE k = 'compact_rev'")
        connection.execute("UPDATE meta SET t = ? WHERE k = 'instance'", (str(uuid.uuid4()),))
        connection.execute("DELETE FROM tombstones")
        connection.execute("COMMIT")
        # All of it into the file: that alone is moved.
        connection.query("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def _fold_log(path: Path, driver: str | Driver | None) -> None:
    """Move the log of the file that is to be replaced into it, so that a crash before the end leaves it whole."""
    if path.exists():
        # A file that can't be opened is being replaced for a reason.
        with contextlib.suppress(SqlError):
            open_writer(path, choose(path, driver)).close()


def _family(path: Path) -> list[Path]:
    """A database file and what SQLite keeps beside it."""
    return [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))]


def _note_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
