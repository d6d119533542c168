"""What happens when a step has failed for good: `catch`, then `continueOnError`, otherwise its scope fails.

Which catch holds and what it gives are decisions in the journal, so a recovered Run deals with the failure in the same way.

Read next: `kastra.engine.executor`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .frame import Frame, Result, Sight, Status
from .graph import Catch, Step
from .records import RecordType
from .step import StepError

if TYPE_CHECKING:
    from .executor import Executor

_UNKNOWN = object()


async def failed(
    executor: "Executor", step: Step, key: str, frame: Frame, error: StepError, attempts: int
) -> int | None:
    """Deal with a failure that is journaled as final: catch, or go on, or fail the scope.

    Returns:
        The index to go on with, or None for the step's own `next`.

    Raises:
        StepError: nothing dealt with it.
    """
    # The innermost step is the one to look at, so an outer one doesn't replace it.
    error.details.setdefault("step", key)
    frame.last_error = problem = error.problem()
    for position, catch in enumerate(step.catches):
        if catch.errors and error.type not in catch.errors:
            continue
        caught = f"{key}/catch[{position}]"
        if _catches(executor, catch, caught, frame, problem):
            return await _catch(executor, step, catch, caught, frame, problem, attempts)
    if step.continue_on_error:
        frame.record(step, Result(Status.FAILED, None, problem, attempts))
        return None
    raise error


def _catches(executor: "Executor", catch: Catch, caught: str, frame: Frame, problem: Mapping[str, Any]) -> bool:
    if catch.when is None:
        return True
    if caught in executor.past.decisions:
        return bool(executor.past.decisions[caught])
    sight = Sight(frame, executor.journal.now(), {"error": problem, catch.name: problem})
    holds = catch.when.holds(sight)
    executor.journal.add(RecordType.DECISION, caught, body={"value": holds})
    return holds


async def _catch(
    executor: "Executor",
    step: Step,
    catch: Catch,
    caught: str,
    frame: Frame,
    problem: Mapping[str, Any],
    attempts: int,
) -> int | None:
    names = {"error": problem, catch.name: problem}
    output: Any = None
    if catch.scope is not None:
        inner = Frame(catch.scope, frame.facts, f"{caught}/", frame, dict(problem), names)
        output = await executor.body(inner)
    if catch.output is not None:
        known = executor.past.decisions.get(f"{caught}/output", _UNKNOWN)
        if known is _UNKNOWN:
            output = catch.output.evaluate(Sight(frame, executor.journal.now(), names))
            executor.journal.add(RecordType.DECISION, f"{caught}/output", body={"value": output})
        else:
            output = known
    # What was caught is dealt with: the step counts as done, with the output of its catch.
    frame.record(step, Result(Status.SUCCEEDED, output, problem, attempts))
    return catch.next
