"""From Model and ModelProvider to calls: keys that rotate, limits that all Runs share, proxies, trust, cassettes, prices."""

import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.abc
import pytest

from kastra.agent.calls import call_model
from kastra.agent.models import lookup_in, models_of
from kastra.agent.services import AgentServices
from kastra.api.types import ClosureObject
from kastra.app.certificates import certificates
from kastra.clock import SystemClock
from kastra.engine.step import StepError
from kastra.model import testing as fake
from kastra.model.cassette import Cassettes
from kastra.model.chain import ModelEntry, answers
from kastra.model.interface import ModelError, ModelRequest, ModelResponse, collected
from kastra.model.scripted import ScriptedModel
from kastra.netguard import Guard, Policy

ASK = ModelRequest([{"role": "user", "content": "Hi"}])


class Secrets:
    """Values by name; what isn't there is missing."""

    def __init__(self) -> None:
        self.values = {"key": "sk-one"}

    async def read(self, value_from: Mapping[str, Any], namespace: str) -> str:
        name = value_from["secretKeyRef"]["key"]
        if name not in self.values:
            raise LookupError(f"Secret {namespace}/s has no key {name}")
        return self.values[name]


@pytest.fixture
async def provider() -> AsyncIterator[fake.FakeProvider]:
    async with fake.FakeProvider() as provider:
        yield provider


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[AgentServices]:
    async with Guard(Policy()) as guard:
        yield AgentServices(guard, SystemClock(), Secrets(), cassettes=Cassettes(tmp_path))


def ref(key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": "s", "key": key}}


def entries(
    services: AgentServices, url: str, model: Any = None, generation: int = 1, **provider: Any
) -> list[ModelEntry]:
    def made(kind: str, name: str, spec: Any, refs: dict[str, str]) -> ClosureObject:
        plain = {"kind": kind, "name": name, "namespace": "default", "spec": spec, "refs": refs, "uid": name}
        return cast(ClosureObject, {**plain, "generation": generation})

    spec = {"type": "openai", "baseURL": url, "allowPrivate": True, "apiKeyFrom": ref("key"), **provider}
    objects = {
        "p": made("ModelProvider", "p", spec, {}),
        "m": made("Model", "m", {"name": "gpt", **(model or {})}, {"spec.providerRef": "p"}),
    }
    agent = made("Agent", "a", {}, {"spec.modelRef": "m"})
    return models_of({"modelRef": "m"}, lookup_in(agent, objects), objects, services, "spec")


async def ask(services: AgentServices, found: list[ModelEntry]) -> ModelResponse:
    return await collected(answers(found, ASK, services.clock, "seed"))


async def test_a_rotated_key_is_used_by_the_next_call_without_anything_being_made_anew(
    services: AgentServices, provider: fake.FakeProvider
) -> None:
    provider.answer(fake.text("a"), fake.text("b"))
    found = entries(services, provider.url)
    await ask(services, found)
    assert isinstance(services.secrets, Secrets)
    services.secrets.values["key"] = "sk-two"
    await ask(services, found)
    assert [r.headers["authorization"] for r in provider.requests] == ["Bearer sk-one", "Bearer sk-two"]


async def test_a_missing_key_is_named_with_its_provider(services: AgentServices, provider: fake.FakeProvider) -> None:
    with pytest.raises(ModelError, match="ModelProvider default/p: Secret default/s has no key other") as caught:
        await ask(services, entries(services, provider.url, apiKeyFrom=ref("other")))
    assert caught.value.kind == "authorization"


async def test_runs_that_resolved_the_same_versions_share_the_model_and_others_have_their_own(
    services: AgentServices, provider: fake.FakeProvider
) -> None:
    def made(model: Any = None, **fields: Any) -> ModelEntry:
        return entries(services, provider.url, model, **fields)[0]

    assert made() is made()
    assert made({"name": "other"}) is not made()
    assert made(apiKeyFrom=ref("other")) is not made()
    # Rules of a scripted one count how often they have answered: for a closure, not for all of them.
    rules = {"parameters": {"rules": [{"reply": "Yes."}]}}
    assert made(rules, type="scripted") is not made(rules, type="scripted")


async def test_the_limits_are_those_of_the_version_that_was_resolved_last(
    services: AgentServices, provider: fake.FakeProvider
) -> None:
    for generation, limit in ((1, 2), (2, 5), (1, 2)):
        found = entries(services, provider.url, generation=generation, rateLimits={"maxConcurrent": limit})[0]
        assert found.limiters[1].limits.max_concurrent == limit


async def test_limits_are_shared_by_all_who_make_the_model_anew(
    services: AgentServices, provider: fake.FakeProvider
) -> None:
    active = most = 0

    async def slowly() -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await anyio.wait_all_tasks_blocked()
        active -= 1

    provider.always(lambda _: fake.after(slowly, fake.text("ok")))
    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            found = entries(services, provider.url, rateLimits={"maxConcurrent": 2})
            tasks.start_soon(ask, services, found)
    assert len(provider.requests) == 12
    assert most <= 2


async def test_a_models_own_limit_holds_beside_its_providers(
    services: AgentServices, provider: fake.FakeProvider
) -> None:
    provider.always(lambda _: fake.text("ok"))
    found = entries(services, provider.url, {"rateLimits": {"requestsPerMinute": 3}}, rateLimits={"maxConcurrent": 5})
    for _ in range(3):
        await ask(services, found)
    with anyio.move_on_after(0.05) as waited:
        await ask(services, found)
    assert waited.cancelled_caught
    assert len(provider.requests) == 3


async def test_prices_and_settings_of_the_model_reach_the_call(
    services: AgentServices, provider: fake.FakeProvider
) -> None:
    provider.answer(fake.text("ok"))
    price = {"in": 1_000_000, "out": 2_000_000, "cached": None}
    found = entries(services, provider.url, {"price": price, "parameters": {"temperature": 0.5}})
    response = await ask(services, found)
    assert response.usage.get("costUSD") == 10 + 2 * 5
    assert provider.requests[0].json["temperature"] == 0.5


async def test_capabilities_decide_before_a_call(services: AgentServices, provider: fake.FakeProvider) -> None:
    found = entries(services, provider.url, {"capabilities": ["tools"]})
    image = {"type": "image", "url": "https://example.com/x.png"}
    request: Any = ModelRequest([{"role": "user", "content": "", "parts": [image]}])
    with pytest.raises(ModelError, match="capability vision"):
        await found[0].model.generate(request)
    assert provider.requests == []


async def test_a_certificate_is_trusted_that_the_provider_names(services: AgentServices, tmp_path: Path) -> None:
    files = certificates(tmp_path, "127.0.0.1", SystemClock())
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(files.certificate, files.key)
    assert isinstance(services.secrets, Secrets)
    services.secrets.values["ca"] = files.authority.read_text()
    async with fake.FakeProvider(secure) as provider:
        provider.always(lambda _: fake.text("ok"))
        with pytest.raises(ModelError) as caught:
            await ask(services, entries(services, provider.url))
        assert caught.value.kind == "unavailable"
        assert (await ask(services, entries(services, provider.url, tls={"caFrom": ref("ca")}))).text == "ok"


class Proxy:
    """An HTTP proxy that notes what it was asked for and answers for everybody."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""

    async def serve(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        self.url = f"http://127.0.0.1:{port}"
        task_status.started()
        async with listener:
            await listener.serve(self.answer)

    async def answer(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            head = (await stream.receive()).split(b"\r\n")[0].decode()
            self.asked.append(head)
            await stream.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


async def test_calls_go_through_the_proxy_and_nowhere_that_the_policy_forbids(services: AgentServices) -> None:
    proxy = Proxy()
    async with anyio.create_task_group() as tasks:
        await tasks.start(proxy.serve)
        with pytest.raises(ModelError):
            await ask(services, entries(services, "http://models.example.com/v1", proxy=proxy.url))
        assert proxy.asked == ["POST http://models.example.com:80/v1/chat/completions HTTP/1.1"]
        with pytest.raises(ModelError) as caught:
            await ask(services, entries(services, "http://169.254.169.254/v1", proxy=proxy.url))
        assert caught.value.kind == "refused"
        assert len(proxy.asked) == 1
        tasks.cancel_scope.cancel()


async def test_a_replayed_model_needs_no_provider(
    services: AgentServices, provider: fake.FakeProvider, tmp_path: Path
) -> None:
    provider.answer(fake.text("recorded"))
    await ask(services, entries(services, provider.url, {"cassette": {"mode": "record", "path": "c/x.json"}}))
    replayed = {"cassette": {"mode": "replay", "path": "c/x.json"}}
    found = entries(services, "http://127.0.0.1:1/v1", replayed, apiKeyFrom=ref("gone"))
    assert (await ask(services, found)).text == "recorded"
    assert "sk-one" not in (tmp_path / "c" / "x.json").read_text()


async def test_a_cassette_outside_the_project_makes_no_model(services: AgentServices) -> None:
    with pytest.raises(StepError, match="outside the project folder"):
        entries(services, "http://127.0.0.1:1/v1", {"cassette": {"mode": "record", "path": "../x.json"}})


async def test_who_watches_sees_the_answer_arrive_and_is_told_when_it_is_void(services: AgentServices) -> None:
    seen: list[Mapping[str, Any]] = []

    class Watched:
        idempotency_key, attempt = "k", 1

        def emit(self, delta: Mapping[str, Any]) -> None:
            seen.append(delta)

    class Step:
        async def call(self, key: str, fn: Any, options: Any) -> Any:
            return await fn(Watched())

    breaks = ScriptedModel([{"error": {"kind": "unavailable", "message": "cut", "after": 2}}])
    answers_ = ScriptedModel([{"reply": "Hi!", "reasoning": "hm"}], pace={"chunkSize": 2})
    step: Any = Step()
    response = await call_model(
        step, "turn[0]", [ModelEntry("a", breaks), ModelEntry("b", answers_)], ASK, services.clock
    )
    assert response.text == "Hi!"
    assert [delta["type"] for delta in seen] == ["text", "restart", "reasoning", "text", "text"]
