"""Workflows: steps as a list or a map, and all that leads from one to another, as a Sequence or a DAG.

    a step leads to several at once, or steps name what they depend on     ->  DAG: edges become `dependsOn`
    everything else                                                       ->  Sequence: edges become `next` and `branch`

Read next: `kastra.migrate.dynamic`, for workflows that are stored as JSON graphs.
"""

from dataclasses import dataclass, field
from typing import Any

from . import steps as one
from .context import CURRENT, Context, Draft, duration
from .node import Node
from .paths import Scope, select
from .schemas import schema_of
from .tools import retry_policy
from .transitions import END, Edge, Edges, edges_of, step_id

_MAX_DEPTH = 16
_SCHEMA = ("inputSchema", "triggerSchema", "inputs", "parameters")


@dataclass(slots=True)
class _Step:
    """A step on its way: its id, where it stands, what it becomes, and where it leads."""

    id: str
    node: Node
    edges: Edges
    depends: list[str] = field(default_factory=list)
    condition: str = ""
    made: dict[str, Any] = field(default_factory=dict)


def workflow(ctx: Context, node: Node, name: str, namespace: str) -> Draft | None:
    """A Workflow."""
    draft = ctx.draft("Workflow", name, namespace, node)
    if draft is None:
        return None
    spec = draft.spec
    # Where the document says it is of today's version, numbers have today's meaning.
    milliseconds = node.origin.api_version != CURRENT
    shown = node.get("displayName") or (node.get("name") if node.path and node.path[-1] == "spec" else None)
    if shown is not None and shown.text:
        spec["name"] = shown.text
    elif draft.name != name:
        spec["name"] = name
    described = node.get("description")
    if described is not None:
        spec["description"] = str(described.value)
    _schemas(ctx, draft, node)
    timeout = node.get("timeout", "timeoutMs")
    if timeout is not None:
        time = duration(timeout, milliseconds=milliseconds or timeout.path[-1] == "timeoutMs")
        if time is not None:
            spec["timeout"] = time
        else:
            ctx.dropped(draft.about, timeout, "is no duration")
    policy = node.get("retryPolicy", "retryConfig", "retry")
    if policy is not None:
        found = retry_policy(policy)
        if found is not None:
            spec["defaults"] = {"retry": found}
        else:
            ctx.dropped(draft.about, policy, "is no retry policy")
    given = node.get("steps")
    start = node.get("initialStep", "startStep", "start", "entrypoint", "entry")
    scope = Scope()
    if given is not None and isinstance(given.value, (list, dict)) and given.value:
        body, flow, scope = steps_of(
            ctx, draft, given, Scope(), start, milliseconds=milliseconds, path=("spec", "steps")
        )
        spec["steps"] = body
        if flow:
            spec["flow"] = flow
        if start is not None and step_id(start.value) in scope.steps and flow != "DAG":
            spec["initialStep"] = step_id(start.value)
        elif start is not None and flow != "DAG":
            ctx.dropped(draft.about, start, "names no step")
    else:
        spec["steps"] = [{"id": "not-migrated", "raise": {"type": "NotMigrated", "title": "the workflow had no steps"}}]
        ctx.stub(draft, given or node, "a workflow needs at least one step", "write spec.steps")
    _results(ctx, draft, node, scope)
    node.get("id", "version")
    ctx.rest(node, draft, scope)
    return draft


def _schemas(ctx: Context, draft: Draft, node: Node) -> None:
    given = node.get(*_SCHEMA)
    if given is None and isinstance(node.peek("input"), (dict, list)):
        given = node.get("input")
        if given is not None and isinstance(given.value, dict) and "schema" in given.value:
            draft.spec["input"] = given.value
            return
    if given is not None:
        schema = schema_of(given)
        if schema is not None:
            draft.spec["inputSchema"] = schema
            draft.places["spec", "inputSchema"] = given
        else:
            ctx.dropped(draft.about, given, "is no schema", "write a JSON Schema")
    result = node.get("outputSchema")
    if result is not None and isinstance(result.value, dict):
        draft.spec["outputSchema"] = result.value
        draft.places["spec", "outputSchema"] = result


def _results(ctx: Context, draft: Draft, node: Node, scope: Scope) -> None:
    """What a Run gives, from `outputs` with their sources."""
    given = node.get("outputs", "output")
    if given is None:
        return
    if isinstance(given.value, dict) and set(given.value) <= {"schema", "as"}:
        draft.spec["output"] = ctx.rewritten(draft, given, scope).value
        return
    found: dict[str, Any] = {}
    for name, member in given.entries():
        inner = member.get("source", "from", "value") if isinstance(member.value, dict) else None
        if inner is not None and name:
            found[name] = one.source_value(ctx, draft, inner, scope)
        elif isinstance(member.value, str) and isinstance(given.value, dict):
            found[name] = one.source_value(ctx, draft, member, scope)
        else:
            ctx.dropped(draft.about, member, "is an output without a source", "write spec.output.as")
    if found:
        draft.spec["output"] = {"as": found}
        draft.places["spec", "output"] = given


def steps_of(
    ctx: Context,
    draft: Draft,
    node: Node,
    outer: Scope,
    start: Node | None,
    *,
    milliseconds: bool,
    path: tuple[str | int, ...],
    depth: int = 0,
) -> tuple[list[dict[str, Any]], str, Scope]:
    """The steps at `node`, `DAG` if they are one, and the scope in which their expressions are read."""
    found: list[_Step] = []
    taken: set[str] = set()
    for index, (key, member) in enumerate(node.entries("id")):
        name = (
            step_id(member.peek("id") if isinstance(member.value, dict) and member.peek("id") else key)
            or f"step-{index + 1}"
        )
        if not isinstance(member.value, dict):
            ctx.stub(draft, member, "is no step", "write a mapping with an id")
            continue
        if name in taken:
            ctx.stub(draft, member, "its id is already taken", "rename the step")
            continue
        taken.add(name)
        found.append(_Step(name, member, edges_of(member)))
    scope = _scope(found, outer)
    for step in found:
        _depends(ctx, draft, step, scope)
        step.made = _made(ctx, draft, step, scope, milliseconds=milliseconds, depth=depth)
    dag = any(step.depends or step.condition for step in found) or any(_fans_out(step) for step in found)
    listed = _as_dag(ctx, draft, found, scope) if dag else _as_sequence(ctx, draft, found, scope)
    places = {step.id: step.node for step in found}
    for index, made in enumerate(listed):
        origin = places.get(made["id"]) or places.get(str(made["id"]).removesuffix("-next"))
        if origin is not None:
            draft.places[(*path, index)] = origin
    return listed, "DAG" if dag else "", scope


def _scope(found: list[_Step], outer: Scope) -> Scope:
    labels = {label: step.id for step in found if (label := one.label_of(step.node))}
    whole = {step.id: label for step in found if (label := one.label_of(step.node))}
    aliases = dict(outer.aliases)
    for step in found:
        nested = step.node.peek("steps") or step.node.peek("branches")
        if isinstance(nested, (list, dict)) and not isinstance(step.node.peek("parallel"), dict):
            inner = step.node.child("steps" if step.node.peek("steps") else "branches")
            for key, member in inner.entries("id"):
                own = step_id(member.peek("id") or key)
                aliases[own] = select("steps", [step.id, "output", own])
    return Scope(frozenset({*outer.steps, *(step.id for step in found)}), labels, whole, aliases)


def _depends(ctx: Context, draft: Draft, step: _Step, scope: Scope) -> None:
    given = step.node.get("dependsOn", "after", "depends_on", "dependencies")
    if given is None:
        return
    if isinstance(given.value, str):
        names = [given.value]
    elif isinstance(given.value, list):
        names = [
            name
            if isinstance(name, str)
            else str(name.get("step") or name.get("id") or "")
            if isinstance(name, dict)
            else ""
            for name in given.value
        ]
    else:
        names = [""]
    for name in names:
        if step_id(name) in scope.steps:
            step.depends.append(step_id(name))
        elif 'steps["' in name:
            step.condition = name
        else:
            ctx.dropped(draft.about, given, "names no step")


def _made(ctx: Context, draft: Draft, step: _Step, scope: Scope, *, milliseconds: bool, depth: int) -> dict[str, Any]:
    node = step.node
    made: dict[str, Any] = {"id": step.id}
    if node.peek("type") == "condition":
        node.get("type", "condition", "config", "steps", "input", "inputs")
        made["set"] = {}
        return made
    nested = node.get("steps", "branches") if node.peek("type") in ("parallel", None) else None
    own = node.get("parallel")
    if own is not None and isinstance(own.value, dict) and nested is None:
        nested = own.get("steps", "branches")
    elif own is not None and nested is None:
        nested = own
    if nested is not None and isinstance(nested.value, (list, dict)) and nested.value:
        if depth >= _MAX_DEPTH:
            ctx.stub(draft, nested, "its steps are nested too deeply", "write a Workflow of its own")
            made["set"] = {}
            return made
        node.get("type")
        if all(isinstance(item, str) for item in nested.value) and isinstance(nested.value, list):
            ctx.stub(draft, nested, "it runs steps by name that stand elsewhere", "put the steps below parallel.steps")
            made["set"] = {}
            return made
        inner, flow, _ = steps_of(
            ctx, draft, nested, scope, None, milliseconds=milliseconds, path=("",), depth=depth + 1
        )
        for member in inner:
            member.pop("next", None)
        made["parallel"] = {
            "steps": inner if not flow else [{"id": f"{step.id}-steps", "do": {"flow": flow, "steps": inner}}]
        }
    else:
        one.call(ctx, draft, node, made)
    one.common(ctx, draft, node, made, scope, milliseconds=milliseconds)
    return made


def _fans_out(step: _Step) -> bool:
    plain = [edge for edge in step.edges.found if edge.test is None and not edge.otherwise]
    return len(plain) > 1 or any(
        sum(edge.otherwise == way for edge in step.edges.found if edge.test is not None or edge.otherwise) > 1
        and not _cases(step.edges)
        for way in (True, False)
    )


def _cases(edges: Edges) -> bool:
    """Whether each condition has one target, so that the first that holds decides."""
    tests = [edge.test.path for edge in edges.found if edge.test is not None]
    return len(tests) == len(set(tests)) and sum(edge.otherwise for edge in edges.found) <= 1


def _unknown(ctx: Context, draft: Draft, step: _Step, names: set[str]) -> list[Edge]:
    for node in step.edges.unknown:
        ctx.stub(draft, node, "it isn't clear where the step leads", "write next, or a branch step")
    known = []
    for edge in step.edges.found:
        if edge.target == END or edge.target in names:
            known.append(edge)
        else:
            ctx.stub(draft, edge.node, "names no step", "write the id of a step, or END")
    return known


def _as_sequence(ctx: Context, draft: Draft, found: list[_Step], scope: Scope) -> list[dict[str, Any]]:
    names = {step.id for step in found}
    # A step that says nothing goes on with the one below it, unless that is where others lead to: the arm of a branch.
    led_to = {edge.target for step in found for edge in step.edges.found}
    listed: list[dict[str, Any]] = []
    for index, step in enumerate(found):
        edges = _unknown(ctx, draft, step, names)
        following = found[index + 1].id if index + 1 < len(found) else END
        listed.append(step.made)
        conditional = [edge for edge in edges if edge.test is not None]
        rest = [edge for edge in edges if edge.test is None]
        if conditional:
            cases = []
            for edge in conditional:
                assert edge.test is not None
                when = one.condition_of(ctx, draft, edge.test, scope)
                if when is not None:
                    cases.append({"when": when, "next": edge.target})
            otherwise = rest[0].target if rest else END
            if cases:
                branch: dict[str, Any] = {"cases": cases, "default": {"next": otherwise}}
                if step.made.get("set") == {} and step.node.peek("type") == "condition":
                    step.made.pop("set")
                    step.made["branch"] = branch
                else:
                    name = f"{step.id[:58]}-next"
                    listed.append({"id": name, "branch": branch})
            elif otherwise != following:
                step.made["next"] = otherwise
        elif rest:
            if rest[0].target != following:
                step.made["next"] = rest[0].target
        elif following in led_to:
            step.made["next"] = END
    return listed


def _as_dag(ctx: Context, draft: Draft, found: list[_Step], scope: Scope) -> list[dict[str, Any]]:
    by_id = {step.id: step for step in found}
    tests: dict[str, list[str]] = {}
    for step in found:
        for edge in _unknown(ctx, draft, step, set(by_id)):
            if edge.target == END:
                continue
            target = by_id[edge.target]
            if step.id not in target.depends:
                target.depends.append(step.id)
            if edge.test is not None:
                when = one.condition_of(ctx, draft, edge.test, scope)
                if when is not None:
                    tests.setdefault(edge.target, []).append(when)
            elif edge.otherwise:
                others = [
                    one.condition_of(ctx, draft, other.test, scope)
                    for other in step.edges.found
                    if other.test is not None
                ]
                negated = [f"!({when})" for when in dict.fromkeys(others) if when]
                if negated:
                    tests.setdefault(edge.target, []).append(" && ".join(negated))
    for name, whens in tests.items():
        step = by_id[name]
        if len(whens) > 1 or len(step.depends) > 1 or "when" in step.made:
            ctx.stub(draft, step.node, "several conditions lead to it", "write its condition as when")
        step.made["when"] = " || ".join(f"({when})" for when in whens) if len(whens) > 1 else whens[0]
    for step in found:
        step.made.pop("next", None)
        if step.condition:
            step.made["dependsOn"] = step.condition
        elif step.depends:
            step.made["dependsOn"] = step.depends
    return [step.made for step in found]
