"""Who may write a database file? One process, the owner, for as long as it holds the lock `<db>.lock`.

The lock is the operating system's (`flock`), so it ends with the process however that ends; the file says who holds it.
An owner that serves writes `<db>.sock.json` beside it: where to reach it, and the token to show. Reading the file needs no
lock. Never decides what to do when somebody else owns the file; callers talk to the owner, or tell the user.

Read next: `kastra.sql.database`.
"""

import errno
import fcntl
import json
import os
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from kastra.clock import Clock, SystemClock

from .errors import IoFault, SqlError

POLL = 0.05
"""Seconds between two attempts to get the lock."""

NETWORK_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "gfs2", "ocfs2", "fuse.sshfs",
     "fuse.s3fs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone")
)  # fmt: skip
"""File systems over which processes of several hosts can't share memory, as a write-ahead log needs it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that owns a file: its pid and command line."""

    pid: int
    command: str


class Owned(SqlError):
    """Another process owns the file; `holder` says which, as far as it is known."""

    def __init__(self, path: str | Path, holder: Holder | None) -> None:
        who = f"{holder.command} (pid {holder.pid})" if holder else "another process"
        endpoint = read_endpoint(path)
        advice = "stop it, or wait until it has ended"
        if endpoint is not None and holder is not None and endpoint.pid == holder.pid:
            kubeconfig = Path(path).absolute().with_name("kubeconfig")
            advice = (
                f"it serves {endpoint.url}, so send it the request (KUBECONFIG={kubeconfig} kubectl ...), or stop it"
            )
        super().__init__(f"{path} is in use by {who}: {advice}")
        self.holder = holder


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the owner serves: `url`, its process, and the token that gives access. `ca` is a file, empty without TLS."""

    url: str
    pid: int
    token: str
    ca: str = ""


class Ownership:
    """The lock on a database file; `release` gives it up. Made by `own`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others have the file, and take back the endpoint. A second time does nothing."""
        if self._descriptor < 0:
            return
        remove_endpoint(self.path)
        descriptor, self._descriptor = self._descriptor, -1
        os.ftruncate(descriptor, 0)
        os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


async def own(path: str | Path, *, wait: float = 10.0, clock: Clock | None = None) -> Ownership:
    """Become the owner of a database file, which needn't exist yet; its folder must.

    Args:
        wait: seconds to wait for a present owner to finish; 0 to try once.

    Raises:
        Owned: another process still holds it.
        IoFault: the folder can't be written, or lies on a network file system.
    """
    clock = clock or SystemClock()
    deadline = clock.monotonic() + wait
    while (ownership := try_own(path)) is None:
        if clock.monotonic() >= deadline:
            raise Owned(path, holder_of(path))
        await clock.sleep(POLL)
    return ownership


def try_own(path: str | Path) -> Ownership | None:
    """The lock if it is free now, else None.

    Raises:
        IoFault: the folder can't be written, or lies on a network file system.
    """
    path = Path(path).absolute()
    refuse_network_file_system(path)
    try:
        descriptor = os.open(_lock_file(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise IoFault(f"{_lock_file(path)}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise IoFault(f"{_lock_file(path)}: can't be locked: {error.strerror}") from error
    text = json.dumps(asdict(Holder(os.getpid(), _command())))
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
    except OSError:
        # On a full disk the lock holds all the same; only its note is missing.
        os.ftruncate(descriptor, 0)
    return Ownership(path, descriptor)


def holder_of(path: str | Path) -> Holder | None:
    """The process that owns the file, as its lock file tells; None when nobody does or nothing is told."""
    try:
        told = json.loads(_lock_file(Path(path).absolute()).read_text())
        return Holder(int(told["pid"]), str(told["command"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_endpoint(path: str | Path, endpoint: Endpoint) -> None:
    """Tell other processes of this user where the owner of `path` serves."""
    target = _endpoint_file(Path(path).absolute())
    fresh = target.with_name(target.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(endpoint), file)
    fresh.replace(target)


def read_endpoint(path: str | Path) -> Endpoint | None:
    """Where the owner of `path` says it serves; None without such a file. It may be gone: the caller finds out."""
    try:
        told = json.loads(_endpoint_file(Path(path).absolute()).read_text())
        return Endpoint(str(told["url"]), int(told["pid"]), str(told["token"]), str(told.get("ca", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove_endpoint(path: str | Path) -> None:
    """Take back the endpoint, if it is this process's."""
    endpoint = read_endpoint(path)
    if endpoint is not None and endpoint.pid == os.getpid():
        _endpoint_file(Path(path).absolute()).unlink(missing_ok=True)


def refuse_network_file_system(path: str | Path, mounts: str | Path = "/proc/self/mountinfo") -> None:
    """Refuse a path on a file system of the network, where the kernel tells (Linux).

    Raises:
        IoFault: it lies on one.
    """
    kind = _file_system(Path(path).resolve(), Path(mounts))
    if kind in NETWORK_FILE_SYSTEMS:
        raise IoFault(f"{path} lies on a network file system ({kind}); the store needs a local disk")


def _file_system(path: Path, mounts: Path) -> str:
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        parts = fields.split(" ")
        if len(parts) < 5 or not rest:
            continue
        # The kernel writes blanks in paths in octal.
        point = parts[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        # A later line of equal length was mounted over the earlier one.
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), rest.split(" ", 1)[0]
    return kind


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _endpoint_file(path: Path) -> Path:
    return path.with_name(path.name + ".sock.json")


def _command() -> str:
    program = Path(sys.argv[0])
    # `python -m kastra` is called `.../kastra/__main__.py`.
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name or "python", *sys.argv[1:]])[:500]
