"""Drive a Run from its journal to its end: the interpreter of compiled workflows.

It walks the graph from the top, every time. A step that the journal knows is answered from it; the first that it doesn't
know is where work begins. So there is no program counter to store, and recovering is the same as running. Each step passes
the same stations: `when`, input, attempts with their timeouts and retries, output schema and reshaping, `catch`,
`continueOnError`. Its records are noted as it goes, and made durable where the next effect begins.

Never touches the world itself: leaves are performed by the injected runners, through the step seam.

Source: the Amazon States Language for the stations; interpretation by path is Kastra's own. Read next:
`kastra.engine.control`, the steps that hold steps.
"""

from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple

from kastra.sql.interface import Statement

from . import control
from .approvals import waited
from .budget import Ledger, finishes, merged
from .catching import failed
from .compensation import captured
from .context import Place, error_of, final_body, plain, unexpected
from .dag import run_dag
from .execution import Execution
from .frame import Entry, Frame, Result, Sight, Status
from .graph import END, Flow, Scope, Step
from .heartbeat import Pulse, watched
from .history import History
from .inputs import input_of, recorded_input, sight
from .journal import JournalError
from .memo import Recall, Slot, recalled, slot_of, undecided
from .output import Output
from .past import StepPast
from .places import StepPlaces
from .plan import Plan
from .records import RecordType, decode
from .retry import DEFAULT_RETRY
from .step import StepError, StepRunner
from .timing import within

_SHARED_KEY = frozenset({"tool", "python", "emit"})
_NOTHING = StepPast()
_NO_BODY: Mapping[str, Any] = {}

MAX_RECOVERIES = 10
"""Attempts at one step that may end in a crash; retries after failures are counted apart."""


class Ending(NamedTuple):
    """How a Run succeeded; a sensitive output stays out of status and events."""

    output: Any
    stop_reason: str
    sensitive: bool


class _Exhausted(Exception):
    """A step has failed for good, and the journal says so."""

    def __init__(self, error: StepError, attempts: int) -> None:
        super().__init__(error.message)
        self.error = error
        self.attempts = attempts


class Executor:
    """Interprets one Run.

    Args:
        execution: the Run in memory.
        plan: what it executes.
        timeout: seconds since it started that it may take; None for what the plan says.
        options: what the runner of a Run without a graph is handed beside its own.
        recall: looks up values of earlier executions.
        budget: limits of this Run beside those of the workflow.
        history: reads the journal, which loops need to keep it small; None to let it grow.
    """

    def __init__(
        self,
        execution: Execution,
        plan: Plan,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
        recall: Recall | None = None,
        budget: Mapping[str, Any] | None = None,
        history: History | None = None,
    ) -> None:
        self._recall = recall
        self.history = history
        self.execution = execution
        self.plan = plan
        self.timeout = timeout
        self.options = options or {}
        self.journal = execution.journal
        self.past = execution.past
        self.validate = execution.services.validate_json
        self._stop_reason = ""
        self._sensitive = False
        self._executed = 0
        self.top: Frame | None = None
        """The frame of the workflow's own steps, while this process has it."""
        graph = plan.graph
        limits = merged(budget, graph.budget if graph is not None else None)
        if limits is not None or (graph is not None and graph.budgeted):
            execution.ledger = Ledger(execution, limits)
        self._places = StepPlaces(graph.max_in_flight if graph is not None else 0, execution.clock)

    async def run(self) -> Ending:
        """Execute everything, from wherever the journal ends.

        Raises:
            StepError: the Run failed.
            Exception: the journal can't be written; nothing is lost, and the Run can be taken up again.
        """
        plan, facts, graph = self.plan, self.execution.facts, self.plan.graph
        limit = self.timeout if self.timeout is not None else plan.timeout
        deadline = None if limit is None else facts.started + int(limit * 1000)
        if graph is None:
            work = self._run_alone(plan.alone)
        else:
            self._check(graph.input_schema, facts.input, "validation", "the input")
            work = self._run_graph(graph.scope)
        if deadline is None:
            pass
        else:
            left = max(0.0, (deadline - self.journal.now()) / 1000)
            work = within(self.execution.clock, left, "the Run", work)
        try:
            output = await work
        except StepError as error:
            if self.top is None or not finishes(error, ""):
                raise
            # Its budget is used up, and it shall end with what there is.
            return Ending(self._value(self.top), "Budget", self._sensitive)
        if graph is not None:
            self._check(graph.output_schema, output, "output", "the output")
        return Ending(output, self._stop_reason or "Completed", self._sensitive)

    async def _run_graph(self, scope: Scope) -> Any:
        frame = self.top = Frame(scope, self.execution.facts, entry=self.execution.facts.input, source="")
        value = await self.body(frame)
        graph = self.plan.graph
        if graph is not None and graph.output is not None:
            return graph.output.evaluate(Sight(frame, self.journal.now(), {"output": value}))
        self._value(frame)
        return value

    def _value(self, frame: Frame) -> Any:
        """The value of the top as it is, noting whether it is sensitive."""
        scope = frame.scope
        given = frame.results if scope.flow is Flow.DAG else list(frame.results)[-1:]
        self._sensitive = any(scope.steps[scope.index[step_id]].sensitive for step_id in given)
        return frame.outputs() if scope.flow is Flow.DAG else frame.value

    async def _run_alone(self, scope: Scope) -> Any:
        frame = Frame(scope, self.execution.facts, entry=self.execution.facts.input, source="")
        await self.step(scope.steps[0], "", frame)
        return frame.value

    def _check(self, schema: Mapping[str, Any] | None, value: Any, error_type: str, what: str) -> None:
        if schema is None:
            return
        wrong = self.validate(schema, value)
        if wrong:
            raise StepError(error_type, f"{what} doesn't match its schema: {'; '.join(wrong[:5])}")

    # --- scopes ----------------------------------------------------------------------------------------------------

    async def body(self, frame: Frame) -> Any:
        """Run the steps of a frame; returns the body's value.

        Raises:
            StepError: a step failed, and nothing in the scope dealt with it.
        """
        if frame.scope.flow is Flow.DAG:
            return await run_dag(self, frame)
        scope, prefix = frame.scope, frame.prefix
        steps, index = scope.steps, scope.initial
        visits: list[int] | None = [0] * len(steps) if scope.cyclic else None
        while index != END:
            step = steps[index]
            key = prefix + step.id
            if visits is not None:
                visits[index] += 1
                if visits[index] > 1:
                    key = f"{key}@{visits[index]}"
                self._count()
            jump = await self.step(step, key, frame)
            index = step.next if jump is None else jump
        return frame.value

    def begin_conclusion(self) -> None:
        """What runs from here on has a count of its own, so that a Run that used its count up is cleaned up after."""
        self._executed = 0
        if self.execution.ledger is not None:
            self.execution.ledger.conclude()

    def _count(self) -> None:
        """Bound the steps of the Run that are executed in scopes with a cycle."""
        self._executed += 1
        limit = self.plan.graph.max_executions if self.plan.graph is not None else self._executed
        if self._executed > limit:
            message = f"more than {limit} steps were executed in a cycle; set maxStepExecutions if that is meant"
            raise StepError("no_progress", message, retryable=False)

    # --- one step --------------------------------------------------------------------------------------------------

    async def step(self, step: Step, key: str, frame: Frame, entry: Entry | None = None) -> int | None:
        """Take one step through all its stations; its result is in the frame afterwards.

        Args:
            key: its stepKey.
            entry: its input where it names none; None for what precedes it in the frame.

        Returns:
            The index to go on with, or None for the step's own `next`.

        Raises:
            StepError: it failed for good.
        """
        past = self.past.steps.get(key, _NOTHING) if self.past.steps else _NOTHING
        if past is not _NOTHING:
            if past.skipped:
                frame.record(step, Result(Status.SKIPPED, attempts=0))
                return None
            if past.done is not None:
                frame.record(step, Result(Status.SUCCEEDED, past.done["output"], None, past.attempts), key)
                jump: int | None = past.done.get("jump")
                return jump
            if past.final_error is not None:
                error = error_of(past.final_error, past.final_retryable)
                return await failed(self, step, key, frame, error, past.attempts)
        try:
            if past.scheduled is not None:
                now, body = past.scheduled_at, past.scheduled
                value = recorded_input(self.past, body, frame)
            else:
                now = self.journal.moment()
                if step.when is not None and not step.when.holds(sight(frame, now, entry)):
                    self.journal.add(RecordType.STEP_SKIPPED, key)
                    frame.record(step, Result(Status.SKIPPED, attempts=0))
                    return None
                value, body = input_of(step, frame, now, entry)
                if step.memo is not None:
                    slot = slot_of(step, self.execution.facts.uid, self.plan.id, sight(frame, now, entry, value=value))
                    body["memo"] = [slot.scope, slot.key]
                self.journal.add(RecordType.STEP_SCHEDULED, key, 1, body, ts=now)
                if step.input_schema is not None:
                    self._check(step.input_schema, value, "validation", "the input")
        except StepError as error:
            self._journal_final(key, 1, error)
            return await failed(self, step, key, frame, error, 1)
        if step.memo is not None and (past is _NOTHING or undecided(self.past, key)):
            slot = Slot(body["memo"][0], body["memo"][1], step.memo.ttl)
            if await self._remembered(step, key, frame, slot, now):
                return None
        work = self._attempts(step, key, frame, value, body, now, past)
        if step.budget is not None:
            work = self._budgeted(key, step.budget, work)
        try:
            if step.total_timeout is None:
                return await work
            left = max(0.0, step.total_timeout - (self.journal.now() - now) / 1000)
            return await within(self.execution.clock, left, f"the step {key}", work)
        except _Exhausted as failure:
            return await failed(self, step, key, frame, failure.error, failure.attempts)
        except StepError as error:
            # Attempts journal their own failures, so this is the limit on all of them.
            self._journal_final(key, 1, error)
            return await failed(self, step, key, frame, error, 1)

    async def _budgeted(self, key: str, budget: Mapping[str, Any], work: Awaitable[int | None]) -> int | None:
        ledger = self.execution.ledger
        assert ledger is not None, "a Run has a ledger if one of its steps has a budget"
        ledger.open(key, budget)
        try:
            return await work
        finally:
            ledger.close(key)

    async def _remembered(self, step: Step, key: str, frame: Frame, slot: Slot, now: int) -> bool:
        """Complete a step with the value of an earlier execution, if there is one that serves."""
        if self._recall is None:
            return False
        if self.journal.unsaved:
            # What this Run itself stored a moment ago counts.
            await self.journal.flush()
        found, output = recalled(await self._recall(slot.scope, slot.key, self.journal.now()))
        try:
            if found:
                self._complete(step, key, frame, output, None, None, 1, now)
        except StepError:
            # It isn't what the step's schema asks for (any more): then the step is executed.
            return False
        return found

    def _journal_final(self, key: str, attempt: int, error: StepError) -> None:
        self.journal.add(RecordType.STEP_FAILED, key, attempt, final_body(error))

    # --- attempts --------------------------------------------------------------------------------------------------

    async def _attempts(
        self,
        step: Step,
        key: str,
        frame: Frame,
        value: Any,
        scheduled: Mapping[str, Any],
        now: int,
        past: StepPast,
    ) -> int | None:
        journal, execution = self.journal, self.execution
        failures, attempt, interrupted = past.failures, max(past.attempts, 1), past.interrupted
        if past.retry_at is not None:
            await self._wait_for_retry(key, past.retry_at)
            attempt += 1
        elif interrupted and not past.waiting:
            attempt += 1
        if attempt > max(past.attempts, 1):
            journal.add(RecordType.STEP_STARTED, key, attempt, {"interrupted": True} if interrupted else None)
        if attempt - failures > MAX_RECOVERIES + 1:
            error = StepError(
                "no_progress", f"a crash ended each of its {MAX_RECOVERIES + 1} attempts", retryable=False
            )
            self._journal_final(key, attempt, error)
            raise _Exhausted(error, attempt)
        while True:
            ordinal = failures + 1
            place_key = key if ordinal == 1 or step.kind in _SHARED_KEY else f"{key}~{ordinal}"
            place = Place(
                self.execution,
                place_key,
                attempt,
                ordinal,
                scheduled.get("idempotencyKey", ""),
                interrupted,
                step.kind in _SHARED_KEY,
            )
            try:
                work = self._perform(step, place, frame, value, now, scheduled)
                if step.attempt_timeout is not None:
                    work = within(self.execution.clock, step.attempt_timeout, f"the step {key}", work, waited(place))
                output, jump = await work
                return self._complete(step, key, frame, output, jump, place, attempt, now, scheduled)
            except StepError as error:
                if finishes(error, key) and execution.ledger is not None:
                    output = Output(execution.ledger.text(key), stop_reason="Budget")
                    return self._complete(step, key, frame, output, None, place, attempt, now, scheduled)
                failures += 1
                delay = self._delay(step, key, frame, error, failures, now)
                if delay is None:
                    self._journal_final(key, attempt, error)
                    raise _Exhausted(error, attempt) from None
                retry_at = journal.now() + int(delay * 1000)
                body = {"error": error.problem(), "retryAt": retry_at}
                journal.add(RecordType.STEP_FAILED, key, attempt, body)
                frame.last_error = error.problem()
                await self._wait_for_retry(key, retry_at)
                attempt, interrupted = attempt + 1, False
                journal.add(RecordType.STEP_STARTED, key, attempt)

    async def _wait_for_retry(self, key: str, due: int) -> None:
        async with self.execution.waiting(key, due):
            await self.execution.sleep_until(due)

    def _delay(self, step: Step, key: str, frame: Frame, error: StepError, failures: int, since: int) -> float | None:
        policy = step.retry or DEFAULT_RETRY
        if error.type == "timeout" and step.options.get("sideEffects") == "Unsafe":
            # Whether it took effect isn't known, and a repetition could do harm.
            return None
        if step.retry_when is not None:
            try:
                if not step.retry_when.holds(Sight(frame, since, {"error": error.problem()})):
                    return None
            except StepError:
                # A condition that can't be told doesn't hold; the step's own error is the one to report.
                return None
        elapsed = (self.journal.now() - since) / 1000
        return policy.delay(failures, error, elapsed, f"{self.execution.facts.uid}/{key}")

    async def _perform(
        self, step: Step, place: Place, frame: Frame, value: Any, now: int, scheduled: Mapping[str, Any]
    ) -> tuple[Any, int | None]:
        """Do what the step is for, once; returns the output and where to go on, if the step decides that."""
        if step.options.get("stream") is False:
            self.execution.silence.over(place.key)
        leaf = self.plan.leaves.get(step.path)
        if leaf is None:
            return await control.perform(self, step, place, frame, value, now)
        execution = self.execution
        await self.journal.flush()
        if execution.gate is not None:
            # A held or stopping Run lets nothing begin, also nothing that bypasses the seam.
            await execution.begin()
            execution.end()
        options = {**leaf.options, **self.options} if step is self.plan.root else leaf.options
        place.given = value
        if step.memory is not None:
            options = {**options, "memory": scheduled.get("memory")}
        runner = execution.services.runners.get(leaf.kind)
        if runner is None:
            raise StepError("tool", f"nothing here can execute a step of kind {leaf.kind}", retryable=False)
        try:
            if not self._places.limited:
                return await self._run_leaf(runner, leaf.target, step, place, value, options), None
            async with self._places.place(step):
                return await self._run_leaf(runner, leaf.target, step, place, value, options), None
        except (StepError, JournalError):
            raise
        except Exception as error:
            what = f"run {execution.facts.uid}: the {leaf.kind} runner at {place.key}"
            raise unexpected(error, what, leaf.kind) from error

    def _run_leaf(
        self,
        runner: StepRunner,
        target: Mapping[str, Any],
        step: Step,
        place: Place,
        value: Any,
        options: Mapping[str, Any],
    ) -> Awaitable[Any]:
        work = runner.run(place, target, value, options)
        if step.heartbeat_timeout is None:
            return work
        clock = self.execution.clock
        pulse = place.pulse = Pulse(clock)
        return watched(clock, pulse, step.heartbeat_timeout, f"the step {place.key}", work)

    def _complete(
        self,
        step: Step,
        key: str,
        frame: Frame,
        output: Any,
        jump: int | None,
        place: Place | None,
        attempt: int,
        now: int,
        scheduled: Mapping[str, Any] = _NO_BODY,
    ) -> int | None:
        """Check, reshape and record an output; one without a `place` is that of an earlier execution."""
        body: dict[str, Any] = {} if place is not None else {"memoized": True}
        writes: list[Statement] = [] if place is None else place.own_writes
        if isinstance(output, Output):
            if output.usage is not None:
                body["usage"] = output.usage
                if self.execution.ledger is not None:
                    self.execution.ledger.charge(key, output.usage)
            if output.stop_reason:
                body["stopReason"] = output.stop_reason
                if step is self.plan.root:
                    self._stop_reason = output.stop_reason
            output = output.value
        if step.output_schema is not None:
            self._check(step.output_schema, output, "output", "the output")
        if step.memo is not None and place is not None:
            slot = Slot(scheduled["memo"][0], scheduled["memo"][1], step.memo.ttl)
            writes = [*writes, *slot.store(output, self.journal.now())]
        if step.output_as is not None:
            output = step.output_as.evaluate(Sight(frame, now, {"output": output}))
        body["output"] = output
        if jump is not None:
            body["jump"] = jump
        if step.sensitive:
            body["sensitive"] = True
        if step.compensate is not None and place is not None:
            body["compensate"] = captured(step, frame, place)
        if step.export is not None:
            self.export(key, step.export.evaluate(Sight(frame, now, {"output": output})))
        data = self.journal.add(RecordType.STEP_COMPLETED, key, attempt, body, writes)
        if "compensate" in body and data is not None:
            self.past.compensable.append((key, decode(data)))
        frame.record(step, Result(Status.SUCCEEDED, plain(output, data), None, attempt), key)
        return jump

    def export(self, key: str, values: Any) -> None:
        """Merge values into the Run's state.

        Raises:
            StepError: they are no object, or the state would break its schema.
        """
        if not isinstance(values, Mapping):
            raise StepError("validation", "what goes into the state must be an object", retryable=False)
        graph = self.plan.graph
        if graph is not None and graph.state_schema is not None:
            self._check(graph.state_schema, {**self.execution.facts.state, **values}, "validation", "the state")
        self.execution.set_state(key, values)
