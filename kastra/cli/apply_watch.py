"""`kastra apply --watch`: apply again whenever one of the files changes."""

import contextlib
import glob
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import click

from .session import say

_SUFFIXES = (".yaml", ".yml", ".json")
_LOOK = 1000
"""Milliseconds after which the files are looked at although nothing was notified."""


def check_watch(options: dict[str, Any]) -> None:
    """Refuse what can't be watched. Raises UsageError."""
    if "-" in options["filenames"]:
        raise click.UsageError("--watch can't watch standard input")
    if options["dry_run"] != "none":
        raise click.UsageError("--watch applies for real; it can't be combined with --dry-run")


async def reapply(options: dict[str, Any], apply_once: Callable[[], Awaitable[int]]) -> int:
    """Apply, and again after each change, until interrupted. A refused change is reported and waited out."""
    from watchfiles import awatch

    seen = snapshot(options["filenames"], recursive=options["recursive"])
    await apply_once()
    say("watching for changes; Ctrl-C ends")
    # Notifications only wake: what was changed while nobody listened, or on a file system without them, is found all the
    # same by looking once in a while.
    async for _ in awatch(*watched(options["filenames"]), yield_on_timeout=True, rust_timeout=_LOOK):
        found = snapshot(options["filenames"], recursive=options["recursive"])
        if found == seen:
            continue
        names = sorted({path.name for path, _ in found.items() ^ seen.items()})
        say(f"changed: {', '.join(names)}")
        seen = found
        await apply_once()
    return 0


def snapshot(filenames: Iterable[str], *, recursive: bool = True) -> dict[Path, tuple[int, int]]:
    """Time of change (nanoseconds) and size of each file that `-f` options mean."""
    found: dict[Path, tuple[int, int]] = {}
    for name in filenames:
        for path in map(Path, sorted(glob.glob(name, recursive=True)) or [name]):  # noqa: PTH207 - patterns may be absolute
            files = (path.rglob("*") if recursive else path.iterdir()) if path.is_dir() else [path]
            for file in files:
                # A file can go between being listed and being looked at.
                with contextlib.suppress(OSError):
                    if file.suffix in _SUFFIXES or file == path:
                        status = file.stat()
                        found[file] = (status.st_mtime_ns, status.st_size)
    return found


def watched(filenames: Iterable[str]) -> list[Path]:
    """The folders in which changes can matter: editors replace files, so a file is watched through its folder."""
    found: dict[Path, None] = {}
    for name in filenames:
        place = Path(name)
        while not place.is_dir() and place != place.parent:
            place = place.parent
        found[place.resolve()] = None
    return list(found)
