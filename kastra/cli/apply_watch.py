"""`kastra apply --watch`: apply again whenever one of the files changes."""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import click

from .session import say

_SUFFIXES = (".yaml", ".yml", ".json")


def check_watch(options: dict[str, Any]) -> None:
    """Refuse what can't be watched. Raises UsageError."""
    if "-" in options["filenames"]:
        raise click.UsageError("--watch can't watch standard input")
    if options["dry_run"] != "none":
        raise click.UsageError("--watch applies for real; it can't be combined with --dry-run")


async def reapply(options: dict[str, Any], apply_once: Callable[[], Awaitable[int]]) -> int:
    """Apply, and again after each change, until interrupted. A refused change is reported and waited out."""
    from watchfiles import awatch

    await apply_once()
    say("watching for changes; Ctrl-C ends")
    async for changes in awatch(
        *watched(options["filenames"]),
        watch_filter=lambda _, path: path.endswith(_SUFFIXES),
        recursive=options["recursive"],
    ):
        names = sorted({Path(path).name for _, path in changes})
        say(f"\nchanged: {', '.join(names)}")
        await apply_once()
    return 0


def watched(filenames: Iterable[str]) -> list[Path]:
    """The folders in which changes can matter: editors replace files, so a file is watched through its folder."""
    found: dict[Path, None] = {}
    for name in filenames:
        place = Path(name)
        while not place.is_dir() and place != place.parent:
            place = place.parent
        found[place.resolve()] = None
    return list(found)
