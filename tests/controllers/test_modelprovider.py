"""A ModelProvider is Ready when its key is there, and shows that a key has changed without showing the key."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane
from tests.contract.reconciler import assert_settled_pass_writes_nothing

from .objects import apply, manifest, ready, remove, said, secret, status, the, writes_of

KEY = {"apiKeyFrom": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


def provider(name: str = "p", **spec: Any) -> dict[str, Any]:
    # Not asked for its models, which `test_modelprovider_discovery` is about.
    return manifest("ModelProvider", name, {"type": "openai", "pollInterval": 0, **spec})


def key(value: str) -> dict[str, Any]:
    return secret("openai", **{"api-key": value})


async def test_a_provider_becomes_ready_when_its_secret_appears_and_stops_when_it_goes(env: ControlPlane) -> None:
    await apply(env, provider(**KEY))
    found = await said(env, "ModelProvider", "p", "SecretResolved")
    assert found[:2] == ("False", "NotFound")
    assert 'no Secret "openai" in namespace "default"' in found.message
    assert await ready(env, "ModelProvider", "p") == ("False", "NotFound")
    await apply(env, secret("openai", other="x"))
    found = await said(env, "ModelProvider", "p")
    assert found[:2] == ("False", "SecretNotResolved")
    assert 'Secret default/openai has no key "api-key"' in found.message
    await apply(env, key("sk-first-value"))
    assert await ready(env, "ModelProvider", "p") == ("True", "Resolved")
    assert (await said(env, "ModelProvider", "p", "SecretResolved")).status == "True"
    await remove(env, "Secret", "openai")
    assert await ready(env, "ModelProvider", "p") == ("False", "NotFound")
    assert "secretHash" not in await status(env, "ModelProvider", "p")


async def test_a_rotated_key_changes_the_hash_and_leaves_an_event_but_no_trace_of_itself(env: ControlPlane) -> None:
    await apply(env, key("sk-first-value"), provider(**KEY))
    first = (await status(env, "ModelProvider", "p"))["secretHash"]
    await apply(env, key("sk-second-value"))
    second = (await status(env, "ModelProvider", "p"))["secretHash"]
    assert first != second
    assert await ready(env, "ModelProvider", "p") == ("True", "Resolved")
    events = [obj.data for obj in await the(env, "events") if obj.data.get("reason") == "SecretChanged"]
    assert len(events) == 1
    shown = str([(await env.get("ModelProvider", "p")).data, events])
    assert "sk-first" not in shown
    assert "sk-second" not in shown


async def test_the_same_key_has_another_hash_in_another_object(env: ControlPlane) -> None:
    await apply(env, key("sk-value"), provider("a", **KEY), provider("b", **KEY))
    hashes = {(await status(env, "ModelProvider", name))["secretHash"] for name in "ab"}
    assert len(hashes) == 2


async def test_a_key_may_come_from_the_environment_or_a_file_of_the_project(
    env: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KASTRA_TEST_KEY", raising=False)
    await apply(env, provider("a", apiKeyFrom={"env": "KASTRA_TEST_KEY"}), provider("b", apiKeyFrom={"file": "key"}))
    assert "KASTRA_TEST_KEY is not set" in (await said(env, "ModelProvider", "a")).message
    assert "file key can't be read" in (await said(env, "ModelProvider", "b")).message
    monkeypatch.setenv("KASTRA_TEST_KEY", "x")
    (env.settings.project / "key").write_text("y")
    await apply(
        env,
        provider("a", apiKeyFrom={"env": "KASTRA_TEST_KEY"}, baseURL="https://example.com/v1"),
        provider("b", apiKeyFrom={"file": "key"}, baseURL="https://example.com/v1"),
        provider("c", apiKeyFrom={"file": "../outside"}),
    )
    assert await ready(env, "ModelProvider", "a") == ("True", "Resolved")
    assert await ready(env, "ModelProvider", "b") == ("True", "Resolved")
    assert "outside the project" in (await said(env, "ModelProvider", "c")).message


async def test_a_type_that_nobody_offers_is_refused_with_those_that_are_there(env: ControlPlane) -> None:
    with pytest.raises(ApplyFailed, match=r"spec\.type.*anthropic.*openai"):
        await env.apply(provider(type="anthropc"))


async def test_an_address_that_may_never_be_called_is_reported(env: ControlPlane) -> None:
    await apply(
        env, provider("a", baseURL="http://10.1.2.3/v1"), provider("b", baseURL="http://10.1.2.3/v1", allowPrivate=True)
    )
    found = await said(env, "ModelProvider", "a")
    assert found[:2] == ("False", "AddressRefused")
    assert "allowPrivate" in found.message
    assert await ready(env, "ModelProvider", "b") == ("True", "Resolved")


async def test_limits_proxy_and_trust_have_their_effect_and_so_nothing_is_said_to_have_none(env: ControlPlane) -> None:
    await apply(env, provider(rateLimits={"maxConcurrent": 2}, proxy="http://proxy.example.com"))
    assert (await said(env, "ModelProvider", "p", "UnsupportedFeatures")).status != "True"
    assert await ready(env, "ModelProvider", "p") == ("True", "Resolved")


async def test_fields_that_a_type_of_provider_has_no_use_for_are_named(env: ControlPlane) -> None:
    await apply(env, provider(type="scripted", proxy="http://proxy.example.com", dialect={"files": True}))
    found = await said(env, "ModelProvider", "p", "UnsupportedFeatures")
    assert "spec.proxy, spec.dialect" in found.message


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"type": "vllm"}, "spec.baseURL"),
        ({"proxy": "http://user:password@proxy.example.com"}, "spec.proxy"),
        ({"dialect": {"structuredOutput": "magic"}}, "spec.dialect.structuredOutput"),
        ({"dialect": {"images": "maybe"}}, "spec.dialect.images"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_field(
    env: ControlPlane, spec: dict[str, Any], field: str
) -> None:
    with pytest.raises(ApplyFailed, match=field.replace(".", r"\.")):
        await env.apply(provider(**spec))


async def test_looking_again_changes_nothing(env: ControlPlane) -> None:
    await apply(env, key("sk-value"), provider(**KEY))
    writes = writes_of(env, "ModelProvider")
    await assert_settled_pass_writes_nothing(env.manager, "modelprovider", "default", "p", writes)
