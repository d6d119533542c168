"""The status of an object while a pass over it is going on: what was there, what changed, and the one patch at the end.

Attributes of `Status` are fields of the status, in snake_case for camelCase (`ctx.status.document_count`). Nothing is
written before `StatusWriter.patch` compares: a pass that found everything as it was produces no write.

Source: Kubernetes API conventions (conditions, observedGeneration). Read next: `kastra.runtime.context`, its user.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from kastra.api.meta import find_condition, set_condition
from kastra.api.object import Object
from kastra.api.values import copy, equal

FAILED_REASONS = frozenset({"ReconcileError", "TerminalError", "InvalidSpec", "Timeout"})
"""Reasons of Ready=False that `phase` shows as Failed; with any other the object is Pending."""


_SCALARS = frozenset({str, int, float, bool, type(None)})


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    """`document_count` as `documentCount`; a name without underscores stays."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


class Status:
    """Fields of a status by attribute. Reading gives the value set in this pass, else the stored one, else None.

    Setting None, or deleting, removes the field. Values are JSON-like, or have a method `plain` that gives such.
    """

    __slots__ = ("_changes", "_stored")
    _changes: dict[str, Any]
    _stored: Mapping[str, Any]

    def __init__(self, stored: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_stored", stored)
        object.__setattr__(self, "_changes", {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[camel(name)]

    def __setattr__(self, name: str, value: Any) -> None:
        self._changes[camel(name)] = value if type(value) in _SCALARS else _plain(value)

    def __delattr__(self, name: str) -> None:
        self[camel(name)] = None

    def __getitem__(self, field: str) -> Any:
        return self._changes[field] if field in self._changes else self._stored.get(field)

    def __setitem__(self, field: str, value: Any) -> None:
        self._changes[field] = _plain(value)

    @property
    def changes(self) -> Mapping[str, Any]:
        """What was set in this pass, by field; None for what was removed."""
        return self._changes


def _plain(value: Any) -> Any:
    if type(value) in _SCALARS:
        return value
    # Plain lists and dicts come first: whatever else it may be costs more to find out.
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        if hasattr(value, "plain"):
            return value.plain()
        if isinstance(value, tuple):
            return [_plain(item) for item in value]
        if not isinstance(value, Mapping):
            return value
    return {key: item if type(item) in _SCALARS else _plain(item) for key, item in value.items()}


class StatusWriter:
    """Collects what a pass says about one object."""

    def __init__(self, obj: Object, now: str) -> None:
        self._stored = obj.status
        self._generation = obj.generation
        self.fields = Status(self._stored)
        self._now = now
        self._conditions: list[dict[str, Any]] | None = None

    def condition(self, type_: str, status: bool | None, reason: str, message: str) -> None:
        """Set a condition for this generation; None is Unknown."""
        conditions = self._conditions
        if conditions is None:
            conditions = self._conditions = copy(list(self._stored.get("conditions") or ()))
        set_condition(conditions, type_, status, reason, message, now=self._now, generation=self._generation)

    @property
    def conditions(self) -> Sequence[Mapping[str, Any]]:
        """All conditions, with those set in this pass."""
        return self._stored.get("conditions") or () if self._conditions is None else self._conditions

    def patch(self) -> dict[str, Any]:
        """A merge patch of the status with what differs from what is stored; empty when nothing does.

        Adds `observedGeneration`, and `phase` as a mirror of Ready unless the pass set one.
        """
        new: dict[str, Any] = dict(self.fields.changes)
        if self._conditions is not None:
            new["conditions"] = self._conditions
        if self._generation:
            new["observedGeneration"] = self._generation
        ready = find_condition(self.conditions, "Ready")
        if ready is not None:
            new.setdefault("phase", _phase(ready))
        return difference(self._stored, new)


def _phase(ready: Mapping[str, Any]) -> str:
    if ready.get("status") == "True":
        return "Running"
    return "Failed" if ready.get("status") == "False" and ready.get("reason") in FAILED_REASONS else "Pending"


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch (RFC 7386) that gives the fields named in `new` these values; other fields of `old` stay.

    Below the top level a mapping in `new` is complete: keys that only `old` has are removed.
    """
    patch: dict[str, Any] = {}
    for key, value in new.items():
        if key not in old:
            if value is not None:
                patch[key] = value
            continue
        before = old[key]
        if value is None:
            patch[key] = None
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = difference(before, {**dict.fromkeys(before), **value})
            if inner:
                patch[key] = inner
        elif not equal(before, value):
            patch[key] = value
    return patch
