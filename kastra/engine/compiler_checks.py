"""Checks of a workflow that need no names: the shape of a body, reachability, cycles, and what isn't executed.

Pure functions of the compiler, each giving causes. Read next: `kastra.engine.compiler`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kastra.api.errors import INVALID, NOT_SUPPORTED, REQUIRED, TYPE_INVALID, Cause

from .graph import END, LEAF_KINDS, Branch, Flow, Scope, Step

_UNSUPPORTED_STEP_FIELDS = ("queue",)
_UNSUPPORTED_WORKFLOW_FIELDS = (
    "streaming", "rollout",
)  # fmt: skip
_JOINS = ("all", "any", "settled")


def features_of(spec: Mapping[str, Any], path: str, kind: str = "") -> list[tuple[str, str]]:
    """(field path, feature) of what a step, or without `kind` a workflow, asks for and the executor doesn't do."""
    if kind:
        return [(f"{path}.{name}", name) for name in _UNSUPPORTED_STEP_FIELDS if spec.get(name)]
    return [(f"{path}.{name}", name) for name in _UNSUPPORTED_WORKFLOW_FIELDS if spec.get(name)]


def delivery_causes(spec: Mapping[str, Any], path: str, kind: str) -> Iterator[Cause]:
    """What a step says of its delivery or its waiting that means nothing for its kind."""
    timeout = spec.get("timeout") or {}
    calls = ("agent", "tool", "python")
    if timeout.get("heartbeat") and kind not in calls:
        yield Cause(
            INVALID, f"Invalid value: a step of kind {kind} shows no life of its own", f"{path}.timeout.heartbeat"
        )
    for field in ("queue", "priority"):
        where, given = (timeout, f"{path}.timeout.queue") if field == "queue" else (spec, f"{path}.priority")
        if where.get(field) and kind not in LEAF_KINDS:
            yield Cause(INVALID, f"Invalid value: a step of kind {kind} waits for no place", given)
    if spec.get("sideEffects") and kind not in ("tool", "python"):
        yield Cause(INVALID, "Invalid value: only a call of a tool has side effects", f"{path}.sideEffects")
    if spec.get("memory") and kind not in ("agent", "network"):
        yield Cause(INVALID, f"Invalid value: a step of kind {kind} goes on with no thread", f"{path}.memory")
    if spec.get("onInDoubt") == "probe" and kind != "tool":
        yield Cause(INVALID, "Invalid value: only a Tool names a probe that could find out", f"{path}.onInDoubt")


def body_causes(kind: str, body: Any, path: str) -> list[Cause]:
    """What is wrong with the fields of a step's body, expressions and nested steps apart."""
    return list(_body_causes(kind, body, path))


def _body_causes(kind: str, body: Any, path: str) -> Iterator[Cause]:
    if body is None:
        return
    if kind == "sleepUntil":
        return
    if not isinstance(body, Mapping):
        yield Cause(TYPE_INVALID, "Invalid value: must be an object", path)
        return
    if kind in LEAF_KINDS:
        yield from _leaf_causes(kind, body, path)
    elif kind == "parallel":
        join = body.get("join", "all")
        if isinstance(join, str) and join not in _JOINS:
            yield _unsupported(join, _JOINS, f"{path}.join")
        elif isinstance(join, int) and not 1 <= join <= len(body.get("steps") or ()):
            yield Cause(INVALID, f"Invalid value: {join}: must be from 1 to the number of steps", f"{path}.join")
    elif kind == "branch":
        yield from _branch_causes(body, path)
    elif kind == "loop":
        if (body.get("while") is None) == (body.get("until") is None):
            yield Cause(REQUIRED, "Required value: exactly one of while and until", path)
        limit = body.get("maxIterations")
        if limit is None:
            yield Cause(REQUIRED, "Required value: a loop always has an end", f"{path}.maxIterations")
        elif not isinstance(limit, int) or limit < 1:
            yield Cause(INVALID, f"Invalid value: {limit}: must be 1 or more", f"{path}.maxIterations")
    elif kind == "forEach":
        if body.get("items") is None:
            yield Cause(REQUIRED, "Required value: a list, or a CEL expression for one", f"{path}.items")
    elif kind == "sleep":
        if body.get("duration") is None and body.get("expression") is None:
            yield Cause(REQUIRED, "Required value: a duration or a CEL expression", path)
    elif kind in ("raise", "emit", "waitForEvent") and not body.get("type"):
        yield Cause(REQUIRED, "Required value", f"{path}.type")


def _leaf_causes(kind: str, body: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if kind == "python":
        if (body.get("entrypoint") is None) == (body.get("inline") is None):
            yield Cause(REQUIRED, "Required value: exactly one of entrypoint and inline", path)
    elif not body.get("name"):
        yield Cause(REQUIRED, "Required value", f"{path}.name")


def _branch_causes(body: Mapping[str, Any], path: str) -> Iterator[Cause]:
    modes = ("first", "all")
    if body.get("mode") not in (None, *modes):
        yield _unsupported(body["mode"], modes, f"{path}.mode")
    cases = body.get("cases") or ()
    if not cases:
        yield Cause(REQUIRED, "Required value: at least one case", f"{path}.cases")
    ways = [(case, f"{path}.cases[{index}]") for index, case in enumerate(cases)]
    for case, where in ways:
        if case.get("when") is None:
            yield Cause(REQUIRED, "Required value: the condition of the case", f"{where}.when")
    if body.get("default"):
        ways.append((body["default"], f"{path}.default"))
    for case, where in ways:
        if (case.get("steps") is None) == (case.get("next") is None):
            yield Cause(REQUIRED, "Required value: exactly one of steps and next", where)
        elif case.get("next") is not None and body.get("mode") == "all":
            yield Cause(INVALID, "Invalid value: with mode all there is no single next step", f"{where}.next")


def _unsupported(value: str, supported: Sequence[str], path: str) -> Cause:
    listed = ", ".join(f'"{word}"' for word in supported)
    return Cause(NOT_SUPPORTED, f'Unsupported value: "{value}": supported values: {listed}', path)


def successors(step: Step) -> set[int]:
    """Indices of the steps that may come right after a step of a Sequence; END is among them."""
    found = {step.next}
    if step.kind == "raise" and step.when is None and not step.continue_on_error:
        found = {step.next for catch in step.catches if catch.next is None}
    if isinstance(step.body, Branch):
        ways = (*step.body.cases, *((step.body.default,) if step.body.default else ()))
        found |= {case.next for case in ways if case.scope is None}
        if step.body.default is not None and all(case.scope is None for case in ways) and not step.body.every:
            found -= {step.next} - {case.next for case in ways}
    return found | {catch.next for catch in step.catches if catch.next is not None}


def unreachable_causes(scope: Scope) -> list[Cause]:
    """Steps of a Sequence that no path leads to."""
    reached, waiting = set(), [scope.initial] if scope.steps else []
    while waiting:
        index = waiting.pop()
        if index in reached or index == END:
            continue
        reached.add(index)
        waiting += successors(scope.steps[index])
    return [
        Cause(
            INVALID, f'Invalid value: no step leads to "{step.id}"; name it in a next, or remove it', f"{step.path}.id"
        )
        for step in scope.steps
        if step.index not in reached
    ]


def has_cycle(scope: Scope) -> bool:
    """Whether a jump in a Sequence can lead backwards."""
    return scope.flow == Flow.SEQUENCE and any(
        target != END and target <= step.index for step in scope.steps for target in successors(step)
    )


def cycle_causes(scope: Scope) -> list[Cause]:
    """A cycle of dependencies in a DAG, if there is one."""
    waiting = {step.index: {*step.depends, *step.watches} for step in scope.steps}
    free = [index for index, others in waiting.items() if not others]
    dependents: dict[int, list[int]] = {}
    for index, others in waiting.items():
        for other in others:
            dependents.setdefault(other, []).append(index)
    while free:
        index = free.pop()
        del waiting[index]
        for dependent in dependents.get(index, ()):
            waiting[dependent].discard(index)
            if not waiting[dependent]:
                free.append(dependent)
    if not waiting:
        return []
    # Every step left waits for another one left, so following them comes back to where it has been.
    trail = [min(waiting)]
    while (following := min(waiting[trail[-1]])) not in trail:
        trail.append(following)
    cycle = trail[trail.index(following) :]
    names = " -> ".join(scope.steps[index].id for index in (*cycle, following))
    return [Cause(INVALID, f"Invalid value: a cycle: {names}", f"{scope.steps[following].path}.dependsOn")]
