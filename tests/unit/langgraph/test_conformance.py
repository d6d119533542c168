"""LangGraph's own tests of checkpointers, on every driver and both kinds of files."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES

import kastra
from kastra.config import Settings
from kastra.langgraph import KastraSaver
from kastra.sql.driver import installed

Factory = Callable[[], AsyncGenerator[BaseCheckpointSaver[Any], None]]


def own_file(folder: Path, **options: Any) -> Factory:
    async def factory() -> AsyncGenerator[BaseCheckpointSaver[Any], None]:
        number = len(list(folder.glob("*.db")))
        async with KastraSaver(folder / f"g{number}.db", **options) as saver:
            yield saver

    return factory


def in_memory(folder: Path) -> Factory:
    async def factory() -> AsyncGenerator[BaseCheckpointSaver[Any], None]:
        async with KastraSaver(":memory:") as saver:
            yield saver

    return factory


def in_a_kastra(folder: Path) -> Factory:
    async def factory() -> AsyncGenerator[BaseCheckpointSaver[Any], None]:
        settings = Settings(project=folder, data=folder)
        async with kastra.open(":memory:", settings=settings, reconcile=False, execute=False) as k:
            yield await k.checkpointer()

    return factory


STORES: dict[str, Callable[[Path], Factory]] = {
    **{driver: lambda folder, driver=driver: own_file(folder, driver=driver) for driver in installed()},
    "encrypted": lambda folder: own_file(folder, key=folder / "secret.key"),
    "memory": in_memory,
    "kastra": in_a_kastra,
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("store", STORES)
def test_the_checkpointer_passes_langgraphs_conformance_suite_in_full(store: str, tmp_path: Path) -> None:
    registered = checkpointer_test(name=f"KastraSaver on {store}")(STORES[store](tmp_path))

    report = asyncio.run(validate(registered))

    failed = {name: result.failures for name, result in report.results.items() if result.passed is not True}
    assert failed == {}
    assert {name for name, result in report.results.items() if result.detected} == {c.value for c in ALL_CAPABILITIES}
    assert sum(result.tests_passed for result in report.results.values()) >= 81
