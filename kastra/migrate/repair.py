"""Nothing is written that would be refused: what a finished object is refused for is taken out, or the object becomes a stub.

The checks are those of `kastra validate`. A step that doesn't compile is replaced by a call of a stub tool, so that the rest of
its workflow stays; any other field that is refused is dropped. Read next: `kastra.migrate.convert`.
"""

from typing import Any

from kastra.manifest.loader import Manifest
from kastra.manifest.position import PathTuple, Positions, parse_path
from kastra.manifest.problem import Problem

from . import tools
from .context import Context, Draft
from .models import STUB_ADDRESS
from .node import Node

_ROUNDS = 40
_BODIES = ("python", "http", "mcp", "process", "agent", "workflow")
_ESSENTIAL = {
    "Agent": ("model", "modelRef", "instructions", "tools", "outputSchema"),
    "Tool": (*_BODIES, "inputSchema"),
    "Workflow": ("steps", "output", "inputSchema", "input", "state", "initialStep"),
    "Network": ("agents", "workflows", "tools", "networks", "router", "termination"),
    "ModelProvider": ("type", "baseURL", "apiKeyFrom"),
    "Model": ("providerRef", "name"),
}
"""Fields without which an object isn't what it was, so that it becomes a stub."""
_MINIMAL: dict[str, dict[str, Any]] = {
    "Agent": {},
    "Tool": {"process": {"command": [tools.STUB_COMMAND]}},
    "Workflow": {
        "steps": [{"id": "not-migrated", "raise": {"type": "NotMigrated", "title": "the workflow was not migrated"}}]
    },
    "Network": {"agents": [{"name": "not-migrated", "ref": "not-migrated"}]},
    "ModelProvider": {"type": "openai-compatible", "baseURL": STUB_ADDRESS},
    "Model": {"providerRef": "not-migrated", "name": "not-migrated"},
    "System": {},
}
_ADVICE = "write it anew; see `kastra explain`"


def problems_of(ctx: Context, draft: Draft) -> list[Problem]:
    """What `kastra validate` would say of a draft."""
    manifest = Manifest(draft.to_object(), draft.node.origin.file, "", Positions({}))
    return [problem for problem in ctx.check([manifest])[0] if problem.severity == "error"]


def make_valid(ctx: Context) -> None:
    """Repair every draft; those that can't be are taken away, with a line of the report."""
    # Stub tools are made on the way.
    done: set[tuple[str, str, str]] = set()
    while todo := [key for key in ctx.drafts if key not in done]:
        for key in todo:
            done.add(key)
            ctx.secrets.sweep(ctx, ctx.drafts[key])
            if not _repaired(ctx, ctx.drafts[key]):
                draft = ctx.drafts.pop(key)
                ctx.note("not-migrated", draft.about, draft.node, "no object could be made of it", _ADVICE)


def _repaired(ctx: Context, draft: Draft) -> bool:
    tried: set[str] = set()
    for _ in range(_ROUNDS):
        problems = problems_of(ctx, draft)
        if not problems:
            return True
        if not _repair(ctx, draft, problems[0], tried):
            break
    if draft.kind not in _MINIMAL:
        return not problems_of(ctx, draft)
    draft.body["spec"] = {
        key: value if not isinstance(value, (dict, list)) else dict(value) if isinstance(value, dict) else list(value)
        for key, value in _MINIMAL[draft.kind].items()
    }
    problems = problems_of(ctx, draft)
    if problems:
        draft.labels.clear()
        draft.annotations.clear()
        problems = problems_of(ctx, draft)
    ctx.stub(draft, draft.node, "nothing of it could be kept", _ADVICE)
    return not problems


def _repair(ctx: Context, draft: Draft, problem: Problem, tried: set[str]) -> bool:
    """Take out what a problem is about; False if that isn't possible."""
    path = parse_path(problem.field)
    said = problem.message
    if path[:1] == ("metadata",):
        ctx.dropped(draft.about, draft.node, f"{problem.field}: {said}")
        if path[1:2] in (("labels",), ("annotations",)):
            (draft.labels if path[1] == "labels" else draft.annotations).clear()
            return True
        return False
    if path[:1] != ("spec",) or len(path) < 2:
        if draft.kind not in _MINIMAL or "body" in tried:
            return False
        tried.add("body")
        ctx.stub(draft, draft.node, said, _ADVICE)
        for key, value in _MINIMAL[draft.kind].items():
            draft.spec.setdefault(key, value)
        return True
    node = _place(draft, path)
    if path[1] == "steps" and len(path) > 2 and isinstance(path[2], int) and isinstance(draft.spec.get("steps"), list):
        return _repair_step(ctx, draft, path[2], node, f"{problem.field}: {said}", tried)
    key = str(path[1])
    if key not in draft.spec:
        return False
    del draft.spec[key]
    if key in _ESSENTIAL.get(draft.kind, ()):
        ctx.stub(draft, node, f"{problem.field}: {said}", _ADVICE)
        if draft.kind == "Tool" and key in _BODIES:
            draft.spec.update(_MINIMAL["Tool"])
        elif key in _MINIMAL.get(draft.kind, {}) and key not in draft.spec:
            draft.spec[key] = _MINIMAL[draft.kind][key]
    else:
        ctx.dropped(draft.about, node, said)
    return True


def _place(draft: Draft, path: PathTuple) -> Node:
    return next((draft.places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in draft.places), draft.node)


def _repair_step(ctx: Context, draft: Draft, index: int, node: Node, said: str, tried: set[str]) -> bool:
    steps = draft.spec["steps"]
    if index >= len(steps) or not isinstance(steps[index], dict):
        return False
    step = steps[index]
    name = str(step.get("id") or index)
    if name in tried:
        if len(steps) == 1:
            return False
        del steps[index]
        # What stands behind it moves up.
        moved = {
            (*place[:2], place[2] - 1, *place[3:])
            if place[:2] == ("spec", "steps") and len(place) > 2 and isinstance(place[2], int) and place[2] > index
            else place: origin
            for place, origin in draft.places.items()
            if place[:3] != ("spec", "steps", index)
        }
        draft.places = moved
        ctx.stub(draft, node, said, "add the step again")
        return True
    tried.add(name)
    ctx.stub(draft, node, said, "write the step anew")
    made = tools.stub(
        ctx, node, f"{draft.name}-{name}", draft.namespace, f'step "{name}" of {draft.about} could not be converted'
    )
    kept = {key: step[key] for key in ("dependsOn", "next") if isinstance(step.get(key), (str, list))}
    steps[index] = {"id": step.get("id") or f"step-{index + 1}", "tool": made, **kept}
    return True
