"""Pauses of the garbage collector with 50,000 stored objects of 2 KB, while more are created.

In process, over the registry that the API server uses, with controllers running. Time is that of the thread that collects, so
what else the machine does doesn't count; pauses while the store is being filled count as well.
"""

import asyncio
import gc
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from kastra.apiserver.call import Call
from kastra.app.composition import compose
from kastra.config import Settings

from . import Row
from .wire import CRD, thing

NAME = "pauses"
OBJECTS = 50_000


async def measure(folder: Path) -> list[Row]:
    """The longest pause, and how much of the CPU goes into them."""
    pauses: list[float] = []
    begun = 0.0

    def collected(phase: str, info: Mapping[str, Any]) -> None:
        nonlocal begun
        if phase == "start":
            begun = time.thread_time()
        else:
            pauses.append(time.thread_time() - begun)

    async with compose(Settings(project=folder, data=folder / ".kastra")) as parts:
        await parts.client.create(json.loads(CRD))
        registry = parts.api.registry
        resource = registry.scheme.find("things")
        numbers = iter(range(OBJECTS + 5_000))

        async def work() -> None:
            for number in numbers:
                await registry.create(resource, "default", json.loads(thing(f"thing-{number}")), Call())

        gc.callbacks.append(collected)
        before = time.process_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(64):
                tasks.start_soon(work)
        used = time.process_time() - before
        gc.callbacks.remove(collected)
    share = f"{len(pauses)} pauses, {sum(pauses) / used:.1%} of the CPU"
    return [
        Row(f"longest pause for garbage, {OBJECTS:,} objects", max(pauses, default=0) * 1000, "ms", 20, True, share)
    ]


def run() -> list[Row]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="kastra-bench-") as folder:
        return asyncio.run(measure(Path(folder)))
