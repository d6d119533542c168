"""What happens between the end of a workflow's steps and the terminal record: compensation, then `finally`.

The outcome is journaled first, together with how each step at the top went. From there on nothing before it is looked at
again: whatever `finally` does to the state, whenever the process dies, the Run ends as it was going to end then. A Run that
is cancelled passes through here as one that failed does; a second cancellation changes nothing.

A `finally` that fails makes a Run fail that had succeeded; one that had failed keeps its own error, with the other beside it.

Source: exit handlers of Argo Workflows; `try/finally`. Read next: `kastra.engine.compensation`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kastra.failpoint import failpoint

from .compensation import compensate
from .context import plain
from .frame import Frame, Result, Status
from .graph import Graph
from .past import Past
from .progress import Phase
from .records import RecordType
from .step import StepError

if TYPE_CHECKING:
    from .executor import Executor

OUTCOME = "finally"
"""The key of the decision that holds the outcome, and the first part of the stepKeys of `finally`."""


class Outcome(NamedTuple):
    """How a Run ends: a terminal phase, and the body of its terminal record."""

    phase: Phase
    body: dict[str, Any]


def concludes(key: str | None) -> bool:
    """Whether a record at this key belongs to the conclusion of a Run, or to the Run as a whole."""
    return key is None or key == "compensate" or key.partition("/")[0] == OUTCOME or "/compensate/" in key


def recorded_outcome(past: Past) -> Outcome | None:
    """The outcome that the journal knows already, if the steps had ended when the process died."""
    value = past.decisions.get(OUTCOME)
    return None if value is None else Outcome(Phase(value["phase"]), dict(value["body"]))


async def conclude(executor: "Executor", outcome: Outcome) -> Outcome:
    """Undo what has to be undone and run `finally`; returns how the Run ends after that.

    Raises:
        JournalError: the journal can't be written; the Run can be taken up again.
    """
    graph, past = executor.plan.graph, executor.past
    if graph is None:
        return outcome
    known = recorded_outcome(past)
    undone = graph.compensates and (known or outcome).phase is not Phase.SUCCEEDED and bool(past.compensable)
    if known is None:
        if graph.finally_ is None and not undone:
            return outcome
        failpoint("conclusion.before_outcome")
        outcome = _record(executor, outcome)
        executor.journal.start()
        failpoint("conclusion.after_outcome")
    else:
        outcome = known
    executor.begin_conclusion()
    body = dict(outcome.body)
    if undone:
        problems = await compensate(executor, body.get("error"))
        if problems:
            body = _with_details(body, "compensation", problems)
    ending = Outcome(outcome.phase, body)
    if graph.finally_ is not None:
        ending = await _finally(executor, graph, ending)
    failpoint("conclusion.before_end")
    return ending


async def _finally(executor: "Executor", graph: Graph, outcome: Outcome) -> Outcome:
    assert graph.finally_ is not None
    body = outcome.body
    names = {"error": body.get("error"), "outcome": outcome.phase.value}
    top = executor.top or _restored(executor, graph)
    frame = Frame(graph.finally_, top.facts, f"{OUTCOME}/", top, body.get("output"), names)
    try:
        await executor.body(frame)
    except StepError as failure:
        problem = failure.problem()
        executor.journal.add(RecordType.FINALLY_DONE, body={"error": problem})
        if outcome.phase is Phase.SUCCEEDED:
            return Outcome(Phase.FAILED, {"error": problem, "stopReason": "Failed"})
        return Outcome(outcome.phase, _with_details(body, "finally", problem))
    executor.journal.add(RecordType.FINALLY_DONE)
    return outcome


def _with_details(body: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    error: dict[str, Any] = dict(body.get("error") or {"type": "cancelled", "title": "the Run was cancelled"})
    details: Mapping[str, Any] = error.get("details") or {}
    return {**body, "error": {**error, "details": {**details, name: value}}}


def _record(executor: "Executor", outcome: Outcome) -> Outcome:
    """Journal the outcome, and how the steps at the top went, for a process that has to go on from here."""
    value = {"phase": outcome.phase.value, "body": outcome.body, "steps": _steps(executor.top)}
    body: dict[str, Any] = {"value": value}
    if outcome.body.get("sensitive"):
        body["sensitive"] = True
    data = executor.journal.add(RecordType.DECISION, OUTCOME, body=body)
    return Outcome(outcome.phase, plain(body, data, "value")["body"])


def _steps(top: Frame | None) -> dict[str, Any]:
    """Results by id in the order of completion; an output that another record holds is named by its stepKey."""
    found: dict[str, Any] = {}
    for step_id, result in (top.results if top is not None else {}).items():
        entry: dict[str, Any] = result.plain()
        found[step_id] = entry
        source = top.sources.get(step_id) if top is not None else None
        if source is not None:
            del entry["output"]
            entry["from"] = source
    return found


def _restored(executor: "Executor", graph: Graph) -> Frame:
    """The frame of the top as it was when the steps ended."""
    facts, past = executor.execution.facts, executor.past
    top = Frame(graph.scope, facts, entry=facts.input, source="")
    recorded = past.decisions.get(OUTCOME) or {}
    for step_id, entry in (recorded.get("steps") or {}).items():
        source = entry.get("from")
        done = past.steps[source].done if source is not None else None
        output = entry.get("output") if done is None else done["output"]
        result = Result(Status(entry["status"]), output, entry["error"], entry["attempts"])
        top.record(graph.scope.steps[graph.scope.index[step_id]], result, source)
    return top
