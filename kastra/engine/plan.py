"""What does a Run execute? Its closure, compiled once and shared by all Runs of the same closure.

A workflow's closure becomes a graph whose leaves know their targets; any other kind becomes one leaf. A target is handed
to its runner as the closure's object itself, with two more keys: `id`, its own id, and `objects`, everything else in the
closure, so that a runner can follow `refs`.

Read next: `kastra.engine.executor`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from kastra.api.durations import parse_duration
from kastra.api.types import Closure

from .compiler import compile_workflow
from .graph import Flow, Graph, Scope, Step, unsupported
from .retry import NO_RETRY
from .step import StepError
from .tool_compensation import with_compensation


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a runner is handed for a step: see `StepRunner.run`."""

    kind: str
    target: Mapping[str, Any]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A closure ready to be executed.

    Args:
        graph: of a Workflow; None for every other kind.
        leaves: by the path of each leaf step; `""` for the one of a Run without a graph.
        alone: the scope of a Run without a graph, which holds one step.
        timeout: seconds that a Run may take in all; None for no limit.
        id: of what is executed, as `Kind/namespace/name`.
    """

    graph: Graph | None
    leaves: Mapping[str, Leaf]
    alone: Scope
    timeout: float | None
    state: Mapping[str, Any]
    id: str = ""

    @property
    def root(self) -> Step:
        """The step of a Run without a graph."""
        return self.alone.steps[0]


def plan_of(closure: Closure) -> Plan:
    """The plan of a closure.

    Raises:
        GraphError: its workflow isn't sound.
        StepError: it needs something that the executor doesn't do, or an object is missing from it.
    """
    root = closure["objects"][closure["root"]]
    spec = root["spec"]
    if root["kind"] == "Workflow":
        spec, refs = with_compensation(closure)
        graph = compile_workflow(spec)
        refused = unsupported(graph)
        if refused:
            path, feature = refused[0]
            raise StepError("validation", f"{path}: {feature} isn't supported by this version", retryable=False)
        leaves = {step.path: _leaf(step, refs, closure) for step in graph.walk() if step.is_leaf}
        return Plan(graph, leaves, _alone("Workflow"), graph.timeout, graph.state, closure["root"])
    limit = spec.get("timeout") if root["kind"] == "Network" else None
    leaf = Leaf(root["kind"].lower(), _target(closure, closure["root"]), _delivery({}, root["kind"].lower(), spec))
    return Plan(None, {"": leaf}, _alone(root["kind"]), parse_duration(limit) if isinstance(limit, str) else None, {})


@cache
def _alone(kind: str) -> Scope:
    # What is run by itself isn't retried by itself: its own spec says how it copes with failure.
    return Scope((Step(id="", kind=kind.lower(), path="", index=0, retry=NO_RETRY),), Flow.SEQUENCE, 0, {}, {})


def _target(closure: Closure, object_id: str) -> Mapping[str, Any]:
    return {**closure["objects"][object_id], "id": object_id, "objects": closure["objects"]}


def _leaf(step: Step, refs: Mapping[str, str], closure: Closure) -> Leaf:
    body = step.spec[step.kind]
    if step.kind == "python":
        inline: dict[str, Any] = {
            "kind": "Tool",
            "namespace": "",
            "name": step.id,
            "uid": "",
            "generation": 0,
            "refs": {},
        }
        inline |= {"spec": {"python": dict(body)}, "id": "", "objects": closure["objects"]}
        return Leaf("tool", inline, _delivery(step.options, "tool", inline["spec"]))
    where = f"{step.path}.{step.kind}"
    object_id = refs.get(where)
    if object_id is None or object_id not in closure["objects"]:
        raise StepError(
            "validation", f"{where}: {body.get('name')} isn't part of what this Run resolved", retryable=False
        )
    spec = closure["objects"][object_id]["spec"]
    delivery = _delivery(step.options, step.kind, spec)
    if delivery["onInDoubt"] == "probe" and step.kind == "tool" and not spec.get("probe"):
        message = f"{step.path}.onInDoubt: Tool {body.get('name')} names no probe that could find out"
        raise StepError("validation", message, retryable=False)
    return Leaf(step.kind, _target(closure, object_id), delivery)


def _delivery(options: Mapping[str, Any], kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the delivery that holds: the step's, else the tool's, else the workflow's default.

    Where a step says what repeating it would do, that decides unless it says how it is delivered.
    """
    found = dict(options)
    if found.get("sideEffects"):
        found.setdefault("delivery", "AtMostOnce" if found["sideEffects"] == "Unsafe" else "AtLeastOnce")
    fallback = found.pop("defaultDelivery", None)
    own = spec if kind == "tool" else {}
    found.setdefault("delivery", own.get("delivery") or fallback or "AtLeastOnce")
    found.setdefault("onInDoubt", own.get("onInDoubt") or "suspend")
    return found
