"""How does an agent answer? Model turn, tool calls, model turn, ... until it replies or has used its steps.

Every turn is one effect at `turn[n]`, every tool call of it one at `turn[n]/tool[j]`; the response is journaled before any
tool that it asks for starts. Which tools may run is decided here, by name, before the first of a turn is called: whatever a
prompt talks the model into, a tool off the list doesn't run, and one that needs an approval waits for it. A tool's failure,
an unknown name or unreadable arguments go back to the model as that call's result.

Has no state between calls and knows no provider. Source: the agent loop as in Mastra (`maxSteps` 5, finish reason
`tool-calls` when they are used up). Read next: `kastra.agent.calls`, the effects; `kastra.agent.assembly`, which makes agents.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from kastra.cel import CelError, Program, Template, environment
from kastra.clock import Clock
from kastra.engine.approvals import waited
from kastra.engine.step import StepContext, StepError
from kastra.model.interface import Message, ModelRequest, ModelResponse, ToolCall, ToolDefinition
from kastra.tool.schema import JsonSchema
from kastra.tool.timeout import within

from .approvals import permitted
from .belonging import belonging
from .calls import ModelEntry, call_model
from .gather import gather
from .messages import assistant, conversation, summed, tool_result
from .processors.asking import asking, feedback
from .processors.guards import Guards
from .processors.interface import Tripwire
from .processors.structuring import Structured, structured
from .terms import NO_TERMS, Terms

if TYPE_CHECKING:
    from .memory import AgentMemory
    from .scorers.scoring import Scoring
    from .skills.offering import Skills

DEFAULT_MAX_STEPS = 5
TOOL_CONCURRENCY = 10
"""Tools of one turn that are called at the same time."""


class CallTool(Protocol):
    """Performs a tool call at a place; gives `{result}` or `{error}`."""

    def __call__(self, step: StepContext, key: str, arguments: Mapping[str, Any]) -> Awaitable[dict[str, Any]]:
        """The outcome. Raises StepError only where the Run can't go on."""
        ...


class StopCondition(Protocol):
    """Whether an answer ends after a turn that called tools."""

    def evaluate(self, bindings: Mapping[str, Any]) -> Any:
        """True if it does, of `turns`, `called`, `text` and `results`. Raises CelError."""
        ...


@dataclass(frozen=True, slots=True)
class BoundTool:
    """A tool as one agent has it.

    Args:
        name: for the model.
        description: what the model chooses by.
        schema: JSON Schema of the arguments.
        call: performs it.
        preset: arguments that are fixed; the model neither sees nor changes them.
        require_approval: whether a person must agree to each call.
        terms: on which they are asked.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    call: CallTool
    preset: Mapping[str, Any] = field(default_factory=dict)
    require_approval: bool = False
    terms: Terms = NO_TERMS

    def definition(self) -> ToolDefinition:
        """As the model is told of it: without the preset arguments."""
        schema = dict(self.schema)
        if self.preset:
            schema["properties"] = {k: v for k, v in schema.get("properties", {}).items() if k not in self.preset}
            schema["required"] = [name for name in schema.get("required", ()) if name not in self.preset]
        return ToolDefinition(self.name, self.description, schema)


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent, ready to answer.

    Args:
        name: of the object, for messages.
        instructions: text, maybe with expressions over `input`.
        models: the first that answers does; the rest are its fallbacks.
        tools: that it may call; no others.
        output: schema of its answer; None for text.
        max_steps: model turns at most.
        timeout: seconds for the whole answer; None for no limit.
        tool_choice: of the first turn: `auto`, `none`, `required`, or `{"tool": name}`. Later turns are free, or it would
            never end; with `none` they aren't.
        tool_concurrency: tools of one turn that are called at the same time.
        stop_when: ends the answer after a turn that called tools; None for never.
        guards: its processors and guardrails; None for none.
        streams: whether those who follow see its answer as it arrives.
        memory: how it remembers; None for what a thread's default is.
        before: puts what is remembered in front of a conversation; None outside of a thread.
        thread: that it goes on with, as tools are told of it; None outside of a thread.
        skills: that its model may read; None for none.
        told: what stands behind its instructions.
        taken: which of the given messages it takes, by number; None for all.
        scoring: looks at its answers; None for nothing.
    """

    name: str
    instructions: Template
    models: Sequence[ModelEntry]
    tools: Sequence[BoundTool] = ()
    output: JsonSchema | None = None
    max_steps: int = DEFAULT_MAX_STEPS
    timeout: float | None = None
    tool_choice: str | Mapping[str, str] = "auto"
    tool_concurrency: int = TOOL_CONCURRENCY
    stop_when: "StopCondition | None" = None
    guards: Guards | None = None
    streams: bool = True
    memory: "AgentMemory | None" = None
    before: Callable[[list[Message]], list[Message]] | None = None
    thread: Mapping[str, Any] | None = None
    skills: "Skills | None" = None
    told: str = ""
    taken: Sequence[int] | None = None
    scoring: "Scoring | None" = None


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What an agent answered.

    Args:
        text: the last turn's text.
        object: the structured answer, where a schema was given.
        messages: what this answer added to the conversation.
        usage: of all turns together.
        finish_reason: `stop`; `tool-calls` if the steps were used up; `other` if a processor ended it; or what the model said.
        turns: model calls made.
        tool_calls: tools called, agents below not counted.
        tripwire: why a processor ended it; None if none did.
        given: what it was given, as it was sent to the model; instructions and what is remembered apart.
        used_fallback: whether `object` is the fallback of `structured-output`.
        scores: of the agent's scorers, `{scorer, path, score}` each.
    """

    text: str
    object: Any
    messages: Sequence[Message]
    usage: Mapping[str, float]
    finish_reason: str
    turns: int
    tool_calls: int
    tripwire: Tripwire | None = None
    given: Sequence[Message] = ()
    used_fallback: bool = False
    scores: Sequence[Mapping[str, Any]] = ()

    def plain(self) -> dict[str, Any]:
        """As the `generate` subresource answers."""
        return {
            **({} if self.tripwire is None else {"tripwire": self.tripwire.plain()}),
            "text": self.text,
            "object": self.object,
            **({"usedFallbackValue": True} if self.used_fallback else {}),
            **({"scores": list(self.scores)} if self.scores else {}),
            "messages": list(self.messages),
            "usage": dict(self.usage),
            "finishReason": self.finish_reason,
            "steps": self.turns,
        }


async def answer(
    agent: Agent, step: StepContext, value: Any, clock: Clock, parameters: Mapping[str, Any] | None = None
) -> AgentResult:
    """The agent's answer to `value` (see `kastra.agent.messages`).

    Raises:
        StepError: no model answered, a tool needs an approval, the answer doesn't satisfy the schema, or it took too long.
    """
    with belonging(agent.thread):
        if agent.timeout is None:
            return await _answer(agent, step, value, clock, parameters or {})
        work = partial(_answer, agent, step, value, clock, parameters or {})
        try:
            return await within(clock, agent.timeout, work, waited(step))
        except TimeoutError:
            raise StepError("timeout", f"agent {agent.name} took longer than {agent.timeout:g}s") from None


async def _answer(
    agent: Agent, step: StepContext, value: Any, clock: Clock, parameters: Mapping[str, Any]
) -> AgentResult:
    instructions, guards = _instructions(agent, value), agent.guards
    messages, given = _begun(agent, instructions, value)
    first = len(messages)
    usage: dict[str, float] = {}
    tools = {tool.name: tool for tool in agent.tools}
    definitions = [tool.definition() for tool in agent.tools]
    called, repaired, turn, looked, refused = 0, False, 0, 0, 0
    models = agent.models
    ask = None if guards is None else asking(guards, instructions, clock, agent.streams)
    names: list[str] = []

    def stopped(trip: Tripwire) -> AgentResult:
        return AgentResult("", None, [], usage, "other", turn, called, trip)

    while True:
        place = step.child(f"turn[{turn}]")
        if guards is not None and guards.injector is not None:
            messages += await guards.injector.reminders(place, messages)
        if guards is not None and looked < len(messages):
            trip, used = await guards.look(place, messages, looked, instructions, clock)
            usage = summed(usage, used)
            if trip is not None:
                return stopped(trip)
        if guards is not None and guards.selection is not None:
            models, used = await guards.selection.answering(turn, step, agent.models, models, messages, clock)
            usage = summed(usage, used)
        sent = list(messages) if guards is None else guards.fitted(messages)
        request = ModelRequest(
            messages=sent,
            tools=definitions if guards is None else guards.offered(definitions, messages, agent.tool_choice),
            tool_choice=agent.tool_choice if turn == 0 or agent.tool_choice == "none" else "auto",
            output_schema=agent.output.schema if agent.output else None,
            parameters=parameters,
            input=value,
            turn=turn,
            first=first - len(messages) + len(sent),
        )
        if guards is not None and (trip := await guards.afford(place, usage, models, request)) is not None:
            return stopped(trip)
        told: dict[str, Any] = {}
        key = f"turn[{turn}]"
        response = await call_model(step, key, models, request, clock, publish=agent.streams, ask=ask, told=told)
        usage = summed(usage, {"calls": 1, **dict[str, Any](response.usage)})
        turn += 1
        if guards is not None:
            response, trip, used = await guards.judge(place.child("answer"), told, response, clock)
            usage = summed(usage, used)
            if trip is not None:
                if not trip.retry or refused >= guards.retries:
                    return stopped(trip)
                # As with a repair: on top of maxSteps, and without the answer that nobody may see.
                refused += 1
                messages.append({"role": "user", "content": feedback(trip)})
                looked = len(messages)
                continue
        messages.append(assistant(response))
        looked = len(messages)
        finish: str = response.finish_reason
        if response.tool_calls:
            permits = await permitted(agent.name, place, tools, response.tool_calls)
            results = await _call(place, tools, response.tool_calls, permits, agent.tool_concurrency)
            messages += results
            called += len(response.tool_calls)
            names += [call["name"] for call in response.tool_calls]
            if agent.stop_when is not None and _stops(agent, turn, names, response.text, results):
                finish = "stop"
            elif turn < agent.max_steps:
                continue
            else:
                finish = "tool-calls"
        elif agent.output is not None and (problems := _problems(agent.output, response)):
            if repaired:
                raise StepError("output", f"agent {agent.name}: the answer doesn't satisfy its schema: {problems}")
            # One turn to put it right, on top of maxSteps: asking again is cheaper than starting anew.
            repaired = True
            asked = f"Your answer doesn't satisfy the schema: {problems}. Answer again, with the corrected JSON only."
            messages.append({"role": "user", "content": asked})
            looked += 1
            continue
        value_ = response.object if agent.output is not None and not response.tool_calls else None
        fell_back = False
        if guards is not None:
            ended = await _ended(guards, agent, step, turn, messages, looked, response, instructions, clock)
            usage = summed(usage, ended.usage)
            if ended.tripwire is not None:
                return stopped(ended.tripwire)
            if ended.made is not None:
                value_, fell_back = ended.made.object, ended.made.used_fallback
        said, asked_for = messages[first:], messages[first - given : first]
        return AgentResult(
            response.text, value_, said, usage, finish, turn, called, given=asked_for, used_fallback=fell_back
        )


@dataclass(frozen=True, slots=True)
class _Ended:
    tripwire: Tripwire | None
    usage: Mapping[str, float]
    made: Structured | None = None


async def _ended(
    guards: Guards,
    agent: Agent,
    step: StepContext,
    turns: int,
    messages: list[Message],
    looked: int,
    response: ModelResponse,
    instructions: str,
    clock: Clock,
) -> _Ended:
    """What processors make of the end: they look at results that no model reads, but whoever asked does, and structure the answer."""
    if looked < len(messages):
        return _Ended(*await guards.look(step.child(f"turn[{turns}]"), messages, looked, instructions, clock))
    if guards.structuring is None or agent.output is not None:
        return _Ended(None, {})
    place, models = step.child(f"turn[{turns - 1}]/answer"), guards.structurers or agent.models
    made = await structured(guards.structuring, models, place, response.text, clock)
    return _Ended(None, made.usage, made)


def stop_condition(text: str) -> Program:
    """An Agent's `stopWhen`, compiled. Raises CelError."""
    return environment("turns", "called", "text", "results").compile(text)


def _stops(agent: Agent, turns: int, called: Sequence[str], text: str, results: Sequence[Message]) -> bool:
    assert agent.stop_when is not None
    seen = {
        "turns": turns,
        "called": list(called),
        "text": text,
        "results": [message.get("result") for message in results],
    }
    try:
        return agent.stop_when.evaluate(seen) is True
    except CelError as error:
        raise StepError("expression", f"agent {agent.name}: stopWhen: {error}", retryable=False) from None


def _begun(agent: Agent, instructions: str, value: Any) -> tuple[list[Message], int]:
    """The conversation before the first turn, and how many of its messages, the last ones, were given."""
    guards = agent.guards
    messages = conversation("\n\n".join(filter(None, (instructions, agent.told))), value)
    first = 1 if instructions or agent.told else 0
    if agent.taken is not None:
        messages = [*messages[:first], *(messages[first + number] for number in agent.taken)]
    if guards is not None:
        messages = guards.unhidden(messages)
    given = len(messages) - first
    if agent.before is not None:
        messages = agent.before(messages)
        messages = messages if guards is None else guards.unhidden(messages)
    return messages, given


def _instructions(agent: Agent, value: Any) -> str:
    try:
        return str(agent.instructions.evaluate({"input": value, "context": context_of(value)}))
    except CelError as error:
        raise StepError("expression", f"agent {agent.name}: {error}", retryable=False) from None


def context_of(value: Any) -> Mapping[str, Any]:
    """What a caller says of the request besides its messages: the `context` of an input `{messages, context}`.

    Raises:
        StepError: it is no object (type `validation`).
    """
    if not isinstance(value, Mapping) or "messages" not in value or value.get("context") is None:
        return {}
    if not isinstance(value["context"], Mapping):
        raise StepError("validation", "input.context: must be an object", retryable=False)
    found: Mapping[str, Any] = value["context"]
    return found


def _problems(schema: JsonSchema, response: ModelResponse) -> str:
    if response.object is None:
        return "it is not JSON"
    return "; ".join(schema.problems(response.object))


async def _call(
    step: StepContext,
    tools: Mapping[str, BoundTool],
    calls: Sequence[ToolCall],
    permits: Mapping[int, Mapping[str, Any] | StepError],
    concurrency: int,
) -> list[Message]:
    async def one(index: int, call: ToolCall) -> Message:
        tool = tools.get(call["name"])
        if tool is None:
            known = ", ".join(sorted(tools)) or "none"
            return tool_result(call, _told("tool", f"there is no tool {call['name'][:100]!r}; there are: {known}"))
        if "invalid" in call:
            return tool_result(call, _told("validation", call["invalid"]))
        arguments: Mapping[str, Any] = {**call["arguments"], **tool.preset}
        if tool.require_approval:
            permit = permits[index]
            if isinstance(permit, StepError):
                return tool_result(call, _told(permit.type, permit.message))
            arguments = {**permit, **tool.preset}
        outcome = await tool.call(step, f"tool[{index}]", arguments)
        return tool_result(call, outcome["result"] if "result" in outcome else {"error": outcome["error"]})

    def bound(index: int, call: ToolCall) -> Callable[[], Awaitable[Message]]:
        return lambda: one(index, call)

    return await gather([bound(index, call) for index, call in enumerate(calls)], concurrency)


def _told(type_: str, title: str) -> dict[str, Any]:
    return {"error": {"type": type_, "title": title}}


def quiet(agent: Agent) -> Agent:
    """The agent, whose answers nobody sees before they are whole (`stream: false`)."""
    return replace(agent, streams=False)


def with_output(agent: Agent, schema: Mapping[str, Any] | None) -> Agent:
    """The agent, answering by `schema` if there is one.

    Raises:
        StepError: it is no schema (type `validation`).
    """
    if schema is None:
        return agent
    try:
        return replace(agent, output=JsonSchema(schema, "output.schema"))
    except ValueError as error:
        raise StepError("validation", str(error), retryable=False) from None
