"""What does a CustomResourceDefinition say of itself? Derived names, stored versions, conditions, clashes of names.

In Kubernetes controllers write this status some time after the definition; here it is complete in the first write.
Works on plain objects that have passed the light schema, but nothing else yet.

Source: apiextensions-apiserver (pkg/controller/{status,establish}). Read next: `kastra.apiserver.crds`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kastra.api.meta import find_condition

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


def complete(obj: dict[str, Any], others: Iterable[Mapping[str, Any]], now: str) -> None:
    """Fill the names that follow from the kind, and the status.

    Args:
        others: the accepted names of all other kinds in the group.
        now: RFC 3339 time for conditions that change.
    """
    spec = obj["spec"]
    names, kind = dict(spec["names"]), spec["names"].get("kind") or ""
    names["singular"] = names.get("singular") or kind.lower()
    names["listKind"] = names.get("listKind") or (f"{kind}List" if kind else "")
    obj["spec"] = {**spec, "names": names, "conversion": spec.get("conversion") or {"strategy": "None"}}
    status = obj["status"] = {**(obj.get("status") or {})}
    stored = list(status.get("storedVersions") or ())
    for version in spec["versions"]:
        if version.get("storage") and version.get("name") not in stored:
            stored.append(version.get("name"))
    status["storedVersions"] = stored
    found = clash(names, others)
    if found is None:
        status["acceptedNames"] = names
        set_condition(status, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now)
        message = "the initial names have been accepted"
        set_condition(status, "Established", "True", "InitialNamesAccepted", message, now)
        return
    reason, name = found
    status.setdefault("acceptedNames", {"plural": "", "kind": ""})
    set_condition(status, "NamesAccepted", "False", reason, f'"{name}" is already in use', now)
    if not is_true(status, "Established"):
        set_condition(status, "Established", "False", "NotAccepted", "not all names are accepted", now)


def clash(names: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The first name that another kind of the group has: the condition's reason, and the name. None if all are free."""
    others = list(others)
    taken = {n for other in others for n in (other["plural"], other["singular"], *(other.get("shortNames") or ()))}
    kinds = {n for other in others for n in (other["kind"], other["listKind"])}
    for field, used in (("plural", taken), ("singular", taken), ("kind", kinds), ("listKind", kinds)):
        if names.get(field) in used:
            return f"{field[0].upper()}{field[1:]}Conflict", names[field]
    for short in names.get("shortNames") or ():
        if short in taken:
            return "ShortNamesConflict", short
    return None


def begin_termination(obj: dict[str, Any], now: str) -> None:
    """Hold the definition until its objects are gone, and say so."""
    metadata = obj["metadata"]
    metadata["finalizers"] = [*(metadata.get("finalizers") or ()), CLEANUP]
    message = "CustomResourceDefinition marked for deletion; CustomResource deletion will be initiated soon"
    status = obj["status"] = {**(obj.get("status") or {})}
    set_condition(status, "Terminating", "True", "InstanceDeletionPending", message, now)


def is_true(status: Mapping[str, Any], type_: str) -> bool:
    """Whether a condition is there and True."""
    condition = find_condition(status.get("conditions"), type_)
    return condition is not None and condition.get("status") == "True"


def set_condition(status: dict[str, Any], type_: str, value: str, reason: str, message: str, now: str) -> None:
    """Set a condition as definitions have them, without observedGeneration. The old list stays as it was."""
    conditions = [dict(condition) for condition in status.get("conditions") or ()]
    new = {"type": type_, "status": value, "lastTransitionTime": now, "reason": reason, "message": message}
    for index, old in enumerate(conditions):
        if old.get("type") == type_:
            if old.get("status") == value:
                new["lastTransitionTime"] = old.get("lastTransitionTime", now)
            conditions[index] = new
            break
    else:
        conditions.append(new)
    status["conditions"] = conditions
