"""A Model is Ready when its provider is, and says which type of provider that is."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane
from tests.contract.reconciler import assert_settled_pass_writes_nothing

from .objects import apply, manifest, namespace, ready, remove, said, status, writes_of


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


def provider(name: str, where: str = "default", **spec: Any) -> dict[str, Any]:
    return manifest("ModelProvider", name, {"type": "ollama", "pollInterval": 0, **spec}, where)


def model(name: str, where: str = "local", **spec: Any) -> dict[str, Any]:
    return manifest("Model", name, {"providerRef": where, "name": "llama", **spec})


async def test_a_model_follows_its_provider(env: ControlPlane) -> None:
    await apply(env, model("m"))
    found = await said(env, "Model", "m")
    assert found[:2] == ("False", "NotFound")
    assert 'no ModelProvider "local" in namespace "default"' in found.message
    await apply(env, provider("local"))
    assert await ready(env, "Model", "m") == ("True", "Resolved")
    assert (await status(env, "Model", "m"))["provider"] == "ollama"
    await apply(env, provider("local", suspend=True))
    assert await ready(env, "Model", "m") == ("False", "DependencyNotReady")
    await remove(env, "ModelProvider", "local")
    assert await ready(env, "Model", "m") == ("False", "NotFound")
    assert "provider" not in await status(env, "Model", "m")


async def test_a_provider_of_another_namespace_may_keep_itself_to_itself(env: ControlPlane) -> None:
    await apply(env, namespace("shared"), provider("local", "shared"), model("m", providerRef="shared/local"))
    assert await ready(env, "Model", "m") == ("True", "Resolved")
    await apply(env, namespace("shared", allowed_namespaces="Same"))
    found = await said(env, "Model", "m")
    assert found[:2] == ("False", "RefNotPermitted")
    await apply(env, namespace("shared", allowed_namespaces="default, other"))
    assert await ready(env, "Model", "m") == ("True", "Resolved")


async def test_models_that_are_each_others_fallback_are_ready(env: ControlPlane) -> None:
    await apply(
        env,
        provider("local"),
        model("a", fallbacks=[{"modelRef": "b"}]),
        model("b", fallbacks=[{"modelRef": "a"}]),
    )
    assert await ready(env, "Model", "a") == ("True", "Resolved")
    assert await ready(env, "Model", "b") == ("True", "Resolved")


async def test_fallbacks_in_a_circle_wait_for_what_one_of_them_lacks_and_recover(env: ControlPlane) -> None:
    await apply(
        env,
        provider("local"),
        model("a", fallbacks=[{"modelRef": "b"}]),
        model("b", providerRef="other", fallbacks=[{"modelRef": "a"}]),
    )
    assert await ready(env, "Model", "b") == ("False", "NotFound")
    found = await said(env, "Model", "a")
    assert found[:2] == ("False", "DependencyNotReady")
    assert "Model default/b" in found.message
    await apply(env, provider("other"))
    assert await ready(env, "Model", "a") == ("True", "Resolved")
    assert await ready(env, "Model", "b") == ("True", "Resolved")


async def test_rules_of_a_scripted_model_are_checked_where_the_provider_is_known(env: ControlPlane) -> None:
    await apply(env, provider("local", type="scripted"), model("m", parameters={"rules": [{"when": "1 +"}]}))
    assert await ready(env, "Model", "m") == ("False", "InvalidModel")
    await apply(env, model("m", parameters={"rules": [{"reply": "hello"}]}))
    assert await ready(env, "Model", "m") == ("True", "Resolved")


async def test_fields_without_effect_are_named(env: ControlPlane) -> None:
    await apply(env, provider("local"), model("m", routing={"strategy": "cheapest"}))
    found = await said(env, "Model", "m", "UnsupportedFeatures")
    assert (found.status, "spec.routing" in found.message) == ("True", True)
    assert await ready(env, "Model", "m") == ("True", "Resolved")


@pytest.mark.parametrize("cassette", [{"path": "../x.json"}, {"path": "/etc/x.json"}, {"ref": "../x"}])
async def test_a_cassette_outside_the_project_is_refused(env: ControlPlane, cassette: dict[str, str]) -> None:
    with pytest.raises(ApplyFailed, match=r"spec\.cassette\."):
        await env.apply(model("m", cassette={"mode": "replay", **cassette}))


async def test_parameters_that_the_provider_does_not_take_are_named_and_no_obstacle(env: ControlPlane) -> None:
    settings = {"temperature": 0.2, "topK": 5, "maxTokens": 100}
    claude = manifest("ModelProvider", "claude", {"type": "anthropic", "pollInterval": 0})
    await apply(env, claude, model("m", "claude", parameters=settings))
    found = await said(env, "Model", "m", "ParametersAccepted")
    assert found[:2] == ("False", "Ignored")
    assert "temperature, topK" in found.message
    assert await ready(env, "Model", "m") == ("True", "Resolved")


async def test_looking_again_changes_nothing(env: ControlPlane) -> None:
    await apply(env, provider("local"), model("m"))
    await assert_settled_pass_writes_nothing(env.manager, "model", "default", "m", writes_of(env, "Model"))
