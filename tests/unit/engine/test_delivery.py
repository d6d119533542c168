"""How a step is delivered: probes, side effects, heartbeats, places, batches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.engine.compiler import check_workflow
from kastra.engine.progress import Phase
from kastra.engine.step import CallOptions, Effect, StepContext, StepError
from kastra.testing.clock import VirtualClock
from tests.unit.engine.harness import echo, engine, tool


class Probed:
    """The runner of tools that name a probe: `says` is its answer."""

    def __init__(self, says: Any = None, hang: bool = False) -> None:
        self.says = says
        self.hang = hang
        self.calls = 0
        self.asked: list[str] = []

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        async def call(effect: Effect) -> Any:
            self.calls += 1
            if self.hang:
                await anyio.sleep_forever()
            return "called"

        async def probe(key: str, effect: Effect) -> Mapping[str, Any]:
            self.asked.append(key.partition("/")[2])
            if isinstance(self.says, Exception):
                raise self.says
            answer: Mapping[str, Any] = self.says
            return answer

        once = options["delivery"] == "AtMostOnce"
        return await step.call("", call, CallOptions("tool", once, options["onInDoubt"], probe=probe))


PAY = {"id": "pay", "tool": {"name": "pay", "spec": {"probe": {"toolRef": {"name": "p"}}, "onInDoubt": "probe"}}}


async def interrupted(path: str, step: dict[str, Any]) -> str:
    """A Run whose first call of a tool is cut off by the end of its process."""
    runner = Probed(hang=True)
    async with engine(path=path, runners={"tool": runner}) as e:
        uid = e.submit({"steps": [step]})
        await e.until(uid, lambda progress: progress.counts["running"] == 1)
        await e.settle()
    assert runner.calls == 1
    return uid


@pytest.mark.parametrize(
    ("says", "output", "calls"),
    [({"happened": True, "output": "paid"}, "paid", 0), ({"happened": False}, "called", 1)],
)
async def test_a_probe_finds_out_what_became_of_a_call(tmp_path: Path, says: Any, output: str, calls: int) -> None:
    path = str(tmp_path / "k.db")
    uid = await interrupted(path, {**PAY, "delivery": "AtMostOnce"})
    runner = Probed(says)
    async with engine(path=path, runners={"tool": runner}) as e:
        progress = await e.ended(uid)
    assert (progress.output, runner.calls, runner.asked) == (output, calls, ["pay"])


@pytest.mark.parametrize("says", [{"happened": None}, StepError("tool", "down", retryable=False)])
async def test_a_probe_that_cannot_tell_leaves_it_to_people(tmp_path: Path, says: Any) -> None:
    path = str(tmp_path / "k.db")
    uid = await interrupted(path, {**PAY, "delivery": "AtMostOnce"})
    runner = Probed(says)
    async with engine(path=path, runners={"tool": runner}) as e:
        progress = await e.until(uid, lambda progress: progress.phase is Phase.SUSPENDED)
        assert progress.in_doubt
        assert await e.pool.resume(uid, data={"action": "complete", "output": "checked"})
        assert (await e.ended(uid)).output == "checked"
    assert runner.calls == 0


async def test_what_a_probe_has_said_is_not_asked_again_after_a_crash(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    uid = await interrupted(path, {**PAY, "delivery": "AtMostOnce"})
    async with engine(path=path, runners={"tool": Probed({"happened": False}, hang=True)}) as e:
        await e.until(uid, lambda progress: progress.last_seq > 6)
        await e.settle()
    # The second call is in doubt now, and that is a question of its own.
    runner = Probed({"happened": True, "output": "paid"})
    async with engine(path=path, runners={"tool": runner}) as e:
        assert (await e.ended(uid)).output == "paid"
    assert runner.calls == 0


async def test_a_step_with_unsafe_side_effects_is_not_repeated_when_its_outcome_is_unknown(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    uid = await interrupted(path, {"id": "t", "tool": {"name": "t"}, "sideEffects": "Unsafe", "onInDoubt": "fail"})
    async with engine(path=path, runners={"tool": Probed()}) as e:
        progress = await e.ended(uid)
    assert progress.error is not None
    assert progress.error["type"] == "in_doubt"

    async def slow(value: Any, effect: Effect) -> Any:
        await e.clock.sleep(60)

    async with engine({"slow": slow}) as e:
        unsafe = await e.run({"steps": [tool("slow", sideEffects="Unsafe", timeout={"attempt": "1s"})]})
        assert unsafe.phase is Phase.FAILED
        assert len(e.tools.calls) == 1
        await e.run({"steps": [tool("slow", sideEffects="Idempotent", timeout={"attempt": "1s"})]})
        assert len(e.tools.calls) == 5


async def test_a_tool_without_a_probe_cannot_be_asked_for_one() -> None:
    async with engine() as e:
        progress = await e.run({"steps": [tool("t", onInDoubt="probe")]})
    assert progress.error is not None
    assert "names no probe" in progress.error["title"]


async def test_an_attempt_that_shows_no_life_is_ended_and_tried_again() -> None:
    async def lively(value: Any, effect: Effect) -> Any:
        for _ in range(5):
            await e.clock.sleep(8)
            effect.emit({"progress": 1})
        return "done"

    attempts = 0

    async def stuck(value: Any, effect: Effect) -> Any:
        nonlocal attempts
        attempts += 1
        await e.clock.sleep(8 if attempts > 1 else 3600)
        return attempts

    async with engine({"lively": lively, "stuck": stuck}) as e:
        beat = {"timeout": {"heartbeat": "10s"}}
        progress = await e.run({"steps": [tool("lively", **beat), tool("stuck", **beat)]})
    assert (progress.phase, progress.output) == (Phase.SUCCEEDED, 2)


async def test_a_step_waits_for_a_place_no_longer_than_it_says() -> None:
    async def slow(value: Any, effect: Effect) -> Any:
        await e.clock.sleep(100)

    async with engine({"slow": slow}, clock=VirtualClock()) as e:
        steps = [tool("a", "slow"), tool("b", "slow", timeout={"queue": "10s"}, retry={"limit": 0})]
        spec = {
            "steps": [{"id": "fan", "parallel": {"join": "settled", "steps": steps}}],
            "concurrency": {"maxStepsInFlight": 1},
        }
        progress = await e.run(spec)
    assert progress.output["b"]["error"]["type"] == "timeout"


async def test_of_the_steps_that_wait_for_a_place_the_one_with_the_highest_priority_goes_first() -> None:
    steps = [tool("a"), tool("b"), tool("c", priority=5), tool("d", priority=-1)]
    async with engine({"a": echo}) as e:
        await e.run({"steps": [{"id": "fan", "parallel": {"steps": steps}}], "concurrency": {"maxStepsInFlight": 1}})
    assert [key for key, _ in e.tools.calls] == ["fan/a", "fan/c", "fan/b", "fan/d"]


async def test_items_are_handed_to_the_body_in_batches() -> None:
    async def total(value: Any, effect: Effect) -> Any:
        return sum(value)

    each = {
        "id": "each",
        "forEach": {"items": "input", "as": "batch", "indexAs": "n", "batchSize": 2, "steps": [tool("sum")]},
    }
    async with engine({"sum": total}) as e:
        progress = await e.run({"steps": [each]}, [1, 2, 3, 4, 5])
    assert progress.output == [3, 7, 5]
    assert e.tools.calls[0] == ("each[0]/sum", [1, 2])


async def test_tolerated_failures_count_batches() -> None:
    async def odd(value: Any, effect: Effect) -> Any:
        if 3 in value:
            raise StepError("tool", "three", retryable=False)
        return value

    body = {"items": "input", "batchSize": 2, "toleratedFailures": "50%", "steps": [tool("t", "odd")]}
    async with engine({"odd": odd}) as e:
        progress = await e.run({"steps": [{"id": "each", "forEach": body}]}, [1, 2, 3, 4])
    assert progress.output == [[1, 2], None]


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"id": "n", "sleep": {"duration": "1s"}, "timeout": {"heartbeat": "1s"}}, "timeout.heartbeat"),
        ({"id": "n", "do": {"steps": [tool("a")]}, "timeout": {"queue": "1s"}}, "timeout.queue"),
        ({"id": "n", "do": {"steps": [tool("a")]}, "priority": 1}, "priority"),
        ({"id": "n", "agent": {"name": "a"}, "sideEffects": "Unsafe"}, "sideEffects"),
        ({"id": "n", "agent": {"name": "a"}, "onInDoubt": "probe"}, "onInDoubt"),
    ],
)
def test_what_means_nothing_for_a_kind_of_step_is_refused(step: dict[str, Any], field: str) -> None:
    assert [cause.field for cause in check_workflow({"steps": [step]})] == [f"spec.steps[0].{field}"]
