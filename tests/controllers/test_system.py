"""A System keeps one real object per child, takes back what is no longer listed, and is Ready when all of them are."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane
from tests.contract.reconciler import assert_settled_pass_writes_nothing

from .objects import INLINE, SCRIPTED, agent, apply, manifest, ready, remove, said, status, the, tool, writes_of

MANY = ("tools", "agents", "workflows", "networks", "models", "modelproviders")


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


def child(name: str, /, **spec: Any) -> dict[str, Any]:
    return {"name": name, "spec": spec}


def system(name: str = "desk", **spec: Any) -> dict[str, Any]:
    return manifest("System", name, spec)


def desk(**more: Any) -> dict[str, Any]:
    """One child of every kind; the agents and the network's router have no model of their own."""
    return system(
        **{
            "defaults": {"model": SCRIPTED},
            "modelProviders": [child("local", type="ollama")],
            "models": [child("llama", providerRef="local", name="llama")],
            "tools": [child("find", **INLINE)],
            "agents": [child("helper", instructions="Help.", tools=["find"]), child("clerk", instructions="Help.")],
            "workflows": [child("flow", steps=[{"id": "a", "agent": "helper"}])],
            "networks": [child("team", agents=["helper", "clerk"])],
            **more,
        }
    )


async def names(env: ControlPlane) -> list[str]:
    return [f"{kind}/{obj.name}" for kind in MANY for obj in await the(env, kind)]


async def test_every_child_becomes_an_object_owned_by_the_system(env: ControlPlane) -> None:
    await apply(env, desk())
    assert await ready(env, "System", "desk") == ("True", "Resolved")
    found = await status(env, "System", "desk")
    assert found["ready"] == "7/7"
    assert found["inventory"][0] == {"kind": "ModelProvider", "name": "local", "ready": True}
    owner = await env.get("System", "desk")
    children = await env.owned_by(owner)
    assert sorted(obj.kind for obj in children) == sorted(entry["kind"] for entry in found["inventory"])
    assert {obj.namespace for obj in children} == {"default"}


async def test_the_default_model_goes_to_children_without_one_and_to_no_other(env: ControlPlane) -> None:
    own = {"provider": "scripted", "parameters": {"rules": [{"reply": "my own"}]}}
    inline = {"name": "in", "spec": {"instructions": "Help."}}
    await apply(
        env,
        desk(
            agents=[child("helper", instructions="Help."), child("own", instructions="Help.", model=own)],
            networks=[
                child("team", agents=["helper", inline]),
                child("ring", agents=["helper", "own"], router={"mode": "roundRobin"}),
            ],
        ),
    )
    assert await ready(env, "System", "desk") == ("True", "Resolved")
    assert (await env.get("Agent", "helper")).spec["model"]["parameters"] == SCRIPTED["parameters"]
    assert (await env.get("Agent", "own")).spec["model"] == own
    team = (await env.get("Network", "team")).spec
    assert team["router"]["model"]["provider"] == "scripted"
    assert team["agents"][1]["spec"]["model"]["provider"] == "scripted"
    assert "model" not in (await env.get("Network", "ring")).spec["router"]


async def test_the_default_may_be_a_model_of_the_system_itself(env: ControlPlane) -> None:
    await apply(env, desk(defaults={"modelRef": "llama"}))
    assert await ready(env, "System", "desk") == ("True", "Resolved")
    assert (await status(env, "Agent", "helper"))["modelResolved"] == "ollama/llama"


async def test_a_child_that_is_no_longer_listed_is_removed(env: ControlPlane) -> None:
    await apply(env, desk())
    assert "workflows/flow" in await names(env)
    await apply(env, desk(workflows=[], networks=[]))
    assert await names(env) == ["tools/find", "agents/clerk", "agents/helper", "models/llama", "modelproviders/local"]
    assert (await status(env, "System", "desk"))["ready"] == "5/5"


async def test_a_child_that_somebody_changes_or_deletes_is_put_back(env: ControlPlane) -> None:
    await apply(env, desk())
    await env.client.patch(ObjectRef("Agent", "clerk", "default"), {"spec": {"instructions": "Be rude."}})
    await remove(env, "Tool", "find")
    assert (await env.get("Agent", "clerk")).spec["instructions"] == "Help."
    assert "tools/find" in await names(env)
    assert await ready(env, "System", "desk") == ("True", "Resolved")


async def test_a_child_that_is_not_ready_is_named_with_its_reason(env: ControlPlane) -> None:
    await apply(env, desk(tools=[child("find", python={"entrypoint": "no_such_module_here:f"})]))
    found = await said(env, "System", "desk")
    assert found[:2] == ("False", "ChildrenNotReady")
    assert "Tool find: NotImportable" in found.message
    listed = {entry["name"]: entry["ready"] for entry in (await status(env, "System", "desk"))["inventory"]}
    assert (listed["find"], listed["helper"], listed["clerk"]) == (False, False, True)
    await apply(env, desk())
    assert await ready(env, "System", "desk") == ("True", "Resolved")


async def test_a_mistake_in_a_child_refuses_the_system_with_its_place(env: ControlPlane) -> None:
    with pytest.raises(ApplyFailed, match=r"spec\.agents\[0\]\.spec\.model"):
        await env.apply(desk(agents=[child("helper", instructions="Help.", model="opnai/gpt")]))
    assert await names(env) == []


async def test_a_child_whose_name_is_taken_is_reported_and_the_others_are_made(env: ControlPlane) -> None:
    await apply(env, tool("find"))
    await apply(env, desk())
    found = await said(env, "System", "desk")
    assert found[:2] == ("False", "ChildRefused")
    assert 'spec.tools[0]: tools.mastra.ai "find" already exists' in found.message
    assert "agents/helper" in await names(env)
    await remove(env, "Tool", "find")
    await env.advance(30)
    assert await ready(env, "System", "desk") == ("True", "Resolved")


async def test_a_child_refused_by_its_schema_is_reported_with_its_path(env: ControlPlane) -> None:
    await apply(env, desk(tools=[child("find", python={"entrypoint": "not an entrypoint"})]))
    found = await said(env, "System", "desk")
    assert found[:2] == ("False", "ChildRefused")
    assert found.message.startswith('spec.tools[0]: Tool.mastra.ai "find" is invalid: spec.python.entrypoint')


async def test_a_child_that_is_not_ready_keeps_the_system_from_being_ready(env: ControlPlane) -> None:
    await apply(env, desk(mcpServers=[child("files", transport="stdio", command=["no-such-program"])]))
    found = await said(env, "System", "desk")
    assert found[:2] == ("False", "ChildrenNotReady")
    assert "MCPServer" in found.message
    assert (await status(env, "System", "desk"))["ready"] == "7/8"


async def test_siblings_come_before_objects_of_the_same_name_elsewhere(env: ControlPlane) -> None:
    await apply(env, desk())
    assert (await status(env, "Agent", "helper"))["tools"][0]["resolved"] == "Tool/default/find"


async def test_a_suspended_system_changes_nothing_and_goes_on_reporting(env: ControlPlane) -> None:
    await apply(env, desk())
    before = await names(env)
    await apply(env, desk(suspend=True, workflows=[], agents=[child("new", instructions="Help.")]))
    assert await ready(env, "System", "desk") == ("False", "Suspended")
    assert await names(env) == before
    await apply(env, desk())
    assert await ready(env, "System", "desk") == ("True", "Resolved")


async def test_deleting_a_system_removes_its_children_and_leaves_the_rest(env: ControlPlane) -> None:
    await apply(env, agent("mine"), desk())
    await remove(env, "System", "desk")
    with pytest.raises(NotFound):
        await env.get("System", "desk")
    assert await names(env) == ["agents/mine"]


async def test_fields_without_effect_are_named(env: ControlPlane) -> None:
    await apply(env, desk(defaults={"model": SCRIPTED, "memory": True}))
    assert "spec.defaults.memory" in (await said(env, "System", "desk", "UnsupportedFeatures")).message


async def test_looking_again_changes_nothing(env: ControlPlane) -> None:
    await apply(env, desk())
    for kind in ("System", *MANY):
        await assert_settled_pass_writes_nothing(env.manager, "system", "default", "desk", writes_of(env, kind))
