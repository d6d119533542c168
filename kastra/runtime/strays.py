"""Does a controller leave tasks behind? What its passes start and don't wait for outlives them, and adds up.

Tasks are told apart by the file in which their coroutine is defined, so this costs a look at all tasks once a minute and
nothing else. Read next: `kastra.runtime.manager`.
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

EVERY = 60.0
"""Seconds between two looks."""
MANY = 100
"""Tasks of one file that are no longer taken for intended."""


def file_of(function: Callable[..., Any]) -> str:
    """Where a function or class is defined; empty if that can't be told."""
    try:
        return inspect.getfile(inspect.unwrap(function))
    except TypeError:
        return ""


def strays(files: Mapping[str, str]) -> dict[str, str]:
    """What to say of the controllers that have left many tasks behind.

    Args:
        files: names of controllers by the file of their functions.
    """
    found: dict[str, Counter[str]] = {}
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        if code is not None and code.co_filename in files:
            name = files[code.co_filename]
            found.setdefault(name, Counter())[f"{code.co_qualname} at {code.co_filename}:{code.co_firstlineno}"] += 1
    return {
        name: f"{sum(counted.values())} tasks that controller {name!r} started are still running (most of them "
        f"{counted.most_common(1)[0][0]}); await what is started, or start it in a task group"
        for name, counted in found.items()
        if sum(counted.values()) >= MANY
    }
