"""What does applying a folder hold back, because it would start work that may cost money?

    Run        spec.desiredState: Suspended
    Schedule   spec.suspend: true
    Workflow   the annotation mastra.ai/hold-schedules, if it has schedules of its own: these are made suspended
    System     the same, if one of its Workflows has: it hands the annotation on

Only on creation, and by a field manager of its own, which in the end owns nothing but that field: later applies of the same
file don't mention it, so they neither hold nor release. Sends nothing. Read next: `kastra.app.applying`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.api.meta import GROUP, HOLD_SCHEDULES
from kastra.api.object import Object

HOLD_MANAGER = "kastra-hold"

_ANNOTATED = ("Workflow", "System")
_FIELDS: Mapping[str, tuple[str, Any]] = {"Run": ("desiredState", "Suspended"), "Schedule": ("suspend", True)}


def starts_work(body: Mapping[str, Any]) -> bool:
    """Whether an object of a manifest starts work by itself."""
    if not str(body["apiVersion"]).startswith(f"{GROUP}/"):
        return False
    if body["kind"] == "Workflow":
        return _is_timed(body.get("spec"))
    if body["kind"] == "System":
        workflows = (body.get("spec") or {}).get("workflows")
        children = workflows if isinstance(workflows, list) else []
        return any(isinstance(child, Mapping) and _is_timed(child.get("spec")) for child in children)
    return body["kind"] in _FIELDS


def _is_timed(spec: Any) -> bool:
    """Whether a Workflow's spec has schedules, in whatever shape."""
    if not isinstance(spec, Mapping):
        return False
    triggers = spec.get("triggers")
    listed = triggers if isinstance(triggers, list) else []
    return spec.get("schedule") is not None or any(isinstance(one, Mapping) and "cron" in one for one in listed)


def unheld(body: dict[str, Any]) -> dict[str, Any]:
    """The object without a word on whether it is held, unless it says itself that it shall do nothing."""
    field, held = _FIELDS.get(body["kind"], ("", None))
    spec = body.get("spec") or {}
    if not field or (body["kind"] == "Schedule" and spec.get(field) == held):
        return body
    return {**body, "spec": {key: value for key, value in spec.items() if key != field}}


def held(body: dict[str, Any]) -> dict[str, Any]:
    """The whole object, held."""
    return _with(unheld(body), _only_hold(body))


def hold_alone(body: Mapping[str, Any]) -> dict[str, Any]:
    """Of the object only that which holds it, for the manager that owns nothing else."""
    return _with(nothing_of(body), _only_hold(body))


def nothing_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Of the object only its name: applied by a manager, that takes back all that it set."""
    metadata = {key: body["metadata"][key] for key in ("name", "namespace") if key in body["metadata"]}
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata}


def is_held(obj: Object) -> bool:
    """Whether something of the sort holds the object now."""
    if obj.kind in _ANNOTATED:
        return HOLD_SCHEDULES in obj.annotations
    field, value = _FIELDS[obj.kind]
    return bool(obj.spec.get(field) == value)


def _only_hold(body: Mapping[str, Any]) -> dict[str, Any]:
    if body["kind"] in _ANNOTATED:
        return {"metadata": {"annotations": {HOLD_SCHEDULES: "true"}}}
    field, value = _FIELDS[body["kind"]]
    return {"spec": {field: value}}


def _with(body: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(body)
    for key, value in more.items():
        merged[key] = _with(dict(merged.get(key) or {}), value) if isinstance(value, Mapping) else value
    return merged
