"""How does one agent lead a network? Its members are its tools; what they give are the results; when it answers, it is done.

One conversation goes through all turns of the network: each call of a member is a turn, several calls of one answer are taken
one after the other, and what a rule had done in between is told as a message. The conversation is made anew from the journal,
so it needs no record of its own. A call that is none (a member that isn't there any more, arguments that break the schema) goes
back to the model as that call's result, as often as an invalid choice may.

Source: the supervisor form of multi-agent systems. Read next: `kastra.agent.network`, whose limits hold here, too.
"""

from collections.abc import Mapping
from typing import Any

from kastra.clock import Clock
from kastra.engine.step import StepContext
from kastra.model.interface import Message, ModelRequest, ToolCall, ToolDefinition, compact, text_of
from kastra.tool.schema import JsonSchema

from .calls import call_model
from .messages import assistant, conversation, summed, tool_result
from .router import FINISH, Choice, ModelRouter, Situation, shorten, text
from .routing_calls import patiently
from .state import NetworkState

_STATE = "state.set"
_PROMPT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "description": "What it shall do, in full."}},
    "required": ["prompt"],
    "additionalProperties": False,
}
_SHOWN = 16_000
"""Characters of one outcome that the supervisor reads."""


class Supervisor:
    """The supervisor of one run of a network.

    Args:
        router: its model, instructions and patience.
        output: schema of the final answer; None for text.
    """

    def __init__(self, router: ModelRouter, output: JsonSchema | None) -> None:
        self._router = router
        self._output = output
        self._messages: list[Message] = []
        self._first = 0
        self._pending: list[ToolCall] = []
        self._open: ToolCall | None = None
        self._heard = 0
        self._changes = 0

    async def choose(
        self, step: StepContext, situation: Situation, state: NetworkState, turn: int, clock: Clock
    ) -> tuple[Choice | None, dict[str, float], str]:
        """As `ModelRouter.choose`: the member that is called next, or FINISH with the answer.

        Raises:
            StepError: the model can't be asked.
        """
        if not self._messages:
            self._begin(situation, state)
        self._hear(situation)
        usage, problem, asked = dict[str, float](), "", 0
        while True:
            while self._pending:
                call = self._pending.pop(0)
                if call["name"] == _STATE and state.spec.keys() and "invalid" not in call:
                    self._changes += 1
                    key = f"state[{self._changes}]"
                    outcome = await state.update(step, key, call["arguments"], kind="tool")
                    self._messages.append(tool_result(call, outcome.get("result", outcome)))
                    continue
                try:
                    choice = _choice(call, situation)
                except ValueError as error:
                    problem = str(error)
                    self._messages.append(
                        tool_result(call, {"error": {"type": "validation", "title": f"no valid call: {problem}"}})
                    )
                    continue
                self._open = call
                return choice, usage, ""
            if asked > self._router.retries:
                return None, usage, problem or "it only changed the shared state"
            key = "route" if asked == 0 else f"route[{asked}]"
            request = self._request(situation, state, turn)
            ask = patiently(self._router.patience, clock)
            response = await call_model(step, key, self._router.models, request, clock, ask=ask)
            usage = summed(usage, {"calls": 1, **dict[str, Any](response.usage)})
            asked += 1
            self._messages.append(assistant(response))
            if not response.tool_calls:
                if self._output is None:
                    return Choice(FINISH, final_answer=response.text, reason="the supervisor answered"), usage, ""
                problems = self._output.problems(response.object) if response.object is not None else ["it is not JSON"]
                if not problems:
                    return Choice(FINISH, final_answer=response.object, reason="the supervisor answered"), usage, ""
                problem = f"the answer doesn't satisfy its schema: {'; '.join(problems)}"
                said = (
                    f"Your answer doesn't satisfy the schema: {'; '.join(problems)}. Answer again, with the JSON only."
                )
                self._messages.append({"role": "user", "content": said})
            self._pending = list(response.tool_calls)

    def _begin(self, situation: Situation, state: NetworkState) -> None:
        told = [
            (
                "You lead a team. Its members are your tools: call the one that is to act next, with all it needs to know, "
                "since it may not see this conversation. When the request is answered, answer without calling a tool."
            ),
            self._router.instructions,
            situation.earlier,
            f"Shared state: {compact(state.values)}" if state.spec.keys() else "",
        ]
        asked = conversation("", situation.value)
        request = "\n\n".join(text_of(message) for message in asked if message["role"] == "user")
        self._messages = [
            {"role": "system", "content": "\n\n".join(part for part in told if part)},
            {"role": "user", "content": request or "(no request)"},
        ]
        self._first = len(self._messages)

    def _hear(self, situation: Situation) -> None:
        """Take in what came of the turns since."""
        for turn in situation.turns[self._heard :]:
            outcome: Any = {"error": dict(turn.error)} if turn.error else turn.output
            if self._open is not None and self._open["name"] == turn.next:
                if isinstance(outcome, str):
                    outcome = shorten(outcome, _SHOWN)
                self._messages.append(tool_result(self._open, outcome))
                self._open = None
            else:
                said = f"{turn.next} was asked by a rule, and gave: {shorten(text(outcome), _SHOWN)}"
                self._messages.append({"role": "user", "content": said})
        self._heard = len(situation.turns)

    def _request(self, situation: Situation, state: NetworkState, turn: int) -> ModelRequest:
        tools = [
            ToolDefinition(name, described, situation.inputs[name].schema if name in situation.inputs else _PROMPT)
            for name, described in situation.members.items()
        ]
        if state.spec.keys():
            schema = {"type": "object", "properties": state.spec.properties(), "additionalProperties": False}
            tools.append(ToolDefinition(_STATE, "Changes values that all members share.", schema))
        return ModelRequest(
            messages=list(self._messages),
            tools=tools,
            output_schema=self._output.schema if self._output else None,
            input=situation.value,
            turn=turn,
            first=self._first,
        )


def _choice(call: ToolCall, situation: Situation) -> Choice:
    name = call["name"]
    if name not in situation.members:
        raise ValueError(f"{name[:100]!r} can't be called; there are: {', '.join(situation.members) or 'none'}")
    if "invalid" in call:
        raise ValueError(call["invalid"])
    given = call["arguments"]
    if name in situation.inputs:
        if problems := situation.inputs[name].problems(given):
            raise ValueError(f"arguments of {name}: {'; '.join(problems)}")
        return Choice(name, task=compact(given), input=given)
    prompt = given.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"arguments of {name}: prompt must be a text")
    return Choice(name, task=prompt)
