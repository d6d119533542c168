"""A Workflow's own schedules, and its triggers by cron, are Schedules that belong to it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.testing import ApplyFailed, ControlPlane

from .objects import apply, manifest, ready, said

REF = ObjectRef("Workflow.mastra.ai", "report", "default")


def workflow(schedule: Any = None, name: str = "report", **spec: Any) -> dict[str, Any]:
    own = {} if schedule is None else {"schedule": schedule}
    return manifest("Workflow", name, {"steps": [{"id": "a", "set": {"done": True}}], **own, **spec})


@pytest.fixture
async def env() -> AsyncIterator[ControlPlane]:
    async with ControlPlane(execute=False) as env:
        yield env


async def schedules(env: ControlPlane) -> dict[str, dict[str, Any]]:
    await env.settle()
    return {found.name: dict(found.spec) for found in (await env.client.list("schedules")).items}


async def test_a_schedule_of_a_workflow_is_a_schedule_of_its_name(env: ControlPlane) -> None:
    every_day = {"cron": "0 9 * * *", "timeZone": "America/New_York", "catchUp": "None", "input": {"topic": "daily"}}
    await env.client.create(workflow(every_day, history={"successfulRunsLimit": 7}))
    assert await schedules(env) == {
        "report": {**every_day, "target": {"kind": "Workflow", "name": "report"}, "successfulRunsLimit": 7}
    }
    assert await ready(env, "Workflow", "report") == ("True", "Compiled")
    assert await ready(env, "Schedule", "report") == ("True", "Scheduled")
    owner = (await env.get("Schedule", "report")).owner_references[0]
    assert (owner["kind"], owner["name"]) == ("Workflow", "report")


async def test_a_run_of_it_is_named_by_the_workflow_and_the_moment(env: ControlPlane) -> None:
    await env.client.create(workflow({"every": "1m", "input": "x"}))
    await env.settle()
    await env.advance(61)
    run = await env.get("Run.mastra.ai", "report-20260101-000100")
    assert run.spec["input"] == "x"


async def test_several_schedules_have_names(env: ControlPlane) -> None:
    both = [{"name": "early", "cron": "0 6 * * *"}, {"name": "late", "every": "12h", "suspend": True}]
    await env.client.create(workflow(both, triggers=[{"name": "noon", "cron": "0 12 * * *", "input": {"a": 1}}]))
    found = await schedules(env)
    assert sorted(found) == ["report-early", "report-late", "report-noon"]
    assert found["report-late"]["suspend"] is True
    assert found["report-noon"]["input"] == {"a": 1}


async def test_a_schedule_goes_when_the_workflow_no_longer_has_it_or_goes_itself(env: ControlPlane) -> None:
    await env.client.create(workflow([{"name": "a", "every": "1h"}, {"name": "b", "every": "2h"}]))
    await env.settle()
    await env.client.patch(REF, {"spec": {"schedule": [{"name": "b", "every": "2h"}]}})
    assert sorted(await schedules(env)) == ["report-b"]
    await env.client.delete(REF)
    await env.advance(30)
    assert await schedules(env) == {}


async def test_what_somebody_paused_stays_paused_when_the_workflow_is_edited(env: ControlPlane) -> None:
    await env.client.create(workflow({"every": "1h"}))
    await env.settle()
    await env.client.patch(ObjectRef("Schedule.mastra.ai", "report", "default"), {"spec": {"suspend": True}})
    await env.client.patch(REF, {"spec": {"schedule": {"every": "2h"}}})
    assert (await schedules(env))["report"] == {
        "every": "2h", "suspend": True, "target": {"kind": "Workflow", "name": "report"},
    }  # fmt: skip


async def test_nothing_is_started_while_the_workflow_is_suspended(env: ControlPlane) -> None:
    await env.client.create(workflow({"every": "1m"}, suspend=True))
    await env.settle()
    await env.advance(300)
    assert await ready(env, "Schedule", "report") == ("False", "TargetSuspended")
    assert (await env.client.list("runs")).items == []


async def test_schedules_in_an_applied_folder_are_held_until_somebody_lets_them_go(env: ControlPlane) -> None:
    await apply(env, workflow({"every": "1m"}))
    assert await ready(env, "Schedule", "report") == ("False", "Suspended")
    await apply(env, workflow({"every": "2m"}))
    assert (await schedules(env))["report"]["suspend"] is True
    await env.client.patch(REF, {"metadata": {"annotations": {"mastra.ai/hold-schedules": None}}})
    assert "suspend" not in (await schedules(env))["report"]
    await apply(env, workflow({"every": "3m"}))
    assert (await schedules(env))["report"]["every"] == "3m"
    assert await ready(env, "Schedule", "report") == ("True", "Scheduled")


async def test_schedules_of_a_system_s_workflows_are_held_likewise(env: ControlPlane) -> None:
    child = {"name": "report", "spec": workflow({"every": "1m"})["spec"]}
    await apply(env, manifest("System", "office", {"workflows": [child]}))
    assert (await schedules(env))["report"]["suspend"] is True
    ref = ObjectRef("System.mastra.ai", "office", "default")
    await env.client.patch(ref, {"metadata": {"annotations": {"mastra.ai/hold-schedules": None}}})
    assert "suspend" not in (await schedules(env))["report"]


async def test_a_schedule_of_that_name_that_is_somebody_else_s_is_left_alone(env: ControlPlane) -> None:
    other = manifest("Schedule", "report", {"target": {"kind": "Workflow", "name": "report"}, "every": "5h"})
    await env.client.create(other)
    await env.client.create(workflow({"every": "1h"}))
    assert (await schedules(env))["report"]["every"] == "5h"
    assert (await said(env, "Workflow", "report")).reason == "ChildRefused"


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ({}, "spec.schedule: Required value: exactly one of cron and every; none is given"),
        ({"cron": "x"}, "spec.schedule.cron: .*has 1 fields"),
        ([{"every": "1h"}, {"every": "2h"}], r"spec.schedule\[1\].name: Required value"),
        ([{"name": "a", "every": "1h"}, {"name": "a", "every": "2h"}], r"spec.schedule\[1\].name: Duplicate value"),
        ([{"name": "A B", "every": "1h"}], r"spec.schedule\[0\].name: Invalid value"),
        ({"every": "1h", "timezone": "UTC"}, 'unknown field .*did you mean "timeZone"'),
        ({"every": "1h", "concurrencyPolicy": "Queue"}, "Unsupported value"),
        ("@daily", "spec.schedule"),
    ],
    ids=str,
)
async def test_a_wrong_schedule_is_refused_with_its_place(env: ControlPlane, schedule: Any, says: str) -> None:
    with pytest.raises(ApplyFailed, match=says):
        await env.apply(workflow(schedule))
    with pytest.raises(NotFound):
        await env.get("Workflow", "report")
