"""How are an agent's processors applied? To what it is given, to what its tools give, and to what its model answers.

An answer is looked at within the effect of its model call, so what is journaled, and what anybody is told, is the answer
after redaction. What was found in the input or in a tool's result is journaled as a decision of its own, so that a recovered
Run ends as the one before would have. A model that judges is an effect of its own, and if it can't be asked, the call fails:
a guard that isn't there lets nothing through.

Read next: `kastra.agent.loop`, which calls this; `kastra.agent.processors.asking`, the model call itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from kastra.agent.calls import call_model
from kastra.agent.reservation import estimate
from kastra.clock import Clock
from kastra.engine.step import StepContext, StepError
from kastra.model.chain import ModelEntry
from kastra.model.interface import Message, ModelRequest, ModelResponse, Reasoning, ToolCall, ToolDefinition, compact

from .agents_md import Injector
from .caching import Cache
from .cost import CostLimit
from .interface import Found, Processor, Tripwire
from .judging import REMOVED, Judge, Verdict
from .memory_filter import MemoryFilter
from .patterns import readable
from .recovery import ErrorProcessor
from .searching import Searching
from .selection import Selection
from .showing import Batching
from .skill_search import SkillSearching
from .structuring import Structuring

_FATAL = frozenset({"cancelled", "budget", "in_doubt"})


@dataclass(frozen=True, slots=True)
class Guards:
    """The processors of one agent.

    Args:
        given: for what it is given and what its tools give, in order.
        answered: for what its model answers, in order.
        judges: the models of those that have one, by path.
        retries: times that the model is asked again for answers that weren't accepted.
        recovery: what may be done about errors, in order.
        costs: limits of what one answer uses.
        selection: chooses the model; None for the agent's own.
        search: hides tools until they are looked for; None if all are told.
        cache: of answers; None for none.
        structuring: makes an object of the answer; None for none.
        structurers: the models that do; empty for the agent's own.
        batching: of what is shown; None for pieces as they come.
        skill_search: hides skills until they are looked for; None if all are listed.
        injector: shows instructions that lie beside files; None for none.
        memory_filter: what of a conversation is new to a thread; None for all of it.
    """

    given: Sequence[Processor] = ()
    answered: Sequence[Processor] = ()
    judges: Mapping[str, Sequence[ModelEntry]] = field(default_factory=dict)
    retries: int = 1
    recovery: Sequence[ErrorProcessor] = ()
    costs: Sequence[CostLimit] = ()
    selection: Selection | None = None
    search: Searching | None = None
    cache: Cache | None = None
    structuring: Structuring | None = None
    structurers: Sequence[ModelEntry] = ()
    batching: Batching | None = None
    skill_search: SkillSearching | None = None
    injector: Injector | None = None
    memory_filter: MemoryFilter | None = None

    @property
    def lets_stream(self) -> bool:
        """Whether pieces of an answer may be seen before the whole of it has been looked at."""
        return all(
            each.strategy == "warn" or (each.strategy == "redact" and each.window is not None and each.judge is None)
            for each in self.answered
        )

    @property
    def takes_out(self) -> Sequence[Processor]:
        """Those that may change an answer."""
        return [each for each in self.answered if each.strategy == "redact" and each.scan is not None]

    @property
    def shapes_stream(self) -> bool:
        """Whether what is shown isn't what arrives."""
        return self.batching is not None or bool(self.takes_out)

    def offered(
        self, tools: list[ToolDefinition], messages: Sequence[Message], choice: str | Mapping[str, str]
    ) -> list[ToolDefinition]:
        """The tools that the model is told of; `choice` is the tool choice of the agent."""
        if self.search is None:
            return tools
        return self.search.offered(tools, messages, "" if isinstance(choice, str) else choice["tool"])

    async def afford(
        self, step: StepContext, used: Mapping[str, float], entries: Sequence[ModelEntry], request: ModelRequest
    ) -> Tripwire | None:
        """What ends the call because another model call would use too much; None if nothing does."""
        if not self.costs:
            return None
        whole = estimate(entries, request)
        sent = estimate(entries, replace(request, parameters={**request.parameters, "maxTokens": 0}))["tokens"]
        notes: list[dict[str, Any]] = []
        trip: Tripwire | None = None
        for each in self.costs:
            over = each.exceeded(used, {**whole, "sent": sent})
            if over is not None and trip is None:
                name, usage, limit = over
                strategy = "block" if each.blocks else "warn"
                notes.append(
                    {"processorId": "token-cost-control", "phase": "input", "strategy": strategy, "found": {name: 1}}
                )
                trip = each.tripwire(name, usage, limit) if each.blocks else None
        return await _recorded(step, "cost", notes, trip)

    def fitted(self, messages: Sequence[Message]) -> list[Message]:
        """The messages that are sent: the oldest are left out where there are too many tokens; instructions and the newest stay."""
        limits = [each.tokens for each in self.given if each.tokens is not None]
        if not limits:
            return list(messages)
        sizes = [_tokens(message) for message in messages]
        total, kept = sum(sizes), list(messages)
        start = 1 if kept and kept[0]["role"] == "system" else 0
        newest = max((index for index, message in enumerate(kept) if message["role"] == "user"), default=start)
        while total > min(limits) and start < newest:
            total -= sizes[start]
            start += 1
            # A result whose call is gone would be refused by providers.
            while start < newest and kept[start]["role"] == "tool":
                total -= sizes[start]
                start += 1
        head = kept[:1] if kept and kept[0]["role"] == "system" else []
        return [*head, *kept[start:]] if start > len(head) else kept

    def unhidden(self, messages: list[Message]) -> list[Message]:
        """The given messages without the calls, and their results, that `tool-call-filter` takes out."""
        hidden = frozenset[str]().union(*(each.hidden_tools for each in self.given))
        if not hidden:
            return messages
        found: list[Message] = []
        for message in messages:
            if message["role"] == "tool" and _is_hidden(message.get("name", ""), hidden):
                continue
            calls = message.get("toolCalls")
            if calls:
                left = [call for call in calls if not _is_hidden(call["name"], hidden)]
                if not left and not message.get("content"):
                    continue
                kept: Message = {**message, "toolCalls": left}
                if not left:
                    del kept["toolCalls"]
                message = kept
            found.append(message)
        return found

    async def look(
        self, step: StepContext, messages: list[Message], start: int, instructions: str, clock: Clock
    ) -> tuple[Tripwire | None, Mapping[str, float]]:
        """Look at the messages from `start` on, which were given or came from tools, and change them in place.

        Returns:
            What ends the call, if anything does, and what judging models used.

        Raises:
            StepError: a judging model can't be asked.
        """
        notes: list[dict[str, Any]] = []
        trip: Tripwire | None = None
        phase = "tool" if start and messages[start]["role"] == "tool" else "input"
        for each in self.given:
            if each.scan is None or trip is not None:
                continue
            found: dict[str, int] = {}
            for index in range(start, len(messages)):
                message = messages[index]
                if message["role"] == "system" and index == 0:
                    continue
                messages[index] = _scanned(message, each, instructions, found)
            trip = _judgement(each, phase, found, notes)
        usage: Mapping[str, float] = {}
        if trip is None and phase == "input":
            trip, usage = await self._judged_input(step, messages, start, clock, notes)
        return await _recorded(step, "guard", notes, trip), usage

    async def _judged_input(
        self, step: StepContext, messages: list[Message], start: int, clock: Clock, notes: list[dict[str, Any]]
    ) -> tuple[Tripwire | None, Mapping[str, float]]:
        usage: dict[str, float] = {}
        for index, each in enumerate(self.given):
            if each.judge is None:
                continue
            places = [
                at
                for at in range(start, len(messages))
                if messages[at]["role"] == "user" and messages[at].get("content")
            ]
            for number, at in enumerate(places if each.judge.each else places[-1:]):
                key = f"guard[input]/{each.id}[{index}]" + (f"[{number}]" if number else "")
                said = messages[at].get("content", "")
                verdict = await self._verdict(step, key, each, each.judge, said, clock, usage, notes)
                trip = _judgement(each, "input", verdict.found, notes, verdict.answers)
                if trip is not None:
                    return trip, usage
                if verdict.found and each.strategy == "redact":
                    messages[at] = _said(messages[at], REMOVED if verdict.text is None else verdict.text)
        return None, usage

    def finished(self, response: ModelResponse, instructions: str) -> tuple[ModelResponse, dict[str, Any]]:
        """An answer as it may be known, and what is to be journaled beside it: `found`, and `tripwire` if it ends the call."""
        notes: list[dict[str, Any]] = []
        for each in self.answered:
            if each.scan is None:
                continue
            found: dict[str, int] = {}
            changed = _looked_at(response, each, instructions, found)
            trip = _judgement(each, "output", found, notes)
            if trip is not None:
                stopped = replace(response, text="", object=None, tool_calls=(), reasoning=(), finish_reason="other")
                return stopped, {"found": notes, "tripwire": trip.plain()}
            response = changed
        return response, {"found": notes} if notes else {}

    async def judge(
        self, step: StepContext, told: Mapping[str, Any], response: ModelResponse, clock: Clock
    ) -> tuple[ModelResponse, Tripwire | None, Mapping[str, float]]:
        """An answer after the models that judge answers have been asked; see `look`.

        Args:
            told: what `finished` noted of it.
        """
        if "tripwire" in told or not self.judges:
            return response, Tripwire.of(told["tripwire"]) if "tripwire" in told else None, {}
        notes: list[dict[str, Any]] = []
        usage: dict[str, float] = {}
        trip: Tripwire | None = None
        for index, each in enumerate(self.answered):
            if each.judge is None or not response.text or trip is not None:
                continue
            key = f"guard[output]/{each.id}[{index}]"
            verdict = await self._verdict(step, key, each, each.judge, response.text, clock, usage, notes)
            trip = _judgement(each, "output", verdict.found, notes, verdict.answers)
            if trip is None and verdict.found and each.strategy == "redact":
                response = replace(response, text=REMOVED if verdict.text is None else verdict.text, object=None)
        return response, await _recorded(step, "guard", notes, trip), usage

    async def _verdict(
        self,
        step: StepContext,
        key: str,
        each: Processor,
        judge: Judge,
        said: str,
        clock: Clock,
        usage: dict[str, float],
        notes: list[dict[str, Any]],
    ) -> Verdict:
        """What a judging model says of a text; adds what that used. Raises StepError if it says nothing."""
        if len(said) < judge.least:
            return Verdict()
        try:
            response = await call_model(step, key, self.judges[each.path], judge.ask(said), clock, publish=False)
            for name, amount in {"calls": 1, **dict[str, Any](response.usage)}.items():
                usage[name] = usage.get(name, 0) + (amount or 0)
            try:
                return judge.read(response.object)
            except ValueError as error:
                message = f"{each.path}: the model that judges gave no verdict: {error}"
                raise StepError("output", message, retryable=True) from None
        except StepError as error:
            if not judge.lenient or error.type in _FATAL:
                raise
            notes.append({"processorId": each.id, "strategy": "warn", "problem": error.problem(), "found": {}})
            return Verdict()


async def _recorded(
    step: StepContext, key: str, notes: Sequence[Mapping[str, Any]], trip: Tripwire | None
) -> Tripwire | None:
    """What ends the call, as it was decided when this was first looked at."""
    if not notes:
        return None
    recorded = await step.decide(key, {"found": notes, **({} if trip is None else {"tripwire": trip.plain()})})
    return Tripwire.of(recorded["tripwire"]) if "tripwire" in recorded else None


def _judgement(
    each: Processor, phase: str, found: Found, notes: list[dict[str, Any]], answers: Mapping[str, Any] | None = None
) -> Tripwire | None:
    if not found or each.rewrites:
        return None
    note = {"processorId": each.id, "phase": phase, "strategy": each.strategy, "found": dict(found)}
    notes.append({**note, "answers": dict(answers)} if answers else note)
    if each.strategy != "block":
        return None
    where = {"input": "the input", "tool": "the result of a tool", "output": "the answer"}[phase]
    reason = each.reason or f"{each.id} found {', '.join(found)} in {where}"
    return Tripwire(each.id, reason, phase, found, each.retry and phase == "output")


def _looked_at(response: ModelResponse, each: Processor, instructions: str, found: dict[str, int]) -> ModelResponse:
    """An answer as one processor leaves it; adds what it found."""
    if "text" in each.parts:
        text = _text(response.text, each, instructions, found)
        # The object is what the text says, and counts once.
        object_ = _walked(response.object, each, instructions, dict(found) if response.text else found)
        response = replace(response, text=text, object=object_)
    if "reasoning" in each.parts and response.reasoning:
        response = replace(
            response, reasoning=[_thought(thought, each, instructions, found) for thought in response.reasoning]
        )
    if "arguments" in each.parts and response.tool_calls:
        calls = [
            cast(ToolCall, {**call, "arguments": _walked(call["arguments"], each, instructions, found)})
            for call in response.tool_calls
        ]
        response = replace(response, tool_calls=calls)
    return response


def _thought(thought: Reasoning, each: Processor, instructions: str, found: dict[str, int]) -> Reasoning:
    said = thought.get("text")
    if not said:
        return thought
    made = _text(said, each, instructions, found)
    if made == said:
        return thought
    # The provider's signature is of what was there.
    return {"text": made}


def _said(message: Message, text: str) -> Message:
    """A user's message that says something else; its images and files stay."""
    changed: Message = {**message, "content": text}
    if parts := message.get("parts"):
        changed["parts"] = [{"type": "text", "text": text}, *(part for part in parts if part["type"] != "text")]
    return changed


def _text(text: str, each: Processor, instructions: str, found: dict[str, int]) -> str:
    assert each.scan is not None
    text = readable(text)
    made, what = each.scan(text, instructions)
    for name, count in what.items():
        found[name] = found.get(name, 0) + count
    return made if each.strategy == "redact" else text


def _walked(value: Any, each: Processor, instructions: str, found: dict[str, int]) -> Any:
    if isinstance(value, str):
        return _text(value, each, instructions, found)
    if isinstance(value, list):
        return [_walked(item, each, instructions, found) for item in value]
    if isinstance(value, dict):
        return {name: _walked(item, each, instructions, found) for name, item in value.items()}
    return value


def _scanned(message: Message, each: Processor, instructions: str, found: dict[str, int]) -> Message:
    changed: Message = {**message}
    if "result" in message:
        changed["result"] = _walked(message["result"], each, instructions, found)
    if content := message.get("content"):
        changed["content"] = _text(content, each, instructions, found)
    if parts := message.get("parts"):
        # Their text is the content, too, and counts once.
        changed["parts"] = [
            {**part, "text": _text(part["text"], each, instructions, {})} if "text" in part else part for part in parts
        ]
    return changed


def _tokens(message: Message) -> int:
    size = len(message.get("content", ""))
    if "result" in message:
        size += len(compact(message["result"]))
    for call in message.get("toolCalls", ()):
        size += len(compact(call["arguments"])) + len(call["name"])
    return size // 4 + 4


def _is_hidden(name: str, hidden: frozenset[str]) -> bool:
    return "*" in hidden or name in hidden
