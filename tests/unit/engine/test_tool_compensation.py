"""A Tool says how its calls are undone, for steps that don't say so themselves."""

from collections.abc import Mapping
from typing import Any

import pytest

from kastra.api.types import Closure
from kastra.engine.progress import Phase
from kastra.engine.step import Effect, StepError
from tests.unit.engine.harness import Engine, engine, tool, workflow

NEVER = {"limit": 0}


async def fail(value: Any, effect: Effect) -> Any:
    raise StepError("tool", "broken")


async def book(value: Any, effect: Effect) -> Any:
    return {"booked": value}


def closure(spec: Mapping[str, Any]) -> Closure:
    """The closure of a workflow whose Tool `book` is undone by the Tool `cancel`."""
    found = workflow(spec)
    found["objects"]["Tool/default/book"]["refs"] = {"spec.compensate.toolRef": "Tool/default/cancel"}
    cancel = workflow({"steps": [tool("x", "cancel")]})["objects"]["Tool/default/cancel"]
    found["objects"]["Tool/default/cancel"] = cancel
    return found


async def run(spec: Mapping[str, Any]) -> tuple[Phase, list[tuple[str, Any]], Engine]:
    async with engine({"book": book, "broken": fail}) as e:
        uid = e.submit_closure(closure(spec), {"room": 1}, uid="r")
        progress = await e.ended(uid)
    return progress.phase, e.tools.calls, e


BROKEN = tool("end", "broken", retry=NEVER)


async def test_a_call_is_undone_with_its_arguments_its_output_its_key_and_the_error() -> None:
    steps = [tool("a", "book", input={"with": {"room": 12}}), BROKEN]
    phase, calls, _ = await run({"steps": steps, "onError": "compensate"})
    assert phase is Phase.FAILED
    key, given = calls[-1]
    assert key == "a/compensate/undo"
    assert (given["arguments"], given["output"]) == ({"room": 12}, {"booked": {"room": 12}})
    assert given["idempotencyKey"] == "r/a"
    assert given["error"]["title"] == "broken"


async def test_a_step_that_says_how_it_is_undone_is_undone_that_way() -> None:
    own = tool("a", "book", compensate={"steps": [tool("u", "cancel")]})
    _, calls, _ = await run({"steps": [own, BROKEN], "onError": "compensate"})
    assert [key for key, _ in calls][-1] == "a/compensate/u"


@pytest.mark.parametrize(
    ("step", "keys"),
    [
        pytest.param({"id": "x", "do": {"steps": [tool("a", "book")]}}, ["x/a"], id="do"),
        pytest.param(
            {"id": "x", "parallel": {"steps": [tool("a", "book"), tool("b", "book")]}}, ["x/a", "x/b"], id="all"
        ),
        pytest.param(
            {"id": "x", "forEach": {"items": [1, 2], "as": "call", "steps": [tool("a", "book")]}},
            ["x[0]/a", "x[1]/a"],
            id="each",
        ),
        pytest.param(
            {"id": "x", "loop": {"until": "iteration == 2", "maxIterations": 3, "steps": [tool("a", "book")]}},
            ["x#1/a", "x#2/a"],
            id="loop",
        ),
        pytest.param(
            {"id": "x", "branch": {"mode": "first", "cases": [{"when": "true", "steps": [tool("a", "book")]}]}},
            ["x/case[0]/a"],
            id="branch",
        ),
        pytest.param(
            tool("x", "broken", retry=NEVER, catch=[{"steps": [tool("a", "book")]}]), ["x/catch[0]/a"], id="catch"
        ),
    ],
)
async def test_it_is_undone_wherever_the_step_stands(step: dict[str, Any], keys: list[str]) -> None:
    _, calls, _ = await run({"steps": [step, BROKEN], "onError": "compensate"})
    undone = [key for key, _ in calls if "/compensate/" in key]
    assert sorted(undone) == [f"{key}/compensate/undo" for key in keys]


async def test_nothing_is_undone_unless_the_workflow_asks_for_it_nor_what_did_not_complete() -> None:
    _, calls, _ = await run({"steps": [tool("a", "book"), BROKEN]})
    assert not [key for key, _ in calls if "compensate" in key]
    _, calls, _ = await run({"steps": [BROKEN, tool("a", "book")], "onError": "compensate"})
    assert not [key for key, _ in calls if "compensate" in key]
    phase, calls, _ = await run({"steps": [tool("a", "book")], "onError": "compensate"})
    assert phase is Phase.SUCCEEDED
    assert not [key for key, _ in calls if "compensate" in key]
