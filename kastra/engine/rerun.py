"""How does a Run repeat another from one of its steps?

The new Run's journal begins with what the old one says of the steps before: their completions, skips, caught failures and
changes of the state, copied in the same commit as RunStarted. From then on it is like any Run that was taken up: those steps
are answered, the first that isn't known is executed. The old Run is only read. Large outputs aren't copied, since both
journals name the same blob.

In a sequence everything that began before the step is taken over; in a graph everything that doesn't depend on it. What was
undone by a compensation can't be taken over: its effects are gone.

Source: resetting a workflow to a point of its history, as in Temporal; retry from a failed node in Argo Workflows. Read next:
`kastra.engine.live`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .expressions import suggest
from .graph import Flow, Graph, Scope
from .history import History
from .records import TERMINAL, Record, RecordType
from .step import StepError

_TOP = re.compile(r"[^/\[#~]+")
_OUTCOMES = frozenset({RecordType.STEP_SCHEDULED, RecordType.STEP_COMPLETED, RecordType.STEP_SKIPPED})
_CAUGHT = frozenset({*_OUTCOMES, RecordType.DECISION, RecordType.TIMER_SET, RecordType.TIMER_FIRED})

Copy = tuple[RecordType, str, int | None, dict[str, Any]]
"""A record to be appended: its type, stepKey, attempt and body."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """What is repeated.

    Args:
        uid: of the old Run.
        name: of the old Run, for people.
        from_step: stepKey at the top from which on steps are executed again; empty for all.
        overrides: outputs to be used in place of executing a step, by stepKey at the top.
        keep_keys: whether its idempotency keys are used again, so that the other side refuses what it has done already.
    """

    uid: str
    name: str
    from_step: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    keep_keys: bool = False


@dataclass(frozen=True, slots=True)
class Beginning:
    """With what the new Run begins: the old one's input and origin, and the records taken over."""

    input: Any
    origin: str
    copies: Sequence[Copy]


def top_of(key: str) -> str:
    """The stepKey at the top that a key belongs to, with the number of its visit: `fan` of `fan[3]/x`."""
    found = _TOP.match(key)
    return found[0] if found else key


async def beginning(history: History, rerun: Rerun, graph: Graph | None) -> Beginning:
    """With what a Run that repeats another begins.

    Args:
        graph: of the workflow as it is now; None for what isn't one.

    Raises:
        StepError: it can't be repeated so (type `validation`).
    """
    row = await history.run(rerun.uid)
    records = await history.records(row.id) if row is not None else []
    if not records or records[0].seq != 1:
        raise _refusal(f"run {rerun.name} has no journal (any more); it is kept as long as the Run's object")
    if records[-1].type not in TERMINAL:
        raise _refusal(f"run {rerun.name} has not ended yet")
    started = records[0].body
    if graph is None:
        if rerun.from_step or rerun.overrides:
            raise _refusal(f"run {rerun.name} is no Run of a workflow, so it has no steps to begin from")
        return Beginning(started["input"], started["origin"], ())
    copies = _copies(records, rerun, graph.scope)
    return Beginning(started["input"], started["origin"], copies)


def _refusal(message: str) -> StepError:
    return StepError("validation", f"rerunOf: {message}", retryable=False)


def _copies(records: Sequence[Record], rerun: Rerun, scope: Scope) -> list[Copy]:
    begun: dict[str, int] = {}
    finished: set[str] = set()
    kinds: dict[str, str] = {}
    undone: set[str] = set()
    for record in records:
        if record.type == RecordType.COMPENSATION_STARTED:
            undone |= {top_of(key) for key in record.body["steps"]}
        if record.key is None or top_of(record.key) in ("finally", "compensate"):
            continue
        top = top_of(record.key)
        begun.setdefault(top, record.seq)
        if record.key == top:
            final = record.type == RecordType.STEP_FAILED and record.body.get("final")
            if final or record.type in (RecordType.STEP_COMPLETED, RecordType.STEP_SKIPPED):
                finished.add(top)
            if record.type == RecordType.STEP_SCHEDULED:
                kinds[top] = record.body.get("kind", "")
    taken = (_before(rerun, begun, scope) & finished) - rerun.overrides.keys()
    for top in sorted(taken & undone):
        raise _refusal(f"step {top} was undone in run {rerun.name}; repeat it from there, or from a step before")
    for top in sorted(taken & kinds.keys()):
        _check(top, kinds[top], rerun, scope)
    # What folded iterations set goes where it was set: another step may have set the same later.
    told = sorted((one for record in records for one in _told(record)), key=lambda record: record.seq)
    found = [copy for record in told if (copy := _copy(record, taken)) is not None]
    for top, output in rerun.overrides.items():
        found += _override(top, output, rerun, scope)
    return found


def _before(rerun: Rerun, begun: Mapping[str, int], scope: Scope) -> set[str]:
    """The steps at the top whose outcomes are taken over."""
    start = rerun.from_step
    if not start:
        return set()
    if start not in begun:
        raise _refusal(
            f'run {rerun.name} never came to step "{start}"{suggest(start, begun)}; it began {", ".join(begun)}'
        )
    if scope.flow is not Flow.DAG:
        return {top for top, seq in begun.items() if seq < begun[start]}
    again = {start}
    for _ in scope.steps:
        # As many rounds as there are steps reach everything that depends on it, however they are listed.
        more = {s.id for s in scope.steps if {scope.steps[i].id for i in (*s.depends, *s.watches)} & again}
        if more <= again:
            break
        again |= more
    return set(begun) - again


def _check(top: str, kind: str, rerun: Rerun, scope: Scope) -> None:
    step_id = top.partition("@")[0]
    if step_id not in scope.index:
        raise _refusal(f"the workflow has changed: it has no step {step_id} any more, which run {rerun.name} had")
    now = scope.steps[scope.index[step_id]].kind
    if now != kind:
        raise _refusal(
            f"the workflow has changed: step {step_id} was of kind {kind} in run {rerun.name} and is of kind {now}"
        )


def _told(record: Record) -> Iterable[Record]:
    """A record, or the changes of the state that a checkpoint keeps."""
    if record.type != RecordType.LOOP_CHECKPOINT:
        return (record,)
    return [
        Record(seq, record.ts, RecordType.STATE_SET, record.key, None, {"values": values})
        for seq, values in record.body["state"]
    ]


def _copy(record: Record, taken: Iterable[str]) -> Copy | None:
    key, kind, body = record.key, RecordType(record.type), record.body
    if key is None or (top := top_of(key)) not in taken:
        return None
    final = kind is RecordType.STEP_FAILED and bool(body.get("final"))
    if key == top:
        wanted = kind in _OUTCOMES or final
    else:
        wanted = key.startswith(f"{top}/catch[") and (kind in _CAUGHT or final)
    if not wanted and kind is not RecordType.STATE_SET:
        return None
    # What it cost was paid by the Run that did it.
    plain = {name: value for name, value in body.items() if name not in ("usage", "copied")}
    return kind, key, record.attempt, {**plain, "copied": record.seq}


def _override(top: str, output: Any, rerun: Rerun, scope: Scope) -> list[Copy]:
    step_id = top.partition("@")[0]
    if step_id not in scope.index:
        raise _refusal(f'there is no step "{step_id}" whose output could be overridden{suggest(step_id, scope.index)}')
    kind = scope.steps[scope.index[step_id]].kind
    found: list[Copy] = [(RecordType.STEP_SCHEDULED, top, 1, {"kind": kind, "input": None})]
    if kind == "set" and isinstance(output, Mapping):
        found.append((RecordType.STATE_SET, top, None, {"values": dict(output)}))
    return [*found, (RecordType.STEP_COMPLETED, top, 1, {"output": output, "overridden": True})]
