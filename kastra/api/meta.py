"""ObjectMeta and conditions: the part that every object has in common. Standard library only.

Objects in code are of two forms: an immutable `kastra.api.object.Object` over bytes, which is what clients hand out, and
a plain `dict` that is being built or changed. These functions work on the plain form.

Source: Kubernetes API conventions, apimachinery metav1. Read next: `kastra.api.object`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

GROUP = "mastra.ai"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"
DEFAULT_NAMESPACE = "default"
HOLD_SCHEDULES = f"{GROUP}/hold-schedules"
"""Annotation of a Workflow whose schedules are made suspended; a System hands it on to its Workflows."""

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class ObjectRef(NamedTuple):
    """Which object: `kind` is anything `Scheme.find` understands (`Agent`, `agents`, `ag`, `agents.mastra.ai`).

    `namespace` is empty for cluster-scoped kinds.
    """

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"


def split_api_version(api_version: str) -> tuple[str, str]:
    """`mastra.ai/v1` as (`mastra.ai`, `v1`); the core group is empty: `v1` is (``, `v1`)."""
    group, _, version = api_version.rpartition("/")
    return group, version


def join_api_version(group: str, version: str) -> str:
    """The inverse of `split_api_version`."""
    return f"{group}/{version}" if group else version


def is_dns_label(text: str) -> bool:
    """RFC 1123 label: what a namespace's name must be."""
    return len(text) <= 63 and _DNS_LABEL.fullmatch(text) is not None


def is_dns_subdomain(text: str) -> bool:
    """RFC 1123 subdomain: what most objects' names must be."""
    return len(text) <= 253 and _DNS_SUBDOMAIN.fullmatch(text) is not None


def find_condition(conditions: Sequence[Mapping[str, Any]] | None, type_: str) -> Mapping[str, Any] | None:
    """The condition of that type, or None."""
    for condition in conditions or ():
        if condition.get("type") == type_:
            return condition
    return None


def set_condition(
    conditions: list[dict[str, Any]],
    type_: str,
    status: bool | None,
    reason: str,
    message: str,
    *,
    now: str,
    generation: int,
) -> None:
    """Set one condition in place, the way of apimachinery's `meta.SetStatusCondition`.

    Args:
        conditions: the list in an object's status; keyed by `type`.
        type_: PascalCase condition type.
        status: True, False, or None for Unknown.
        reason: PascalCase and machine-readable; never empty.
        message: for people; cut at 32,768 characters as in Kubernetes.
        now: RFC 3339 time; becomes `lastTransitionTime` only when `status` changes.
        generation: of the spec that this condition speaks of.
    """
    value = "Unknown" if status is None else "True" if status else "False"
    new = {
        "type": type_,
        "status": value,
        "observedGeneration": generation,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message[:32768],
    }
    for index, old in enumerate(conditions):
        if old.get("type") == type_:
            if old.get("status") == value and old.get("lastTransitionTime"):
                new["lastTransitionTime"] = old["lastTransitionTime"]
            conditions[index] = new
            return
    conditions.append(new)


def owner_reference(
    owner: Mapping[str, Any], *, controller: bool = True, block_owner_deletion: bool = True
) -> dict[str, Any]:
    """An ownerReference to the object `owner` (a parsed object with a uid)."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": controller,
        "blockOwnerDeletion": block_owner_deletion,
    }
