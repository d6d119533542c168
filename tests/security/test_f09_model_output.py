"""F9: whatever a model answers over its wire, an agent ends within its limits with an answer, or an error that names the cause."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest

from kastra.agent.runners import runners
from kastra.agent.services import AgentServices
from kastra.engine.step import StepError
from kastra.model import testing as fake
from kastra.model import testing_streams as said
from kastra.netguard import Guard, Policy
from kastra.testing.clock import VirtualClock
from tests.unit.agent.recording import Recording, closure, obj, target

CANARY = "sk-canary-9d1f"
CALLED: list[Any] = []


def add(a: int, b: int = 0) -> int:
    """Adds."""
    CALLED.append((a, b))
    return a + b


class Secrets:
    async def read(self, value_from: Mapping[str, Any], namespace: str) -> str:
        return CANARY


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLED.clear()


@pytest.fixture
async def provider() -> AsyncIterator[fake.FakeProvider]:
    async with fake.FakeProvider() as provider:
        yield provider


@pytest.fixture
async def services() -> AsyncIterator[AgentServices]:
    async with Guard(Policy()) as guard:
        yield AgentServices(guard, VirtualClock(), Secrets())


async def ask(provider: fake.FakeProvider, services: AgentServices, **spec: Any) -> tuple[Recording, Any]:
    """The journal, and the answer or the error."""
    refs = {"spec.modelRef": "Model/default/m", "spec.tools[0]": "Tool/default/add"}
    body = {"modelRef": {"name": "m"}, "tools": [{"name": "add"}], "maxSteps": 4, **spec}
    key = {"secretKeyRef": {"name": "keys", "key": "k"}}
    made = closure(
        obj("Agent", "a", body, refs),
        obj("Model", "m", {"name": "m"}, {"spec.providerRef": "ModelProvider/default/p"}),
        obj("ModelProvider", "p", {"type": "openai", "baseURL": provider.url, "allowPrivate": True, "apiKeyFrom": key}),
        obj("Tool", "add", {"python": {"entrypoint": f"{__name__}:add"}}),
    )
    step = Recording()
    try:
        return step, await runners(services)["agent"].run(step, target(made), "go", {})
    except StepError as error:
        return step, error


@pytest.mark.parametrize(
    "arguments",
    [
        "{", '{"a": 1', "null", "[1]", '"a"', "1e999", '{"a": 1}}', "{'a': 1}", '{"a": NaN}', "\x00", '{"a": 1, "a": "x"}',
        '{"a": "\\ud800"}', "[" * 500, '{"a": {"a": 1}}', '{"A": 1}', '{"a": true}', '{"a": null}', "a=1", "<a>1</a>",
    ],
)  # fmt: skip
async def test_arguments_that_make_no_sense_go_back_to_the_model_and_nothing_is_called(
    provider: fake.FakeProvider, services: AgentServices, arguments: str
) -> None:
    provider.answer(fake.calls("add", arguments), fake.text("I am sorry"))
    step, answer = await ask(provider, services)
    assert answer == "I am sorry"
    assert CALLED == []
    result = provider.requests[1].json["messages"][-1]
    assert result["role"] == "tool"
    assert "error" in orjson.loads(result["content"])
    assert step.journal.performed[0] == "turn[0]"


@pytest.mark.parametrize("name", ["", "ADD", "add ", "add;rm", "../add", "x" * 10_000, "é"])
async def test_a_tool_that_there_is_not_is_never_called(
    provider: fake.FakeProvider, services: AgentServices, name: str
) -> None:
    provider.answer(fake.calls(name, {"a": 1}), fake.text("done"))
    _, answer = await ask(provider, services)
    assert CALLED == []
    assert answer == "done" or isinstance(answer, StepError)


async def test_a_model_that_calls_without_end_is_stopped_by_max_steps(
    provider: fake.FakeProvider, services: AgentServices
) -> None:
    provider.answer(*(fake.calls("add", {"a": number}) for number in range(20)))
    step, error = await ask(provider, services)
    assert isinstance(error, StepError)
    assert (error.type, error.details) == ("no_progress", {"finishReason": "tool-calls"})
    assert (len(provider.requests), len(CALLED)) == (4, 4)
    assert len(step.journal.performed) == 8


async def test_one_turn_may_ask_for_a_hundred_calls_and_they_are_all_answered(
    provider: fake.FakeProvider, services: AgentServices
) -> None:
    asked = [part for number in range(100) for part in ("add", {"a": number})]
    provider.answer(fake.calls(*asked), fake.text("done"))
    assert (await ask(provider, services))[1] == "done"
    assert len(CALLED) == 100
    answered = [message for message in provider.requests[1].json["messages"] if message["role"] == "tool"]
    assert [orjson.loads(message["content"]) for message in answered] == list(range(100))


@pytest.mark.parametrize(
    "answer",
    [
        fake.raw(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
        fake.raw(b"\xff" * 2000),
        fake.raw(b""),
        fake.raw(b"[]"),
        fake.raw(b'{"choices": []}'),
        fake.raw(b'{"choices": [{"message": null}]}'),
        fake.raw(b"[" * 100_000),
        fake.cut(60),
        fake.cut(0),
    ],
    ids=["utf8-in-text", "utf8", "empty", "list", "no-choices", "null", "deep", "cut-late", "cut-early"],
)
async def test_an_answer_that_is_none_is_an_error_of_the_model_and_holds_no_key(
    provider: fake.FakeProvider, services: AgentServices, answer: fake.Scripted
) -> None:
    provider.answer(answer)
    step, error = await ask(provider, services)
    assert isinstance(error, StepError)
    assert error.type in ("model", "timeout")
    assert error.retryable
    assert CANARY not in f"{error} {error.details} {step.journal}"


async def test_an_answer_of_ten_megabytes_passes_whole_or_is_refused_by_its_size(
    provider: fake.FakeProvider, services: AgentServices
) -> None:
    provider.answer(said.stream(*[said.say("x" * 100_000)] * 100))
    _, answer = await ask(provider, services)
    assert isinstance(answer, StepError) or len(answer) == 10_000_000


async def test_structured_answers_are_put_right_once_and_then_refused(
    provider: fake.FakeProvider, services: AgentServices
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    provider.answer(fake.text('{"n": "one"}'), fake.value({"n": 1}))
    assert (await ask(provider, services, outputSchema=schema))[1] == {"n": 1}
    assert "Answer again, with the corrected JSON only" in str(provider.requests[1].json["messages"][-1])
    provider.answer(fake.text("no"), fake.text("never"))
    _, error = await ask(provider, services, outputSchema=schema)
    assert isinstance(error, StepError)
    assert error.type == "output"


async def test_an_error_that_repeats_the_key_does_not_pass_it_on(
    provider: fake.FakeProvider, services: AgentServices
) -> None:
    provider.answer(fake.status(401, message=f"the key {CANARY} is wrong"))
    step, error = await ask(provider, services)
    assert isinstance(error, StepError)
    assert error.type == "authorization"
    assert CANARY not in f"{error} {error.details} {step.journal}"
