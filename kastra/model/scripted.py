"""What does a model that needs no network say? What the rules in its manifest say: the first whose condition holds answers.

    model:
      provider: scripted
      parameters:
        rules:
        - when: 'size(results) == 0 && "recipe-finder" in tools'
          call: {tool: recipe-finder, arguments: {ingredients: '${{ input.ingredients }}'}}
        - when: 'size(results) > 0'
          reply: 'Try ${{ results[0].name }}.'

A rule has at most a `when` and exactly one of `call` (one, or a list), `reply` (text), `object` (structured output) and `error`.
Conditions and data see `input` (what the agent was given; a text as `{text}`), `messages`, `results` (of the tools called
since, in order), `tools` (their names) and `turn` (from 0). If no rule matches, that is an error that shows these values;
nothing is made up. Uses no tokens and no time, unless it is told to:

Parameters:
      chunkSize: 4               # characters of each piece of a streamed answer; all at once if absent
      delay: 20ms                # before the first piece
      chunkDelay: 5ms            # before each further one
      rules:
      - when: 'turn == 0'
        error: {kind: rate_limit, message: 'too many', retryAfter: 2, after: 10}    # fails, after that many characters

A rule may also have `reasoning` (text), `usage` ({inputTokens, outputTokens, ...}) and `times` (how often it may answer in the
life of the model), with which retries and fallbacks can be tried out. Waits are on the process's clock, so that tests pass
them in virtual time.

Source: CEL. Read next: `kastra.cel`, what expressions can do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from kastra.api.durations import parse_duration
from kastra.cel import CelError, Program, Template, environment
from kastra.clock import Clock, SystemClock
from kastra.model.interface import (
    End,
    Message,
    ModelConfig,
    ModelError,
    ModelRequest,
    ModelResponse,
    ModelServices,
    ModelStream,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageUpdate,
    compact,
    text_of,
)

VARIABLES = ("input", "messages", "results", "tools", "turn")
_ACTIONS = ("call", "reply", "object", "error")
_BESIDE = ("when", "reasoning", "usage", "times")
_KINDS = ("rate_limit", "timeout", "unavailable", "malformed", "authorization", "invalid_request", "refused")
_SHOWN = 600
"""Characters of each variable that the error for 'no match' shows."""


@dataclass(frozen=True, slots=True)
class _Rule:
    where: str
    when: Program | None
    action: str
    data: Template
    reasoning: str = ""
    usage: Mapping[str, int] | None = None
    times: int | None = None


@dataclass(frozen=True, slots=True)
class _Pace:
    """How an answer arrives: characters of each piece (0 for all), and seconds before the first and each further one."""

    size: int = 0
    first: float = 0.0
    further: float = 0.0


def create(config: ModelConfig, services: ModelServices) -> "ScriptedModel":
    """The model that `parameters.rules` describe.

    Raises:
        ValueError: there are no rules, or one makes no sense; the message begins with its path.
    """
    return ScriptedModel(
        config.parameters.get("rules"),
        config.name or "scripted",
        pace={key: config.parameters[key] for key in _PACE if key in config.parameters},
        clock=services.clock,
    )


_PACE = ("chunkSize", "delay", "chunkDelay")


class ScriptedModel:
    """Answers by rules.

    Args:
        rules: as in the manifest.
        name: under which it answers.
        path: of the rules, for messages.
        pace: `chunkSize`, `delay` and `chunkDelay`, as in the manifest.
        clock: for these delays.

    Raises:
        ValueError: as for `create`.
    """

    def __init__(
        self,
        rules: Any,
        name: str = "scripted",
        path: str = "model.parameters.rules",
        *,
        pace: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(rules, Sequence) or isinstance(rules, str) or not rules:
            raise ValueError(f"{path}: must be a list of at least one rule")
        self._name = name
        self._rules = [_rule(rule, f"{path}[{index}]") for index, rule in enumerate(rules)]
        self._left: list[int | None] = [rule.times for rule in self._rules]
        self._pace = _pace(pace or {}, path.removesuffix("rules").removesuffix("."))
        self._clock: Clock = clock or SystemClock()

    async def generate(self, request: ModelRequest) -> ModelResponse:
        """What the first matching rule says.

        Raises:
            ModelError: none matches, an expression fails, or the rule says so.
        """
        response, error, _ = self._respond(request)
        await self._wait(self._pace.first)
        if error is not None:
            raise error
        return response

    async def stream(self, request: ModelRequest) -> ModelStream:
        """What the first matching rule says, at the pace that the parameters give.

        Raises:
            ModelError: as `generate` does; an error with `after` comes when so many characters have been given.
        """
        response, error, text = self._respond(request)
        await self._wait(self._pace.first)
        for thought in response.reasoning:
            yield ReasoningDelta(thought.get("text", ""))
        size = self._pace.size or max(1, len(text))
        for at in range(0, len(text), size):
            if at:
                await self._wait(self._pace.further)
            yield TextDelta(text[at : at + size])
        if error is not None:
            raise error
        for number, call in enumerate(response.tool_calls):
            yield ToolCallDelta(number, call["id"], call["name"])
            arguments = compact(call["arguments"])
            size = self._pace.size or len(arguments)
            for at in range(0, len(arguments), size):
                await self._wait(self._pace.further)
                yield ToolCallDelta(number, call["id"], call["name"], arguments[at : at + size])
        yield UsageUpdate(response.usage)
        yield End(response)

    async def _wait(self, seconds: float) -> None:
        if seconds:
            await self._clock.sleep(seconds)

    def _respond(self, request: ModelRequest) -> tuple[ModelResponse, ModelError | None, str]:
        """The response, the error instead of it, and the text that is given before either."""
        variables = _variables(request)
        try:
            number = next((n for n, r in enumerate(self._rules) if self._holds(n, r, variables)), None)
            if number is None:
                raise ModelError("invalid_request", _no_match(len(self._rules), variables))
            rule = self._rules[number]
            left = self._left[number]
            self._left[number] = None if left is None else left - 1
            data = rule.data.evaluate(variables)
        except CelError as error:
            raise ModelError("expression", f"scripted model: {error} (in {error.expression!r})") from None
        usage = cast(Usage, {"calls": 1, **(rule.usage or {})})
        reasoning: list[Reasoning] = [{"text": rule.reasoning}] if rule.reasoning else []
        if rule.action == "error":
            message = f"scripted model: {data.get('message') or data['kind']}"
            failed = ModelError(data["kind"], message, retry_after=_seconds(data.get("retryAfter")))
            return ModelResponse(usage=usage), failed, "." * int(data.get("after") or 0)
        if rule.action == "call":
            calls = _calls(data, rule.where, request.turn)
            response = ModelResponse("", calls, None, usage, "tool-calls", self._name, reasoning)
            return response, None, ""
        text = data if isinstance(data, str) else compact(data)
        value = data if rule.action == "object" else _json(text) if request.output_schema is not None else None
        return ModelResponse(text, (), value, usage, "stop", self._name, reasoning), None, text

    def _holds(self, number: int, rule: _Rule, variables: Mapping[str, Any]) -> bool:
        return self._left[number] != 0 and (rule.when is None or rule.when.test(variables))


def _seconds(value: Any) -> float | None:
    return None if value is None else parse_duration(value)


def _pace(given: Mapping[str, Any], path: str) -> _Pace:
    size = given.get("chunkSize", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"{path}.chunkSize: must be a number of characters")
    delays = []
    for name in ("delay", "chunkDelay"):
        try:
            delays.append(parse_duration(given.get(name, 0)))
        except ValueError as error:
            raise ValueError(f"{path}.{name}: {error}") from None
    return _Pace(size, *delays)


def _rule(rule: Any, path: str) -> _Rule:
    if not isinstance(rule, Mapping):
        raise ValueError(f"{path}: must be an object")
    if unknown := sorted(set(rule) - {*_BESIDE, *_ACTIONS}):
        known = f"{', '.join(_BESIDE)}, and one of {', '.join(_ACTIONS)}"
        raise ValueError(f"{path}.{unknown[0]}: unknown field; a rule has {known}")
    given = [action for action in _ACTIONS if action in rule]
    if len(given) != 1:
        raise ValueError(f"{path}: needs exactly one of {', '.join(_ACTIONS)}")
    env = environment(*VARIABLES)
    try:
        when = env.compile(rule["when"]) if "when" in rule else None
    except CelError as error:
        raise ValueError(f"{path}.when: {error}") from None
    action = given[0]
    if action == "call":
        calls = rule["call"] if isinstance(rule["call"], list) else [rule["call"]]
        for index, call in enumerate(calls):
            place = f"{path}.call[{index}]" if isinstance(rule["call"], list) else f"{path}.call"
            if not isinstance(call, Mapping) or "tool" not in call or set(call) - {"tool", "arguments"}:
                raise ValueError(f"{place}: must be {{tool, arguments}}")
    if action == "error":
        _check_error(rule["error"], f"{path}.error")
    times, usage = rule.get("times"), rule.get("usage")
    if times is not None and (not isinstance(times, int) or isinstance(times, bool) or times < 1):
        raise ValueError(f"{path}.times: must be a number of at least 1")
    counted = set(Usage.__annotations__)
    if usage is not None and (not isinstance(usage, Mapping) or set(usage) - counted):
        raise ValueError(f"{path}.usage: must be an object of {', '.join(sorted(counted))}")
    try:
        data = Template.compile(rule[action], env, f"{path}.{action}")
    except CelError as error:
        raise ValueError(str(error)) from None
    return _Rule(path, when, action, data, str(rule.get("reasoning") or ""), usage, times)


def _check_error(error: Any, path: str) -> None:
    if not isinstance(error, Mapping) or error.get("kind") not in _KINDS:
        raise ValueError(f"{path}: must be {{kind, message, retryAfter, after}} with a kind of {', '.join(_KINDS)}")
    if unknown := sorted(set(error) - {"kind", "message", "retryAfter", "after"}):
        raise ValueError(f"{path}.{unknown[0]}: unknown field; known: kind, message, retryAfter, after")
    try:
        _seconds(error.get("retryAfter"))
    except ValueError as problem:
        raise ValueError(f"{path}.retryAfter: {problem}") from None


def _variables(request: ModelRequest) -> dict[str, Any]:
    since = request.messages[request.first :]
    given = request.input
    if not isinstance(given, Mapping) or "messages" in given:
        asked: Sequence[Message] = [m for m in request.messages[: request.first or None] if m["role"] == "user"]
        given = {"text": given if isinstance(given, str) else text_of(asked[-1]) if asked else ""}
    return {
        "input": given,
        "messages": list(request.messages),
        "results": [message.get("result", message.get("content")) for message in since if message["role"] == "tool"],
        "tools": [tool.name for tool in request.tools],
        "turn": request.turn,
    }


def _calls(data: Any, where: str, turn: int) -> list[ToolCall]:
    calls: list[ToolCall] = []
    for index, call in enumerate(data if isinstance(data, list) else [data]):
        name, arguments = call["tool"], call.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(arguments, Mapping):
            raise ModelError("expression", f"scripted model: {where}.call: tool must be text and arguments an object")
        calls.append({"id": f"call_{turn}_{index}", "name": name, "arguments": dict(arguments)})
    return calls


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _no_match(count: int, variables: Mapping[str, Any]) -> str:
    shown = "; ".join(f"{name} = {compact(variables[name])[:_SHOWN]}" for name in VARIABLES if name != "messages")
    return f"scripted model: none of its {count} rules matches; {shown}; {len(variables['messages'])} messages"
