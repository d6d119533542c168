"""`stream: false`: a step, and everything below it, tells those who follow its Run nothing but what is journaled."""

from typing import Any

import pytest

from kastra.engine.step import Effect
from tests.unit.engine.harness import engine, tool


async def talk(value: Any, effect: Effect) -> Any:
    effect.emit({"type": "text", "text": "hello"})
    return "done"


async def told(*steps: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The keys of which something ephemeral was told, and those of which it was told that they completed."""
    async with engine({"talk": talk}) as e, e.bus.subscribe("run/r", limit=10_000) as events:
        await e.run({"steps": list(steps)}, uid="r")
        found = [event for _, event in await events.batch()]
    deltas = {event["key"] for event in found if event["type"] == "step.output.delta"}
    return deltas, {event["key"] for event in found if event["type"] == "step.completed"}


async def test_a_silent_step_is_silent_and_its_neighbour_is_not() -> None:
    deltas, completed = await told(tool("a", "talk", stream=False), tool("ab", "talk"))
    assert deltas == {"ab"}
    assert completed == {"a", "ab"}


@pytest.mark.parametrize(
    ("step", "inner"),
    [
        pytest.param({"do": {"steps": [tool("a", "talk")]}}, {"x/a"}, id="do"),
        pytest.param({"parallel": {"steps": [tool("a", "talk"), tool("b", "talk")]}}, {"x/a", "x/b"}, id="parallel"),
        pytest.param({"forEach": {"items": [1, 2], "steps": [tool("a", "talk")]}}, {"x[0]/a", "x[1]/a"}, id="each"),
        pytest.param(
            {"loop": {"until": "iteration == 1", "maxIterations": 3, "steps": [tool("a", "talk")]}},
            {"x#1/a"},
            id="loop",
        ),
        pytest.param(
            {"branch": {"mode": "first", "cases": [{"when": "true", "steps": [tool("a", "talk")]}]}},
            {"x/case[0]/a"},
            id="branch",
        ),
    ],
)
async def test_what_is_below_a_silent_step_is_silent_too(step: dict[str, Any], inner: set[str]) -> None:
    deltas, completed = await told({"id": "x", **step})
    assert deltas == inner
    deltas, completed = await told({"id": "x", "stream": False, **step})
    assert deltas == set()
    assert completed >= inner
