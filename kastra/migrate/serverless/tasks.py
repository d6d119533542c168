"""Tasks to steps, one for one: the value of a step is what the task gives, and `.` of the next is `prev`.

    set, do, wait, raise, emit, listen     set, do, sleep, raise, emit, waitForEvent
    switch                                 branch whose cases are jumps
    fork                                   parallel; `compete` waits for any
    for                                    loop, since what one iteration gives is what the next one gets
    try                                    do with retry and catch
    call: http, run: workflow              tool, workflow
    if, then, input.from, output.as,       when, next, input.with, output.as, output.export (as state.context),
    export.as, timeout                     timeout.total

A task that has no exact counterpart becomes a call of a stub tool; the rest of the workflow stays. Read next:
`kastra.migrate.serverless.faults`.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from kastra.migrate import tools
from kastra.migrate.naming import namespace_name, object_name
from kastra.migrate.node import Node
from kastra.migrate.transitions import step_id

from . import calls, events, faults, loops
from .cel import Seen
from .jq import NotExact
from .place import Converter, Unmapped, condition, duration, literal, template, transformed

Step = dict[str, Any]
KINDS = ("set", "do", "switch", "for", "fork", "try", "raise", "wait", "emit", "listen", "call", "run")
"""Where a task has several of these, the first of the list says what it is: `for` and `try` come with `do` and `catch`."""
_ORDER = ("for", "try", "switch", "fork", "raise", "wait", "emit", "listen", "call", "run", "set", "do")
COMMON = ("if", "input", "output", "export", "timeout", "then", "metadata")
_RESERVED = frozenset({"case", "default", "catch", "compensate", "finally", "END", "end", "input", "user-input"})
_CARRYING = frozenset({"do", "for", "try", "fork", "switch", "wait"})
CONTEXT = "state.?context.orValue(null)"
"""CEL for `$context`: what tasks exported last."""
MAX_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Task:
    """A task.

    Args:
        seen: what its expressions see once its input is transformed.
        ids: of the tasks beside it, by name.
        depth: how many tasks are around it.
    """

    converter: Converter
    node: Node
    id: str
    seen: Seen
    ids: dict[str, str]
    depth: int

    def steps(self, node: Node, seen: Seen) -> list[Step]:
        """The steps of tasks inside this one."""
        return convert(self.converter, node, seen, self.depth + 1)


def convert(converter: Converter, node: Node, seen: Seen, depth: int = 0) -> list[Step]:
    """The steps of a list of tasks, `[{name: task}, ...]`. Raises Unmapped."""
    if depth > MAX_DEPTH:
        raise Unmapped(node, f"tasks are nested more than {MAX_DEPTH} deep")
    entries = _entries(node)
    if not entries:
        raise Unmapped(node, "there are no tasks")
    ids: dict[str, str] = {}
    taken: set[str] = set()
    for name, task in entries:
        if name in ids:
            raise Unmapped(task, f'two tasks are named "{name}"')
        wanted = step_id(name) or "task"
        ids[name] = converter.beside(wanted if wanted not in _RESERVED else f"{wanted}-task", taken)
        converter.fresh(ids[name])
    steps: list[Step] = []
    for name, task in entries:
        made = _steps(Task(converter, task, ids[name], seen, ids, depth))
        steps += made
        if depth == 0:
            converter.places += [task] * len(made)
        if seen.nothing and not task.has("if") and task.has("set"):
            # From here on there is a value, unless a jump leaves it out.
            seen = replace(seen, nothing=any(other.has("switch", "then") for _, other in entries))
    return steps


def _entries(node: Node) -> list[tuple[str, Node]]:
    if isinstance(node.value, dict):
        # The form of the first drafts of the language.
        return [(name, node.child(name)) for name in node.value]
    found = []
    items: list[Any] = node.value if isinstance(node.value, list) else []
    for index, item in enumerate(items):
        if not isinstance(item, dict) or len(item) != 1:
            raise Unmapped(node.child(index), "a task is a mapping with its name as the only key")
        ((name, _),) = item.items()
        found.append((name, node.child(index).child(name)))
    return found


def _steps(task: Task) -> list[Step]:
    """The steps of a task; a call of a stub if there are none."""
    try:
        step = _made(task)
    except NotExact as error:
        step = _stub(task, error)
    if "when" in step and "next" in step:
        # A directive counts for a task that is done; one that is skipped goes on with what follows.
        inner = {key: part for key, part in step.items() if key not in ("id", "when")}
        name = task.converter.fresh(f"{task.id}-then")
        cases = [{"when": step["when"], "next": name}]
        test = {"branch": {"mode": "first", "cases": cases, "default": {"next": _following(task)}}}
        return [{"id": task.id, **test}, {"id": name, **inner}]
    return [step]


def _stub(task: Task, error: NotExact) -> Step:
    """A call of a tool that isn't there, under the task's condition and with what follows it, where these can be told."""
    ctx, draft = task.converter.ctx, task.converter.draft
    place = error.node if isinstance(error, Unmapped) else task.node
    name = task.converter.fresh(f"{draft.name}-{task.id}")
    made = tools.stub(ctx, place, name, draft.namespace, f'task "{task.id}": {error}')
    step: Step = {"id": task.id, "tool": made}
    test, then = (task.node.get(key) if isinstance(task.node.value, dict) else None for key in ("if", "then"))
    with suppress(NotExact):
        if test is not None:
            step["when"] = condition(test, task.seen)
    with suppress(NotExact):
        if then is not None and not task.node.has("switch") and (target := jump(task, then)) is not None:
            step["next"] = target
    return step


def _made(task: Task) -> Step:
    node = task.node
    if not isinstance(node.value, dict):
        raise Unmapped(node, "a task is a mapping")
    kinds = [kind for kind in _ORDER if node.has(kind)]
    if not kinds:
        raise Unmapped(node, f"is none of the tasks that are known: {', '.join(KINDS)}")
    kind = kinds[0]
    step: Step = {"id": task.id}
    given = {name: node.get(name) for name in COMMON}
    if given["if"] is not None:
        step["when"] = condition(given["if"], task.seen)
    task, value = _with_input(task, given["input"], kind)
    step |= _KINDS[kind](task, node.child(kind))
    node.get(*(("for", "while", "do") if kind == "for" else ("try", "catch") if kind == "try" else (kind,)))
    if kind == "call":
        node.get("with")
    if value is not None:
        before = {"id": task.converter.fresh(f"{task.id}-from"), "set": {}, "output": {"as": value}}
        inner = {key: part for key, part in step.items() if key not in ("id", "when")}
        outer: Step = {key: step[key] for key in ("id", "when") if key in step}
        step = {**outer, "do": {"steps": [before, {"id": task.converter.fresh(f"{task.id}-task"), **inner}]}}
    step = _with_output(task, step, given["output"], given["export"], carried=value is not None)
    if given["timeout"] is not None:
        step["timeout"] = {"total": timeout_of(task.converter, given["timeout"])}
    if given["then"] is not None and kind != "switch":
        target = jump(task, given["then"])
        if target is not None:
            step["next"] = target
    for left in node.untaken():
        task.converter.ctx.dropped(task.converter.draft.about, left)
    return step


def timeout_of(converter: Converter, node: Node) -> str:
    """The duration of a timeout, or of the one that it names. Raises Unmapped."""
    found = converter.reusable("timeouts", node)
    after = found.get("after")
    if after is None:
        raise Unmapped(found, "lacks after")
    return duration(after)


def jump(task: Task, node: Node) -> str | None:
    """Where a flow directive leads to; None for the next task. Raises Unmapped."""
    to = node.text
    if to == "continue":
        return None
    if to == "exit" or (to == "end" and task.depth == 0):
        return "END"
    if to == "end":
        raise Unmapped(node, "ends the whole workflow from within a task, which no step can")
    if to not in task.ids:
        raise Unmapped(node, f'leads to "{to}", which isn\'t beside it')
    return task.ids[to]


def _with_input(task: Task, node: Node | None, kind: str) -> tuple[Task, Any]:
    """The task as it sees its transformed input, and a template of that where steps inside need it as a value."""
    seen = replace(task.seen, names={**task.seen.names, "context": CONTEXT, "input": task.seen.dot})
    value: Any = None
    taken = node.get("from") if node is not None else None
    if taken is not None:
        value = transformed(taken, seen)
        if kind in _CARRYING or not isinstance(value, str):
            seen = replace(seen, dot="prev", nothing=True, names={**seen.names, "input": "prev"})
        else:
            # A step that passes nothing on by itself names the value where it needs it.
            dot = f"dyn({value.removeprefix('${{ ').removesuffix(' }}')})"
            seen, value = replace(seen, dot=dot, nothing=True, names={**seen.names, "input": dot}), None
        if value is not None and kind == "switch":
            raise Unmapped(taken, "transforms the input of a switch task; do it in a set task before")
    for left in node.untaken() if node is not None else ():
        task.converter.ctx.dropped(task.converter.draft.about, left)
    return replace(task, seen=seen), value


def _with_output(task: Task, step: Step, output: Node | None, export: Node | None, *, carried: bool) -> Step:
    """The step with its output reshaped and exported."""
    given = output.get("as") if output is not None else None
    made: dict[str, Any] = {}
    names = {**task.seen.names, "output": "output"}
    if carried:
        # What went in stands in a step inside, out of sight of this one.
        del names["input"]
    after = replace(task.seen, dot="output", nothing=True, names=names)
    if given is not None:
        if "output" in step or task.node.has("switch"):
            # The step reshapes its own value already.
            if task.node.has("switch"):
                raise Unmapped(given, "transforms the output of a switch task; do it in a set task behind")
            outer: Step = {key: step[key] for key in ("id", "when") if key in step}
            inner = {key: part for key, part in step.items() if key not in ("id", "when")}
            step = {**outer, "do": {"steps": [{"id": task.converter.fresh(f"{task.id}-value"), **inner}]}}
        made["as"] = transformed(given, after)
    schema = output.get("schema") if output is not None else None
    found = schema_of(schema) if schema is not None else None
    if schema is not None and found is None:
        task.converter.ctx.dropped(task.converter.draft.about, schema, "is no JSON Schema that stands in the document")
    taken = export.get("as") if export is not None else None
    if taken is not None:
        made["export"] = {"context": transformed(taken, after)}
    if made:
        step["output"] = {**step.get("output", {}), **made}
    for section in (output, export):
        for left in section.untaken() if section is not None else ():
            task.converter.ctx.dropped(task.converter.draft.about, left)
    if found is not None:
        # Checked where it means the value as it is passed on.
        task.converter.ctx.dropped(
            task.converter.draft.about, schema or task.node, "is checked by workflows and tools only"
        )
    return step


def schema_of(node: Node) -> dict[str, Any] | None:
    """The JSON Schema that `{format, document}` holds; None if it lies elsewhere or is of another kind."""
    kind, document = node.get("format"), node.get("document")
    node.get("resource")
    if document is None or not isinstance(document.value, dict):
        return None
    if kind is not None and not str(kind.value).startswith("json"):
        return None
    return dict(document.value)


# --- the kinds ---------------------------------------------------------------------------------------------------


def _set(task: Task, node: Node) -> Step:
    if isinstance(node.value, dict) and "context" not in node.value:
        return {"set": template(node, task.seen)}
    return {"set": {}, "output": {"as": transformed(node, task.seen)}}


def _do(task: Task, node: Node) -> Step:
    inside = replace(task.seen, dot="prev", names={**task.seen.names, "input": "prev"})
    return {"do": {"steps": task.steps(node, inside)}}


def _wait(task: Task, node: Node) -> Step:
    return {"sleep": duration(node)}


def _raise(task: Task, node: Node) -> Step:
    given = node.get("error")
    if given is None:
        raise Unmapped(node, "lacks error")
    error = task.converter.reusable("errors", given)
    made: dict[str, Any] = {"type": literal(error.get("type"), "the type of an error")}
    for name in ("title", "detail"):
        value = error.get(name)
        if value is not None:
            made[name] = template(value, task.seen)
    status = error.get("status")
    if status is not None:
        if not isinstance(status.value, int):
            raise Unmapped(status, "isn't a number that is written out")
        made["status"] = status.value
    for left in error.untaken():
        task.converter.ctx.dropped(task.converter.draft.about, left)
    return {"raise": made}


def _switch(task: Task, node: Node) -> Step:
    cases, default = [], None
    for _, case in _entries(node):
        then, when = case.get("then"), case.get("when")
        target = (jump(task, then) if then is not None else None) or _following(task)
        if when is None:
            default = {"next": target}
        else:
            cases.append({"when": condition(when, task.seen), "next": target})
    if default is None:
        given = task.node.get("then")
        default = {"next": (jump(task, given) if given is not None else None) or _following(task)}
    if not cases:
        raise Unmapped(node, "has no case with a condition")
    return {"branch": {"mode": "first", "cases": cases, "default": default}}


def _following(task: Task) -> str:
    ids = list(task.ids.values())
    place = ids.index(task.id) + 1
    return ids[place] if place < len(ids) else "END"


def _fork(task: Task, node: Node) -> Step:
    given = node.get("branches")
    if given is None:
        raise Unmapped(node, "lacks branches")
    # Beside each other steps see no step before them, so what goes in has a name.
    held = task.converter.fresh(f"{task.id}-input")
    dot = f'steps["{held}"].output'
    steps = task.steps(given, replace(task.seen, dot=dot, names={**task.seen.names, "input": dot}))
    for step in steps:
        if "next" in step or "next" in str(step.get("branch", "")):
            raise Unmapped(given, "holds a flow directive, and branches have no order")
        if step.get("when"):
            raise Unmapped(given, 'holds a condition ("if"), and a branch without a value has no place in the list')
    compete = node.get("compete")
    fork: Step = {"parallel": {"steps": steps}, "output": {"as": values_of([step["id"] for step in steps])}}
    if compete is not None and compete.value is True:
        fork = {
            "parallel": {"steps": steps, "join": "any"},
            "output": {"as": "${{ output.map(k, output[k])[0] }}"},
        }
    before = {"id": held, "set": {}, "output": {"as": f"${{{{ {task.seen.dot} }}}}"}}
    return {"do": {"steps": [before, {"id": task.converter.fresh(f"{task.id}-branches"), **fork}]}}


def values_of(ids: Sequence[str]) -> list[str]:
    """A template of the list of the values of steps, in order."""
    return [f'${{{{ output["{name}"] }}}}' for name in ids]


def _run(task: Task, node: Node) -> Step:
    target = node.get("workflow")
    for other in ("container", "script", "shell"):
        if node.has(other):
            raise Unmapped(node.child(other), f"runs a {other}; write a Tool")
    if target is None:
        raise Unmapped(node, "runs nothing that is known")
    wait = node.get("await")
    if wait is not None and wait.value is False:
        raise Unmapped(wait, "doesn't wait for the workflow that it starts")
    name = object_name(literal(target.get("name"), "the name of a workflow"))
    if not name:
        raise Unmapped(target, "names a workflow that no object can have")
    namespace = target.get("namespace")
    known = namespace_name(literal(namespace, "a namespace")) if namespace is not None else ""
    target.get("version")
    value = target.get("input")
    step: Step = {"workflow": {"name": name, "namespace": known} if known not in ("", "default") else name}
    if value is None:
        return step
    if isinstance(value.value, dict):
        return {**step, "with": template(value, task.seen)}
    held = task.converter.fresh(f"{task.id}-input")
    before = {"id": held, "set": {}, "output": {"as": template(value, task.seen)}}
    return {"do": {"steps": [before, {"id": task.converter.fresh(f"{task.id}-run"), **step}]}}


_KINDS = {
    "set": _set, "do": _do, "wait": _wait, "raise": _raise, "switch": _switch, "fork": _fork, "run": _run,
    "for": loops.for_, "try": faults.try_, "emit": events.emit, "listen": events.listen, "call": calls.call,
}  # fmt: skip
