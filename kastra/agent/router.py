"""Which member of a network acts next? Rules first, then a model that must pick from a list, then a fallback.

The model answers by a schema whose `next` is an enumeration of the live members and `FINISH`: a member that has used up
its calls or failed twice isn't in it. Its prompt holds the ledger: who ran, with what task, what came of it, what is left.
An answer that isn't a choice is refused with the reason and asked for again; after that the fallback decides. Never runs a
member.

Source: the supervisor-with-structured-output form of routing agents. Read next: `kastra.agent.network`, the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kastra.cel import CelError, Program
from kastra.clock import Clock
from kastra.engine.step import StepContext, StepError
from kastra.model.interface import Message, ModelRequest, compact, text_of
from kastra.tool.schema import JsonSchema

from .calls import ModelEntry, call_model
from .messages import assistant, conversation, summed
from .routing_calls import AT_ONCE, Patience, patiently
from .state import NetworkState

FINISH = "FINISH"
ENDS = frozenset({FINISH, "END"})
_SHOWN = 1500
"""Characters of an outcome that the ledger shows."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that was taken; `error` is a problem object if the member failed."""

    next: str
    task: str
    output: Any = None
    error: Mapping[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        """As expressions see it."""
        return {"next": self.next, "task": self.task, "output": self.output, "error": self.error}


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do next.

    Args:
        next: a member's name, or FINISH.
        task: what it is asked to do; empty to hand on the network's own input.
        input: arguments for it, where a text doesn't do.
        reason: why, for people.
        updates: changes of the state.
        final_answer: with FINISH, the network's output.
        by: `rule`, `model`, `order` or `fallback`.
    """

    next: str
    task: str = ""
    input: Any = None
    reason: str = ""
    updates: Mapping[str, Any] = field(default_factory=dict)
    final_answer: Any = None
    by: str = "model"


@dataclass(frozen=True, slots=True)
class Rule:
    """A choice without a model."""

    when: Program
    next: str


def by_rules(rules: Sequence[Rule], variables: Mapping[str, Any]) -> Choice | None:
    """The choice of the first rule that holds.

    Raises:
        StepError: a condition failed (type `expression`).
    """
    for index, rule in enumerate(rules):
        try:
            holds = rule.when.test(variables)
        except CelError as error:
            raise StepError("expression", f"spec.router.rules[{index}].when: {error}", retryable=False) from None
        if holds:
            return Choice(FINISH if rule.next in ENDS else rule.next, reason=rule.when.text, by="rule")
    return None


@dataclass(frozen=True, slots=True)
class Situation:
    """What a routing model is shown.

    Args:
        value: the network's input.
        turns: taken so far.
        members: the live ones, with their descriptions.
        left: turns that are left, this one included.
        earlier: what was said before this request; empty for nothing.
        inputs: schemas of what members take, by name; none for those that take a text.
    """

    value: Any
    turns: Sequence[Turn]
    members: Mapping[str, str]
    left: int
    earlier: str = ""
    inputs: Mapping[str, JsonSchema] = field(default_factory=dict)

    def ledger(self) -> str:
        """The turns as text."""
        lines = []
        for index, turn in enumerate(self.turns):
            outcome = f"failed: {turn.error.get('title', '')}" if turn.error else text(turn.output)
            lines.append(
                f"{index + 1}. {turn.next}: {turn.task or '(the request itself)'}\n   -> {shorten(outcome, _SHOWN)}"
            )
        return "\n".join(lines) or "(nobody yet)"


@dataclass(frozen=True, slots=True)
class ModelRouter:
    """Asks a model.

    Args:
        models: the routing model and its fallbacks.
        instructions: of the network and of its router.
        retries: times it is asked again after an answer that isn't a choice.
        patience: how long, and how often after failures.
        final: schema of the final answer; None for anything.
    """

    models: Sequence[ModelEntry]
    instructions: str
    retries: int = 2
    patience: Patience = AT_ONCE
    final: JsonSchema | None = None

    async def choose(
        self, step: StepContext, situation: Situation, state: NetworkState, turn: int, clock: Clock
    ) -> tuple[Choice | None, dict[str, float], str]:
        """The model's choice, or None if it makes none; what asking used; why there is none.

        Raises:
            StepError: the model can't be asked.
        """
        messages = self.messages(situation, state)
        first, usage, problem = len(messages), dict[str, float](), ""
        for attempt in range(self.retries + 1):
            request = ModelRequest(
                messages=list(messages),
                output_schema=choice_schema(situation.members, state, self.final),
                input=situation.value,
                turn=turn,
                first=first,
            )
            key = "route" if attempt == 0 else f"route[{attempt}]"
            ask = patiently(self.patience, clock)
            response = await call_model(step, key, self.models, request, clock, ask=ask)
            usage = summed(usage, {"calls": 1, **dict[str, Any](response.usage)})
            try:
                return _choice(response.object, situation, state, self.final), usage, ""
            except ValueError as error:
                problem = str(error)
            messages.append(assistant(response))
            messages.append({"role": "user", "content": f"That is no valid choice: {problem}. Answer again."})
        return None, usage, problem

    def messages(self, situation: Situation, state: NetworkState) -> list[Message]:
        """The routing prompt."""
        members = "\n".join(
            f"- {name}: {described}" + _input_of(name, situation) for name, described in situation.members.items()
        )
        parts = [
            "You direct a team. Decide who acts next, or that the work is done.",
            self.instructions,
            situation.earlier,
            f"Members:\n{members}",
            f"So far:\n{situation.ledger()}",
            f"Turns left: {situation.left}.",
        ]
        if state.spec.keys():
            parts.append(f"Shared state: {compact(state.values)}")
        parts.append(
            f"Answer with JSON: next is a member's name, or {FINISH} when the request is answered; task says in full what "
            "that member shall do, since it may not see this conversation; with FINISH give finalAnswer."
        )
        asked = conversation("", situation.value)
        request = "\n\n".join(text_of(message) for message in asked if message["role"] == "user")
        return [
            {"role": "system", "content": "\n\n".join(part for part in parts if part)},
            {"role": "user", "content": request or "(no request)"},
        ]


def _input_of(name: str, situation: Situation) -> str:
    schema = situation.inputs.get(name)
    return "" if schema is None else f" (needs input by this schema: {shorten(compact(schema.schema), _SHOWN)})"


def choice_schema(members: Mapping[str, str], state: NetworkState, final: JsonSchema | None = None) -> dict[str, Any]:
    """JSON Schema of a routing model's answer."""
    properties: dict[str, Any] = {
        "next": {"type": "string", "enum": [*members, FINISH]},
        "task": {"type": "string"},
        "input": {"type": ["object", "null"]},
        "reason": {"type": "string"},
        "finalAnswer": {} if final is None else {"anyOf": [final.schema, {"type": "null"}]},
    }
    if state.spec.keys():
        properties["stateUpdates"] = {"type": ["object", "null"], "properties": state.spec.properties()}
    return {"type": "object", "properties": properties, "required": ["next", "reason"]}


def _choice(answer: Any, situation: Situation, state: NetworkState, final: JsonSchema | None) -> Choice:
    members = situation.members
    if not isinstance(answer, Mapping):
        raise ValueError("it is not a JSON object")
    following = answer.get("next")
    if following in ENDS:
        following = FINISH
    if following != FINISH and following not in members:
        raise ValueError(f"next is {compact(following)[:100]}, and must be one of {', '.join([*members, FINISH])}")
    task, given, updates = answer.get("task") or "", answer.get("input"), answer.get("stateUpdates") or {}
    if not isinstance(task, str):
        raise ValueError("task must be text")
    if given is not None and not isinstance(given, Mapping):
        raise ValueError("input must be an object")
    if not isinstance(updates, Mapping):
        raise ValueError("stateUpdates must be an object")
    schema = situation.inputs.get(str(following))
    if schema is not None and (problems := schema.problems(situation.value if given is None else given)):
        raise ValueError(f"input of {following}: {'; '.join(problems)}")
    if following == FINISH and final is not None and (problems := final.problems(answer.get("finalAnswer"))):
        raise ValueError(f"finalAnswer: {'; '.join(problems)}")
    state.changed(updates)
    reason = answer.get("reason")
    return Choice(
        str(following), task, given, reason if isinstance(reason, str) else "", updates, answer.get("finalAnswer")
    )


def text(value: Any) -> str:
    """A member's output as text."""
    return value if isinstance(value, str) else compact(value)


def shorten(value: str, limit: int) -> str:
    """`value`, cut with a note of what is missing."""
    return value if len(value) <= limit else f"{value[:limit]} ... ({len(value) - limit} more characters)"
