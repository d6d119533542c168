"""The scripted model streams at the pace that its manifest gives, in virtual time, and fails where it is told to."""

from typing import Any

import anyio
import pytest

from kastra.model.check import model_findings
from kastra.model.interface import (
    ModelChunk,
    ModelConfig,
    ModelError,
    ModelRequest,
    ModelServices,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    collected,
    stream,
)
from kastra.model.providers import create
from kastra.netguard import Guard, Policy
from kastra.testing import VirtualClock

ASK = ModelRequest([{"role": "user", "content": "Hi"}])


def model(clock: VirtualClock, *rules: dict[str, Any], **parameters: Any) -> Any:
    config = ModelConfig("scripted", parameters={"rules": list(rules), **parameters})
    return create(config, ModelServices(Guard(Policy()), clock))


async def test_pieces_come_in_the_size_and_at_the_times_asked_for() -> None:
    clock = VirtualClock()
    seen: list[tuple[float, str]] = []

    def watch(chunk: ModelChunk) -> None:
        if isinstance(chunk, TextDelta):
            seen.append((clock.monotonic(), chunk.text))

    paced = model(clock, {"reply": "abcdefgh"}, chunkSize=3, delay="2s", chunkDelay="500ms")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collected, stream(paced, ASK), watch)
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        await clock.advance(10)
    assert seen == [(2.0, "abc"), (2.5, "def"), (3.0, "gh")]


async def test_reasoning_usage_and_tool_calls_are_streamed_too() -> None:
    clock = VirtualClock()
    rule = {"call": {"tool": "t", "arguments": {"id": 7}}, "reasoning": "hm", "usage": {"inputTokens": 3}}
    seen: list[ModelChunk] = []
    response = await collected(stream(model(clock, rule, chunkSize=2), ASK), seen.append)
    assert isinstance(seen[0], ReasoningDelta)
    assert "".join(chunk.arguments for chunk in seen if isinstance(chunk, ToolCallDelta)) == '{"id":7}'
    assert response.usage == {"calls": 1, "inputTokens": 3}
    assert response.reasoning == [{"text": "hm"}]


async def test_an_error_comes_after_as_much_text_as_it_says() -> None:
    failing = model(
        VirtualClock(),
        {"error": {"kind": "rate_limit", "message": "slow down", "retryAfter": "2s", "after": 5}},
        chunkSize=2,
    )
    seen: list[ModelChunk] = []
    with pytest.raises(ModelError, match="slow down") as caught:
        await collected(stream(failing, ASK), seen.append)
    assert sum(len(chunk.text) for chunk in seen if isinstance(chunk, TextDelta)) == 5
    assert (caught.value.kind, caught.value.retry_after) == ("rate_limit", 2.0)


async def test_a_rule_answers_as_often_as_it_may() -> None:
    twice = model(VirtualClock(), {"reply": "a", "times": 2}, {"reply": "b"})
    assert [(await twice.generate(ASK)).text for _ in range(4)] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"rules": [{"error": {"kind": "sulking"}}]}, "model.parameters.rules[0].error"),
        ({"rules": [{"error": {"kind": "timeout", "later": 1}}]}, "model.parameters.rules[0].error.later"),
        (
            {"rules": [{"error": {"kind": "timeout", "retryAfter": "soon"}}]},
            "model.parameters.rules[0].error.retryAfter",
        ),
        ({"rules": [{"reply": "a", "times": 0}]}, "model.parameters.rules[0].times"),
        ({"rules": [{"reply": "a", "usage": {"tokens": 1}}]}, "model.parameters.rules[0].usage"),
        ({"rules": [{"reply": "a"}], "chunkSize": -1}, "model.parameters.chunkSize"),
        ({"rules": [{"reply": "a"}], "delay": "soon"}, "model.parameters.delay"),
    ],
)
def test_what_makes_no_sense_is_found_when_it_is_applied(parameters: dict[str, Any], path: str) -> None:
    [finding] = model_findings("scripted", "", parameters, "model")
    assert finding.field == path
