"""An answer that a processor blocks can be asked for again; all parts of an answer are looked at, and the results of a last turn."""

from typing import Any

import pytest

from kastra.agent.assembly import Assembly
from kastra.agent.runners import generate
from kastra.agent.services import AgentServices
from kastra.engine.direct import DirectContext
from kastra.engine.step import StepError

from .recording import Recording, scripted
from .test_guards import CANARY, agent, everything, run, use

KEY = "AKIAIOSFODNN7EXAMPLE"


async def test_a_blocked_answer_is_asked_for_again_with_the_reason(services: AgentServices) -> None:
    rules = [
        {"when": "turn == 0", "reply": f"Write to {CANARY}"},
        {"reply": "${{ messages[size(messages) - 1].content }}"},
    ]
    made = agent(*rules, guardrails=[use("pii-detector", retry=True)])
    step = Recording()
    said = await run(services, made, "who?", step)
    assert "not accepted: pii-detector found email in the answer" in said
    assert step.journal.performed == ["turn[0]", "turn[1]"]
    assert step.journal.values["turn[0]"]["guard"]["tripwire"]["retry"] is True
    assert CANARY not in everything(step.journal)
    # A recovered Run asks nothing again and comes to the same end.
    again = Recording(step.journal.survivor())
    assert await run(services, made, "who?", again) == said
    assert again.journal.performed == []


@pytest.mark.parametrize(("retries", "calls"), [(None, 2), (0, 1), (3, 4)])
async def test_it_is_asked_for_as_often_as_the_agent_says(
    services: AgentServices, retries: int | None, calls: int
) -> None:
    spec = {} if retries is None else {"maxProcessorRetries": retries}
    made = agent({"reply": CANARY}, guardrails=[use("pii-detector", retry=True)], **spec)
    step = Recording()
    with pytest.raises(StepError, match="found email in the answer"):
        await run(services, made, "who?", step)
    assert len(step.journal.performed) == calls


async def test_an_answer_that_a_model_judges_is_asked_for_again_too(services: AgentServices) -> None:
    judge = scripted(
        {"when": 'messages[1].content.contains("rude")', "object": {"flagged": True}}, {"object": {"flagged": False}}
    )
    rules = [{"when": "turn == 0", "reply": "so rude"}, {"reply": "so kind"}]
    made = agent(*rules, guardrails=[use("moderation", model=judge, phase="output", retry=True)])
    assert await run(services, made, "hello") == "so kind"


async def test_without_retry_a_blocked_answer_ends_the_call(services: AgentServices) -> None:
    step = Recording()
    with pytest.raises(StepError, match="email"):
        await run(services, agent({"reply": CANARY}, guardrails=[use("pii-detector")]), "who?", step)
    assert step.journal.performed == ["turn[0]"]


async def test_a_secret_in_the_arguments_of_a_call_stops_it_before_anything_is_called(services: AgentServices) -> None:
    send = "def send(text: str) -> str:\n    raise SystemError('this must not run')"
    made = agent(
        {"call": {"tool": "send", "arguments": {"text": f"the key is {KEY}"}}},
        tools=[("send", send)],
        guardrails=[use("regex-filter", presets=["secrets"])],
    )
    step = Recording()
    with pytest.raises(StepError, match="aws-key in the answer"):
        await run(services, made, "send it", step)
    assert step.journal.performed == ["turn[0]"]
    assert KEY not in everything(step.journal)


@pytest.mark.parametrize(("parts", "sent"), [(None, CANARY), (["text", "arguments"], "[EMAIL]")])
async def test_arguments_are_changed_only_where_that_is_asked_for(
    services: AgentServices, parts: Any, sent: str
) -> None:
    send = "def send(to: str) -> str:\n    return 'to ' + to"
    rules = [
        {"when": "size(results) == 0", "call": {"tool": "send", "arguments": {"to": CANARY}}},
        {"reply": "${{ results[0] == 'to ' + input.text ? 'as asked' : 'changed' }}"},
    ]
    config = {} if parts is None else {"parts": parts}
    made = agent(*rules, tools=[("send", send)], processors={"output": [use("pii-detector", **config)]})
    assert await run(services, made, sent) == "as asked"


async def test_thoughts_are_redacted_and_lose_the_signature_of_what_they_were(services: AgentServices) -> None:
    step = Recording()
    made = agent({"reply": "Hm.", "reasoning": f"I know {CANARY}"}, processors={"output": [use("pii-detector")]})
    await run(services, made, "who?", step)
    assert step.journal.values["turn[0]"]["reasoning"] == [{"text": "I know [EMAIL]"}]
    assert CANARY not in everything(step.journal)


async def test_results_of_a_last_turn_are_looked_at_although_no_model_reads_them(services: AgentServices) -> None:
    code = f"def who() -> str:\n    return 'ask {CANARY}'"
    calls = {"call": {"tool": "who"}}
    spec: dict[str, Any] = {"tools": [("who", code)], "stopWhen": "turns == 1"}
    answer = await generate(
        Assembly(services),
        agent(calls, processors={"input": [use("pii-detector")]}, **spec),
        "who?",
        DirectContext(),
    )
    assert answer["messages"][-1]["result"] == "ask [EMAIL]"
    with pytest.raises(StepError, match="found email in the result of a tool"):
        await run(services, agent(calls, guardrails=[use("pii-detector")], **spec), "who?")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"retry": "yes"}, "config.retry: must be true or false"),
        ({"retry": True, "strategy": "redact"}, "config.retry: asks again for an answer that is blocked"),
        ({"parts": ["thoughts"]}, "config.parts: must be a list of text, reasoning, arguments"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(services: AgentServices, config: Any, message: str) -> None:
    with pytest.raises(StepError) as refused:
        await run(services, agent(processors={"output": [use("pii-detector", **config)]}), "x")
    assert message in refused.value.message
