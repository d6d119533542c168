"""A Network is Ready while at least one member can act and there is a model to choose among them where one is needed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ControlPlane
from tests.contract.reconciler import assert_settled_pass_writes_nothing

from .objects import SCRIPTED, agent, apply, manifest, namespace, ready, remove, said, status, tool, writes_of


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


def network(name: str = "n", **spec: Any) -> dict[str, Any]:
    spec.setdefault("router", {"mode": "roundRobin"})
    return manifest("Network", name, spec)


async def members(env: ControlPlane, name: str = "n") -> dict[str, bool]:
    return {entry["name"]: entry["ready"] for entry in (await status(env, "Network", name))["members"]}


async def test_a_network_lists_its_members_and_its_mode(env: ControlPlane) -> None:
    await apply(env, agent("a"), tool("t"), network(agents=["a"], tools=["t"]))
    assert await ready(env, "Network", "n") == ("True", "Resolved")
    found = await status(env, "Network", "n")
    assert found["members"] == [
        {"name": "a", "kind": "Agent", "ready": True},
        {"name": "t", "kind": "Tool", "ready": True},
    ]
    assert (found["memberCount"], found["mode"]) == (2, "roundRobin")


async def test_a_member_that_does_not_exist_keeps_the_network_from_being_ready(env: ControlPlane) -> None:
    await apply(env, agent("a"), network(agents=["a", "b"]))
    found = await said(env, "Network", "n")
    assert found[:2] == ("False", "NotFound")
    assert 'spec.agents[1]: no Agent "b" in namespace "default"' in found.message
    assert await members(env) == {"a": True, "b": False}
    await apply(env, agent("b"))
    assert await ready(env, "Network", "n") == ("True", "Resolved")
    await remove(env, "Agent", "b")
    assert await ready(env, "Network", "n") == ("False", "NotFound")


async def test_a_member_that_is_not_ready_degrades_the_network_until_none_is_left(env: ControlPlane) -> None:
    await apply(env, agent("a"), agent("b", suspend=True), network(agents=["a", "b"]))
    found = await said(env, "Network", "n")
    assert found == ("True", "Resolved", "1 of 2 members are Ready")
    degraded = await said(env, "Network", "n", "Degraded")
    assert degraded[:2] == ("True", "MembersNotReady")
    assert "b: Agent default/b is not Ready: Suspended" in degraded.message
    assert await members(env) == {"a": True, "b": False}
    await apply(env, agent("a", suspend=True))
    assert await ready(env, "Network", "n") == ("False", "DependencyNotReady")
    await apply(env, agent("a"), agent("b"))
    assert await ready(env, "Network", "n") == ("True", "Resolved")
    assert (await said(env, "Network", "n", "Degraded")).status == "False"


async def test_a_network_whose_runs_could_not_start_is_not_ready_although_a_member_is(env: ControlPlane) -> None:
    await apply(env, agent("a"), agent("b", tools=["missing"]), network(agents=["a", "b"]))
    found = await said(env, "Network", "n")
    assert found[:2] == ("False", "DependencyNotReady")
    assert 'no Tool "missing"' in found.message
    assert await members(env) == {"a": True, "b": False}


async def test_two_members_that_need_the_same_missing_thing_are_both_not_ready(env: ControlPlane) -> None:
    broken = tool("t", python={"entrypoint": "no_such_module_here:f"})
    await apply(env, broken, agent("a", tools=["t"]), agent("b", tools=["t"]), network(agents=["a", "b"]))
    assert await members(env) == {"a": False, "b": False}


async def test_a_member_may_be_a_network_that_has_this_one_as_a_member(env: ControlPlane) -> None:
    await apply(env, agent("a"), network("m", agents=["a"], networks=["n"]), network("n", networks=["m"]))
    assert await ready(env, "Network", "m") == ("True", "Resolved")
    assert await ready(env, "Network", "n") == ("True", "Resolved")


async def test_an_inline_member_brings_its_own_tools_and_model(env: ControlPlane, monkeypatch: Any) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    inline = {"name": "in", "spec": {"instructions": "Help.", "tools": ["t"], "model": SCRIPTED}}
    keyless = {"name": "out", "spec": {"instructions": "Help.", "model": "openai/gpt-4o"}}
    await apply(env, network(agents=[inline, keyless]))
    found = await said(env, "Network", "n")
    assert found[:2] == ("False", "NotFound")
    assert "spec.agents[0].spec.tools[0]" in found.message
    await apply(env, tool("t"))
    assert await ready(env, "Network", "n") == ("True", "Resolved")
    assert await members(env) == {"in": True, "out": False}
    assert "OPENAI_API_KEY" in (await said(env, "Network", "n", "Degraded")).message


async def test_choosing_among_several_members_takes_a_model_unless_there_are_rules(env: ControlPlane) -> None:
    pair = {"agents": ["a", "b"]}
    rules = [{"when": "turn == 0", "next": "a"}, {"when": "true", "next": "END"}]
    await apply(
        env,
        agent("a"),
        agent("b"),
        network("one", agents=["a"], router={}),
        network("two", **pair, router={}),
        network("ruled", **pair, router={"rules": rules}),
        network("own", **pair, router={"model": SCRIPTED}),
    )
    found = {name: await ready(env, "Network", name) for name in ("one", "two", "ruled", "own")}
    assert found.pop("two") == ("False", "NoModel")
    assert set(found.values()) == {("True", "Resolved")}
    await apply(env, namespace("default", default_model="ollama/llama"))
    assert await ready(env, "Network", "two") == ("True", "Resolved")


async def test_a_routers_model_is_waited_for(env: ControlPlane) -> None:
    await apply(
        env,
        agent("a"),
        agent("b"),
        manifest("ModelProvider", "p", {"type": "ollama", "suspend": True}),
        manifest("Model", "m", {"providerRef": "p", "name": "llama"}),
        network(agents=["a", "b"], router={"modelRef": "m"}),
    )
    found = await said(env, "Network", "n")
    assert found[:2] == ("False", "DependencyNotReady")
    assert found.message.startswith("spec.router.modelRef")
    await apply(env, manifest("ModelProvider", "p", {"type": "ollama"}))
    assert await ready(env, "Network", "n") == ("True", "Resolved")


async def test_what_is_not_done_by_this_version_keeps_a_network_from_being_ready(env: ControlPlane) -> None:
    await apply(env, agent("a"), network(agents=["a"], router={"mode": "roundRobin", "allowParallel": True}))
    found = await said(env, "Network", "n")
    assert found[:2] == ("False", "UnsupportedFeatures")
    assert "spec.router.allowParallel" in found.message
    assert (await said(env, "Network", "n", "UnsupportedFeatures")).status == "True"


@pytest.mark.parametrize("mode", ["roundRobin", "expression", "handoff"])
async def test_a_model_that_chooses_nothing_is_said_to_have_no_effect(env: ControlPlane, mode: str) -> None:
    leads = {"model": SCRIPTED, "instructions": "Choose well."}
    router = {"mode": mode, "rules": [{"when": "true", "next": "a"}], **leads}
    await apply(env, agent("a"), agent("b"), network(agents=["a", "b"], router=router))
    assert await ready(env, "Network", "n") == ("True", "Resolved")
    found = await said(env, "Network", "n", "UnsupportedFeatures")
    assert found.status == "True"
    assert "spec.router.model" in found.message
    assert "spec.router.instructions" in found.message
    await apply(env, network(agents=["a", "b"], router={**router, "mode": "router"}))
    assert (await said(env, "Network", "n", "UnsupportedFeatures")).status == "False"


async def test_a_suspended_network_says_so(env: ControlPlane) -> None:
    await apply(env, agent("a"), network(agents=["a"], suspend=True))
    assert await ready(env, "Network", "n") == ("False", "Suspended")


async def test_looking_again_changes_nothing(env: ControlPlane) -> None:
    await apply(env, agent("a"), agent("b", suspend=True), network(agents=["a", "b"]))
    await assert_settled_pass_writes_nothing(env.manager, "network", "default", "n", writes_of(env, "Network"))
