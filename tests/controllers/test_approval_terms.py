"""On what terms people are asked about a tool's call: the Tool's own, else the Agent's; and what follows when nobody decides."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.api.object import Object
from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane

from .objects import agent, apply, manifest, the, tool

PAY = {"inline": "def pay(euros: int) -> str:\n    return f'paid {euros}'\n"}
MODEL = {
    "provider": "scripted",
    "parameters": {
        "rules": [
            {"when": "size(results) == 0", "call": {"tool": "pay", "arguments": {"euros": 40}}},
            {"when": "true", "reply": "Result: ${{ results[0] }}"},
        ]
    },
}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
        yield plane


async def asks(env: ControlPlane, own: dict[str, Any] | None, shared: dict[str, Any] | None, kind: str) -> Object:
    """The Approval that a call of the tool waits for."""
    terms = {} if own is None else {"approval": own}
    clerk = {} if shared is None else {"approval": shared}
    step = {"id": "a", "tool": "pay", "with": {"euros": 40}}
    network = {"agents": [], "tools": [{"name": "pay", "ref": "tools/pay"}], "router": {"mode": "expression"}}
    network["router"] |= {
        "maxSteps": 2,
        "rules": [{"when": "turn == 0", "next": "pay"}, {"when": "true", "next": "END"}],
    }
    await apply(
        env,
        tool("pay", python=PAY, requireApproval=True, **terms),
        agent("clerk", model=MODEL, tools=["pay"], **clerk),
        manifest("Workflow", "settle", {"steps": [step]}),
        manifest("Network", "office", network),
    )
    name = {"Agent": "clerk", "Workflow": "settle", "Network": "office", "Tool": "pay"}[kind]
    value = {"euros": 40}
    await env.client.create(manifest("Run", "r", {"target": {"kind": kind, "name": name}, "input": value}))
    await env.advance(2)
    [approval] = await the(env, "approvals")
    return approval


@pytest.mark.parametrize("kind", ["Agent", "Workflow", "Network", "Tool"])
async def test_a_tool_says_who_decides_and_until_when_wherever_it_is_called_from(env: ControlPlane, kind: str) -> None:
    own = {"approvers": {"groups": ["finance"], "count": 2}, "timeout": "1h", "onTimeout": "reject"}
    approval = await asks(env, own, {"approvers": {"users": ["me"]}, "onTimeout": "approve"}, kind)
    assert approval.spec["approvers"] == {"groups": ["finance"], "count": 2}
    assert approval.spec["deadline"].startswith("2026-01-01T01:0")
    assert approval.spec["onTimeout"] == "reject"


async def test_an_agent_says_what_the_tool_leaves_open(env: ControlPlane) -> None:
    shared = {"approvers": {"users": ["ada"]}, "timeout": "30m", "onTimeout": "approve"}
    approval = await asks(env, {"approvers": {"groups": ["finance"]}}, shared, "Agent")
    assert approval.spec["approvers"] == {"groups": ["finance"]}
    assert (approval.spec["deadline"][11:15], approval.spec["onTimeout"]) == ("00:3", "approve")


async def test_without_terms_whoever_has_the_permission_decides_whenever(env: ControlPlane) -> None:
    approval = await asks(env, None, None, "Agent")
    assert not {"approvers", "deadline", "onTimeout"} & approval.spec.keys()


@pytest.mark.parametrize(
    ("on_timeout", "phase", "said"),
    [
        pytest.param("approve", "Succeeded", "Result: paid 40", id="approve"),
        pytest.param("reject", "Succeeded", "was rejected", id="reject"),
        pytest.param("fail", "Failed", "nobody decided before the deadline", id="fail"),
        pytest.param(None, "Failed", "nobody decided before the deadline", id="absent"),
    ],
)
async def test_what_becomes_of_an_agent_when_nobody_decides(
    env: ControlPlane, on_timeout: str | None, phase: str, said: str
) -> None:
    await asks(env, {"timeout": "1h", **({"onTimeout": on_timeout} if on_timeout else {})}, None, "Agent")
    run = await env.get("Run", "r")
    assert run.status["phase"] == "Suspended"
    await env.advance(3700)
    run = await env.get("Run", "r")
    assert run.status["phase"] == phase
    assert said in str(run.status.get("output") or run.status.get("error"))
    if phase == "Failed":
        assert run.status["error"]["type"] == "timeout"


async def test_a_tools_step_fails_when_nobody_decides(env: ControlPlane) -> None:
    await asks(env, {"timeout": "1h"}, None, "Workflow")
    await env.advance(3700)
    run = await env.get("Run", "r")
    assert (run.status["phase"], run.status["error"]["type"]) == ("Failed", "timeout")


async def test_a_network_ends_when_nobody_decides(env: ControlPlane) -> None:
    await asks(env, {"timeout": "1h"}, None, "Network")
    await env.advance(3700)
    run = await env.get("Run", "r")
    assert (run.status["phase"], run.status["error"]["type"]) == ("Failed", "timeout")


async def test_terms_that_make_no_sense_are_refused(env: ControlPlane) -> None:
    for approval in ({"onTimeout": "ask"}, {"timeout": "soon"}, {"approvers": {"count": 0}}):
        with pytest.raises(ApplyFailed, match=r"spec\.approval"):
            await env.apply(tool("pay", python=PAY, approval=approval))
        with pytest.raises(ApplyFailed, match=r"spec\.approval"):
            await env.apply(agent("clerk", approval=approval))


@pytest.mark.parametrize(
    ("approvers", "told"),
    [
        pytest.param({"users": ["ada"], "count": 5}, "1 user is named", id="one"),
        pytest.param({"users": ["ada", "bob", "ada"], "groups": [], "count": 3}, "2 users are named", id="twice"),
    ],
)
async def test_more_approvers_than_are_named_are_refused_wherever_they_are_declared(
    env: ControlPlane, approvers: dict[str, Any], told: str
) -> None:
    step = {"id": "ask", "approve": {"approvers": approvers}}
    objects = {
        "spec.approval.approvers.count": (
            tool("pay", python=PAY, approval={"approvers": approvers}),
            agent("clerk", approval={"approvers": approvers}),
        ),
        "spec.steps[0].approve.approvers.count": (manifest("Workflow", "w", {"steps": [step]}),),
    }
    for path, refused in objects.items():
        for each in refused:
            with pytest.raises(ApplyFailed) as raised:
                await env.apply(each)
            assert f"{path}: Invalid value: {approvers['count']}: so many can never agree: {told}" in str(raised.value)
    # A Run that was begun when they were taken asks for its Approval again when it is taken up.
    await env.apply(manifest("Approval", "q", {"runRef": {"name": "r"}, "message": "?", "approvers": approvers}))


async def test_a_group_may_have_as_many_members_as_are_asked_for(env: ControlPlane) -> None:
    approvers = {"users": ["ada"], "groups": ["finance"], "count": 5}
    await env.apply(tool("pay", python=PAY, approval={"approvers": approvers}))
    await env.apply(tool("pay", python=PAY, approval={"approvers": {"users": ["ada", "bob"], "count": 2}}))
