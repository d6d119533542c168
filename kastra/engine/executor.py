"""Drive a Run from its journal to its end: the interpreter of compiled workflows.

It walks the graph from the top, every time. A step that the journal knows is answered from it; the first that it doesn't
know is where work begins. So there is no program counter to store, and recovering is the same as running. Each step passes
the same stations: `when`, input, attempts with their timeouts and retries, output schema and reshaping, `catch`,
`continueOnError`. Its records are noted as it goes, and made durable where the next effect begins.

Never touches the world itself: leaves are performed by the injected runners, through the step seam.

Source: the Amazon States Language for the stations; interpretation by path is Kastra's own. Read next:
`kastra.engine.control`, the steps that hold steps.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import anyio

from . import control
from .context import Place, error_of, plain, unexpected
from .dag import run_dag
from .execution import Execution
from .expressions import Template
from .frame import Entry, Frame, Result, Sight, Status
from .graph import END, Catch, Flow, Scope, Step
from .journal import JournalError
from .output import Output
from .past import StepPast
from .plan import Plan
from .records import RecordType
from .retry import DEFAULT_RETRY
from .step import StepError
from .timing import within

_SHARED_KEY = frozenset({"tool", "python"})
_NOTHING = StepPast()
_UNKNOWN = object()

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
    """

    def __init__(
        self,
        execution: Execution,
        plan: Plan,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
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
        limit = plan.graph.max_in_flight if plan.graph is not None else 0
        self._in_flight = anyio.CapacityLimiter(limit) if limit else None

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
            work = self._run_root(plan.root)
        else:
            self._check(graph.input_schema, facts.input, "validation", "the input")
            work = self._run_graph(graph.scope)
        if deadline is None:
            output = await work
        else:
            left = max(0.0, (deadline - self.journal.now()) / 1000)
            output = await within(self.execution.clock, left, "the Run", work)
        if graph is not None:
            self._check(graph.output_schema, output, "output", "the output")
        return Ending(output, self._stop_reason or "Completed", self._sensitive)

    async def _run_graph(self, scope: Scope) -> Any:
        frame = Frame(scope, self.execution.facts, entry=self.execution.facts.input, source="")
        value = await self.body(frame)
        graph = self.plan.graph
        if graph is not None and graph.output is not None:
            return graph.output.evaluate(Sight(frame, self.journal.now(), {"output": value}))
        given = frame.results if scope.flow is Flow.DAG else list(frame.results)[-1:]
        self._sensitive = any(scope.steps[scope.index[step_id]].sensitive for step_id in given)
        return value

    async def _run_root(self, step: Step) -> Any:
        scope = Scope((step,), Flow.SEQUENCE, 0, {}, {})
        frame = Frame(scope, self.execution.facts, entry=self.execution.facts.input, source="")
        await self.step(step, "", frame)
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
                return await self._failed(step, key, frame, error_of(past.final_error), past.attempts)
        try:
            if past.scheduled is not None:
                now, body = past.scheduled_at, past.scheduled
                value = self._recorded_input(body, frame)
            else:
                now = self.journal.moment()
                if step.when is not None and not step.when.holds(self._sight(frame, now, entry)):
                    self.journal.add(RecordType.STEP_SKIPPED, key)
                    frame.record(step, Result(Status.SKIPPED, attempts=0))
                    return None
                value, body = self._input(step, frame, now, entry)
                self.journal.add(RecordType.STEP_SCHEDULED, key, 1, body, ts=now)
                if step.input_schema is not None:
                    self._check(step.input_schema, value, "validation", "the input")
        except StepError as error:
            self._journal_final(key, 1, error)
            return await self._failed(step, key, frame, error, 1)
        work = self._attempts(step, key, frame, value, body, now, past)
        try:
            if step.total_timeout is None:
                return await work
            left = max(0.0, step.total_timeout - (self.journal.now() - now) / 1000)
            return await within(self.execution.clock, left, f"the step {key}", work)
        except _Exhausted as failure:
            return await self._failed(step, key, frame, failure.error, failure.attempts)
        except StepError as error:
            # Attempts journal their own failures, so this is the limit on all of them.
            self._journal_final(key, 1, error)
            return await self._failed(step, key, frame, error, 1)

    def _journal_final(self, key: str, attempt: int, error: StepError) -> None:
        self.journal.add(RecordType.STEP_FAILED, key, attempt, {"error": error.problem(), "final": True})

    def _sight(self, frame: Frame, now: int, entry: Entry | None, **extra: Any) -> Sight:
        return Sight(frame, now, extra if entry is None else {"prev": entry.value, **extra})

    def _input(self, step: Step, frame: Frame, now: int, entry: Entry | None) -> tuple[Any, dict[str, Any]]:
        """The input of a step, and the body of its StepScheduled record."""
        body: dict[str, Any] = {"kind": step.kind}
        plan = step.input
        if plan is None:
            value, source = (frame.last, frame.last_source) if entry is None else entry
            if source is not None and step.prompt is None:
                # Exactly what another record holds: name it instead of writing the bytes again.
                body["from"] = source
                if step.idempotency_key is None:
                    return value, body
        elif isinstance(plan, Template):
            value = plan.evaluate(self._sight(frame, now, entry))
        else:
            values = {source.name: self._sourced(source.kind, source.name, frame) for source in plan}
            value = next(iter(values.values())) if len(values) == 1 else values
        if step.prompt is not None:
            value = step.prompt.evaluate(self._sight(frame, now, entry, value=value))
        if step.idempotency_key is not None:
            given = step.idempotency_key.evaluate(self._sight(frame, now, entry, value=value))
            body["idempotencyKey"] = given if isinstance(given, str) else str(given)
        if "from" not in body:
            body["input"] = value
        return value, body

    def _sourced(self, kind: str, name: str, frame: Frame) -> Any:
        if kind == "input":
            return frame.facts.input
        if kind == "name":
            return frame.named(name)
        result = frame.find(name)
        if result is None or result.status is not Status.SUCCEEDED:
            how = "has not run" if result is None else f"is {result.status.value}"
            raise StepError("expression", f"the input comes from {name}, which {how}", retryable=False)
        return result.output

    def _recorded_input(self, body: Mapping[str, Any], frame: Frame) -> Any:
        if "from" not in body:
            return body.get("input")
        source = body["from"]
        if source == "":
            return frame.facts.input
        past = self.past.steps[source]
        assert past.done is not None, "an input is recorded by reference only after its source's record"
        return past.done["output"]

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
        journal = self.journal
        failures, attempt, interrupted = past.failures, max(past.attempts, 1), past.interrupted
        if past.retry_at is not None:
            await self._wait_for_retry(key, past.retry_at)
            attempt += 1
        elif interrupted:
            attempt += 1
        if attempt > 1:
            journal.add(RecordType.STEP_STARTED, key, attempt)
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
                work = self._perform(step, place, frame, value, now)
                if step.attempt_timeout is not None:
                    work = within(self.execution.clock, step.attempt_timeout, f"the step {key}", work)
                output, jump = await work
                return self._complete(step, key, frame, output, jump, place, attempt, now)
            except StepError as error:
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
        if step.retry_when is not None:
            try:
                if not step.retry_when.holds(Sight(frame, since, {"error": error.problem()})):
                    return None
            except StepError:
                # A condition that can't be told doesn't hold; the step's own error is the one to report.
                return None
        elapsed = (self.journal.now() - since) / 1000
        return policy.delay(failures, error, elapsed, f"{self.execution.facts.uid}/{key}")

    async def _perform(self, step: Step, place: Place, frame: Frame, value: Any, now: int) -> tuple[Any, int | None]:
        """Do what the step is for, once; returns the output and where to go on, if the step decides that."""
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
        runner = execution.services.runners.get(leaf.kind)
        if runner is None:
            raise StepError("tool", f"nothing here can execute a step of kind {leaf.kind}", retryable=False)
        try:
            if self._in_flight is None:
                return await runner.run(place, leaf.target, value, options), None
            async with self._in_flight:
                return await runner.run(place, leaf.target, value, options), None
        except (StepError, JournalError):
            raise
        except Exception as error:
            what = f"run {execution.facts.uid}: the {leaf.kind} runner at {place.key}"
            raise unexpected(error, what, leaf.kind) from error

    def _complete(
        self,
        step: Step,
        key: str,
        frame: Frame,
        output: Any,
        jump: int | None,
        place: Place,
        attempt: int,
        now: int,
    ) -> int | None:
        """Check, reshape and record an output."""
        body: dict[str, Any] = {}
        if isinstance(output, Output):
            if output.usage is not None:
                body["usage"] = output.usage
            if output.stop_reason:
                body["stopReason"] = output.stop_reason
                if step is self.plan.root:
                    self._stop_reason = output.stop_reason
            output = output.value
        if step.output_schema is not None:
            self._check(step.output_schema, output, "output", "the output")
        if step.output_as is not None:
            output = step.output_as.evaluate(Sight(frame, now, {"output": output}))
        body["output"] = output
        if jump is not None:
            body["jump"] = jump
        if step.sensitive:
            body["sensitive"] = True
        if step.export is not None:
            self.export(key, step.export.evaluate(Sight(frame, now, {"output": output})))
        data = self.journal.add(RecordType.STEP_COMPLETED, key, attempt, body, place.own_writes)
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

    # --- failure ---------------------------------------------------------------------------------------------------

    async def _failed(self, step: Step, key: str, frame: Frame, error: StepError, attempts: int) -> int | None:
        """Deal with a failure that is journaled as final: catch, or go on, or fail the scope."""
        # The innermost step is the one to look at, so an outer one doesn't replace it.
        error.details.setdefault("step", key)
        frame.last_error = problem = error.problem()
        for position, catch in enumerate(step.catches):
            if catch.errors and error.type not in catch.errors:
                continue
            caught = f"{key}/catch[{position}]"
            if await self._catches(catch, caught, frame, problem):
                return await self._catch(step, catch, caught, frame, problem, attempts)
        if step.continue_on_error:
            frame.record(step, Result(Status.FAILED, None, problem, attempts))
            return None
        raise error

    async def _catches(self, catch: Catch, caught: str, frame: Frame, problem: Mapping[str, Any]) -> bool:
        if catch.when is None:
            return True
        if caught in self.past.decisions:
            return bool(self.past.decisions[caught])
        sight = Sight(frame, self.journal.now(), {"error": problem, catch.name: problem})
        holds = catch.when.holds(sight)
        self.journal.add(RecordType.DECISION, caught, body={"value": holds})
        return holds

    async def _catch(
        self, step: Step, catch: Catch, caught: str, frame: Frame, problem: Mapping[str, Any], attempts: int
    ) -> int | None:
        names = {"error": problem, catch.name: problem}
        output: Any = None
        if catch.scope is not None:
            inner = Frame(catch.scope, frame.facts, f"{caught}/", frame, dict(problem), names)
            output = await self.body(inner)
        if catch.output is not None:
            known = self.past.decisions.get(f"{caught}/output", _UNKNOWN)
            if known is _UNKNOWN:
                output = catch.output.evaluate(Sight(frame, self.journal.now(), names))
                self.journal.add(RecordType.DECISION, f"{caught}/output", body={"value": output})
            else:
                output = known
        # What was caught is dealt with: the step counts as done, with the output of its catch.
        frame.record(step, Result(Status.SUCCEEDED, output, problem, attempts))
        return catch.next
