"""Steps that run as soon as what they depend on is done.

A finished step goes straight on to one that it has released, in the same task: so a chain of dependencies commits as a
sequence does, its end and the next beginning in one transaction. Everything else that it has released starts beside it.

Source: Argo Workflows' DAG template. Read next: `kastra.engine.executor`.
"""

from typing import TYPE_CHECKING, Any

from .branches import Branches, branches
from .frame import Entry, Frame, Result, Sight, Status
from .graph import Step
from .records import RecordType

if TYPE_CHECKING:
    from .executor import Executor


async def run_dag(executor: "Executor", frame: Frame) -> dict[str, Any]:
    """Run the steps of a frame whose flow is DAG; returns their outputs by id.

    Raises:
        StepError: a step failed, and nothing dealt with it; the others were cancelled.
    """
    dag = _Dag(executor, frame)
    async with branches() as started:
        for step in dag.roots():
            started.start(dag.chain, step, started)
    return frame.outputs()


class _Dag:
    def __init__(self, executor: "Executor", frame: Frame) -> None:
        self._executor = executor
        self._frame = frame
        self._steps = frame.scope.steps
        self._left = [len(step.depends) for step in self._steps]
        self._begun = [False] * len(self._steps)
        self._dependents: list[list[Step]] = [[] for _ in self._steps]
        for step in self._steps:
            for other in (*step.depends, *step.watches):
                self._dependents[other].append(step)

    def roots(self) -> list[Step]:
        """Steps that can begin at once: those without dependencies, and conditional ones that had begun before a crash."""
        found = []
        for step in self._steps:
            known = self._executor.past.steps.get(self._frame.prefix + step.id)
            if known is not None if step.condition is not None else not step.depends:
                self._begun[step.index] = True
                found.append(step)
        return found

    async def chain(self, step: Step, started: Branches) -> None:
        """Run a step, then one that it has released, and so on."""
        following: Step | None = step
        while following is not None:
            step = following
            key = self._frame.prefix + step.id
            await self._executor.step(step, key, self._frame, self._entry(step))
            released = self._release(step)
            following = released.pop(0) if released else None
            for other in released:
                started.start(self.chain, other, started)
        self._executor.journal.start()

    def _release(self, done: Step) -> list[Step]:
        """Steps that can begin now that `done` is, in order."""
        found: list[Step] = []
        waiting = [done]
        while waiting:
            done = waiting.pop(0)
            skipped = self._frame.results[done.id].status is Status.SKIPPED and done.skip_dependents
            for step in self._dependents[done.index]:
                if self._begun[step.index]:
                    continue
                if skipped or not self._begins(step, done):
                    if skipped or self._can_not_begin(step):
                        self._begun[step.index] = True
                        self._skip(step)
                        waiting.append(step)
                    continue
                self._begun[step.index] = True
                found.append(step)
        return found

    def _begins(self, step: Step, done: Step) -> bool:
        if step.condition is not None:
            sight = Sight(self._frame, self._executor.journal.now(), pending=True)
            return step.condition.holds(sight)
        self._left[step.index] -= 1
        return self._left[step.index] == 0

    def _can_not_begin(self, step: Step) -> bool:
        """Whether a condition is false for good."""
        ids = (self._steps[index].id for index in step.watches)
        return step.condition is not None and all(step_id in self._frame.results for step_id in ids)

    def _skip(self, step: Step) -> None:
        key = self._frame.prefix + step.id
        if key not in self._executor.past.steps:
            self._executor.journal.add(RecordType.STEP_SKIPPED, key, body={"reason": "Dependency"})
        self._frame.record(step, Result(Status.SKIPPED, attempts=0))

    def _entry(self, step: Step) -> Entry:
        frame = self._frame
        before = step.depends or step.watches
        if not before:
            return Entry(frame.entry, frame.entry_source)
        if len(before) == 1:
            known = self._steps[before[0]]
            result = frame.results.get(known.id)
            if result is None or result.status is not Status.SUCCEEDED:
                return Entry(None)
            return Entry(result.output, frame.sources.get(known.id))
        outputs = frame.outputs()
        return Entry({self._steps[i].id: outputs[self._steps[i].id] for i in before if self._steps[i].id in outputs})
