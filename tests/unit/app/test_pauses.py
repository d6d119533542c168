"""However much lives long, little of it is looked through for garbage at a time."""

import gc
from collections.abc import Mapping
from typing import Any

import anyio

from kastra.app.pauses import short_pauses


class Node:
    """Something that the collector has to look at."""

    def __init__(self) -> None:
        self.itself = self


async def test_what_lives_long_is_set_aside_as_it_grows() -> None:
    looked_through: list[int] = []

    def count(phase: str, info: Mapping[str, Any]) -> None:
        if phase == "start" and info["generation"] == 2:
            looked_through.append(len(gc.get_objects()))

    kept = []
    gc.callbacks.append(count)
    try:
        with short_pauses():
            for _ in range(300):
                kept += [[] for _ in range(1_000)]
                await anyio.sleep(0)
            assert gc.get_freeze_count() > 200_000
    finally:
        gc.callbacks.remove(count)
    assert looked_through
    assert max(looked_through) < 60_000


async def test_young_garbage_is_still_freed() -> None:
    with short_pauses():
        for _ in range(100):
            for _ in range(1_000):
                Node()
            await anyio.sleep(0)
        left = sum(isinstance(found, Node) for found in gc.get_objects())
    assert left < 30_000


async def test_the_settings_of_the_process_come_back() -> None:
    before, callbacks, frozen = gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count()
    with short_pauses():
        assert gc.get_threshold() != before
    assert (gc.get_threshold(), gc.callbacks, gc.get_freeze_count()) == (before, callbacks, frozen)
