"""Events start Runs of the Workflows whose triggers they fit, each once."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kastra.api.cloudevents import CloudEvent
from kastra.api.errors import ServiceUnavailable
from kastra.engine.mailroom import Mailroom
from kastra.runtime.triggers.starting import LONGEST_CHAIN, Triggers
from kastra.testing import ApplyFailed, ControlPlane

from .declared import finish_runs
from .objects import apply, manifest, ready

RUN = "Run.mastra.ai"
STEPS = [{"id": "a", "set": {"done": True}}]


def workflow(*triggers: dict[str, Any], name: str = "pack", **spec: Any) -> dict[str, Any]:
    return manifest("Workflow", name, {"steps": STEPS, "triggers": list(triggers), **spec})


def order(number: str = "1", total: int = 120, **more: Any) -> CloudEvent:
    return CloudEvent(number, "/shop", "order.created", data={"id": f"o-{number}", "total": total}, **more)


ON_ORDER: dict[str, Any] = {"name": "order", "event": {"type": "order.created"}}


@pytest.fixture
async def env() -> AsyncIterator[ControlPlane]:
    async with ControlPlane() as env:
        yield env


async def send(env: ControlPlane, *events: CloudEvent, namespace: str = "default") -> list[bool]:
    """Deliver events and wait until everything that follows has happened; which of them were new."""
    mailroom = env.manager.service(Mailroom)
    new = [await mailroom.deliver(namespace, event) for event in events]
    triggers = env.manager.service(Triggers)
    for event in events:
        # As the mailroom does by itself a moment later, and once more if it crashed after that.
        await triggers.deliver(namespace, event)
    await finish_runs(env)
    return new


async def runs(env: ControlPlane) -> list[Any]:
    return sorted((await env.client.list(RUN)).items, key=lambda run: str(run.spec.get("input")))


async def problems(env: ControlPlane) -> list[str]:
    await env.settle()
    events = (await env.client.list("events")).items
    return [event.data["message"] for event in events if event.data["reason"] == "TriggerFailed"]


async def test_an_event_of_the_type_starts_a_run_with_what_the_trigger_takes_of_it(env: ControlPlane) -> None:
    await apply(env, workflow({**ON_ORDER, "input": {"order": "${{ event.data.id }}", "from": "${{ event.source }}"}}))
    assert await ready(env, "Workflow", "pack") == ("True", "Compiled")
    assert await send(env, order()) == [True]
    [run] = await runs(env)
    assert run.spec["input"] == {"order": "o-1", "from": "/shop"}
    assert run.spec["target"]["name"] == "pack"
    assert run.labels["mastra.ai/trigger"] == "order"
    assert run.annotations["mastra.ai/event-id"] == "1"
    assert run.status["phase"] == "Succeeded"


async def test_without_an_input_the_run_gets_the_event(env: ControlPlane) -> None:
    await apply(env, workflow(ON_ORDER))
    await send(env, order(subject="o-1"))
    [run] = await runs(env)
    assert run.spec["input"]["data"] == {"id": "o-1", "total": 120}
    assert run.spec["input"]["subject"] == "o-1"


async def test_an_event_that_comes_again_starts_nothing_more(env: ControlPlane) -> None:
    await apply(env, workflow(ON_ORDER))
    assert await send(env, order(), order()) == [True, False]
    assert len(await runs(env)) == 1
    assert await send(env, order("2")) == [True]
    assert len(await runs(env)) == 2


async def test_an_idempotency_key_says_which_events_are_the_same(env: ControlPlane) -> None:
    await apply(env, workflow({**ON_ORDER, "idempotencyKey": "event.data.total"}))
    await send(env, order("1", 5), order("2", 5), order("3", 6))
    assert len(await runs(env)) == 2


@pytest.mark.parametrize(
    ("wanted", "starts"),
    [
        ({}, True),
        ({"source": "/shop"}, True),
        ({"source": "/other"}, False),
        ({"subject": "o-1"}, True),
        ({"subject": "o-2"}, False),
        ({"filter": "event.data.total > 100"}, True),
        ({"filter": "event.data.total > 200"}, False),
        ({"correlate": {"data.id": "o-1", "tenant": "acme"}}, True),
        ({"correlate": {"data.total": "120"}}, True),
        ({"correlate": {"tenant": "other"}}, False),
        ({"correlate": {"data.nothing.there": "x"}}, False),
    ],
    ids=str,
)
async def test_an_event_must_be_as_the_trigger_wants_it(
    env: ControlPlane, wanted: dict[str, Any], starts: bool
) -> None:
    await apply(env, workflow({"event": {"type": "order.created", **wanted}}))
    await send(env, order(subject="o-1", extensions={"tenant": "acme"}))
    assert len(await runs(env)) == int(starts)
    assert await problems(env) == []


async def test_every_trigger_that_fits_starts_a_run_of_its_own(env: ControlPlane) -> None:
    await apply(env, workflow(ON_ORDER, {**ON_ORDER, "name": "again"}), workflow(ON_ORDER, name="bill"))
    await send(env, order())
    assert sorted(run.labels["mastra.ai/trigger"] + " " + run.spec["target"]["name"] for run in await runs(env)) == [
        "again pack", "order bill", "order pack",
    ]  # fmt: skip


async def test_events_stay_in_their_namespace(env: ControlPlane) -> None:
    await apply(env, workflow(ON_ORDER))
    await send(env, order(), namespace="elsewhere")
    assert await runs(env) == []


async def test_a_suspended_workflow_is_not_started(env: ControlPlane) -> None:
    await apply(env, workflow(ON_ORDER, suspend=True))
    await send(env, order())
    assert await runs(env) == []


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"event": {"type": "order.created", "filter": "event.data.price > 1"}}, "no such key"),
        ({"input": "${{ event.data.price }}"}, "spec.triggers[0].input"),
        ({"idempotencyKey": "event.data"}, "an idempotency key must be a text"),
    ],
    ids=["filter", "input", "key"],
)
async def test_an_event_that_a_trigger_can_t_make_sense_of_starts_nothing_and_is_told(
    env: ControlPlane, fields: dict[str, Any], says: str
) -> None:
    await apply(env, workflow({**ON_ORDER, **fields}))
    await send(env, order())
    assert await runs(env) == []
    [message] = set(await problems(env))
    assert says in message
    assert "event 1 of /shop starts no Run" in message


async def test_a_run_that_can_t_be_stored_now_is_started_when_the_event_is_handed_over_again(env: ControlPlane) -> None:
    await apply(env, workflow(ON_ORDER))
    triggers = env.manager.service(Triggers)
    env.faults.fail("create", "Run")
    with pytest.raises(ServiceUnavailable):
        await triggers.deliver("default", order())
    await triggers.deliver("default", order())
    assert len(await runs(env)) == 1


async def test_the_mailroom_hands_events_to_triggers_by_itself(env: ControlPlane) -> None:
    await apply(env, workflow(ON_ORDER))
    await env.manager.service(Mailroom).deliver("default", order())
    for _ in range(500):
        if await runs(env):
            break
        await env.advance(0.1)
    assert len(await runs(env)) == 1


async def test_runs_that_start_each_other_by_what_they_emit_come_to_an_end(env: ControlPlane) -> None:
    again = {"id": "again", "emit": {"type": "ping"}}
    await apply(env, manifest("Workflow", "loop", {"steps": [again], "triggers": [{"event": {"type": "ping"}}]}))
    await send(env, CloudEvent("1", "/test", "ping"))
    for _ in range(1000):
        await finish_runs(env)
        if await problems(env):
            break
        await env.advance(0.1)
    assert "Runs that started each other" in (await problems(env))[0]
    assert len(await runs(env)) == LONGEST_CHAIN + 1


@pytest.mark.parametrize(
    ("trigger", "says"),
    [
        ({"name": "x"}, r"spec.triggers\[0\]: Required value: exactly one of event, cron, webhook; none is given"),
        ({**ON_ORDER, "cron": "@daily"}, "these are given: event, cron"),
        ({"event": {"source": "/s"}}, r"spec.triggers\[0\].event.type: Required value"),
        ({"event": {"type": "t", "filter": "event.data."}}, r"spec.triggers\[0\].event.filter: .*1:12: "),
        ({"event": {"type": "t", "filter": "input.x"}}, "undeclared reference to 'input.x'"),
        ({"event": {"type": "t", "correlate": {"a b": "x"}}}, r"event.correlate: .*must be an attribute"),
        ({**ON_ORDER, "input": {"a": "${{ evnt }}"}}, r"spec.triggers\[0\].input.a: "),
        ({**ON_ORDER, "idempotencyKey": "event["}, r"spec.triggers\[0\].idempotencyKey: "),
        ({**ON_ORDER, "name": "Not A Label"}, r"spec.triggers\[0\].name: "),
        ({**ON_ORDER, "timeZone": "UTC"}, r"spec.triggers\[0\].timeZone: Forbidden"),
        ({"cron": "0 25 * * *"}, r'spec.triggers\[0\].cron: .*column 3: "25" is no hour'),
        ({"cron": "@daily", "timeZone": "Mars/Base"}, r"spec.triggers\[0\].timeZone: "),
        ({"cron": "@daily", "idempotencyKey": "event.id"}, r"spec.triggers\[0\].idempotencyKey: Forbidden"),
        ({"webhook": {"path": "a"}}, r"webhook.signature: Required value: anybody can call a webhook"),
        ({"webhook": {"path": "../a"}}, r"webhook.path: "),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
async def test_a_wrong_trigger_is_refused_with_its_place(env: ControlPlane, trigger: dict[str, Any], says: str) -> None:
    with pytest.raises(ApplyFailed, match=says):
        await env.apply(workflow(trigger))


async def test_two_triggers_of_one_name_are_refused(env: ControlPlane) -> None:
    with pytest.raises(ApplyFailed, match=r'spec.triggers\[1\].name: Duplicate value: "order"'):
        await env.apply(workflow(ON_ORDER, ON_ORDER))


async def test_a_wrong_expression_is_shown_in_its_line(env: ControlPlane) -> None:
    text = """\
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: w}
spec:
  schedule:
    cron: 0 9 * * MON-FRY
  triggers:
  - event:
      type: order.created
      filter: event.data.total >
  steps: [{id: a, set: {done: true}}]
"""
    with pytest.raises(ApplyFailed) as refused:
        await env.apply(text)
    assert '-:6:5 error spec.schedule.cron: Invalid value: "0 9 * * MON-FRY": column 9: ' in str(refused.value)
    assert "-:10:7 error spec.triggers[0].event.filter: " in str(refused.value)
