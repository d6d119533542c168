"""How is what completed undone when a Run fails or is cancelled?

A step with `compensate` journals, with its completion, what its undoing will want to see: the results, items and names that
the expressions of `compensate.steps` mention. So undoing needs nothing but the journal: not the frame in which the step ran,
which may be an iteration long gone, a retried scope, or a branch of a process that died. Steps are undone in the reverse
order of their completion, or all at once; each undoing is steps like any others, at `<stepKey>/compensate/...`, so that none
that completed is repeated. One that fails for good is reported and doesn't keep the others from being undone.

Source: sagas (Garcia-Molina and Salem, 1987); compensation of Temporal and of BPMN. Read next: `kastra.engine.conclusion`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kastra.cel import References
from kastra.failpoint import failpoint

from .branches import branches
from .frame import Frame, Result, RunFacts, Status
from .graph import Flow, Scope, Source, Step
from .records import RecordType
from .step import StepError

if TYPE_CHECKING:
    from .context import Place
    from .executor import Executor

FINISHED = "compensate"
"""The key of the decision that says that everything has been undone, and what couldn't be."""

_STANDARD = frozenset({"input", "prev", "steps", "state", "run", "lastError", "error", "output", "value", "event"})


@dataclass(frozen=True, slots=True, eq=False)
class Compensation:
    """How a step is undone.

    Args:
        scope: the steps that do it.
        steps: ids outside of `scope` whose results they mention.
        names: variables of the places around the step that they mention.
        labels: output names outside of `scope` that they take as input.
        call: whether they see `call`, the arguments and the idempotency key of the call that is undone.
    """

    scope: Scope
    steps: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    call: bool = False


def compensation_of(
    scope: Scope, found: Iterable[References | Source], visible: Iterable[str], *, call: bool = False
) -> Compensation:
    """The compensation with the steps of `scope`.

    Args:
        found: everything that its expressions and inputs refer to.
        visible: ids of the steps that can be seen from the step that is undone, its own included.
    """
    steps: set[str] = set()
    names: set[str] = set()
    labels: set[str] = set()
    outside = set(visible)
    for reference in found:
        if isinstance(reference, Source):
            target = {"step": steps, "name": labels}.get(reference.kind)
            if target is not None:
                target.add(reference.name)
            continue
        names |= reference.roots - _STANDARD
        if "steps" in reference.whole:
            steps |= outside
        elif "steps" in reference.roots:
            steps |= set(reference.names("steps"))
    if call:
        names.discard("call")
    return Compensation(scope, tuple(sorted(steps & outside)), tuple(sorted(names)), tuple(sorted(labels)), call)


def captured(step: Step, frame: Frame, place: "Place") -> dict[str, Any]:
    """What the undoing of a step that completes now will see, for its record."""
    how = step.compensate
    assert how is not None
    results = {step_id: result.plain() for step_id in how.steps if (result := frame.find(step_id)) is not None}
    labels: dict[str, Any] = {}
    for label in how.labels:
        try:
            labels[label] = frame.named(label)
        except StepError:
            # Produced inside of the compensation, or not at all: then the input that asks for it says so.
            continue
    names = {name: value for name in how.names if (value := _variable(frame, name)) is not _NOWHERE}
    found = {"steps": results, "names": names, "labels": labels, "call": place.call_made() if how.call else None}
    return {"path": step.path, **{key: value for key, value in found.items() if value}}


_NOWHERE = object()


def _variable(frame: Frame, name: str) -> Any:
    around: Frame | None = frame
    while around is not None:
        if name in around.names:
            return around.names[name]
        around = around.parent
    return _NOWHERE


async def compensate(executor: "Executor", error: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Undo every completed step that says how; returns the problems of those that could not be undone.

    Args:
        error: why the Run failed; None if it was cancelled.
    """
    past, journal, graph = executor.past, executor.journal, executor.plan.graph
    assert graph is not None
    if FINISHED in past.decisions:
        return list(past.decisions[FINISHED])
    done = dict(past.compensable)
    keys = past.compensating
    if keys is None:
        keys = past.compensating = [key for key, _ in reversed(past.compensable)]
        journal.add(RecordType.COMPENSATION_STARTED, body={"steps": keys})
    steps = {step.path: step for step in graph.walk()}
    problems: dict[str, dict[str, Any]] = {}

    async def undo(key: str) -> None:
        body = done[key]
        step = steps[body["compensate"]["path"]]
        failpoint("compensation.before_step")
        try:
            await executor.body(_frame(step, key, body, executor.execution.facts, error))
        except StepError as failure:
            problems[key] = failure.problem()
        journal.start()
        failpoint("compensation.after_step")

    if graph.compensate_at_once:
        async with branches() as started:
            for key in keys:
                started.start(undo, key)
    else:
        for key in keys:
            await undo(key)
    found = [{"stepKey": key, **problems[key]} for key in keys if key in problems]
    journal.add(RecordType.DECISION, FINISHED, body={"value": found})
    return found


def _frame(step: Step, key: str, done: Mapping[str, Any], facts: RunFacts, error: Mapping[str, Any] | None) -> Frame:
    """Where the steps that undo one run: they see what was captured, the step's output, and the error."""
    assert step.compensate is not None
    seen = done["compensate"]
    labels: Mapping[str, Any] = seen.get("labels") or {}
    # A label needs a step that produces it; its id can't be that of a real one.
    producers = tuple(Step(id=f"={label}", kind="set", path="", index=index) for index, label in enumerate(labels))
    outer = Scope(producers, Flow.SEQUENCE, 0, {}, {label: (index,) for index, label in enumerate(labels)})
    around = Frame(outer, facts, names=seen.get("names") or {})
    for step_id, plain in (seen.get("steps") or {}).items():
        around.results[step_id] = Result(Status(plain["status"]), plain["output"], plain["error"], plain["attempts"])
    for label, value in labels.items():
        around.results[f"={label}"] = Result(Status.SUCCEEDED, value)
    output = done["output"]
    names = {"output": output, "error": error, **({"call": seen["call"]} if "call" in seen else {})}
    return Frame(step.compensate.scope, facts, f"{key}/compensate/", around, output, names, source=key)
