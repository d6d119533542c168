"""A ModelProvider shows which models it has, and in words that programs can read why it can't be asked."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.app.certificates import certificates
from kastra.clock import SystemClock
from kastra.config import Settings
from kastra.model import testing as fake
from kastra.testing import ControlPlane

from .objects import apply as write
from .objects import manifest, ready, said, secret, status, the

KEY = "sk-canary-5678"
FROM = {"apiKeyFrom": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}


@pytest.fixture
async def service() -> AsyncIterator[fake.FakeProvider]:
    async with fake.FakeProvider() as service:
        yield service


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


def provider(url: str, **spec: Any) -> dict[str, Any]:
    return manifest("ModelProvider", "p", {"type": "openai", "baseURL": url, "allowPrivate": True, **FROM, **spec})


def key(value: str = KEY) -> dict[str, Any]:
    return secret("openai", **{"api-key": value})


async def apply(env: ControlPlane, *objects: dict[str, Any]) -> None:
    """Apply, and give the provider the moment after which it is asked."""
    await write(env, *objects)
    await env.advance(3)


async def warnings(env: ControlPlane, reason: str) -> list[Any]:
    return [obj.data for obj in await the(env, "events") if obj.data.get("reason") == reason]


async def test_the_models_of_a_provider_are_listed_and_counted(env: ControlPlane, service: fake.FakeProvider) -> None:
    service.models = ["gpt-b", "gpt-a"]
    await apply(env, key(), provider(service.url))
    found = await status(env, "ModelProvider", "p")
    assert (found["discoveredModels"], found["modelCount"]) == (["gpt-a", "gpt-b"], 2)
    assert found["lastDiscoveryTime"].endswith("Z")
    assert (await said(env, "ModelProvider", "p", "Reachable"))[:2] == ("True", "Answered")
    assert (await said(env, "ModelProvider", "p", "ModelsDiscovered"))[:2] == ("True", "Listed")


async def test_it_is_asked_again_when_the_interval_is_over_and_not_before(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    service.models = ["gpt-a"]
    await apply(env, key(), provider(service.url, pollInterval="5m"))
    service.models = ["gpt-a", "gpt-b"]
    await env.advance(200)
    assert (await status(env, "ModelProvider", "p"))["modelCount"] == 1
    await env.advance(120)
    assert (await status(env, "ModelProvider", "p"))["modelCount"] == 2


async def test_a_refused_key_makes_it_unready_and_a_rotated_one_ready_again_at_once(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    good = fake.Scripted(body=b'{"data": [{"id": "gpt-a"}]}')

    def judge(request: fake.Received) -> fake.Scripted:
        return good if request.headers.get("authorization") == "Bearer sk-good" else fake.status(401, message=KEY)

    service.always(judge)
    await apply(env, key(), provider(service.url))
    assert await ready(env, "ModelProvider", "p") == ("False", "Unauthorized")
    assert (await said(env, "ModelProvider", "p", "Reachable"))[:2] == ("False", "Unauthorized")
    assert len(await warnings(env, "ProviderUnreachable")) == 1
    await apply(env, key("sk-good"))
    assert await ready(env, "ModelProvider", "p") == ("True", "Resolved")
    assert (await said(env, "ModelProvider", "p", "Reachable"))[:2] == ("True", "Answered")
    shown = str([(await env.get("ModelProvider", "p")).data, *(obj.data for obj in await the(env, "events"))])
    assert KEY not in shown
    assert "sk-good" not in shown


@pytest.mark.parametrize(
    ("answer", "reason", "reachable"),
    [
        pytest.param(fake.status(404), "NotOffered", ("True", "Answered"), id="lists-none"),
        pytest.param(fake.status(500), "BadAnswer", ("False", "BadAnswer"), id="broken"),
        pytest.param(fake.raw(b"<html>"), "BadAnswer", ("False", "BadAnswer"), id="no-json"),
        pytest.param(fake.raw(b'{"data": 7}'), "BadAnswer", ("False", "BadAnswer"), id="no-list"),
        pytest.param(fake.cut(100), "NoRoute", ("False", "NoRoute"), id="cut-off"),
    ],
)
async def test_what_goes_wrong_has_a_reason_and_leaves_it_ready(
    env: ControlPlane, service: fake.FakeProvider, answer: fake.Scripted, reason: str, reachable: tuple[str, str]
) -> None:
    service.always(lambda _: answer)
    await apply(env, key(), provider(service.url))
    assert (await said(env, "ModelProvider", "p", "ModelsDiscovered"))[:2] == ("False", reason)
    assert (await said(env, "ModelProvider", "p", "Reachable"))[:2] == reachable
    assert await ready(env, "ModelProvider", "p") == ("True", "Resolved")


async def test_no_route_and_no_trust_are_told_apart_and_trust_can_be_given(env: ControlPlane, tmp_path: Path) -> None:
    files = certificates(tmp_path / "data", "127.0.0.1", SystemClock())
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(files.certificate, files.key)
    async with fake.FakeProvider(secure) as service:
        service.models = ["gpt-a"]
        await apply(env, key(), provider(service.url))
        assert (await said(env, "ModelProvider", "p", "Reachable"))[:2] == ("False", "TLSFailed")
        await apply(env, provider("http://127.0.0.1:1/v1"))
        assert (await said(env, "ModelProvider", "p", "Reachable"))[:2] == ("False", "NoRoute")
        assert len(await warnings(env, "ProviderUnreachable")) == 2
        trusted = {"caFrom": {"secretKeyRef": {"name": "trust", "key": "ca.crt"}}}
        await apply(env, secret("trust", **{"ca.crt": files.authority.read_text()}), provider(service.url, tls=trusted))
        assert (await said(env, "ModelProvider", "p", "Reachable"))[:2] == ("True", "Answered")
        assert len(await warnings(env, "ProviderReachable")) == 1


async def test_anthropics_listing_is_read_page_by_page(env: ControlPlane, service: fake.FakeProvider) -> None:
    def page(request: fake.Received) -> fake.Scripted:
        if "after_id=b" in request.path:
            return fake.Scripted(body=b'{"data": [{"id": "c", "type": "model"}], "has_more": false, "last_id": "c"}')
        return fake.Scripted(body=b'{"data": [{"id": "a"}, {"id": "b"}], "has_more": true, "last_id": "b"}')

    service.always(page)
    await apply(env, key(), provider(service.url, type="anthropic"))
    assert (await status(env, "ModelProvider", "p"))["discoveredModels"] == ["a", "b", "c"]
    assert service.requests[0].headers["anthropic-version"]
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_model_that_its_provider_does_not_list_says_so_with_what_was_probably_meant(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    service.models = ["gpt-4o", "gpt-4o-mini"]
    asks = manifest("Model", "m", {"providerRef": "p", "name": "gpt-4oo"})
    await apply(env, key(), provider(service.url), asks)
    found = await said(env, "Model", "m", "Listed")
    assert found[:2] == ("False", "UnknownModel")
    assert "did you mean 'gpt-4o'?" in found.message
    assert len(await warnings(env, "UnknownModel")) == 1
    assert await ready(env, "Model", "m") == ("True", "Resolved")
    await apply(env, manifest("Model", "m", {"providerRef": "p", "name": "gpt-4o"}))
    assert (await said(env, "Model", "m", "Listed"))[:2] == ("True", "Listed")
