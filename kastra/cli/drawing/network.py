"""The picture of a network: its router, its members, and who may pass the work on to whom.

Read next: `kastra.agent.network`, which executes one.
"""

from collections.abc import Mapping
from typing import Any

from .model import Arrow, Box, Diagram, Group, clean

_STOPS = ("END", "FINISH")


def network_diagram(title: str, spec: Mapping[str, Any]) -> Diagram:
    """The picture of a network's plain spec (the normal form, with `members`)."""
    router: Mapping[str, Any] = spec.get("router") or {}
    mode = str(router.get("mode") or "router")
    members = [member for member in spec.get("members") or () if isinstance(member, Mapping)]
    group = Group(
        "top", "", [Box("start", "start", "start"), Box("router", mode, "router", _router_detail(spec, router))]
    )
    group.arrows.append(Arrow("start", "router"))
    names = {str(member.get("name")) for member in members}
    for member in members:
        name = str(member.get("name"))
        kind = str(member.get("kind") or (member.get("ref") or {}).get("kind") or "Agent").lower()
        parts = [clean(member.get("description") or "")]
        if member.get("maxCalls"):
            parts.append(f"at most {member['maxCalls']} calls")
        if name == spec.get("defaultAgent"):
            parts.append("default")
        group.boxes.append(Box(f"member/{name}", clean(name), kind, clean(", ".join(filter(None, parts)))))
        group.arrows.append(Arrow("router", f"member/{name}"))
        for other in member.get("canHandoffTo") or ():
            if other in names:
                group.arrows.append(Arrow(f"member/{name}", f"member/{other}", "hands off", True))
    group.boxes.append(Box("end", "end", "end"))
    for rule in router.get("rules") or ():
        target = "end" if rule.get("next") in _STOPS else f"member/{rule.get('next')}"
        if target == "end" or rule.get("next") in names:
            group.arrows.append(Arrow("router", target, clean(rule.get("when", ""), 40), True))
    if not any(arrow.target == "end" for arrow in group.arrows):
        group.arrows.append(Arrow("router", "end"))
    return Diagram(clean(title, 120), group, clean(spec.get("description") or "", 120))


def _router_detail(spec: Mapping[str, Any], router: Mapping[str, Any]) -> str:
    parts = []
    model = router.get("model")
    if isinstance(model, Mapping):
        parts.append("/".join(str(model[name]) for name in ("provider", "name") if model.get(name)))
    steps = router.get("maxSteps") or (spec.get("termination") or {}).get("maxSteps")
    if steps:
        parts.append(f"at most {steps} steps")
    return ", ".join(parts)
