"""Which changes matter to a controller? Small functions `(old, new) -> bool` that drop the others before they are queued.

An addition has no old, a deletion no new; every predicate here lets both through. Dropping a change is safe only when no
reconcile could act on it, so the defaults of `Controller` drop nothing but what they say.

Source: controller-runtime's pkg/predicate. Read next: `kastra.runtime.controller`.
"""

from collections.abc import Callable

from kastra.api.object import Object

Predicate = Callable[[Object | None, Object | None], bool]

_METADATA = ("deletionTimestamp", "finalizers", "labels", "annotations", "ownerReferences")

_OFFERED = ("schemaHash", "quarantinedCount")
"""What the status of a Tool or an MCPServer says of what can be called."""


def always(old: Object | None, new: Object | None) -> bool:
    """Every change matters."""
    return True


def generation_changed(old: Object | None, new: Object | None) -> bool:
    """The spec changed. Kinds without a generation (Secret, ConfigMap): every change matters."""
    return old is None or new is None or not new.generation or old.generation != new.generation


def changed_besides_status(old: Object | None, new: Object | None) -> bool:
    """The spec changed, or labels, annotations, finalizers, owners or the wish to delete: all but the status."""
    if old is None or new is None or generation_changed(old, new):
        return True
    before, after = old.metadata, new.metadata
    return any(before.get(key) != after.get(key) for key in _METADATA)


def ready_changed(old: Object | None, new: Object | None) -> bool:
    """The Ready condition has another status or reason, what can be called is another, or the wish to delete came up."""
    if old is None or new is None or old.deleting != new.deleting:
        return True
    if any(old.status.get(key) != new.status.get(key) for key in _OFFERED):
        return True
    before, after = old.condition("Ready") or {}, new.condition("Ready") or {}
    return any(before.get(key) != after.get(key) for key in ("status", "reason"))


def any_of(*predicates: Predicate) -> Predicate:
    """Matters to at least one of them."""
    return lambda old, new: any(predicate(old, new) for predicate in predicates)
