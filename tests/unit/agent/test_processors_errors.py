"""Processors of errors have a failed call made again, where they know how; what is journaled is the answer, or the last error."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from kastra.agent.processors.recovery import ErrorProcessor, error_processor, recovered
from kastra.agent.services import AgentServices
from kastra.engine.step import StepError
from kastra.model.chain import ModelEntry
from kastra.model.interface import Message, ModelError, ModelRequest, ModelResponse, collected
from kastra.testing.clock import VirtualClock

from .recording import Recording
from .test_guards import agent, run, use

CUT = {"error": {"kind": "unavailable", "message": "cut off", "after": 4}, "times": 1}


async def test_a_cut_stream_is_asked_for_again_and_what_was_shown_is_void(services: AgentServices) -> None:
    step = Recording()
    made = agent(CUT, {"reply": "whole"}, processors={"error": [use("stream-error-retry")]})
    assert await run(services, made, "x", step) == "whole"
    kinds = [delta["type"] for _, delta in step.journal.events]
    assert kinds[-2:] == ["restart", "text"]
    assert step.journal.performed == ["turn[0]"]


async def test_without_it_a_cut_stream_fails_as_ever(services: AgentServices) -> None:
    with pytest.raises(StepError, match="cut off"):
        await run(services, agent(CUT, {"reply": "whole"}, guardrails=[use("length-limiter", max=99)]), "x")


@pytest.mark.parametrize(
    ("config", "error", "works"),
    [
        ({}, {"kind": "authorization", "message": "no key"}, False),
        ({"retryAllErrors": True}, {"kind": "authorization", "message": "no key"}, True),
        ({}, {"kind": "rate_limit", "message": "too many", "retryAfter": 3600}, False),
    ],
    ids=["no use", "everything", "too long a pause"],
)
async def test_only_what_may_pass_is_asked_again(services: AgentServices, config: Any, error: Any, works: bool) -> None:
    rules = [{"error": error, "times": 1}, {"reply": "whole"}]
    made = agent(*rules, processors={"error": [use("stream-error-retry", **config)]})
    if works:
        assert await run(services, made, "x") == "whole"
    else:
        with pytest.raises(StepError, match=error["message"]):
            await run(services, made, "x")


async def test_pauses_are_kept_and_the_longer_one_counts(services: AgentServices, clock: VirtualClock) -> None:
    error = {"kind": "rate_limit", "message": "too many", "retryAfter": 7}
    rules = [{"error": error, "times": 1}, {"reply": "whole"}]
    made = agent(*rules, processors={"error": [use("stream-error-retry", delayMs=2000)]})
    said: list[str] = []

    async def ask() -> None:
        said.append(await run(services, made, "x"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await clock.advance(6.9)
        assert said == []
        await clock.advance(0.2)
    assert said == ["whole"]


@pytest.mark.parametrize(("failures", "works"), [(2, True), (3, False)])
async def test_it_is_tried_as_often_as_is_said_and_then_fails(
    services: AgentServices, failures: int, works: bool
) -> None:
    rules = [{"error": {"kind": "unavailable", "message": "down"}, "times": failures}, {"reply": "whole"}]
    made = agent(*rules, processors={"error": [use("stream-error-retry", maxRetries=2)]})
    if works:
        assert await run(services, made, "x") == "whole"
    else:
        with pytest.raises(StepError, match="down"):
            await run(services, made, "x")


class Picky:
    """Refuses what `problem` finds in a request, as a provider would."""

    def __init__(self, problem: Any) -> None:
        self._problem = problem
        self.asked: list[Sequence[Message]] = []

    async def generate(self, request: ModelRequest) -> ModelResponse:
        self.asked.append(request.messages)
        if message := self._problem(request.messages):
            raise ModelError("invalid_request", message)
        return ModelResponse("taken")


async def ask(model: Picky, *messages: Message, processor: str) -> str:
    entries = [ModelEntry("picky", model)]
    request = ModelRequest(list(messages))
    return (await collected(recovered([error_processor(processor, {})], entries, request, VirtualClock(), "s"))).text


USER: Message = {"role": "user", "content": "hi"}


async def test_a_conversation_that_may_not_end_with_the_assistant_is_gone_on_with_by_the_user() -> None:
    def refuses(messages: Any) -> str:
        return "This model does not support assistant message prefill" if messages[-1]["role"] == "assistant" else ""

    model = Picky(refuses)
    assert await ask(model, USER, {"role": "assistant", "content": "So"}, processor="prefill-error-handler") == "taken"
    assert model.asked[-1][-1] == {"role": "user", "content": "continue"}


async def test_ids_of_calls_that_a_provider_refuses_are_written_anew_and_stay_different() -> None:
    def refuses(messages: Any) -> str:
        ids = [call["id"] for message in messages for call in message.get("toolCalls", ())]
        return "messages.1: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'" if "a.1" in ids else ""

    model = Picky(refuses)
    calls: Message = {
        "role": "assistant",
        "toolCalls": [{"id": "a.1", "name": "t", "arguments": {}}, {"id": "a:1", "name": "t", "arguments": {}}],
    }
    results: list[Message] = [
        {"role": "tool", "toolCallId": "a:1", "name": "t", "result": 2},
        {"role": "tool", "toolCallId": "a.1", "name": "t", "result": 1},
    ]
    assert await ask(model, USER, calls, *results, processor="provider-history-compat") == "taken"
    asked = model.asked[-1]
    first, second = [call["id"] for call in asked[1].get("toolCalls", ())]
    assert first != second
    assert [message.get("toolCallId") for message in asked[2:]] == [second, first]


async def test_thoughts_that_a_provider_refuses_are_left_out() -> None:
    def refuses(messages: Any) -> str:
        return "unknown field reasoning_content" if any("reasoning" in message for message in messages) else ""

    model = Picky(refuses)
    thought: Message = {"role": "assistant", "content": "So", "reasoning": [{"text": "hm"}]}
    assert await ask(model, USER, thought, USER, processor="provider-history-compat") == "taken"


async def test_what_would_be_sent_just_as_it_was_is_not_sent_again() -> None:
    model = Picky(lambda messages: "the signature is wrong, and so is the tool call id")
    with pytest.raises(ModelError):
        await ask(model, USER, processor="provider-history-compat")
    assert len(model.asked) == 1


async def test_the_first_processor_that_knows_what_to_do_does_it() -> None:
    model = Picky(lambda messages: "prefill" if messages[-1]["role"] == "assistant" else "")
    processors = [
        ErrorProcessor("provider-history-compat"),
        ErrorProcessor("prefill-error-handler"),
        ErrorProcessor("stream-error-retry", everything=True),
    ]
    said: Message = {"role": "assistant", "content": "So"}
    entries = [ModelEntry("picky", model)]
    await collected(recovered(processors, entries, ModelRequest([USER, said]), VirtualClock(), "s"))
    assert len(model.asked) == 2


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (use("stream-error-retry", maxRetries=99), "config.maxRetries: must be 10 at most"),
        (use("stream-error-retry", delayMs=-1), "config.delayMs: must be a whole number of 0 or more"),
        (use("prefill-error-handler", x=1), "config.x: prefill-error-handler has no such setting; it has: none"),
        (use("length-limiter", max=1), "there is no processor of errors 'length-limiter'"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(services: AgentServices, made: Any, message: str) -> None:
    with pytest.raises(StepError) as refused:
        await run(services, agent(processors={"error": [made]}), "x")
    assert message in refused.value.message
