"""`for`: a loop, in which every iteration gets what the one before it gave.

The list is worked out once, in a step of its own, and so is the item of each iteration, under names that inner loops don't
hide. Read next: `kastra.migrate.serverless.tasks`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kastra.migrate.node import Node

from .place import Unmapped, condition, expression, literal

if TYPE_CHECKING:
    from .tasks import Task

MAX_ITERATIONS = 10_000
"""Loops must have a limit here."""


def for_(task: "Task", node: Node) -> dict[str, Any]:
    """The step of a `for` task."""
    converter, whole = task.converter, task.node
    among, body, test = node.get("in"), whole.get("do"), whole.get("while")
    each, at = node.get("each"), node.get("at")
    if among is None or body is None:
        raise Unmapped(node, "lacks in or do")
    value_id, list_id, loop_id, before_id, item_id, body_id = (
        converter.fresh(f"{task.id}-{what}") for what in ("value", "list", "each", "before", "item", "body")
    )
    value, items, item = (f'steps["{name}"].output' for name in (value_id, list_id, item_id))
    names = {
        literal(each, "the name of an item") if each is not None else "item": "item",
        literal(at, "the name of an index") if at is not None else "index": "index",
    }
    before = replace(
        task.seen,
        dot=f"(iteration == 0 ? {value} : prev)",
        nothing=True,
        names={
            **task.seen.names,
            **{name: f"{items}[iteration]" if part == "item" else "iteration" for name, part in names.items()},
        },
    )
    inside = replace(
        task.seen,
        dot="prev",
        nothing=True,
        names={**task.seen.names, **{name: f"{item}.{part}" for name, part in names.items()}, "input": "prev"},
    )
    goes_on = f"iteration < size({items})"
    if test is not None:
        goes_on = f"{goes_on} && {condition(test, before)}"
    loop = {
        "while": goes_on,
        "maxIterations": MAX_ITERATIONS,
        "steps": [
            {"id": before_id, "set": {}, "output": {"as": "${{ prev }}"}},
            {
                "id": item_id,
                "set": {},
                "output": {
                    "as": {"item": f"${{{{ {items}[iteration - 1] }}}}", "index": "${{ iteration - 1 }}"},
                },
            },
            {"id": body_id, "input": {"from": before_id}, "do": {"steps": task.steps(body, inside)}},
        ],
    }
    # Without an iteration the value is that from before.
    nothing = "output == null" if test is not None else f"size({items}) == 0"
    found = expression(among, replace(task.seen, dot="prev"))
    return {
        "do": {
            "steps": [
                {"id": value_id, "set": {}, "output": {"as": f"${{{{ {task.seen.dot} }}}}"}},
                {"id": list_id, "set": {}, "output": {"as": f"${{{{ {found} }}}}"}},
                {
                    "id": loop_id,
                    "input": {"from": value_id},
                    "loop": loop,
                    "output": {"as": f"${{{{ {nothing} ? {value} : output }}}}"},
                },
            ]
        }
    }
