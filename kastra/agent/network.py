"""How do several members work on one request? Turn by turn: may it go on, who is next, what came of it.

A loop on the same journal as everything: the choice of turn n is at `turn[n]/route`, what the member does below
`turn[n]/<member>`. Before each turn the hard stops are asked, in this order: duration, steps, budget, `termination.when`;
after each choice, whether it goes in circles. So a routing model that answers garbage or sends two members back and forth
stops, with a reason: Completed, MaxSteps, Budget, Stalled or Timeout; Failed and Cancelled are the Run's own.

Modes: `router` (rules, then a model), `supervisor` (a model whose tools are the members), `handoff` (members pass control on),
`roundRobin` (in order; one round, or until `termination.when`) and `expression` (rules alone). Read next: `kastra.agent.router`,
then `kastra.agent.state`.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from kastra.cel import CelError, Program
from kastra.clock import Clock, milliseconds
from kastra.engine.step import Effect, StepContext, StepError
from kastra.model.interface import ModelRequest, compact
from kastra.tool.schema import JsonSchema

from .approvals import agreed, ask_to_call
from .calls import ModelEntry, call_model
from .completion import Completion
from .messages import assistant, summed
from .router import FINISH, Choice, ModelRouter, Rule, Situation, Turn, by_rules, shorten, text
from .state import NetworkState, StateReader, StateSpec
from .supervising import Supervisor
from .terms import NO_TERMS, Terms

VARIABLES = ("input", "state", "turns", "last", "turn")
"""What rules and `termination.when` see: the request, shared values, the turns taken (next, task, output, error), the last of
them or null, and how many there were."""
_FAILURES = 2
"""Failures after which a member is no longer chosen."""
_FORWARDED = 8000
"""Characters of one outcome that are handed on to the next member."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a member gave: its output or its error, and what that used.

    `elsewhere` says that it was used in another Run, whose journal this one's usage doesn't count.
    """

    output: Any = None
    error: Mapping[str, Any] | None = None
    usage: Mapping[str, float] = field(default_factory=dict)
    tool_calls: int = 0
    elsewhere: bool = False
    handed: tuple[str, str] | None = None
    """To whom, and what is left to do, where it handed off."""


class RunMember(Protocol):
    """Lets a member act at a place; an agent may change `state`, where there is one."""

    def __call__(self, step: StepContext, value: Any, state: NetworkState | None) -> Awaitable[Taken]:
        """What came of it. Raises StepError only where the Run can't go on."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A member, ready to act.

    Args:
        name: in the network.
        kind: Agent, Tool, Workflow or Network.
        description: what the routing model chooses by.
        run: lets it act.
        max_calls: times it may be chosen; None for any.
        context: what it is told besides its task: full, lastMessage, summary or task.
        require_approval: whether a person must agree first.
        terms: on which they are asked.
        input: schema of what it is given; None where it takes whatever there is.
    """

    name: str
    kind: str
    description: str
    run: RunMember
    max_calls: int | None = None
    context: str = "full"
    require_approval: bool = False
    terms: Terms = NO_TERMS
    input: JsonSchema | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop; None for no such limit."""

    max_steps: int
    max_duration: float | None = None
    max_tokens: int | None = None
    max_model_calls: int | None = None
    max_tool_calls: int | None = None
    max_cost: float | None = None
    stall_window: int = 3
    on_limit: str = "finish"
    on_stall: str = "finish"
    on_budget: str = "finish"


@dataclass(frozen=True, slots=True)
class Network:
    """A network, ready to run."""

    name: str
    uid: str
    mode: str
    members: Sequence[Member]
    limits: Limits
    rules: Sequence[Rule] = ()
    router: ModelRouter | None = None
    allow_repeat: bool = True
    fallback: str = "fail"
    """A member's name, `END`, or `fail`: what an invalid choice leads to in the end."""
    start: str = ""
    """The member that begins, where members hand off; empty for the first."""
    completion: Completion | None = None
    until: Program | None = None
    state: StateSpec = field(default_factory=StateSpec)
    output: JsonSchema | None = None
    earlier: str = ""
    """What was said before in its thread, as it is shown; empty for nothing."""


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """What a network gave, why it stopped, and what it used: in all, and of that in Runs of its members."""

    output: Any
    stop_reason: str
    turns: Sequence[Turn]
    state: Mapping[str, Any]
    usage: Mapping[str, float]
    elsewhere: Mapping[str, float]

    def plain(self) -> dict[str, Any]:
        """As the `generate` subresource answers."""
        return {
            "output": self.output,
            "stopReason": self.stop_reason,
            "turns": [turn.plain() for turn in self.turns],
            "state": dict(self.state),
            "usage": dict(self.usage),
        }


async def run_network(
    network: Network, step: StepContext, value: Any, clock: Clock, reader: StateReader | None = None
) -> NetworkResult:
    """Let the members work on `value` until something says stop.

    Raises:
        StepError: a limit whose action is `fail` was reached, no valid choice was made and `fail` is the fallback, a rule or
            the schema failed, or a member needs an approval.
    """
    return await _Conversation(network, step, value, clock).run(reader)


class _Conversation:
    """One run of a network; everything in it follows from the journal."""

    def __init__(self, network: Network, step: StepContext, value: Any, clock: Clock) -> None:
        self.network = network
        self.step = step
        self.value = value
        self.clock = clock
        self.turns: list[Turn] = []
        self.usage: dict[str, float] = {}
        self.elsewhere: dict[str, float] = {}
        self.tool_calls = 0
        self.calls: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.seen: list[tuple[str, str, str]] = []
        self.handed: tuple[str, str] | None = None
        self.router: ModelRouter | Supervisor | None = network.router
        if network.mode == "supervisor" and network.router is not None:
            self.router = Supervisor(network.router, network.output or network.router.final)
        self.state = NetworkState(network.state, "", clock)

    async def run(self, reader: StateReader | None) -> NetworkResult:
        self.state = await self._load(reader)
        began = milliseconds(self.clock.now())
        if self.network.limits.max_duration is not None:
            began = await self.step.decide("began", began)
        while True:
            place = self.step.child(f"turn[{len(self.turns)}]")
            if stop := await self._stop(place, began):
                return await self._stopped(place, stop)
            if self.network.completion is not None and self.network.completion.due(len(self.turns)):
                done, used = await self.network.completion.judge(place, self._situation({}), self.clock)
                self.usage = summed(self.usage, used)
                if done is not None:
                    return await self._finish(place, done["finalResult"], "Completed")
            choice = await self._choose(place)
            if choice.next == FINISH:
                await self._update(place, choice.updates)
                return await self._finish(place, choice.final_answer, "Completed")
            if choice.by in ("model", "handoff") and self._stalled(choice):
                return await self._stopped(place, "Stalled")
            await self._update(place, choice.updates)
            await self._act(place, choice)

    async def _load(self, reader: StateReader | None) -> NetworkState:
        spec, loaded = self.network.state, {}
        scope = f"network/{self.network.uid}/{'shared' if spec.shared else self.step.run_uid}"
        if spec.shared and spec.persistence:
            if reader is None:
                message = "spec.state.scope: state that Runs share needs a store, and there is none here"
                raise StepError("validation", message, retryable=False)
            source = reader

            async def load(effect: Effect) -> dict[str, Any]:
                return dict(await source.load(scope))

            loaded = await self.step.call("state", load)
        return NetworkState(spec, scope, self.clock, loaded)

    def _variables(self) -> dict[str, Any]:
        turns = [turn.plain() for turn in self.turns]
        return {
            "input": self.value,
            "state": self.state.values,
            "turns": turns,
            "last": turns[-1] if turns else None,
            "turn": len(turns),
        }

    def _live(self) -> list[Member]:
        last = self.turns[-1].next if self.turns else ""
        return [
            member
            for member in self.network.members
            if (member.max_calls is None or self.calls.get(member.name, 0) < member.max_calls)
            and self.failures.get(member.name, 0) < _FAILURES
            and (self.network.allow_repeat or member.name != last)
        ]

    # --- stops -----------------------------------------------------------------------------------------------------

    async def _stop(self, place: StepContext, began: int) -> str:
        limits = self.network.limits
        if limits.max_duration is not None:
            late = milliseconds(self.clock.now()) - began >= limits.max_duration * 1000
            # Recorded, because a recovered Run would be later than it was.
            if await place.decide("late", late):
                return "Timeout"
        if len(self.turns) >= limits.max_steps:
            return "MaxSteps"
        tokens = self.usage.get("inputTokens", 0) + self.usage.get("outputTokens", 0)
        spent = (
            (limits.max_tokens, tokens),
            (limits.max_model_calls, self.usage.get("calls", 0)),
            (limits.max_tool_calls, self.tool_calls),
            (limits.max_cost, self.usage.get("costUSD", 0)),
        )
        if any(limit is not None and used >= limit for limit, used in spent):
            return "Budget"
        if self.network.until is not None and self._holds(self.network.until):
            return "Completed"
        return ""

    def _holds(self, condition: Program) -> bool:
        try:
            return condition.test(self._variables())
        except CelError as error:
            raise StepError("expression", f"spec.termination.when: {error}", retryable=False) from None

    def _stalled(self, choice: Choice) -> bool:
        """Whether the same thing is asked for again within the window, or two members alternate and nothing changes."""
        digest = self.state.digest()
        self.seen.append((choice.next, sha256(choice.task.encode()).hexdigest(), digest))
        recent = self.seen[-self.network.limits.stall_window :]
        if len(set(recent)) < len(recent):
            return True
        names = [name for name, _, _ in self.seen[-4:]]
        unchanged = len({state for _, _, state in self.seen[-4:]}) == 1
        return len(names) == 4 and unchanged and names[0] == names[2] != names[1] == names[3]

    async def _stopped(self, place: StepContext, reason: str) -> NetworkResult:
        limits = self.network.limits
        action = {"Budget": limits.on_budget, "Stalled": limits.on_stall}.get(reason, limits.on_limit)
        if reason != "Completed" and action == "fail":
            type_ = {"Budget": "budget", "Timeout": "timeout"}.get(reason, "no_progress")
            message = f"network {self.network.name} stopped after {len(self.turns)} turns: {reason}"
            raise StepError(type_, message, retryable=False, details={"stopReason": reason})
        return await self._finish(place, None, reason)

    # --- choosing --------------------------------------------------------------------------------------------------

    async def _choose(self, place: StepContext) -> Choice:
        live = {member.name: member for member in self._live()}
        choice = by_rules(self.network.rules, self._variables())
        if choice is not None and choice.next != FINISH and choice.next not in live:
            choice = None  # a rule can't revive a member that has used up its calls
        if choice is None:
            choice = await self._choose_by_mode(place, live)
        data = {"turn": len(self.turns), "next": choice.next, "reason": choice.reason, "by": choice.by}
        place.emit("router.decision", data)
        return choice

    async def _choose_by_mode(self, place: StepContext, live: Mapping[str, Member]) -> Choice:
        network, turn = self.network, len(self.turns)
        if network.mode == "expression" or (not live and network.mode != "supervisor"):
            return Choice(FINISH, by="rule")
        if network.mode == "handoff":
            following, task = self.handed or ("" if self.turns else network.start or network.members[0].name, "")
            return Choice(following, task, by="handoff") if following in live else Choice(FINISH, by="order")
        if network.mode == "roundRobin":
            names = [member.name for member in network.members]
            if turn >= len(names) and network.until is None:
                return Choice(FINISH, by="order")
            after = names.index(self.turns[-1].next) + 1 if self.turns else 0
            following = next(name for name in names[after:] + names[:after] if name in live)
            return Choice(following, by="order")
        if len(network.members) == 1 and network.mode == "router":
            return Choice(FINISH, by="order") if turn else Choice(network.members[0].name, by="order")
        if self.router is None:
            message = f"network {network.name}: spec.router.model is required to choose among several members"
            raise StepError("validation", message, retryable=False)
        choice, used, problem = await self.router.choose(place, self._situation(live), self.state, turn, self.clock)
        self.usage = summed(self.usage, used)
        return choice or self._fall_back(live, problem)

    def _situation(self, live: Mapping[str, Member]) -> Situation:
        described = {name: member.description or member.kind for name, member in live.items()}
        inputs = {name: member.input for name, member in live.items() if member.input is not None}
        left = self.network.limits.max_steps - len(self.turns)
        return Situation(self.value, self.turns, described, left, self.network.earlier, inputs)

    def _fall_back(self, live: Mapping[str, Member], problem: str) -> Choice:
        fallback = self.network.fallback
        reason = f"no valid choice was made: {problem}"
        if fallback in live:
            return Choice(fallback, reason=reason, by="fallback")
        if fallback == "END" or (fallback != "fail" and self.turns):
            return Choice(FINISH, reason=reason, by="fallback")
        raise StepError("model", f"network {self.network.name}: {reason}", retryable=False)

    # --- acting ----------------------------------------------------------------------------------------------------

    async def _act(self, place: StepContext, choice: Choice) -> None:
        member = next(member for member in self.network.members if member.name == choice.next)
        whole = self.value if member.input is not None else self._forwarded(member, choice)
        value = choice.input if choice.input is not None else whole
        taken = await self._taken(place.child(member.name), member, value)
        self.calls[member.name] = self.calls.get(member.name, 0) + 1
        self.usage = summed(self.usage, taken.usage)
        if taken.elsewhere:
            self.elsewhere = summed(self.elsewhere, taken.usage)
        self.tool_calls += taken.tool_calls + (member.kind == "Tool")
        if taken.error is not None:
            self.failures[member.name] = self.failures.get(member.name, 0) + 1
        self.turns.append(Turn(member.name, choice.task, taken.output, taken.error))
        self.handed = taken.handed
        if taken.error is not None and self.network.mode not in ("router", "supervisor"):
            # Nobody reads the ledger here, so a failure that isn't raised would be lost.
            raise StepError(
                str(taken.error.get("type", "tool")), f"{member.name}: {taken.error.get('title', '')}", retryable=False
            )

    async def _taken(self, place: StepContext, member: Member, value: Any) -> Taken:
        """What a member gave, that it can't be given this, or that people did not agree to it."""
        if member.input is not None and (problems := member.input.problems(value)):
            return Taken(error={"type": "validation", "title": f"input of {member.name}: {'; '.join(problems)}"})
        if member.require_approval:
            shown = value if isinstance(value, Mapping) else {"input": value}
            who, origin = f"network {self.network.name}", {"network": self.network.name}
            decision = await ask_to_call(place, who, member.name, shown, provenance=origin, terms=member.terms)
            if decision.verdict == "expire":
                raise decision.refusal(f"the call of {member.name}")
            try:
                given = agreed(decision, member.name, shown, {})
            except StepError as refused:
                return Taken(error=refused.problem())
            value = given if isinstance(value, Mapping) else given.get("input")
        return await member.run(place, value, self.state if self.state.spec.keys() else None)

    def _forwarded(self, member: Member, choice: Choice) -> Any:
        """What the member is told: its task, and of the rest as much as its `context` says."""
        done = [turn for turn in self.turns if turn.error is None]
        earlier = self.network.earlier if member.context == "full" else ""
        if member.kind != "Agent" or (not done and not choice.task and not earlier):
            return self.value
        request = self.value if isinstance(self.value, str) else compact(self.value)
        if member.context == "task":
            return choice.task or request
        if member.context == "lastMessage":
            shown, limit = done[-1:], _FORWARDED
        else:
            shown, limit = done, 500 if member.context == "summary" else _FORWARDED
        parts = [*([earlier] if earlier else []), f"Request: {request}"]
        parts += [f"From {turn.next}: {shorten(text(turn.output), limit)}" for turn in shown]
        if self.state.spec.keys():
            parts.append(f"Shared state: {compact(self.state.values)}")
        if choice.task:
            parts.append(f"Your task: {choice.task}")
        return "\n\n".join(parts)

    async def _update(self, place: StepContext, updates: Mapping[str, Any]) -> None:
        if updates:
            await self.state.update(place, "state", updates)
            place.emit("state.changed", {"keys": sorted(updates)})

    # --- finishing -------------------------------------------------------------------------------------------------

    async def _finish(self, place: StepContext, final: Any, reason: str) -> NetworkResult:
        done = [turn for turn in self.turns if turn.error is None]
        output = final if final is not None else done[-1].output if done else None
        schema = self.network.output
        wanting = schema is not None and bool(schema.problems(output))
        # A limit leaves loose ends, which one last call ties up; what was completed is taken as it is.
        if self.network.router is not None and (wanting or (reason != "Completed" and len(done) > 1)):
            output = await self._synthesis(place, self.network.router.models)
        if schema is not None and (problems := schema.problems(output)):
            message = f"network {self.network.name}: the output doesn't satisfy its schema: {'; '.join(problems)}"
            raise StepError("output", message)
        if output is None and not done and self.turns:
            last = self.turns[-1].error or {}
            message = f"network {self.network.name}: every member failed; the last: {last.get('title', '')}"
            raise StepError(str(last.get("type", "tool")), message, retryable=False)
        return NetworkResult(output, reason, self.turns, self.state.values, self.usage, self.elsewhere)

    async def _synthesis(self, place: StepContext, models: Sequence[ModelEntry]) -> Any:
        """The final answer from all that was done; with a schema, one turn to put it right."""
        situation, schema = Situation(self.value, self.turns, {}, 0), self.network.output
        request = self.value if isinstance(self.value, str) else compact(self.value)
        before = f"{self.network.earlier}\n\n" if self.network.earlier else ""
        done = (
            f"{before}Work done on the request:\n{situation.ledger()}\n\nGive the final answer to the request from it."
        )
        messages: list[Any] = [{"role": "system", "content": done}, {"role": "user", "content": request}]
        value: Any = None
        for key in ("final", "final[1]"):
            asked = ModelRequest(
                messages=list(messages),
                output_schema=schema.schema if schema else None,
                input=self.value,
                turn=len(self.turns),
                first=2,
            )
            response = await call_model(place, key, models, asked, self.clock)
            self.usage = summed(self.usage, {"calls": 1, **dict[str, Any](response.usage)})
            if schema is None:
                return response.text
            value = response.object
            problems = schema.problems(value) if value is not None else ["it is not JSON"]
            if not problems:
                break
            messages.append(assistant(response))
            messages.append({"role": "user", "content": f"That doesn't satisfy the schema: {'; '.join(problems)}."})
        return value
