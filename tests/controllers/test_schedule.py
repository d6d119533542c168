"""A Schedule starts a Run for every moment that is due, once, whatever happens in between."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kastra.api.meta import ObjectRef
from kastra.testing import ApplyFailed, ControlPlane

from .objects import apply, manifest, ready, said, status

RUN = "Run.mastra.ai"
SLOT = 300
"""Seconds from one moment to the next."""
WORKFLOW = manifest("Workflow", "report", {"steps": [{"id": "a", "set": {"done": True}}]})


def schedule(name: str = "nightly", **spec: Any) -> dict[str, Any]:
    timing = {} if "every" in spec else {"cron": "*/5 * * * *"}
    return manifest("Schedule", name, {"target": {"kind": "Workflow", "name": "report"}, **timing, **spec})


async def slots(env: ControlPlane, number: int) -> None:
    """Let so many slots pass, one after the other: a pass may take its time, and that isn't the clock's."""
    for _ in range(number):
        await env.advance(SLOT)


async def create(env: ControlPlane, **spec: Any) -> None:
    """The Schedule, as `kastra apply --run` would make it."""
    await env.client.create(schedule(**spec))
    await env.advance(1)


async def change(env: ControlPlane, name: str = "nightly", **spec: Any) -> None:
    await env.client.patch(ObjectRef("Schedule.mastra.ai", name, "default"), {"spec": spec})
    await env.settle()


async def started(env: ControlPlane) -> list[str]:
    """Day, hour and minute of the Runs that there are."""
    runs = (await env.client.list(RUN)).items
    return sorted(run.name.removeprefix("nightly-202601").removesuffix("00") for run in runs)


async def finish(env: ControlPlane, name: str, phase: str = "Succeeded") -> None:
    """Say of a Run that it has ended, as its controller would."""
    now = env.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {"type": kind, "status": "True", "reason": phase, "message": "", "lastTransitionTime": now}
        for kind in ("Complete", *([phase] if phase != "Cancelled" else []))
    ]
    patch = {"status": {"phase": phase, "completionTime": now, "conditions": conditions}}
    await env.client.patch(ObjectRef(RUN, name, "default"), patch, subresource="status")
    await env.settle()


async def events(env: ControlPlane, reason: str) -> list[str]:
    return [
        event.data["message"] for event in (await env.client.list("events")).items if event.data["reason"] == reason
    ]


@pytest.fixture
async def env() -> AsyncIterator[ControlPlane]:
    """A control plane at midnight of 1 January 2026 that executes nothing, with a workflow to be run."""
    async with ControlPlane(execute=False) as env:
        await apply(env, WORKFLOW)
        yield env


async def test_a_run_is_started_for_every_moment_and_named_by_it(env: ControlPlane) -> None:
    await create(env, input={"day": "${{ schedule.time }}", "by": "${{ schedule.name }}"}, timeout="5m")
    assert await ready(env, "Schedule", "nightly") == ("True", "Scheduled")
    await env.advance(298)
    assert await started(env) == []
    await env.advance(1)
    run = await env.get(RUN, "nightly-20260101-000500")
    assert run.spec["target"] == {"kind": "Workflow", "name": "report", "namespace": "default"}
    assert run.spec["input"] == {"day": "2026-01-01T00:05:00Z", "by": "nightly"}
    assert run.spec["timeout"] == "5m"
    await slots(env, 2)
    assert await started(env) == ["01-0005", "01-0010", "01-0015"]
    said = await status(env, "Schedule", "nightly")
    assert said["lastScheduleTime"] == "2026-01-01T00:15:00Z"
    assert said["nextScheduleTime"] == "2026-01-01T00:20:00Z"
    assert (said["activeRuns"], said["timing"]) == (3, "*/5 * * * *")
    assert [run["name"] for run in said["active"]][-1] == "nightly-20260101-001500"


async def test_an_interval_of_seconds_is_kept_to_the_second(env: ControlPlane) -> None:
    await create(env, every="20s", successfulRunsLimit=100)
    await env.advance(61)
    assert await started(env) == ["01-000020", "01-000040", "01-0001"]


async def test_a_time_zone_decides_when_a_moment_comes(env: ControlPlane) -> None:
    await create(env, cron="0 9 * * *", timeZone="Asia/Tokyo")
    assert (await status(env, "Schedule", "nightly"))["nextScheduleTime"] == "2026-01-02T00:00:00Z"
    assert (await status(env, "Schedule", "nightly"))["timing"] == "0 9 * * * Asia/Tokyo"


@pytest.mark.parametrize(
    ("catch_up", "runs", "missed"),
    [
        ("Latest", ["01-0025"], 4),
        ("All", ["01-0005", "01-0010", "01-0015", "01-0020", "01-0025"], None),
        ("None", [], 5),
    ],
)
async def test_moments_that_passed_unseen_are_caught_up_with_as_the_schedule_says(
    env: ControlPlane, catch_up: str, runs: list[str], missed: int | None
) -> None:
    await create(env, catchUp=catch_up)
    env.clock.jump(5 * SLOT + 90)
    await env.advance(60)
    assert await started(env) == runs
    found = await status(env, "Schedule", "nightly")
    assert found.get("missed") == missed
    if missed:
        assert any(message.startswith(f"{missed} moment") for message in await events(env, "Missed"))
    await env.advance(120)
    assert await started(env) == runs, "a second look starts nothing more"


async def test_a_moment_is_given_up_after_its_starting_deadline(env: ControlPlane) -> None:
    await create(env, startingDeadline="3m")
    env.clock.jump(300 + 181)
    await env.advance(60)
    assert await started(env) == []
    assert (await status(env, "Schedule", "nightly"))["lastMissedTime"] == "2026-01-01T00:05:00Z"


async def test_a_clock_that_is_set_back_starts_nothing_twice(env: ControlPlane) -> None:
    await create(env)
    await slots(env, 2)
    env.clock.jump(-2 * SLOT)
    await slots(env, 2)
    assert await started(env) == ["01-0005", "01-0010"]
    await env.advance(SLOT)
    assert await started(env) == ["01-0005", "01-0010", "01-0015"]


async def test_a_clock_that_was_far_ahead_doesn_t_silence_a_schedule_for_good(env: ControlPlane) -> None:
    await create(env)
    env.clock.jump(365 * 86400)
    await env.advance(SLOT)
    env.clock.jump(-365 * 86400)
    await env.advance(SLOT)
    assert "01-0010" in await started(env)
    assert await events(env, "ClockSetBack")


async def test_forbid_waits_for_the_end_of_the_run_before(env: ControlPlane) -> None:
    await create(env, concurrencyPolicy="Forbid")
    await slots(env, 3)
    assert await started(env) == ["01-0005"]
    assert "nightly-20260101-000500 has not ended" in (await events(env, "StillActive"))[0]
    await finish(env, "nightly-20260101-000500")
    assert await started(env) == ["01-0005", "01-0015"], "of those that waited, the newest"
    assert (await status(env, "Schedule", "nightly"))["missed"] == 1


async def test_forbid_with_all_works_off_what_waited_one_after_the_other(env: ControlPlane) -> None:
    await create(env, concurrencyPolicy="Forbid", catchUp="All")
    await slots(env, 3)
    assert await started(env) == ["01-0005"]
    for slot in (1, 2):
        await finish(env, f"nightly-20260101-00{slot * 5:02d}00")
    assert await started(env) == ["01-0005", "01-0010", "01-0015"]


async def test_forbid_with_none_drops_what_had_to_wait(env: ControlPlane) -> None:
    await create(env, concurrencyPolicy="Forbid", catchUp="None")
    await env.advance(2 * SLOT + 90)
    await finish(env, "nightly-20260101-000500")
    assert await started(env) == ["01-0005"]
    await env.advance(SLOT)
    assert await started(env) == ["01-0005", "01-0015"]


async def test_replace_cancels_and_starts_when_the_cancelled_run_has_ended(env: ControlPlane) -> None:
    await create(env, concurrencyPolicy="Replace")
    await slots(env, 2)
    assert await started(env) == ["01-0005"]
    assert (await env.get(RUN, "nightly-20260101-000500")).spec["desiredState"] == "Cancelled"
    await finish(env, "nightly-20260101-000500", "Cancelled")
    assert await started(env) == ["01-0005", "01-0010"]


async def test_a_paused_schedule_starts_nothing_and_makes_up_for_nothing(env: ControlPlane) -> None:
    await create(env, catchUp="All")
    await change(env, suspend=True)
    await slots(env, 5)
    assert await started(env) == []
    assert await ready(env, "Schedule", "nightly") == ("False", "Suspended")
    assert "nextScheduleTime" not in await status(env, "Schedule", "nightly")
    await change(env, suspend=False)
    assert await started(env) == []
    await env.advance(SLOT)
    assert await started(env) == ["01-0030"]


async def test_a_paused_schedule_stays_paused_when_it_is_edited(env: ControlPlane) -> None:
    await create(env)
    await change(env, suspend=True)
    await env.apply(schedule(input={"changed": True}))
    await slots(env, 2)
    assert await started(env) == []
    assert (await env.get("Schedule", "nightly")).spec["suspend"] is True


async def test_nothing_is_started_while_the_target_is_suspended_and_nothing_made_up_for(env: ControlPlane) -> None:
    await create(env)
    target = ObjectRef("Workflow.mastra.ai", "report", "default")
    await env.client.patch(target, {"spec": {"suspend": True}})
    await env.settle()
    assert await ready(env, "Schedule", "nightly") == ("False", "TargetSuspended")
    await env.advance(2 * SLOT + 60)
    await env.client.patch(target, {"spec": {"suspend": False}})
    await env.settle()
    assert await started(env) == []
    await env.advance(SLOT)
    assert await started(env) == ["01-0015"]


async def test_what_is_due_waits_for_a_target_that_isn_t_there(env: ControlPlane) -> None:
    await create(env, target={"kind": "Workflow", "name": "later"})
    assert (await said(env, "Schedule", "nightly")).reason == "NotFound"
    await slots(env, 2)
    assert await started(env) == []
    await apply(env, {**WORKFLOW, "metadata": {"name": "later"}})
    assert await started(env) == ["01-0010"]


async def test_an_edited_timing_counts_from_the_edit(env: ControlPlane) -> None:
    await create(env, cron="0 23 * * *")
    await env.advance(5 * SLOT + 150)
    await change(env, cron="20,35 * * * *")
    assert await started(env) == [], "00:20 was before the edit"
    await slots(env, 2)
    assert await started(env) == ["01-0035"]


async def test_an_edited_input_holds_for_the_next_run(env: ControlPlane) -> None:
    await create(env, input=1)
    await env.advance(SLOT)
    await change(env, input=2)
    await env.advance(SLOT)
    inputs = [run.spec["input"] for run in sorted((await env.client.list(RUN)).items, key=lambda run: run.name)]
    assert inputs == [1, 2]


async def test_finished_runs_are_kept_up_to_the_limits(env: ControlPlane) -> None:
    await create(env, successfulRunsLimit=2, failedRunsLimit=0)
    for slot in range(1, 6):
        await env.advance(SLOT)
        await finish(env, f"nightly-20260101-00{slot * 5:02d}00", "Failed" if slot == 2 else "Succeeded")
    assert await started(env) == ["01-0020", "01-0025"]
    assert (await status(env, "Schedule", "nightly"))["lastSuccessfulTime"].startswith("2026-01-01T00:25:0")


async def test_a_run_of_somebody_else_is_left_alone(env: ControlPlane) -> None:
    spec = {"target": {"kind": "Workflow", "name": "report"}}
    await env.client.create(manifest("Run", "nightly-20260101-000500", spec))
    await create(env)
    await env.advance(SLOT)
    assert "is somebody else's" in (await events(env, "NameTaken"))[0]
    assert (await status(env, "Schedule", "nightly"))["activeRuns"] == 0


async def test_an_input_that_can_t_be_evaluated_is_told_and_costs_one_moment(env: ControlPlane) -> None:
    await create(env, input="${{ schedule.nothing }}")
    await env.advance(SLOT)
    assert await started(env) == []
    assert "spec.input" in (await events(env, "RunRefused"))[0]
    await change(env, input=None)
    await env.advance(SLOT)
    assert await started(env) == ["01-0010"]


async def test_a_moment_whose_run_can_t_be_stored_now_is_tried_again_and_not_lost(env: ControlPlane) -> None:
    await create(env)
    env.faults.fail("create", "Run", times=2)
    await env.advance(SLOT)
    await env.advance(60)
    assert await started(env) == ["01-0005"]


async def test_deleting_a_schedule_stops_nothing_that_it_started(env: ControlPlane) -> None:
    await create(env)
    await env.advance(SLOT)
    await env.client.delete(ObjectRef("Schedule.mastra.ai", "nightly", "default"))
    await env.advance(SLOT)
    assert await started(env) == ["01-0005"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"cron": "61 * * * *"}, 'spec.cron: .*column 1: "61" is no minute'),
        ({"timeZone": "Europe/Berln"}, 'spec.timeZone: .*did you mean "Europe/Berlin"'),
        ({"every": "500ms"}, "spec.every: .*whole seconds"),
        ({"every": "1h", "timeZone": "Europe/Berlin"}, "spec.timeZone: Forbidden"),
        ({"every": "1h", "cron": "@daily"}, "spec: Required value: exactly one of cron and every"),
        ({"input": "${{ event.id }}"}, "spec.input: .*undeclared reference to 'event.id'"),
        ({"input": {"a": ["${{ schedule. }}"]}}, r"spec.input.a\[0\]: "),
        ({"catchUp": "Some"}, "spec.catchUp: Unsupported value"),
        ({"startingDeadline": "10ms"}, "spec.startingDeadline: .*at least 1s"),
        ({"startingDeadline": "soon"}, "spec.startingDeadline: .*is no duration"),
    ],
    ids=str,
)
async def test_a_wrong_schedule_is_refused_with_its_place(env: ControlPlane, spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ApplyFailed, match=says):
        await env.apply(schedule(**spec))


async def test_a_name_that_leaves_no_room_for_the_moment_is_refused(env: ControlPlane) -> None:
    with pytest.raises(ApplyFailed, match=r"metadata.name: .*at most 47 characters"):
        await env.apply(schedule("n" * 48))


async def test_a_schedule_in_an_applied_folder_is_held_until_somebody_lets_it_go(env: ControlPlane) -> None:
    await apply(env, schedule())
    assert await ready(env, "Schedule", "nightly") == ("False", "Suspended")
    await change(env, suspend=False)
    await apply(env, schedule(cron="*/7 * * * *"))
    assert await ready(env, "Schedule", "nightly") == ("True", "Scheduled")
