"""`memoize`: a step whose key was seen before takes the value of then."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.engine.compiler import check_workflow
from kastra.engine.progress import Phase
from kastra.engine.step import Effect, StepError
from kastra.testing.clock import VirtualClock
from tests.unit.engine.harness import Engine, engine, tool


async def number(value: Any, effect: Effect) -> Any:
    return {"key": effect.idempotency_key}


def fetch(**memoize: Any) -> dict[str, Any]:
    return {"steps": [tool("fetch", "crawl", memoize={"key": "input.url", **memoize})]}


def calls(e: Engine) -> int:
    return len(e.tools.calls)


async def test_a_value_is_taken_from_an_earlier_run_with_the_same_key() -> None:
    async with engine({"crawl": number}) as e:
        first = await e.run(fetch(), {"url": "a"})
        again = await e.run(fetch(), {"url": "a", "other": 1})
        different = await e.run(fetch(), {"url": "b"})
    assert first.output == again.output != different.output
    assert calls(e) == 2


async def test_a_value_outlives_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    async with engine({"crawl": number}, path=path) as e:
        first = await e.run(fetch(), {"url": "a"})
    async with engine({"crawl": number}, path=path) as e:
        assert (await e.run(fetch(), {"url": "a"})).output == first.output
        assert calls(e) == 0


async def test_a_value_is_forgotten_when_its_time_is_up() -> None:
    clock = VirtualClock()
    async with engine({"crawl": number}, clock=clock) as e:
        await e.run(fetch(ttl="1h"), {"url": "a"})
        await clock.advance(3000)
        await e.run(fetch(ttl="1h"), {"url": "a"})
        assert calls(e) == 1
        await clock.advance(700)
        await e.run(fetch(ttl="1h"), {"url": "a"})
        assert calls(e) == 2
        rows = await e.writer.query("SELECT count(*) FROM kv WHERE scope LIKE 'memo/%'")
    assert rows[0][0] == 1


async def test_in_a_run_a_value_is_for_that_run_only_and_goes_with_it() -> None:
    step = tool("t", "crawl", memoize={"key": "n % 2", "scope": "run"})
    spec = {"steps": [{"id": "each", "forEach": {"items": [1, 2, 3, 4], "as": "n", "steps": [step]}}]}
    async with engine({"crawl": number}) as e:
        progress = await e.run(spec)
        await e.run(spec)
        assert calls(e) == 4
        assert progress.output == [progress.output[0], progress.output[1]] * 2
        assert (await e.writer.query("SELECT count(*) FROM kv"))[0][0] == 0


async def test_workflows_of_a_namespace_share_what_the_same_tool_gave() -> None:
    here = tool("here", "crawl", memoize={"key": "input.url", "scope": "namespace"})
    there = tool(
        "there", "crawl", memoize={"key": "value.url", "scope": "namespace"}, output={"as": {"k": "${{ output.key }}"}}
    )
    async with engine({"crawl": number}) as e:
        first = await e.run({"steps": [here]}, {"url": "a"})
        second = await e.run({"steps": [there]}, {"url": "a"})
    assert second.output == {"k": first.output["key"]}
    assert calls(e) == 1


async def test_failures_are_not_remembered() -> None:
    tries = 0

    async def flaky(value: Any, effect: Effect) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StepError("tool", "no", retryable=False)
        return tries

    async with engine({"crawl": flaky}) as e:
        assert (await e.run(fetch(), {"url": "a"})).phase is Phase.FAILED
        assert (await e.run(fetch(), {"url": "a"})).output == 2
        assert (await e.run(fetch(), {"url": "a"})).output == 2


async def test_a_key_that_cannot_be_worked_out_fails_the_step_before_anything_is_called() -> None:
    async with engine() as e:
        progress = await e.run(fetch(), {"nothing": 1})
    assert progress.error is not None
    assert progress.error["type"] == "expression"
    assert calls(e) == 0


async def test_what_was_remembered_is_not_undone() -> None:
    async def fail(value: Any, effect: Effect) -> Any:
        raise StepError("tool", "no", retryable=False)

    book = tool("book", memoize={"key": "'x'"}, compensate={"steps": [tool("undo")]})
    spec = {"steps": [book, tool("fail")], "onError": "compensate"}
    async with engine({"fail": fail}) as e:
        await e.run(spec)
        await e.run(spec)
    assert [key for key, _ in e.tools.calls] == ["book", "fail", "book/compensate/undo", "fail"]


async def test_a_step_that_a_crash_interrupted_is_attempted_again_and_remembered(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")

    async def hang(value: Any, effect: Effect) -> Any:
        await anyio.sleep_forever()

    async with engine({"crawl": hang}, path=path) as e:
        uid = e.submit(fetch(), {"url": "a"})
        await e.until(uid, lambda progress: progress.counts["running"] == 1)
    async with engine({"crawl": number}, path=path) as e:
        first = await e.ended(uid)
        assert (await e.run(fetch(), {"url": "a"})).output == first.output


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"id": "s", "sleep": {"duration": "1s"}, "memoize": {"key": "1"}}, "spec.steps[0].memoize"),
        (
            {"id": "s", "do": {"steps": [tool("a")]}, "memoize": {"key": "1", "scope": "namespace"}},
            "spec.steps[0].memoize.scope",
        ),
        (tool("s", memoize={"key": "nope"}), "spec.steps[0].memoize.key"),
        (tool("s", memoize={"key": "1", "ttl": "soon"}), "spec.steps[0].memoize.ttl"),
    ],
)
def test_what_cannot_be_remembered_is_refused_when_it_is_compiled(step: dict[str, Any], field: str) -> None:
    assert [cause.field for cause in check_workflow({"steps": [step]})] == [field]
