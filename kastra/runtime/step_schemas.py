"""Which schemas stand in the steps of a workflow, and where? So that one that is no schema is refused when it is applied.

Read next: `controllers/workflow.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Any


def resume_schemas(node: Mapping[str, Any], path: str) -> Iterator[tuple[Any, str]]:
    """The `resumeSchema` of every suspend step below a node of the normal form, nested ones included, with their paths."""
    for name in ("steps", "finally"):
        for index, step in enumerate(node.get(name) or ()):
            yield from _of_step(step, f"{path}.{name}[{index}]")


def _of_step(step: Mapping[str, Any], path: str) -> Iterator[tuple[Any, str]]:
    schema = (step.get("suspend") or {}).get("resumeSchema")
    if schema is not None:
        yield schema, f"{path}.suspend.resumeSchema"
    for field in ("parallel", "loop", "forEach", "do", "compensate"):
        if step.get(field):
            yield from resume_schemas(step[field], f"{path}.{field}")
    branch = step.get("branch") or {}
    for index, case in enumerate(branch.get("cases") or ()):
        yield from resume_schemas(case, f"{path}.branch.cases[{index}]")
    if branch.get("default"):
        yield from resume_schemas(branch["default"], f"{path}.branch.default")
    for index, catch in enumerate(step.get("catch") or ()):
        yield from resume_schemas(catch, f"{path}.catch[{index}]")
