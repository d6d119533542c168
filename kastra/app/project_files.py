"""Which files of a project matter to `kastra dev`, and which of them have changed?

What counts is how the files are, not what was told of them: notifications only wake, and then the files are compared with
how they were. So an editor that saves by renaming, a file that was written while nobody listened and a file system without
notifications come to the same. Version control, caches, virtual environments, the data folder and what editors leave beside
a file are passed over, and folders that are links aren't entered.

Source: `watchfiles`, whose `WATCHFILES_FORCE_POLLING` makes it look by itself where there are no notifications. Read next:
`kastra.app.development`, which acts on what changed.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectSendStream

from kastra.clock import Clock

logger = logging.getLogger(__name__)

_FOLDERS = frozenset(("__pycache__", "node_modules", "site-packages"))
_ENDINGS = ("~", ".swp", ".swx", ".swo", ".tmp", ".bak", ".orig", ".pyc", ".pyo", "___jb_tmp___", "___jb_old___")
_LOOK = 1000
"""Milliseconds after which the files are looked at although nothing was notified."""
_STEP = 20
"""Milliseconds without a further notification after which a change is taken to be complete."""
_DEBOUNCE = 200
"""Milliseconds after which it is looked at in any case."""
_GONE = 0.15
"""Seconds that a file which is gone or empty gets to come back: some editors save in two steps."""


class Stamp(NamedTuple):
    """What tells two states of a file apart."""

    modified: int
    size: int
    inode: int


@dataclass(frozen=True, slots=True)
class ProjectFiles:
    """The files of a project.

    Args:
        project: its folder, resolved.
        data: the folder of the store, resolved; never looked into.
    """

    project: Path
    data: Path

    def holds(self, path: Path) -> bool:
        """Whether a path, after all links, lies in the project."""
        return path.resolve().is_relative_to(self.project)

    def look(self) -> dict[Path, Stamp]:
        """Every file that matters, as it is now."""
        found: dict[Path, Stamp] = {}
        for folder in self._walk(self.project):
            for entry in _entries(folder):
                if _is_file(entry) and not is_ignored_file(entry.name):
                    try:
                        status = entry.stat()
                    except OSError:
                        continue  # gone between being listed and being looked at, or a link to nothing
                    found[Path(entry.path)] = Stamp(status.st_mtime_ns, status.st_size, status.st_ino)
        return found

    def folders(self) -> list[Path]:
        """The project's own folders, to be watched with all that is below them."""
        return sorted(Path(entry.path) for entry in _entries(self.project) if self._is_entered(entry))

    def _walk(self, folder: Path) -> Iterator[Path]:
        yield folder
        for entry in _entries(folder):
            if self._is_entered(entry):
                yield from self._walk(Path(entry.path))

    def _is_entered(self, entry: "os.DirEntry[str]") -> bool:
        if entry.name.startswith(".") or entry.name in _FOLDERS or not entry.is_dir(follow_symlinks=False):
            return False
        path = Path(entry.path)
        return path != self.data and not (path / "pyvenv.cfg").exists()


def is_ignored_file(name: str) -> bool:
    """Whether a file of that name is nobody's work: hidden, compiled, or an editor's own."""
    return name.startswith((".", "#")) or name.endswith(_ENDINGS)


def differing(before: Mapping[Path, Stamp], after: Mapping[Path, Stamp]) -> frozenset[Path]:
    """The files that came, went or changed."""
    return frozenset(path for path, _ in before.items() ^ after.items())


async def follow(
    files: ProjectFiles,
    seen: Mapping[Path, Stamp],
    act: Callable[[frozenset[Path]], Awaitable[object]],
    clock: Clock,
) -> None:
    """Call `act` with the files that have changed since `seen`, and again after every change, until cancelled. What changes
    while it acts is told afterwards, together.
    """
    known = dict(seen)
    while True:
        folders = files.folders()
        send, receive = anyio.create_memory_object_stream[None](1)
        async with send, receive, anyio.create_task_group() as tasks:
            # A listener's thread ends when it is told to, not when its task is cancelled.
            stop = anyio.Event()
            tasks.start_soon(_listen, [files.project], False, send, stop)
            if folders:
                tasks.start_soon(_listen, folders, True, send, stop)
            try:
                # A folder that is new needs a listener too, and with the new listeners everything is looked at again.
                while files.folders() == folders:
                    known, changed = await _compare(files, known, clock)
                    if changed:
                        await act(changed)
                    await receive.receive()
            finally:
                stop.set()


async def _compare(
    files: ProjectFiles, known: Mapping[Path, Stamp], clock: Clock
) -> tuple[dict[Path, Stamp], frozenset[Path]]:
    found = await anyio.to_thread.run_sync(files.look)
    changed = differing(known, found)
    if any(path not in found or not found[path].size for path in changed):
        await clock.sleep(_GONE)
        found = await anyio.to_thread.run_sync(files.look)
        changed = differing(known, found)
    return found, changed


async def _listen(
    folders: Iterable[Path], recursive: bool, send: MemoryObjectSendStream[None], stop: anyio.Event
) -> None:
    from watchfiles import awatch

    changes = awatch(
        *folders, watch_filter=None, recursive=recursive, debounce=_DEBOUNCE, step=_STEP, rust_timeout=_LOOK,
        yield_on_timeout=True, stop_event=stop,
    )  # fmt: skip
    try:
        async for _ in changes:
            _wake(send)
    except (OSError, RuntimeError) as error:
        # Too many folders for the system, or one of them has just gone: looking is slower, and enough.
        logger.warning("no notifications of changes: %s", error)
    while not stop.is_set():
        with anyio.move_on_after(_LOOK / 1000):
            await stop.wait()
        _wake(send)


def _wake(send: MemoryObjectSendStream[None]) -> None:
    # If it is full somebody is about to look anyway.
    with suppress(anyio.WouldBlock):
        send.send_nowait(None)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
