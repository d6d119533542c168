"""Which model is asked, how often, and with whose key."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from kastra.agent.runners import runners
from kastra.agent.services import AgentServices
from kastra.engine.step import StepError
from kastra.model import testing as fake
from kastra.testing.clock import VirtualClock

from .recording import Recording, closure, obj, scripted, target


@pytest.fixture
async def provider() -> AsyncIterator[fake.FakeProvider]:
    async with fake.FakeProvider() as provider:
        yield provider


def agent(provider: fake.FakeProvider, **spec: Any) -> Any:
    key = {"secretKeyRef": {"name": "keys", "key": "openai"}}
    made = closure(
        obj(
            "Agent",
            "a",
            {"modelRef": {"name": "big"}, **spec},
            {"spec.modelRef": "Model/default/big", "spec.fallbacks[0].modelRef": "Model/default/small"},
        ),
        obj(
            "Model",
            "big",
            {"name": "gpt-big", "parameters": {"temperature": 0}, "price": {"in": 10.0, "out": 100.0}},
            {"spec.providerRef": "ModelProvider/default/p"},
        ),
        obj("Model", "small", {"name": "gpt-small"}, {"spec.providerRef": "ModelProvider/default/p"}),
        obj("ModelProvider", "p", {"type": "openai", "baseURL": provider.url, "allowPrivate": True, "apiKeyFrom": key}),
    )
    return target(made)


async def test_a_model_object_brings_its_provider_its_key_and_its_price(
    provider: fake.FakeProvider, services: AgentServices
) -> None:
    provider.answer(fake.text("hi"))
    step = Recording()
    assert await runners(services)["agent"].run(step, agent(provider), "go", {}) == "hi"
    (request,) = provider.requests
    assert request.headers["authorization"] == "Bearer sk-canary-default"
    assert (request.json["model"], request.json["temperature"]) == ("gpt-big", 0)
    assert step.journal.values["turn[0]"]["usage"] == {
        "inputTokens": 10,
        "outputTokens": 5,
        "calls": 1,
        "costUSD": 0.0006,
    }
    assert "canary" not in str(step.journal)


async def test_a_fallback_is_asked_when_the_first_fails_within_the_same_effect(
    provider: fake.FakeProvider, services: AgentServices
) -> None:
    provider.answer(fake.status(500), fake.text("from the small one"))
    step = Recording()
    fallbacks = [{"modelRef": {"name": "small"}}, {"provider": "nonsense", "enabled": False}]
    assert (
        await runners(services)["agent"].run(step, agent(provider, fallbacks=fallbacks), "go", {})
        == "from the small one"
    )
    assert [request.json["model"] for request in provider.requests] == ["gpt-big", "gpt-small"]
    assert step.journal.performed == ["turn[0]"]


async def test_without_max_retries_a_429_is_the_steps_to_retry(
    provider: fake.FakeProvider, services: AgentServices
) -> None:
    provider.answer(fake.status(429, retry_after=7))
    with pytest.raises(StepError, match="HTTP 429") as caught:
        await runners(services)["agent"].run(Recording(), agent(provider), "go", {})
    assert (caught.value.type, caught.value.retryable, caught.value.retry_after) == ("rate_limit", True, 7.0)
    assert len(provider.requests) == 1


async def test_max_retries_waits_as_long_as_the_provider_asks(
    provider: fake.FakeProvider, services: AgentServices, clock: VirtualClock
) -> None:
    provider.answer(fake.status(429, retry_after=7), fake.text("now"))
    answers: list[str] = []

    async def ask() -> None:
        answers.append(await runners(services)["agent"].run(Recording(), agent(provider, maxRetries=1), "go", {}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        while clock.next_due() is None:
            await anyio.sleep(0)
        assert clock.next_due() == 7.0
        await clock.advance(6.9)
        assert len(provider.requests) == 1
        await clock.advance(0.1)
    assert (answers, len(provider.requests)) == (["now"], 2)


async def test_a_wait_that_is_too_long_goes_to_the_next_model(
    provider: fake.FakeProvider, services: AgentServices
) -> None:
    provider.answer(fake.status(429, retry_after=600), fake.text("small"))
    spec = {"maxRetries": 3, "fallbacks": [{"modelRef": {"name": "small"}}]}
    assert await runners(services)["agent"].run(Recording(), agent(provider, **spec), "go", {}) == "small"


async def test_when_every_model_fails_all_reasons_are_told(
    provider: fake.FakeProvider, services: AgentServices
) -> None:
    provider.answer(fake.status(500), fake.status(401))
    with pytest.raises(StepError, match=r"gpt-big: HTTP 500.*; then .*gpt-small.*refused the credentials") as caught:
        await runners(services)["agent"].run(
            Recording(), agent(provider, fallbacks=[{"modelRef": {"name": "small"}}]), "go", {}
        )
    assert (caught.value.type, caught.value.retryable) == ("authorization", False)


@pytest.mark.parametrize("arguments", ['{"id": ', "[]", '"x"'])
async def test_unreadable_arguments_go_back_to_the_model(
    arguments: str, provider: fake.FakeProvider, services: AgentServices
) -> None:
    provider.answer(fake.calls("t", arguments), fake.text("sorry"))
    made = agent(provider, tools=[{"name": "t"}])
    made["refs"]["spec.tools[0]"] = "Tool/default/t"
    made["objects"]["Tool/default/t"] = obj("Tool", "t", {"python": {"inline": "def t(id: int): raise SystemExit"}})
    step = Recording()
    assert await runners(services)["agent"].run(step, made, "go", {}) == "sorry"
    assert "not" in provider.requests[1].json["messages"][-1]["content"]
    assert step.journal.performed == ["turn[0]", "turn[1]"]


@pytest.mark.parametrize("answer", [fake.raw(b"{}"), fake.raw(b"\xff"), fake.cut(120), fake.raw(b"x" * 9_000_000)])
async def test_a_malformed_answer_fails_the_turn_and_nothing_of_it_is_kept(
    answer: fake.Scripted, provider: fake.FakeProvider, services: AgentServices
) -> None:
    provider.answer(answer)
    step = Recording()
    with pytest.raises(StepError) as caught:
        await runners(services)["agent"].run(step, agent(provider), "go", {})
    assert (caught.value.type, caught.value.retryable) == ("model", True)
    assert step.journal.values == {}


async def test_an_inline_model_without_its_variable_says_which(services: AgentServices) -> None:
    made = target(closure(obj("Agent", "a", {"model": {"provider": "openai", "name": "gpt-4o"}})))
    with pytest.raises(StepError, match="the variable OPENAI_API_KEY is not set") as caught:
        await runners(services)["agent"].run(Recording(), made, "go", {})
    assert (caught.value.type, caught.value.retryable) == ("authorization", False)


async def test_an_agent_has_a_time_limit_of_its_own(services: AgentServices, clock: VirtualClock) -> None:
    made = closure(
        obj("Agent", "a", {"model": scripted({"call": {"tool": "nap"}}), "tools": [{"name": "nap"}], "timeout": "10s"}, {"spec.tools[0]": "Agent/default/nap"}),
        obj("Agent", "nap", {"model": {"provider": "openai-compatible", "name": "x"}}),
    )  # fmt: skip
    failed: list[StepError] = []

    class Sleeper(Recording):
        async def call(self, key: str, fn: Any, options: Any = None) -> Any:
            await clock.sleep(60)

    async def ask() -> None:
        try:
            await runners(services)["agent"].run(Sleeper(), target(made), "go", {})
        except StepError as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await clock.advance(10)
    assert failed[0].type == "timeout"


async def test_a_tool_step_is_one_effect_whose_key_is_the_steps(services: AgentServices) -> None:
    made = closure(
        obj("Tool", "t", {"python": {"inline": "def t(n: int) -> int:\n    return n + 1"}, "delivery": "AtMostOnce"})
    )
    step = Recording(key="charge")
    assert await runners(services)["tool"].run(step, target(made), {"n": 1}, {"onInDoubt": "fail"}) == 2
    assert step.journal.performed == ["charge"]
    options = step.journal.options["charge"]
    assert (options.at_most_once, options.on_in_doubt) == (True, "fail")
    for wrong, message in (("text", "must be an object"), ({"n": "x"}, "n: 'x' is not of type 'integer'")):
        with pytest.raises(StepError, match=message) as caught:
            await runners(services)["tool"].run(Recording(), target(made), wrong, {})
        assert caught.value.type == "validation"


async def test_a_tool_step_that_needs_an_approval_is_not_called(services: AgentServices) -> None:
    made = closure(obj("Tool", "t", {"python": {"inline": "def t(): raise SystemExit"}, "requireApproval": True}))
    with pytest.raises(StepError, match="needs an approval"):
        await runners(services)["tool"].run(Recording(), target(made), None, {})


async def test_an_agent_in_a_tool_is_called_as_a_step(services: AgentServices) -> None:
    made = closure(
        obj("Tool", "ask", {"agent": {"name": "a"}}, {"spec.agent": "Agent/default/a"}),
        obj("Agent", "a", {"model": scripted({"when": 'input.text == "x"', "reply": "y"})}),
    )
    assert await runners(services)["tool"].run(Recording(), target(made), {"prompt": "x"}, {}) == "y"
    with pytest.raises(StepError, match="none of its 1 rules"):
        await runners(services)["tool"].run(Recording(), target(made), {"prompt": "z"}, {})
