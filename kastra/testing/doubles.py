"""Tools and models that say what a test tells them to, and a note of every call.

    env.doubles.tool_answers("charge", {"error": {"type": "tool", "title": "down"}, "times": 2}, {"output": {"id": 7}})
    env.doubles.model_turns("triage", {"call": {"tool": "charge", "arguments": {"amount": 9}}}, {"reply": "Charged."})
    assert [call.arguments for call in env.doubles.calls_of("charge")] == [{"amount": 9}] * 3

An answer of a tool is `{output}` or `{error: {type, title, retryable?, retryAfter?}}`, maybe with `when` (CEL over `arguments`,
`call` and `attempt`), `times` and `delay`; the first that fits and is not used up is given. Each of several counts once, the last
for good. `{crash: true}` ends the process while the call is under way, once; the Run is then recovered. `${{ }}` in an output sees the same values. A turn of a model is `{reply}`, `{call}`, `{object}` or `{error: {kind,
message}}`, in the form of the `scripted` provider, one after the other; `{rules: [...]}` instead decides by rules as there.

A tool that has no answers is really called, and a model without a script really asked, unless `strict`: then only Python
functions and scripted models are. Read next: `kastra.testing.rehearsal`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import anyio

from kastra.api.durations import parse_duration
from kastra.api.types import ClosureObject
from kastra.cel import CelError, Program, Template, environment
from kastra.clock import Clock
from kastra.engine.step import StepError
from kastra.model.chain import ModelEntry
from kastra.model.interface import ErrorKind, Model, ModelError, ModelRequest, ModelResponse
from kastra.model.scripted import ScriptedModel
from kastra.tool.interface import ToolBody, ToolContext, ToolError

_VARIABLES = ("arguments", "call", "attempt")
_ANSWER = frozenset({"output", "error", "crash", "when", "times", "delay"})
_TURN = frozenset({"reply", "call", "object", "error", "when", "delay"})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that was called.

    Args:
        tool: its name.
        arguments: it was called with.
        attempt: 1 for the first; rises with every retry and recovery.
        idempotency_key: that it was given.
        at: seconds of virtual time since the control plane was opened.
    """

    tool: str
    arguments: Mapping[str, Any]
    attempt: int
    idempotency_key: str
    at: float


@dataclass(slots=True)
class _Answer:
    output: Template | None
    error: Mapping[str, Any] | None
    when: Program | None
    left: int | None
    delay: float
    crash: bool


@dataclass(slots=True)
class _Script:
    turns: list[tuple[ScriptedModel | None, Mapping[str, Any] | None, float]] = field(default_factory=list)
    rules: ScriptedModel | None = None
    used: int = 0


class TestDoubles:
    """All doubles of one control plane. Implements `kastra.agent.doubles.Doubles`.

    Args:
        clock: lets a `delay` pass.
        strict: refuse what would reach out of the process.
    """

    __test__ = False

    def __init__(self, clock: Clock, *, strict: bool = False) -> None:
        self.strict = strict
        self.calls: list[ToolCall] = []
        """Every call of a tool, real or not, in order."""
        self.crash: Callable[[], None] | None = None
        """Makes the process crash; set while a Run is rehearsed."""
        self._clock = clock
        self._tools: dict[str, list[_Answer]] = {}
        self._scripts: dict[str, _Script] = {}
        self.events = 0
        """Rises whenever a tool or a model is called, or has answered."""
        self._in_flight = 0
        self._idle = anyio.Event()

    # ---- what a test says

    def tool_answers(self, name: str, *answers: Mapping[str, Any], path: str = "") -> None:
        """Let a tool (`NAME`, or `NAMESPACE/NAME`) give these answers.

        Raises:
            ValueError: an answer makes no sense; the message begins with its path.
        """
        path = path or f"tools.{name}"
        made = [
            _answer(answer, f"{path}[{index}]" if len(answers) > 1 else path) for index, answer in enumerate(answers)
        ]
        for answer, given in zip(made[:-1], answers, strict=False):
            if "times" not in given and "when" not in given:
                answer.left = 1
        self._tools[name] = made

    def model_turns(self, owner: str, *turns: Mapping[str, Any], path: str = "") -> None:
        """Let the model of an agent (`NAME`, `NAMESPACE/NAME`) or of a router (`network/NAME`) say this.

        Raises:
            ValueError: a turn makes no sense; the message begins with its path.
        """
        path = path or f"models.{owner}"
        script = _Script()
        if len(turns) == 1 and "rules" in turns[0]:
            script.rules = ScriptedModel(turns[0]["rules"], path=f"{path}.rules")
        else:
            for index, turn in enumerate(turns):
                script.turns.append(_turn(turn, f"{path}[{index}]"))
        self._scripts[owner] = script

    def clear(self) -> None:
        """Forget answers, scripts and calls."""
        self.calls.clear()
        self._tools.clear()
        self._scripts.clear()

    def calls_of(self, tool: str) -> list[ToolCall]:
        """The calls of one tool, in order."""
        return [call for call in self.calls if call.tool == tool]

    def unused(self) -> list[str]:
        """Scripts with turns that were never asked for: `agent: 1 of 3 turns`."""
        return [
            f"{owner}: {len(script.turns) - script.used} of {len(script.turns)} turns"
            for owner, script in self._scripts.items()
            if script.used < len(script.turns)
        ]

    async def idle(self) -> None:
        """Return when no real tool is at work."""
        while self._in_flight:
            self._idle = anyio.Event()
            await self._idle.wait()

    # ---- what stands in

    async def tool(self, tool: ClosureObject, make: Callable[[], Awaitable[ToolBody]]) -> ToolBody:
        """See `kastra.agent.doubles`."""
        real: ToolBody | ValueError
        if tool["spec"].get("mcp") is not None and self.strict:
            real = ValueError("it is a tool of an MCP server")
        else:
            self._in_flight += 1
            try:
                real = await make()
            except ValueError as error:
                real = error
            finally:
                self._land()
        return _ToolDouble(self, tool, real)

    def models(self, owner: str, make: Callable[[], list[ModelEntry]]) -> list[ModelEntry]:
        """See `kastra.agent.doubles`."""
        try:
            made = make()
        except StepError:
            if self._script(owner) is None:
                raise
            made = []
        if not made and self._script(owner) is not None:
            return [ModelEntry(f"test/{owner}", _ModelDouble(self, owner, None, ""))]
        return [replace(entry, model=_ModelDouble(self, owner, entry.model, entry.name)) for entry in made]

    async def perform(
        self, tool: ClosureObject, real: ToolBody | ValueError, arguments: Mapping[str, Any], context: ToolContext
    ) -> Any:
        """One call of a tool. Raises ToolError."""
        name = tool["name"]
        self.events += 1
        now = self._clock.monotonic()
        self.calls.append(ToolCall(name, dict(arguments), context.attempt, context.idempotency_key, now))
        answers = self._tools.get(f"{tool['namespace']}/{name}", self._tools.get(name))
        if answers is not None:
            count = len(self.calls_of(name))
            return await self._say(
                name, answers, {"arguments": dict(arguments), "call": count, "attempt": context.attempt}
            )
        if isinstance(real, ValueError):
            raise ToolError(
                f"tool {name} has no answers in this test, and can't be called: {real}", type="test", retryable=False
            )
        if self.strict and tool["spec"].get("python") is None:
            message = f"tool {name} has no answers in this test, and only Python functions are really called in tests"
            raise ToolError(message, type="test", retryable=False)
        self._in_flight += 1
        try:
            return await real.call(arguments, context)
        finally:
            self._land()

    async def _say(self, name: str, answers: list[_Answer], values: Mapping[str, Any]) -> Any:
        try:
            answer = next((a for a in answers if a.left != 0 and (a.when is None or a.when.test(values))), None)
            if answer is None:
                raise ToolError(
                    f"tool {name}: no answer of this test is left for call {values['call']}",
                    type="test",
                    retryable=False,
                )
            if answer.left is not None:
                answer.left -= 1
            if answer.delay:
                await self._clock.sleep(answer.delay)
            if answer.crash and self.crash is not None:
                self.crash()
                await anyio.sleep_forever()
            if answer.error is not None:
                raise ToolError(
                    str(answer.error.get("title") or "failed by the test"),
                    type=str(answer.error.get("type") or "tool"),
                    retryable=bool(answer.error.get("retryable", True)),
                    retry_after=answer.error.get("retryAfter"),
                )
            return None if answer.output is None else answer.output.evaluate(values)
        except CelError as error:
            raise ToolError(f"tool {name}: the test's answer: {error}", type="test", retryable=False) from None

    async def ask(self, owner: str, real: Model | None, name: str, request: ModelRequest) -> ModelResponse:
        """One call of a model. Raises ModelError."""
        self.events += 1
        script = self._script(owner)
        if script is None:
            if real is not None and (not self.strict or isinstance(real, ScriptedModel)):
                return await real.generate(request)
            raise ModelError(
                "invalid_request", f"{owner} has no script in this test, and its model {name} is not asked in tests"
            )
        if script.rules is not None:
            return await script.rules.generate(request)
        script.used += 1
        if script.used > len(script.turns):
            raise ModelError(
                "invalid_request", f"{owner}: its script has {len(script.turns)} turns, and this is call {script.used}"
            )
        model, error, delay = script.turns[script.used - 1]
        if delay:
            await self._clock.sleep(delay)
        if model is None:
            error = error or {}
            raise ModelError(
                error.get("kind") or "unavailable",
                str(error.get("message") or "failed by the test"),
                retry_after=error.get("retryAfter"),
            )
        return await model.generate(request)

    def _land(self) -> None:
        self.events += 1
        self._in_flight -= 1
        self._idle.set()

    def _script(self, owner: str) -> _Script | None:
        found = self._scripts.get(owner)
        if found is None and not owner.startswith("network/"):
            found = self._scripts.get(owner.partition("/")[2])
        return found


class _ToolDouble:
    """Decides at each call, since what is made of a closure is kept for all Runs of it."""

    def __init__(self, doubles: TestDoubles, tool: ClosureObject, real: ToolBody | ValueError) -> None:
        self._doubles = doubles
        self._tool = tool
        self._real = real
        self.signature = getattr(real, "signature", None)

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """The result. Raises ToolError."""
        return await self._doubles.perform(self._tool, self._real, arguments, context)


class _ModelDouble:
    """Decides at each call, for the same reason."""

    def __init__(self, doubles: TestDoubles, owner: str, real: Model | None, name: str) -> None:
        self._doubles = doubles
        self._owner = owner
        self._real = real
        self._name = name

    async def generate(self, request: ModelRequest) -> ModelResponse:
        """The response. Raises ModelError."""
        return await self._doubles.ask(self._owner, self._real, self._name, request)


def _answer(answer: Mapping[str, Any], path: str) -> _Answer:
    _known(answer, _ANSWER, path)
    if "output" in answer and "error" in answer:
        raise ValueError(f"{path}: output and error exclude each other")
    env = environment(*_VARIABLES)
    try:
        when = env.compile(answer["when"]) if "when" in answer else None
        output = Template.compile(answer["output"], env, f"{path}.output") if "output" in answer else None
        delay = parse_duration(answer["delay"]) if "delay" in answer else 0.0
    except CelError as error:
        raise ValueError(f"{path}: {error}") from None
    return _Answer(
        output,
        answer.get("error"),
        when,
        answer.get("times", 1 if answer.get("crash") else None),
        delay,
        bool(answer.get("crash")),
    )


def _turn(turn: Mapping[str, Any], path: str) -> tuple[ScriptedModel | None, Mapping[str, Any] | None, float]:
    _known(turn, _TURN, path)
    delay = parse_duration(turn["delay"]) if "delay" in turn else 0.0
    if "error" in turn:
        kind = turn["error"].get("kind") or "unavailable"
        if kind not in get_args(ErrorKind):
            raise ValueError(f"{path}.error.kind: {kind!r} is none of {', '.join(get_args(ErrorKind))}")
        return None, turn["error"], delay
    rule = {name: value for name, value in turn.items() if name != "delay"}
    return ScriptedModel([rule], path=path), None, delay


def _known(given: Mapping[str, Any], known: frozenset[str], path: str) -> None:
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{path}.{unknown[0]}: unknown field; there are {', '.join(sorted(known))}")
