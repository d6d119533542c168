"""A member of a network, read: a reference, or a spec of its own.

Read next: `controllers/network.py`.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from . import view_inline
from .view_errors import forbidden, shape_error
from .view_types import Closed, KindRef, short_name, split_plural

_REFS = {"agentRef": "Agent", "workflowRef": "Workflow", "toolRef": "Tool", "networkRef": "Network"}


class Written(NamedTuple):
    """A member as it stands in the object, and where."""

    entry: Any
    kind: str
    path: str


class Member(Closed):
    """One member: a reference, or an inline spec.

    Written as a name, `{name, ref}`, `{name, agentRef}` (or another kind's) or `{name, spec}`; only a `name` means the
    object of that name.
    """

    name: StrictStr = Field(min_length=1)
    kind: StrictStr
    path: StrictStr
    ref: KindRef | None = None
    spec: dict[str, Any] | None = None
    description: StrictStr | None = None
    role: StrictStr | None = None
    responsibilities: list[StrictStr] = Field(default_factory=list)
    max_calls: StrictInt | None = Field(default=None, ge=1)
    can_handoff_to: list[StrictStr] = Field(default_factory=list)
    require_approval: StrictBool | None = None
    context: Literal["full", "lastMessage", "summary", "task"] | None = None
    input_schema: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_short_shapes(cls, data: Any) -> Any:
        return _member(*data) if isinstance(data, Written) else data


def _member(entry: Any, kind: str, path: str) -> Any:
    if isinstance(entry, str):
        entry = {"ref": entry}
    if not isinstance(entry, Mapping):
        return entry
    shaped = {key: value for key, value in entry.items() if key not in _REFS}
    bodies = [key for key in ("ref", *_REFS, "spec") if key in entry]
    if len(bodies) > 1:
        raise shape_error(forbidden(f"{bodies[0]} is already given", bodies[1]))
    responsibilities = shaped.get("responsibilities")
    if isinstance(responsibilities, str):
        shaped["responsibilities"] = [responsibilities]
    shaped |= {"kind": kind, "path": path}
    if bodies == ["spec"]:
        if isinstance(shaped["spec"], Mapping):
            shaped["spec"] = view_inline.normalised(kind, shaped["spec"])
        return shaped
    target = entry[bodies[0]] if bodies else entry.get("name")
    kind = _REFS.get(bodies[0], kind) if bodies else kind
    if isinstance(target, str):
        kind, target = split_plural(target, kind)
        target = {"name": target}
    if isinstance(target, Mapping):
        shaped["ref"] = {"kind": kind, **target}
        shaped["kind"] = shaped["ref"]["kind"]
        if isinstance(target.get("name"), str):
            shaped.setdefault("name", short_name(target["name"]))
    return shaped
