"""Which changes matter to a controller? Small functions `(old, new) -> bool` that drop the others before they are queued.

An addition has no old, a deletion no new; every predicate here but `deleted` lets both through. Dropping a change is safe
only when no reconcile could act on it, so the defaults of `Controller` drop nothing but what they say. An informer asks each
predicate once per change, however many handlers name it; so name these, rather than lambdas that say the same.

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


def deleted(old: Object | None, new: Object | None) -> bool:
    """The object is gone; nothing else matters."""
    return new is None


def generation_changed(old: Object | None, new: Object | None) -> bool:
    """The spec changed. Kinds without a generation (Secret, ConfigMap): every change matters."""
    if old is None or new is None:
        return True
    generation = new.generation
    return not generation or old.generation != generation


def changed_besides_status(old: Object | None, new: Object | None) -> bool:
    """The spec changed, or labels, annotations, finalizers, owners or the wish to delete: all but the status."""
    if old is None or new is None:
        return True
    before, after = old.metadata, new.metadata
    generation = after.get("generation")
    if not generation or before.get("generation") != generation:
        return True
    for key in _METADATA:  # noqa: SIM110 - asked for every change of every kind
        if before.get(key) != after.get(key):
            return True
    return False


def ready_changed(old: Object | None, new: Object | None) -> bool:
    """The Ready condition has another status or reason, what can be called is another, or the wish to delete came up."""
    if old is None or new is None or old.deleting != new.deleting:
        return True
    before, after = old.status, new.status
    for key in _OFFERED:
        if before.get(key) != after.get(key):
            return True
    if before.get("conditions") == after.get("conditions"):
        return False
    was, is_now = old.condition("Ready") or {}, new.condition("Ready") or {}
    return was.get("status") != is_now.get("status") or was.get("reason") != is_now.get("reason")


def came_went_or_ended(old: Object | None, new: Object | None) -> bool:
    """A Run, or what else becomes Complete, is there now, is gone, or has ended."""
    if old is None or new is None:
        return True
    return old.is_condition_true("Complete") != new.is_condition_true("Complete")


def any_of(*predicates: Predicate) -> Predicate:
    """Matters to at least one of them."""

    def matters(old: Object | None, new: Object | None) -> bool:
        for predicate in predicates:  # noqa: SIM110 - asked for every change of every kind
            if predicate(old, new):
                return True
        return False

    return matters


referred_changed = any_of(generation_changed, ready_changed)
"""What may matter to whoever refers to an object: its spec, and whether it can be used."""
