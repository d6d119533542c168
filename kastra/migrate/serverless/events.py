"""`emit` and `listen`: events out and in.

What `listen` gives is a list of what came: of the events' data, or with `read: envelope` of the events. Read next:
`kastra.migrate.serverless.tasks`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kastra.migrate.node import Node

from .cel import Seen, quoted
from .place import Unmapped, condition, is_expression, literal, template

if TYPE_CHECKING:
    from .tasks import Task

_DATA = "?data.orValue(null)"


def emit(task: "Task", node: Node) -> dict[str, Any]:
    """The step of an `emit` task."""
    event = node.get("event")
    given = event.get("with") if event is not None else None
    if given is None:
        raise Unmapped(node, "lacks event.with")
    made: dict[str, Any] = {"type": literal(given.get("type"), "the type of an event")}
    for name in ("subject", "data"):
        value = given.get(name)
        if value is not None:
            made[name] = template(value, task.seen)
    for left in given.untaken():
        reason = "is that of the Run here" if left.path[-1] in ("source", "id", "time") else "has no counterpart"
        task.converter.ctx.dropped(task.converter.draft.about, left, reason)
    whole = {name: f"${{{{ output.{name} }}}}" for name in ("id", "source", "type")}
    given_on = {name: made[name] for name in ("subject", "data") if name in made}
    # The task gives the event as a whole.
    return {"emit": made, "output": {"as": {"specversion": "1.0", **whole, **given_on}}}


def listen(task: "Task", node: Node) -> dict[str, Any]:
    """The step of a `listen` task."""
    to, read = node.get("to"), node.get("read")
    if to is None or not isinstance(to.value, dict):
        raise Unmapped(node, "lacks to")
    if task.node.has("foreach"):
        raise Unmapped(task.node.child("foreach"), "does something for each event of a stream")
    if read is not None and read.value not in ("data", "envelope"):
        raise Unmapped(read, "reads events raw")
    rest = "" if read is not None and read.value == "envelope" else f".{_DATA}"
    if to.has("until"):
        raise Unmapped(to.child("until"), "listens for as many events as come")
    one = to.get("one")
    if one is not None:
        return {"waitForEvent": _filter(task, one), "output": {"as": [f"${{{{ output{rest} }}}}"]}}
    many, join = to.get("any"), "any"
    if many is None:
        many, join = to.get("all"), "all"
    if many is None or not isinstance(many.value, list) or not many.value:
        raise Unmapped(to, "listens to everything, and events are waited for by type here")
    steps = [
        {"id": task.converter.fresh(f"{task.id}-{index + 1}"), "waitForEvent": _filter(task, many.child(index))}
        for index in range(len(many.value))
    ]
    if len(steps) == 1:
        return {"waitForEvent": steps[0]["waitForEvent"], "output": {"as": [f"${{{{ output{rest} }}}}"]}}
    if join == "any":
        listed: Any = f"${{{{ output.map(k, output[k]{rest}) }}}}"
    else:
        listed = [f'${{{{ output["{step["id"]}"]{rest} }}}}' for step in steps]
    return {"parallel": {"steps": steps, "join": join}, "output": {"as": listed}}


def _filter(task: "Task", node: Node) -> dict[str, Any]:
    given = node.get("with")
    if given is None or not isinstance(given.value, dict):
        raise Unmapped(node, "lacks with, and events are waited for by type here")
    made: dict[str, Any] = {"type": literal(given.get("type"), "the type of an event")}
    tests = []
    for key in given.value:
        field = given.child(key)
        given.get(key)
        if key == "type":
            continue
        if is_expression(field.value):
            seen = Seen("event" if key == "data" else f"event.?{key}.orValue(null)", False, task.seen.names)
            if key == "data":
                seen = replace(seen, dot="dyn(event.data)")
            tests.append(condition(field, seen))
        elif key in ("source", "subject"):
            made[key] = literal(field, f"the {key} of an event")
        elif key == "data" and isinstance(field.value, dict):
            tests += [
                f"event.data[?{quoted(name)}].orValue(null) == {_plain(field.child(name))}" for name in field.value
            ]
        else:
            tests.append(f"event[?{quoted(key)}].orValue(null) == {_plain(field)}")
    if tests:
        made["filter"] = " && ".join(tests)
    for left in node.untaken():
        raise Unmapped(left, "correlates events; write waitForEvent.correlate")
    return made


def _plain(node: Node) -> str:
    value = node.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return quoted(literal(node, "what an event is compared with"))
