"""However much lives long, little of it is looked through for garbage at a time."""

import gc
from collections.abc import Callable, Mapping
from typing import Any, Self

import anyio

from kastra.app.pauses import short_pauses


class Node:
    """Something that the collector has to look at."""

    def __init__(self) -> None:
        self.itself = self


class Looks:
    """How many objects each look of the collector was at, by generation."""

    def __init__(self) -> None:
        self.at: dict[int, list[int]] = {0: [], 1: [], 2: []}

    def __call__(self, phase: str, info: Mapping[str, Any]) -> None:
        if phase == "start":
            youngest: int = info["generation"] + 1
            self.at[info["generation"]].append(sum(len(gc.get_objects(number)) for number in range(youngest)))

    def __enter__(self) -> Self:
        gc.callbacks.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self)


async def grow(kept: list[Any], *, making: Callable[[], object]) -> None:
    """Keep 300,000 objects more, and make some garbage between them."""
    for _ in range(300):
        kept += [[] for _ in range(1_000)]
        making()
        await anyio.sleep(0)


async def test_what_lives_long_is_set_aside_at_once_where_nothing_is_garbage() -> None:
    kept: list[Any] = []
    with short_pauses(), Looks() as looks:
        await grow(kept, making=object)
        assert gc.get_freeze_count() > 200_000
    assert max(looks.at[0]) < 10_000
    assert sum(map(sum, looks.at.values())) < 400_000, "each object is looked at about once"


async def test_what_lives_long_is_looked_through_again_where_there_is_garbage() -> None:
    kept: list[Any] = []
    with short_pauses(), Looks() as looks:
        await grow(kept, making=Node)
        assert gc.get_freeze_count() > 200_000
    assert looks.at[2]
    assert max(looks.at[2]) < 60_000


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
