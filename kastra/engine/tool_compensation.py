"""How is a step undone that doesn't say so itself, but whose Tool does? By a step that calls the Tool's `compensate.toolRef`.

A workflow with `onError: compensate` is given such steps before it is compiled, so that the rest of the engine knows nothing of them:

    compensate: {steps: [{id: undo, tool: <toolRef>, with: {arguments, output, idempotencyKey, error}}]}

`arguments` and `idempotencyKey` are those of the call that is undone, `output` what it gave, `error` why the Run failed. Steps of
`finally` and of compensations aren't undone. Read next: `kastra.engine.compensation`, `kastra.engine.plan`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kastra.api.types import Closure

UNDO = "undo"
"""Id of the step that undoes."""

_REF = "spec.compensate.toolRef"
_GIVEN = {
    "arguments": "${{ call.arguments }}",
    "output": "${{ output }}",
    "idempotencyKey": "${{ call.idempotencyKey }}",
    "error": "${{ error }}",
}
_BODIES = ("parallel", "loop", "forEach", "do")


def with_compensation(closure: Closure) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """The spec of the closure's Workflow, and its references, with what its Tools say of their undoing."""
    root = closure["objects"][closure["root"]]
    spec, refs = root["spec"], root["refs"]
    objects = closure["objects"]
    undoable = {
        path: objects[tool]["refs"][_REF]
        for path, tool in refs.items()
        if tool in objects and objects[tool]["refs"].get(_REF) in objects
    }
    if spec.get("onError") != "compensate" or not undoable:
        return spec, refs
    more: dict[str, str] = {}
    steps = _steps(spec.get("steps") or (), "spec.steps", undoable, closure, more)
    return {**spec, "steps": steps}, {**refs, **more}


def _steps(
    steps: Sequence[Mapping[str, Any]], path: str, undoable: Mapping[str, str], closure: Closure, more: dict[str, str]
) -> list[Mapping[str, Any]]:
    return [_step(step, f"{path}[{index}]", undoable, closure, more) for index, step in enumerate(steps)]


def _step(
    step: Mapping[str, Any], path: str, undoable: Mapping[str, str], closure: Closure, more: dict[str, str]
) -> Mapping[str, Any]:
    def below(part: Mapping[str, Any], where: str) -> dict[str, Any]:
        if not part.get("steps"):
            return dict(part)
        return {**part, "steps": _steps(part["steps"], f"{where}.steps", undoable, closure, more)}

    found = dict(step)
    for name in _BODIES:
        if found.get(name):
            found[name] = below(found[name], f"{path}.{name}")
    branch = found.get("branch")
    if branch:
        cases = [below(case, f"{path}.branch.cases[{index}]") for index, case in enumerate(branch.get("cases") or ())]
        found["branch"] = {**branch, "cases": cases}
        if branch.get("default"):
            found["branch"]["default"] = below(branch["default"], f"{path}.branch.default")
    if found.get("catch"):
        found["catch"] = [below(catch, f"{path}.catch[{index}]") for index, catch in enumerate(found["catch"])]
    target = undoable.get(f"{path}.tool") if found.get("tool") else None
    if target is not None and not (found.get("compensate") or {}).get("steps"):
        tool = closure["objects"][target]
        reference = {"name": tool["name"], "namespace": tool["namespace"]}
        found["compensate"] = {
            "ofTool": True,
            "steps": [{"id": UNDO, "tool": reference, "input": {"with": dict(_GIVEN)}}],
        }
        more[f"{path}.compensate.steps[0].tool"] = target
    return found
