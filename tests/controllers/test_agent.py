"""An Agent is Ready when its model could be asked and its tools called, and says where its model comes from."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.api.meta import ObjectRef
from kastra.config import Settings
from kastra.testing import ControlPlane
from tests.contract.reconciler import assert_settled_pass_writes_nothing

from .objects import SCRIPTED, agent, apply, manifest, namespace, ready, remove, said, secret, status, tool, writes_of

NO_MODEL = {"instructions": "Help."}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(project=tmp_path)


@pytest.fixture
async def env(settings: Settings) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=settings, execute=False) as plane:
        yield plane


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("OPENAI", "GROQ"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)
    return monkeypatch


# ---- the model


async def test_an_inline_model_without_a_key_names_the_variable(env: ControlPlane, no_keys: Any) -> None:
    await apply(env, agent("a", model="openai/gpt-4o"))
    found = await said(env, "Agent", "a")
    assert found[:2] == ("False", "MissingCredentials")
    assert "OPENAI_API_KEY" in found.message
    assert (await said(env, "Agent", "a", "ModelReachable"))[:2] == ("False", "MissingCredentials")
    assert (await status(env, "Agent", "a"))["modelResolved"] == "openai/gpt-4o"


async def test_an_inline_model_with_its_key_in_the_environment_is_ready(env: ControlPlane, no_keys: Any) -> None:
    no_keys.setenv("OPENAI_API_KEY", "sk-secret-value")
    await apply(env, agent("a", model="openai/gpt-4o"))
    assert await ready(env, "Agent", "a") == ("True", "Resolved")
    assert (await said(env, "Agent", "a", "ModelReachable")).status == "True"
    assert "sk-secret-value" not in str((await env.get("Agent", "a")).data)


async def test_a_fallback_without_a_key_makes_the_agent_degraded_and_leaves_it_ready(
    env: ControlPlane, no_keys: Any
) -> None:
    await apply(env, agent("a", fallbacks=["groq/llama"]))
    assert await ready(env, "Agent", "a") == ("True", "Resolved")
    found = await said(env, "Agent", "a", "Degraded")
    assert (found.status, "GROQ_API_KEY" in found.message) == ("True", True)
    await apply(env, agent("a"))
    assert (await said(env, "Agent", "a", "Degraded")).status == "False"


async def test_a_referenced_model_is_followed_down_to_its_secret(env: ControlPlane) -> None:
    provider = {"type": "openai", "apiKeyFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}
    await apply(
        env,
        manifest("ModelProvider", "p", provider),
        manifest("Model", "fast", {"providerRef": "p", "name": "gpt-4o-mini"}),
        agent("a", modelRef="fast"),
    )
    found = await said(env, "Agent", "a")
    assert found[:2] == ("False", "DependencyNotReady")
    assert 'no Secret "key" in namespace "default"' in found.message
    assert (await said(env, "Agent", "a", "ModelReachable")).status == "False"
    await apply(env, secret("key", k="value"))
    assert await ready(env, "Agent", "a") == ("True", "Resolved")
    assert (await status(env, "Agent", "a"))["modelResolved"] == "openai/gpt-4o-mini"
    await remove(env, "Secret", "key")
    assert await ready(env, "Agent", "a") == ("False", "DependencyNotReady")
    await remove(env, "Model", "fast")
    found = await said(env, "Agent", "a")
    assert found[:2] == ("False", "NotFound")
    assert 'no Model "fast"' in found.message


async def test_without_any_model_there_is_no_model(env: ControlPlane) -> None:
    await apply(env, manifest("Agent", "a", NO_MODEL))
    assert await ready(env, "Agent", "a") == ("False", "NoModel")
    found = await said(env, "Agent", "a", "ResolvedRefs")
    assert found[:2] == ("False", "NoModel")
    assert "mastra.ai/default-model" in found.message


async def test_the_default_of_the_namespace_appears_changes_and_goes(env: ControlPlane, no_keys: Any) -> None:
    await apply(env, namespace("shop"), manifest("Agent", "a", NO_MODEL, "shop"))
    assert await ready(env, "Agent", "a", "shop") == ("False", "NoModel")
    await apply(env, namespace("shop", default_model="ollama/llama"))
    assert await ready(env, "Agent", "a", "shop") == ("True", "Resolved")
    assert (await status(env, "Agent", "a", "shop"))["modelResolved"] == "ollama/llama"
    await apply(env, namespace("shop", default_model="openai/gpt-4o"))
    assert await ready(env, "Agent", "a", "shop") == ("False", "MissingCredentials")
    await apply(env, namespace("shop", default_model="gpt-4o"))
    assert await ready(env, "Agent", "a", "shop") == ("False", "InvalidModel")
    await apply(env, namespace("shop", default_model="opnai/gpt-4o"))
    assert "openai" in (await said(env, "Agent", "a", namespace="shop")).message
    await env.client.patch(ObjectRef("Namespace", "shop"), {"metadata": {"annotations": None}})
    await env.settle()
    assert await ready(env, "Agent", "a", "shop") == ("False", "NoModel")


async def test_the_configured_default_comes_last(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path, default_model="ollama/configured")
    async with ControlPlane(settings=settings, execute=False) as env:
        await apply(
            env,
            namespace("own", default_model="ollama/of-the-namespace"),
            manifest("Agent", "a", NO_MODEL),
            manifest("Agent", "a", NO_MODEL, "own"),
            agent("b", model=SCRIPTED),
        )
        assert (await status(env, "Agent", "a"))["modelResolved"] == "ollama/configured"
        assert (await status(env, "Agent", "a", "own"))["modelResolved"] == "ollama/of-the-namespace"
        assert (await status(env, "Agent", "b"))["modelResolved"] == "scripted"


# ---- the tools


async def test_tools_are_listed_by_the_names_that_the_model_sees(env: ControlPlane) -> None:
    await apply(
        env,
        namespace("other"),
        tool("one"),
        tool("two", "other"),
        agent("helper"),
        agent(
            "a",
            tools=["one", {"name": "x", "as": "second", "toolRef": "other/two"}, {"name": "h", "agentRef": "helper"}],
        ),
    )
    found = (await status(env, "Agent", "a"))["tools"]
    assert [(entry["name"], entry["resolved"]) for entry in found] == [
        ("one", "Tool/default/one"),
        ("second", "Tool/other/two"),
        ("h", "Agent/default/helper"),
    ]
    assert found[0]["schemaHash"] == (await status(env, "Tool", "one"))["schemaHash"]
    assert all(entry["schemaHash"] for entry in found)
    assert (await status(env, "Agent", "a"))["toolCount"] == 3


async def test_a_tool_that_appears_makes_the_agent_ready_and_takes_it_back_when_it_goes(env: ControlPlane) -> None:
    await apply(env, agent("a", tools=["find"]))
    found = await said(env, "Agent", "a")
    assert found[:2] == ("False", "NotFound")
    assert 'no Tool "find" in namespace "default"' in found.message
    assert (await said(env, "Agent", "a", "ToolsResolved"))[:2] == ("False", "NotFound")
    assert (await status(env, "Agent", "a"))["tools"] == [{"name": "find", "resolved": ""}]
    await apply(env, tool("find"))
    assert await ready(env, "Agent", "a") == ("True", "Resolved")
    assert (await said(env, "Agent", "a", "ToolsResolved")).status == "True"
    await apply(env, tool("find", python={"entrypoint": "no_such_module_here:f"}))
    found = await said(env, "Agent", "a")
    assert found[:2] == ("False", "DependencyNotReady")
    assert "Tool default/find is not Ready: NotImportable" in found.message
    await remove(env, "Tool", "find")
    assert await ready(env, "Agent", "a") == ("False", "NotFound")


async def test_a_text_with_a_dot_that_leads_nowhere_names_both_places(env: ControlPlane) -> None:
    await apply(env, tool("find"), agent("a", tools=[{"name": "f", "toolRef": "nowhere.find"}]))
    found = await said(env, "Agent", "a")
    assert found[:2] == ("False", "NotFound")
    assert '"nowhere.find" in namespace "default"' in found.message
    assert '"find" in namespace "nowhere"' in found.message


async def test_agents_that_are_each_others_tool_are_ready(env: ControlPlane) -> None:
    await apply(env, agent("a", tools=[{"agentRef": "b"}]), agent("b", tools=[{"agentRef": "a"}]))
    assert await ready(env, "Agent", "a") == ("True", "Resolved")
    assert await ready(env, "Agent", "b") == ("True", "Resolved")


async def test_a_circle_of_agents_stops_and_recovers_as_one_with_what_one_of_them_needs(env: ControlPlane) -> None:
    ring = [
        agent("a", tools=[{"agentRef": "b"}]),
        agent("b", tools=[{"agentRef": "c"}]),
        agent("c", tools=[{"agentRef": "a"}, "find"]),
    ]
    await apply(env, *ring, tool("find"))
    assert [await ready(env, "Agent", name) for name in "abc"] == [("True", "Resolved")] * 3
    await remove(env, "Tool", "find")
    reasons = [(await ready(env, "Agent", name)) for name in "abc"]
    assert reasons == [("False", "DependencyNotReady"), ("False", "DependencyNotReady"), ("False", "NotFound")]
    assert 'no Tool "find"' in (await said(env, "Agent", "b")).message
    await apply(env, tool("find"))
    assert [await ready(env, "Agent", name) for name in "abc"] == [("True", "Resolved")] * 3
    await apply(env, tool("find", suspend=True, python={"inline": "def f(): ..."}))
    assert {await ready(env, "Agent", name) for name in "abc"} == {("False", "DependencyNotReady")}


async def test_who_may_use_an_agent_of_another_namespace_is_the_agents_own_decision(env: ControlPlane) -> None:
    await apply(env, namespace("closed"), agent("helper", "closed"), agent("a", tools=[{"agentRef": "closed/helper"}]))
    assert await ready(env, "Agent", "a") == ("True", "Resolved")
    await apply(env, agent("helper", "closed", allowedNamespaces={"from": "Same"}))
    found = await said(env, "Agent", "a")
    assert found[:2] == ("False", "RefNotPermitted")
    assert 'doesn\'t allow namespace "default"' in found.message


async def test_something_that_can_not_be_called_is_no_tool(env: ControlPlane) -> None:
    await apply(
        env,
        manifest("ModelProvider", "p", {"type": "ollama"}),
        manifest("Model", "m", {"providerRef": "p", "name": "x"}),
        agent("a", tools=[{"name": "m", "toolRef": "models/m"}]),
    )
    assert await ready(env, "Agent", "a") == ("False", "InvalidKind")


# ---- the rest


async def test_instructions_from_a_config_map_need_its_key(env: ControlPlane) -> None:
    source = {"configMapKeyRef": {"name": "prompts", "key": "a"}}
    prompts = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prompts"}, "data": {"b": "..."}}
    await apply(env, manifest("Agent", "a", {"instructionsFrom": source, "model": SCRIPTED}))
    assert await ready(env, "Agent", "a") == ("False", "NotFound")
    await apply(env, prompts)
    found = await said(env, "Agent", "a")
    assert found[:2] == ("False", "ValueNotFound")
    assert 'ConfigMap default/prompts has no key "a"' in found.message
    await apply(env, {**prompts, "data": {"a": "You help."}})
    assert await ready(env, "Agent", "a") == ("True", "Resolved")


async def test_fields_without_effect_are_named_until_they_are_gone(env: ControlPlane) -> None:
    await apply(env, agent("a", memory={"type": "redis"}, approval={"policy": "x"}, scaling={"maxReplicas": 2}))
    found = await said(env, "Agent", "a", "UnsupportedFeatures")
    assert found.status == "True"
    for field in ("spec.memory.type", "spec.approval.policy", "spec.scaling"):
        assert field in found.message
    assert await ready(env, "Agent", "a") == ("True", "Resolved")
    await apply(env, agent("a"))
    assert (await said(env, "Agent", "a", "UnsupportedFeatures")).status == "False"


async def test_a_suspended_agent_says_so_and_comes_back(env: ControlPlane) -> None:
    await apply(env, agent("a", suspend=True))
    assert await ready(env, "Agent", "a") == ("False", "Suspended")
    await apply(env, agent("a"))
    assert await ready(env, "Agent", "a") == ("True", "Resolved")


async def test_looking_again_changes_nothing(env: ControlPlane) -> None:
    await apply(env, tool("find"), agent("a", tools=["find"], memory=True))
    await assert_settled_pass_writes_nothing(env.manager, "agent", "default", "a", writes_of(env, "Agent"))
    await remove(env, "Tool", "find")
    await assert_settled_pass_writes_nothing(env.manager, "agent", "default", "a", writes_of(env, "Agent"))
