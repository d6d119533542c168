"""The picture of a workflow, from the normal form of its spec.

Steps become boxes; along `next`, `dependsOn` or the order of the list go the arrows; steps that hold steps become boxes around
them. Handlers (`catch`, `compensate`, `finally`) are drawn inside the step that they belong to. Unknown kinds are drawn by
their name, so a newer spec than this file still gives a picture.

Read next: `kastra.engine.graph`, which describes the normal form.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .model import Arrow, Box, Diagram, Group, clean

_REFERENCES = ("agent", "tool", "workflow", "network")
_HOLDERS = ("parallel", "do", "loop", "forEach")
_KINDS = (
    *_REFERENCES, "python", *_HOLDERS, "branch", "sleep", "sleepUntil", "waitForEvent", "suspend", "approve", "set", "emit", "raise",
)  # fmt: skip
_STEP = re.compile(r"""steps(?:\.([A-Za-z_]\w*)|\[\s*["']([^"']+)["']\s*\])""")
_END = "END"


def workflow_diagram(title: str, spec: Mapping[str, Any]) -> Diagram:
    """The picture of a workflow's plain spec."""
    group = _group("", "", spec, "", top=True)
    for handler in ("finally",):
        steps = spec.get(handler)
        steps = steps.get("steps") if isinstance(steps, Mapping) else steps
        if steps:
            inner = _group(handler, "", {"steps": steps}, f"{handler}/")
            box = Box(handler, handler, handler, "whatever happens", [inner])
            last = next((box.key for box in group.boxes if box.kind == "end"), None)
            group.boxes.append(box)
            if last is not None:
                group.arrows.append(Arrow(last, box.key, dashed=True))
    return Diagram(clean(title, 120), group, clean(spec.get("description") or "", 120))


def _group(key: str, label: str, body: Mapping[str, Any], prefix: str, *, top: bool = False) -> Group:
    steps: Sequence[Mapping[str, Any]] = body.get("steps") or ()
    group = Group(key or "top", clean(label), [_box(step, prefix) for step in steps])
    known = {step["id"]: box.key for step, box in zip(steps, group.boxes, strict=True)}
    if _is_dag(body, steps):
        group.arrows = _depends(steps, known)
        roots = [known[step["id"]] for step in steps if not step.get("dependsOn")]
        sources = {arrow.source for arrow in group.arrows}
        lasts = [box.key for box in group.boxes if box.key not in sources]
    else:
        group.arrows, lasts = _sequence(steps, known, prefix, top)
        first = body.get("initialStep") or (steps[0]["id"] if steps else None)
        roots = [known[first]] if first in known else []
    if top:
        group.boxes.insert(0, Box("start", "start", "start"))
        group.boxes.append(Box("end", "end", "end"))
        group.arrows[:0] = [Arrow("start", root) for root in roots]
        group.arrows += [Arrow(last, "end") for last in lasts]
    return group


def _is_dag(body: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> bool:
    return body.get("flow") == "DAG" or (body.get("flow") is None and any(step.get("dependsOn") for step in steps))


def _depends(steps: Sequence[Mapping[str, Any]], known: Mapping[str, str]) -> list[Arrow]:
    arrows = []
    for step in steps:
        on = step.get("dependsOn")
        conditional = isinstance(on, str)
        names = [a or b for a, b in _STEP.findall(on)] if isinstance(on, str) else list(on or ())
        label = clean(on, 40) if conditional else ""
        own = known[step["id"]]
        arrows += [Arrow(known[name], own, label, conditional) for name in dict.fromkeys(names) if name in known]
    return arrows


def _sequence(
    steps: Sequence[Mapping[str, Any]], known: Mapping[str, str], prefix: str, top: bool
) -> tuple[list[Arrow], list[str]]:
    """The arrows of a sequence, and the boxes after which it ends."""
    arrows: list[Arrow] = []
    lasts: list[str] = []
    for index, step in enumerate(steps):
        own = known[step["id"]]
        goes_on = step.get("next") or (steps[index + 1]["id"] if index + 1 < len(steps) else _END)
        jumps = [(goes_on, "", False), *_jumps(step)]
        if "raise" in step:
            jumps = jumps[1:]
        for target, label, dashed in jumps:
            if target == _END:
                if not dashed:
                    lasts.append(own)
                elif top:
                    arrows.append(Arrow(own, "end", label, True))
            elif target in known:
                arrows.append(Arrow(own, known[target], label, dashed))
    return arrows, lasts


def _jumps(step: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Where a step may lead besides its `next`: cases of a branch and what is caught."""
    found = []
    branch = step.get("branch")
    if isinstance(branch, Mapping):
        cases = [(clean(case.get("when", ""), 40), case) for case in branch.get("cases") or ()]
        if branch.get("default"):
            cases.append(("otherwise", branch["default"]))
        found += [(case["next"], label, True) for label, case in cases if case.get("next")]
    for caught in step.get("catch") or ():
        if caught.get("next"):
            found.append((caught["next"], f"on {', '.join(caught.get('errors') or ('any error',))}", True))
    return found


def _box(step: Mapping[str, Any], prefix: str) -> Box:
    key = f"{prefix}{step['id']}"
    kind = next((kind for kind in _KINDS if kind in step), "step")
    body = step.get(kind)
    box = Box(key, clean(step["id"]), kind, clean(_detail(kind, body, step)))
    if isinstance(body, Mapping):
        if kind in _HOLDERS:
            inner = dict(body) if kind != "parallel" else {"steps": body.get("steps"), "flow": "DAG"}
            box.groups.append(_group(f"{key}/", "", inner, f"{key}/"))
        elif kind == "branch":
            for index, case in enumerate(body.get("cases") or ()):
                if case.get("steps"):
                    segment = f"{key}/case[{index}]"
                    box.groups.append(_group(segment, str(case.get("when", "")), case, f"{segment}/"))
            if (body.get("default") or {}).get("steps"):
                box.groups.append(_group(f"{key}/default", "otherwise", body["default"], f"{key}/default/"))
    for index, caught in enumerate(step.get("catch") or ()):
        if caught.get("steps"):
            segment = f"{key}/catch[{index}]"
            label = f"on {', '.join(caught.get('errors') or ('any error',))}"
            box.groups.append(_group(segment, label, caught, f"{segment}/"))
    undo = step.get("compensate")
    undo = undo.get("steps") if isinstance(undo, Mapping) else undo
    if isinstance(undo, Sequence) and not isinstance(undo, str) and undo:
        box.groups.append(_group(f"{key}/compensate", "to undo it", {"steps": undo}, f"{key}/compensate/"))
    return box


def _detail(kind: str, body: Any, step: Mapping[str, Any]) -> str:
    parts = []
    if kind in _REFERENCES:
        parts.append(body.get("name", "") if isinstance(body, Mapping) else str(body))
    elif isinstance(body, Mapping):
        shown = _SHOWN.get(kind, ())
        parts += [
            f"{name} {body[name]}" if name not in ("type", "duration") else str(body[name])
            for name in shown
            if name in body
        ]
    elif kind in ("sleep", "sleepUntil") and body is not None:
        parts.append(str(body))
    if step.get("when"):
        parts.append(f"if {step['when']}")
    return ", ".join(filter(None, parts))


_SHOWN: Mapping[str, Sequence[str]] = {
    "parallel": ("join", "maxConcurrency"),
    "loop": ("while", "until", "maxIterations"),
    "forEach": ("items", "concurrency"),
    "do": ("flow",),
    "branch": ("mode",),
    "sleep": ("duration", "expression"),
    "waitForEvent": ("type", "count", "timeout"),
    "suspend": ("reason", "timeout"),
    "approve": ("message", "timeout"),
    "emit": ("type",),
    "raise": ("type",),
    "python": ("entrypoint",),
}
