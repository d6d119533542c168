"""What does a model that needs no network say? What the rules in its manifest say: the first whose condition holds answers.

    model:
      provider: scripted
      parameters:
        rules:
        - when: 'size(results) == 0 && "recipe-finder" in tools'
          call: {tool: recipe-finder, arguments: {ingredients: '${{ input.ingredients }}'}}
        - when: 'size(results) > 0'
          reply: 'Try ${{ results[0].name }}.'

A rule has at most a `when` and exactly one of `call` (one, or a list), `reply` (text) and `object` (structured output).
Conditions and data see `input` (what the agent was given; a text as `{text}`), `messages`, `results` (of the tools called
since, in order), `tools` (their names) and `turn` (from 0). If no rule matches, that is an error that shows these values;
nothing is made up. Uses no tokens and no time.

Source: CEL. Read next: `kastra.cel`, what expressions can do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kastra.cel import CelError, Program, Template, environment
from kastra.model.interface import (
    Message,
    ModelConfig,
    ModelError,
    ModelRequest,
    ModelResponse,
    ModelServices,
    ToolCall,
    Usage,
    compact,
    text_of,
)

VARIABLES = ("input", "messages", "results", "tools", "turn")
_ACTIONS = ("call", "reply", "object")
_SHOWN = 600
"""Characters of each variable that the error for 'no match' shows."""


@dataclass(frozen=True, slots=True)
class _Rule:
    where: str
    when: Program | None
    action: str
    data: Template


def create(config: ModelConfig, services: ModelServices) -> "ScriptedModel":
    """The model that `parameters.rules` describe.

    Raises:
        ValueError: there are no rules, or one makes no sense; the message begins with its path.
    """
    return ScriptedModel(config.parameters.get("rules"), config.name or "scripted")


class ScriptedModel:
    """Answers by rules.

    Args:
        rules: as in the manifest.
        name: under which it answers.
        path: of the rules, for messages.

    Raises:
        ValueError: as for `create`.
    """

    def __init__(self, rules: Any, name: str = "scripted", path: str = "model.parameters.rules") -> None:
        if not isinstance(rules, Sequence) or isinstance(rules, str) or not rules:
            raise ValueError(f"{path}: must be a list of at least one rule")
        self._name = name
        self._rules = [_rule(rule, f"{path}[{index}]") for index, rule in enumerate(rules)]

    async def generate(self, request: ModelRequest) -> ModelResponse:
        """What the first matching rule says.

        Raises:
            ModelError: none matches, or an expression fails.
        """
        variables = _variables(request)
        try:
            rule = next((r for r in self._rules if r.when is None or r.when.test(variables)), None)
            if rule is None:
                raise ModelError("invalid_request", _no_match(len(self._rules), variables))
            data = rule.data.evaluate(variables)
        except CelError as error:
            raise ModelError("expression", f"scripted model: {error} (in {error.expression!r})") from None
        if rule.action == "call":
            calls = _calls(data, rule.where, request.turn)
            return ModelResponse(tool_calls=calls, usage=Usage(calls=1), finish_reason="tool-calls", model=self._name)
        text = data if isinstance(data, str) else compact(data)
        value = data if rule.action == "object" else _json(text) if request.output_schema is not None else None
        return ModelResponse(text=text, object=value, usage=Usage(calls=1), model=self._name)


def _rule(rule: Any, path: str) -> _Rule:
    if not isinstance(rule, Mapping):
        raise ValueError(f"{path}: must be an object")
    if unknown := sorted(set(rule) - {"when", *_ACTIONS}):
        raise ValueError(f"{path}.{unknown[0]}: unknown field; a rule has when, and one of {', '.join(_ACTIONS)}")
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
    try:
        data = Template.compile(rule[action], env, f"{path}.{action}")
    except CelError as error:
        raise ValueError(str(error)) from None
    return _Rule(path, when, action, data)


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
