"""How an agent's loop is steered: context of the request, choice of tools, stop conditions, how many tools at once, streaming."""

from collections.abc import Mapping
from typing import Any

import anyio
import orjson
import pytest

from kastra.agent.calls import ModelEntry
from kastra.agent.loop import Agent, answer
from kastra.agent.request import as_asked, options_of
from kastra.agent.runners import runners
from kastra.agent.services import AgentServices
from kastra.cel import Template, environment
from kastra.engine.step import StepError
from kastra.model.interface import ModelRequest, ModelResponse, ToolCall
from kastra.testing.clock import VirtualClock

from .recording import Recording, closure, obj, scripted, target

BUSY: list[int] = [0, 0]


async def slow(number: int) -> int:
    """Counts how many of it are under way."""
    BUSY[0] += 1
    BUSY[1] = max(BUSY)
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    BUSY[0] -= 1
    return number


@pytest.fixture(autouse=True)
def _fresh() -> None:
    BUSY[:] = [0, 0]


def agent(*rules: Mapping[str, Any], **spec: Any) -> Any:
    body = {
        "instructions": ["You help."],
        "model": scripted(*rules),
        "tools": [{"name": "slow"}],
        "maxSteps": 5,
        **spec,
    }
    tool = obj("Tool", "slow", {"python": {"entrypoint": f"{__name__}:slow"}})
    return closure(obj("Agent", "helper", body, {"spec.tools[0]": "Tool/default/slow"}), tool)


async def run(services: AgentServices, made: Any, value: Any, step: Recording | None = None, **options: Any) -> Any:
    return await runners(services)["agent"].run(step or Recording(), target(made), value, options)


SAYS = {"reply": "${{ messages[0].content }}"}
CALL = {"call": {"tool": "slow", "arguments": {"number": "${{ turn }}"}}}


async def test_instructions_see_the_input_and_the_context_of_the_request(services: AgentServices) -> None:
    made = agent(SAYS, instructions=["You help ${{ context.user.name }}."])
    value = {"messages": ["hi"], "context": {"user": {"name": "Ann"}}}
    assert await run(services, made, value) == "You help Ann."


async def test_without_a_context_it_is_empty(services: AgentServices) -> None:
    made = agent(SAYS, instructions=['You help ${{ has(context.user) ? context.user : "anybody" }}.'])
    assert await run(services, made, "hi") == "You help anybody."


async def test_a_context_that_is_no_object_is_refused(services: AgentServices) -> None:
    with pytest.raises(StepError, match=r"input\.context: must be an object"):
        await run(services, agent(SAYS), {"messages": ["hi"], "context": "Ann"})


async def test_an_answer_ends_when_its_condition_holds(services: AgentServices) -> None:
    step = Recording()
    made = agent(CALL, stopWhen="turns == 2 && called == ['slow', 'slow'] && results == [1]")
    assert await run(services, made, "go", step) == ""
    assert [key for key in step.journal.performed if "tool" not in key] == ["turn[0]", "turn[1]"]


async def test_a_condition_that_fails_is_an_error_and_not_a_loop(services: AgentServices) -> None:
    with pytest.raises(StepError, match="agent helper: stopWhen"):
        await run(services, agent(CALL, stopWhen="results[5] == 1"), "go")


async def test_an_endless_loop_of_calls_ends_after_max_steps(services: AgentServices) -> None:
    step = Recording()
    with pytest.raises(StepError, match="made 5 model calls"):
        await run(services, agent(CALL), "go", step)
    assert len(step.journal.performed) == 10


@pytest.mark.parametrize("most", [1, 3, 50])
async def test_no_more_tools_than_allowed_are_called_at_the_same_time(services: AgentServices, most: int) -> None:
    calls = [{"tool": "slow", "arguments": {"number": number}} for number in range(8)]
    made = agent({"when": "turn == 0", "call": calls}, {"reply": "${{ results }}"}, toolCallConcurrency=most)
    assert orjson.loads(await run(services, made, "go")) == list(range(8))
    assert BUSY[1] == min(most, 8)


class Choices:
    """A model that calls a tool and is done, and notes with which choice of tools it is asked."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def generate(self, request: ModelRequest) -> ModelResponse:
        self.seen.append(request.tool_choice)
        if request.turn:
            return ModelResponse("done")
        call: ToolCall = {"id": "c1", "name": "unheard-of", "arguments": {}}
        return ModelResponse(tool_calls=[call], finish_reason="tool-calls")


@pytest.mark.parametrize(
    ("choice", "seen"),
    [
        ("auto", ["auto", "auto"]),
        ("required", ["required", "auto"]),
        ({"tool": "slow"}, [{"tool": "slow"}, "auto"]),
        ("none", ["none", "none"]),
    ],
    ids=["auto", "required", "named", "none"],
)
async def test_a_forced_choice_holds_for_the_first_turn_or_it_would_never_end(
    clock: VirtualClock, choice: Any, seen: list[Any]
) -> None:
    model = Choices()
    made = Agent("helper", Template.compile("Help.", environment()), [ModelEntry("it", model)], tool_choice=choice)
    assert (await answer(made, Recording(), "go", clock)).text == "done"
    assert model.seen == seen


@pytest.mark.parametrize(("wanted", "seen"), [("none", ["none", "none"]), ("auto", ["auto", "auto"])])
async def test_a_request_chooses_instead_of_its_agent(clock: VirtualClock, wanted: str, seen: list[Any]) -> None:
    model = Choices()
    made = Agent("helper", Template.compile("Help.", environment()), [ModelEntry("it", model)], tool_choice="required")
    found = await answer(as_asked(made, options_of({"toolChoice": wanted, "maxSteps": None})), Recording(), "go", clock)
    assert (found.text, model.seen) == ("done", seen)
    assert as_asked(made, {}) is made
    assert as_asked(made, {"maxSteps": 9}).max_steps == 9


async def test_text_and_arguments_are_published_as_they_arrive(services: AgentServices) -> None:
    step = Recording()
    await run(services, agent({"when": "turn == 0", **CALL}, {"reply": "done"}), "go", step)
    deltas = [dict(data) for kind, data in step.journal.events if kind == "delta"]
    assert [delta["type"] for delta in deltas] == ["tool", "tool", "text"]
    assert "".join(delta.get("arguments", "") for delta in deltas) == '{"number":0}'
    assert deltas[2] == {"type": "text", "text": "done"}


async def test_nothing_is_published_where_a_step_says_so(services: AgentServices) -> None:
    step = Recording()
    assert await run(services, agent({"reply": "done"}), "go", step, stream=False) == "done"
    assert step.journal.events == []


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ({"tool": "unheard-of"}, "there is no tool 'unheard-of'; there are: slow"),
        ({"tool": "slow", "arguments": {"number": "three"}}, "number"),
        ({"tool": "slow", "arguments": {"nummer": 3}}, "num"),
        ({"tool": "x" * 5000}, "there is no tool"),
    ],
    ids=["unknown", "wrong-type", "wrong-name", "very-long"],
)
async def test_a_call_that_makes_no_sense_goes_back_to_the_model_and_nothing_runs(
    services: AgentServices, call: Any, told: str
) -> None:
    made = agent({"when": "turn == 0", "call": call}, {"reply": "${{ results[0].error.title }}"})
    said = await run(services, made, "go")
    assert told in said
    assert len(said) < 400
    assert BUSY == [0, 0]


async def test_ten_megabytes_of_a_message_pass_through_whole(services: AgentServices) -> None:
    made = agent({"reply": "${{ size(messages[1].content) }}"})
    assert await run(services, made, "x" * 10_000_000) in (10_000_000, "10000000")
