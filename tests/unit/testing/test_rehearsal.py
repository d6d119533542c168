"""A workflow is rehearsed in virtual time: with tools and models that say what the test wants, faults, crashes and visitors."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kastra.config import Settings
from kastra.testing import ControlPlane, Delivery, Undelivered

MANIFESTS = """
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: charge}
spec: {description: Charges., http: {url: "https://pay.example.com/charge", method: POST}}
---
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: ship}
spec: {description: Ships., http: {url: "https://ship.example.com", method: POST}}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: writer}
spec: {instructions: Write., model: {provider: openai, name: gpt-4o}, tools: [ship]}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: order}
spec:
  steps:
  - {id: pay, tool: charge, with: {amount: '${{ input.amount }}'}, retry: {limit: 3, initialInterval: 10s}}
  - {id: nap, sleep: 24h}
  - {id: send, tool: ship, with: {receipt: '${{ steps.pay.output.id }}'}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: letter}
spec: {steps: [{id: write, agent: writer}]}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: patient}
spec: {steps: [{id: paid, waitForEvent: {type: payment.ok}}, {id: sure, approve: {message: 'Ship it?'}}]}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: hold}
spec: {steps: [{id: ask, suspend: {reason: A person must look.}}]}
"""


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path, controllers=()), strict=True) as plane:
        await plane.apply(MANIFESTS)
        yield plane


async def test_a_day_passes_in_no_time(env: ControlPlane) -> None:
    env.doubles.tool_answers("charge", {"output": {"id": "r-${{ string(arguments.amount) }}"}})
    env.doubles.tool_answers("ship", {"output": "sent"})
    began = time.perf_counter()
    outcome = await env.rehearse("workflow/order", {"amount": 7})
    assert time.perf_counter() - began < 1.5
    assert (outcome.phase, outcome.output) == ("Succeeded", "sent")
    assert 24 * 3600 <= outcome.duration < 24 * 3600 + 60
    assert [(call.tool, call.arguments) for call in outcome.calls] == [
        ("charge", {"amount": 7}),
        ("ship", {"receipt": "r-7"}),
    ]


async def test_a_tool_fails_as_often_as_it_is_told_to(env: ControlPlane) -> None:
    env.doubles.tool_answers("charge", {"error": {"title": "down"}, "times": 2}, {"output": {"id": "r"}})
    env.doubles.tool_answers("ship", {"output": "sent"})
    outcome = await env.rehearse("workflow/order", {"amount": 7})
    assert outcome.phase == "Succeeded"
    pays = env.doubles.calls_of("charge")
    assert [call.attempt for call in pays] == [1, 2, 3]
    assert len({call.idempotency_key for call in pays}) == 1


async def test_a_crash_after_a_step_repeats_nothing_that_was_done(env: ControlPlane) -> None:
    env.doubles.tool_answers("charge", {"output": {"id": "r"}})
    env.doubles.tool_answers("ship", {"output": "sent"})
    outcome = await env.rehearse("workflow/order", {"amount": 7}, crash_after=["pay", "nap"])
    assert (outcome.phase, outcome.output) == ("Succeeded", "sent")
    assert [record["type"] for record in outcome.records].count("Recovered") == 2
    assert [call.tool for call in outcome.calls] == ["charge", "ship"]


async def test_a_crash_during_a_call_repeats_it_with_the_same_key(env: ControlPlane) -> None:
    env.doubles.tool_answers("charge", {"crash": True}, {"output": {"id": "r"}})
    env.doubles.tool_answers("ship", {"output": "sent"})
    outcome = await env.rehearse("workflow/order", {"amount": 7})
    assert outcome.phase == "Succeeded"
    first, second = env.doubles.calls_of("charge")
    assert (first.idempotency_key, first.attempt, second.attempt) == (second.idempotency_key, 1, 2)


async def test_a_model_says_its_turns_one_after_the_other(env: ControlPlane) -> None:
    env.doubles.model_turns(
        "writer",
        {"error": {"kind": "rate_limit", "message": "slow down"}},
        {"call": {"tool": "ship", "arguments": {"what": "ink"}}},
        {"reply": "Wrote with ${{ results[0] }}."},
    )
    env.doubles.tool_answers("ship", {"output": "ink", "when": "arguments.what == 'ink'"})
    outcome = await env.rehearse("workflow/letter", "Dear")
    assert (outcome.phase, outcome.output) == ("Succeeded", "Wrote with ink.")
    assert outcome.unused == []


async def test_without_an_answer_nothing_outside_is_reached(env: ControlPlane) -> None:
    outcome = await env.rehearse("workflow/order", {"amount": 7})
    assert outcome.phase == "Failed"
    assert outcome.error is not None
    assert (
        "tool charge has no answers in this test, and only Python functions are really called" in outcome.error["title"]
    )
    outcome = await env.rehearse("workflow/letter", "Dear")
    assert outcome.error is not None
    assert "writer has no script in this test" in outcome.error["title"]


async def test_events_and_decisions_come_at_their_moments(env: ControlPlane) -> None:
    deliver = [
        Delivery(3600.0, "signal", {"name": "payment.ok", "data": {"id": 1}}),
        Delivery(7200.0, "approve", {"verdict": "approve", "by": "ada"}),
    ]
    outcome = await env.rehearse("workflow/patient", deliver=deliver)
    assert outcome.phase == "Succeeded"
    assert 7200 <= outcome.duration < 7300


async def test_a_run_that_waits_for_nobody_rests_where_it_waits(env: ControlPlane) -> None:
    began = time.perf_counter()
    outcome = await env.rehearse("workflow/patient")
    assert time.perf_counter() - began < 4
    assert outcome.phase == "Waiting"
    assert [wait["kind"] for wait in outcome.waiting_for] == ["Event"]


async def test_a_held_step_is_answered(env: ControlPlane) -> None:
    outcome = await env.rehearse("workflow/hold", deliver=[Delivery(60.0, "resume", {"data": {"ok": True}})])
    assert (outcome.phase, outcome.output) == ("Succeeded", {"ok": True})


async def test_what_cannot_be_delivered_is_told(env: ControlPlane) -> None:
    env.doubles.tool_answers("charge", {"output": {"id": "r"}})
    env.doubles.tool_answers("ship", {"output": "sent"})
    with pytest.raises(Undelivered, match="approve: one approval must wait, and there wait: none"):
        await env.rehearse("workflow/order", {"amount": 7}, deliver=[Delivery(5.0, "approve", {"verdict": "approve"})])
    with pytest.raises(Undelivered, match="cancel at 172800s: the Run had ended at 86400s"):
        await env.rehearse("workflow/order", {"amount": 7}, deliver=[Delivery(172800.0, "cancel")])
    with pytest.raises(Undelivered, match="no crash after nowhere"):
        await env.rehearse("workflow/order", {"amount": 7}, crash_after=["nowhere"])


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([{"outputs": 1}], r"tools.charge.outputs: unknown field"),
        ([{"output": 1}, {"output": "${{ 1 + }}"}], r"tools.charge\[1\]"),
        ([{"output": 1, "error": {}}], "exclude each other"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_refused_with_its_place(
    env: ControlPlane, answers: list[dict[str, object]], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        env.doubles.tool_answers("charge", *answers)
