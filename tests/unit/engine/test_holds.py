"""Steps that wait for people: suspended until resumed, held until something is decided."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.engine.approvals import Request, ask, call_of
from kastra.engine.objects import ChildOutcome, ObjectRef
from kastra.engine.progress import Phase, Progress
from kastra.engine.step import CallOptions, Effect, StepContext, StepError
from kastra.testing.clock import VirtualClock
from tests.unit.engine.harness import SELDOM, Engine, engine, tool


def is_suspended(progress: Progress) -> bool:
    return progress.phase is Phase.SUSPENDED


def positive(schema: Mapping[str, Any], value: Any) -> list[str]:
    return [] if isinstance(value, dict) and value.get("n", 0) > 0 else ["n: must be more than 0"]


def suspend(**body: Any) -> dict[str, Any]:
    return {"id": "hold", "suspend": body}


class Approvals:
    """Approvals as objects elsewhere: they outlive the engine, and decisions come when a test wants."""

    def __init__(self) -> None:
        self.specs: dict[str, Mapping[str, Any]] = {}
        self.decisions: dict[str, Mapping[str, Any]] = {}
        self.created: list[str] = []
        self.changed = anyio.Event()

    async def create(
        self, kind: str, namespace: str, name: str, spec: Mapping[str, Any], owner: ObjectRef
    ) -> ObjectRef:
        self.created.append(name)
        assert self.specs.setdefault(name, spec) == spec
        return ObjectRef(kind, namespace, name, f"uid-{name}")

    async def wait(self, ref: ObjectRef) -> ChildOutcome:
        while ref.name not in self.decisions:
            await self.changed.wait()
        if not self.decisions[ref.name]:
            raise StepError("authorization", "it was deleted", retryable=False)
        return ChildOutcome("", self.decisions[ref.name])

    async def cancel(self, ref: ObjectRef) -> None:
        raise AssertionError("an Approval is never cancelled by its Run")

    def decide(self, **decision: Any) -> None:
        [name] = self.specs.keys() - self.decisions.keys()
        self.decisions[name] = decision
        self.changed.set()
        self.changed = anyio.Event()


def approve(**body: Any) -> dict[str, Any]:
    return {"id": "ok", "approve": {"message": "Go on with ${{ input }}?", **body}}


# --- suspend -----------------------------------------------------------------------------------------------------


async def test_a_suspended_step_has_what_it_was_resumed_with_as_its_output() -> None:
    async with engine(validate=positive) as e:
        uid = e.submit(
            {"steps": [suspend(reason="NeedNumber", payload={"for": "${{ input }}"}, resumeSchema={"x": 1})]}, 3
        )
        waiting = await e.until(uid, is_suspended)
        records = await e.pool.history(uid)
        holds = e.pool.holds(uid)
        assert holds is not None
        assert holds.problems("hold", {"n": 0}) == ["n: must be more than 0"]
        assert not await e.pool.resume(uid, data={"n": 0}, by="ada")
        assert await e.pool.resume(uid, key="hold", data={"n": 2}, by="ada")
        progress = await e.ended(uid)
        resumed = [record["body"] for record in await e.pool.history(uid) if record["type"] == "Resumed"]
    assert waiting.waiting_for == ({"stepKey": "hold", "kind": "Resume"},)
    asked = next(record["body"] for record in records if record["type"] == "Suspended")
    assert asked == {"reason": "NeedNumber", "payload": {"for": 3}, "resumeSchema": {"x": 1}}
    assert (progress.output, resumed) == ({"n": 2}, [{"by": "ada", "data": {"n": 2}}])


@pytest.mark.parametrize(
    ("on_timeout", "phase", "output"),
    [("fail", Phase.FAILED, None), ("continue", Phase.SUCCEEDED, "after"), ("cancel", Phase.CANCELLED, None)],
)
async def test_a_suspended_step_ends_when_its_time_is_up(on_timeout: str, phase: Phase, output: Any) -> None:
    steps = [suspend(timeout="2h", onTimeout=on_timeout), {"id": "next", "set": {"at": "after"}}]
    async with engine(**SELDOM) as e:
        uid = e.submit({"steps": steps, "output": {"as": "${{ output.at }}"}})
        waiting = await e.until(uid, is_suspended)
        progress = await e.ended(uid)
    assert waiting.waiting_for[0]["until"] == (waiting.start_time or 0) + 7200_000
    assert (progress.phase, progress.output) == (phase, output)
    assert (progress.completion_time or 0) - (progress.start_time or 0) == 7200_000


async def test_a_deadline_that_passed_while_the_run_was_down_has_passed(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "k.db"), VirtualClock()
    async with engine(path=path, clock=clock) as e:
        uid = e.submit({"steps": [suspend(timeout="1h", onTimeout="continue")]}, uid="u")
        await e.until(uid, is_suspended)
    await clock.advance(7200)
    async with engine(path=path, clock=clock) as e:
        assert (await e.ended(uid)).phase is Phase.SUCCEEDED


async def test_an_answer_outlives_any_number_of_restarts(tmp_path: Path) -> None:
    path = str(tmp_path / "k.db")
    spec = {"steps": [tool("a"), {"id": "both", "do": {"steps": [suspend(), tool("b")]}}]}
    for _ in range(13):
        async with engine(path=path) as e:
            uid = e.submit(spec, 1, uid="u")
            progress = await e.until(uid, is_suspended)
            assert [key for key, _ in e.tools.calls] in ([], ["a"])
    async with engine(path=path) as e:
        await e.until(uid, is_suspended)
        await e.pool.resume(uid, data={"n": 5})
        progress = await e.ended(uid)
        assert [key for key, _ in e.tools.calls] == ["both/b"]
    assert (progress.output, progress.recoveries) == ({"n": 5}, 13)


async def test_an_answer_that_comes_early_is_kept_unless_it_is_wrong() -> None:
    steps = [tool("slow"), suspend(resumeSchema={"x": 1})]
    gate = anyio.Event()

    async def slow(value: Any, effect: Any) -> Any:
        await gate.wait()
        return value

    async with engine({"slow": slow}, validate=positive) as e:
        good, bad = e.submit({"steps": steps}), e.submit({"steps": steps})
        await e.settle()
        assert await e.pool.resume(good, key="hold", data={"n": 1})
        assert await e.pool.resume(bad, key="hold", data={"n": 0})
        gate.set()
        assert (await e.ended(good)).output == {"n": 1}
        await e.until(bad, is_suspended)
        await e.pool.resume(bad, data={"n": 2})
        assert (await e.ended(bad)).output == {"n": 2}


async def test_of_several_early_answers_the_first_that_is_right_counts() -> None:
    gate = anyio.Event()

    async def slow(value: Any, effect: Any) -> Any:
        await gate.wait()
        return value

    async with engine({"slow": slow}, validate=positive) as e:
        uid = e.submit({"steps": [tool("slow"), suspend(resumeSchema={"x": 1})]})
        await e.settle()
        for number in (0, 7, -1, 8):
            assert await e.pool.resume(uid, key="hold", data={"n": number})
        gate.set()
        assert (await e.ended(uid)).output == {"n": 7}


# --- approve -----------------------------------------------------------------------------------------------------


async def waiting_for_approval(e: Engine, uid: str) -> Mapping[str, Any]:
    progress = await e.until(uid, is_suspended)
    return progress.waiting_for[0]


async def test_an_approve_step_asks_and_has_the_decision_as_its_output() -> None:
    approvals = Approvals()
    async with engine(children=approvals) as e:
        uid = e.submit(
            {"steps": [approve(payload={"n": "${{ input }}"}, approvers={"users": ["${{ run.name }}"]}, timeout="1h")]},
            7,
        )
        wait = await waiting_for_approval(e, uid)
        await e.settle()
        [(name, spec)] = approvals.specs.items()
        approvals.decide(verdict="approve", by=["ada"], reason="fine", at="now")
        progress = await e.ended(uid)
    assert (wait["stepKey"], wait["kind"], wait["name"]) == ("ok", "Approval", name)
    assert {key: spec[key] for key in ("message", "payload", "approvers", "onTimeout", "stepKey")} == {
        "message": "Go on with 7?",
        "payload": {"n": 7},
        "approvers": {"users": [uid]},
        "onTimeout": "fail",
        "stepKey": "ok",
    }
    assert progress.output == {"approved": True, "by": ["ada"], "at": "now", "reason": "fine"}


@pytest.mark.parametrize(
    ("body", "decision", "ended"),
    [
        ({}, {"verdict": "reject", "by": "ada", "reason": "no"}, ("authorization", "it was rejected by ada: no")),
        ({"onReject": "continue"}, {"verdict": "reject", "by": "ada"}, False),
        ({}, {"verdict": "expire"}, ("timeout", "it was rejected: nobody decided before the deadline")),
        ({}, {"verdict": "approve", "by": "system:deadline"}, True),
        ({}, {}, ("authorization", "it was deleted")),
    ],
    ids=["reject", "reject-continue", "expire", "approved-at-the-deadline", "deleted"],
)
async def test_what_is_decided_decides_how_the_step_ends(body: Any, decision: Any, ended: Any) -> None:
    approvals = Approvals()
    async with engine(children=approvals) as e:
        uid = e.submit({"steps": [approve(**body)]}, 7)
        await waiting_for_approval(e, uid)
        await e.settle()
        approvals.decide(**decision)
        progress = await e.ended(uid)
    if isinstance(ended, bool):
        assert progress.output["approved"] is ended
    else:
        assert (dict(progress.error or {})["type"], dict(progress.error or {})["title"]) == ended


async def test_the_same_approval_is_waited_for_after_restarts_with_the_same_deadline(tmp_path: Path) -> None:
    path, approvals, clock = str(tmp_path / "k.db"), Approvals(), VirtualClock()
    for _ in range(12):
        async with engine(path=path, children=approvals, clock=clock) as e:
            uid = e.submit({"steps": [approve(timeout="24h"), tool("after")]}, 7, uid="u")
            await waiting_for_approval(e, uid)
            await e.settle()
        await clock.advance(600)
    approvals.decide(verdict="approve", by="ada")
    async with engine(path=path, children=approvals, clock=clock) as e:
        assert (await e.ended(uid)).phase is Phase.SUCCEEDED
    assert len(approvals.created) == 13
    assert len(set(approvals.created)) == 1


async def test_without_anybody_to_ask_the_step_fails() -> None:
    async with engine() as e:
        progress = await e.run({"steps": [approve()]}, 1)
    assert dict(progress.error or {})["type"] == "authorization"


class Asking:
    """A tool whose every call needs an approval."""

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        asked = Request("Call it?", calls=[call_of("t", {}, "", {})])
        decision = await ask(step.child("approval"), asked)

        async def call(effect: Effect) -> Any:
            await self.clock.sleep(self.seconds)
            return decision.verdict

        return await step.call("", call, CallOptions("tool"))

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds


@pytest.mark.parametrize(("seconds", "phase"), [(20, Phase.SUCCEEDED), (40, Phase.FAILED)])
async def test_the_limit_of_an_attempt_stands_still_while_people_are_asked(seconds: float, phase: Phase) -> None:
    approvals, clock = Approvals(), VirtualClock()
    async with engine(children=approvals, clock=clock, runners={"tool": Asking(clock, seconds)}) as e:
        uid = e.submit({"steps": [tool("t", timeout={"attempt": "30s"}, retry={"limit": 0})]})
        await waiting_for_approval(e, uid)
        await e.settle()
        for _ in range(10):
            await clock.advance(60)
            await e.settle()
        approvals.decide(verdict="approve", by="ada")
        progress = await e.ended(uid)
    assert progress.phase is phase
