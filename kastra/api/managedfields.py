"""Who owns which field? Server-side apply, and the tracking of all other writes.

`apply` merges what a manager wants into the live object: fields it takes from others are conflicts, fields it no longer
mentions go unless somebody else owns them. `track_update` notes after any other write which fields it took. Ownership is
kept in metadata.managedFields, one entry for each manager, operation and subresource.

Entries in and out are the plain dicts of the API, in Kubernetes' order. Identity fields of metadata are never owned, and
`status` only through the status subresource, where the kind has one. Nothing here validates, defaults or stores.

Source: structured-merge-diff's merge.Updater and apimachinery's util/managedfields. Read next: `kastra.api.merging`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kastra.clock import parse_rfc3339, rfc3339

from . import errors
from .fieldset import FieldSet, difference, fields_of, intersection, parse, paths, union, without
from .merging import compare, covers, merge, prune
from .topology import Node, root_of
from .values import copy, equal

Entry = dict[str, Any]

APPLY = "Apply"
UPDATE = "Update"
MAX_UPDATE_MANAGERS = 10
"""Beyond this many Update entries the oldest are joined under `ANCIENT_CHANGES`, as in Kubernetes."""
ANCIENT_CHANGES = "ancient-changes"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_UNOWNED_METADATA = frozenset(
    ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
     "deletionGracePeriodSeconds", "selfLink", "clusterName", "managedFields")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What applying leads to.

    Args:
        object: the merged object with its new managedFields. The caller's own to change (but for the entries, which share
            parts with the old ones), except when `changed` is False: then it is the live object itself.
        changed: whether it differs from the live object in anything, managedFields included.
    """

    object: dict[str, Any]
    changed: bool


def apply(
    live: dict[str, Any] | None,
    applied: Mapping[str, Any],
    *,
    manager: str,
    force: bool,
    topology: Node | None,
    now: str,
    api_version: str,
    subresource: str = "",
    has_status: bool = True,
) -> ApplyResult:
    """Merge `applied` into `live` on behalf of `manager`.

    Args:
        live: the stored object; None to create one. Not changed.
        applied: exactly what `manager` wants to own. Not changed; its managedFields are ignored.
        manager: name of the field manager.
        force: take fields that others own instead of failing.
        topology: of the kind, see `kastra.api.topology`; metadata's own is added here.
        now: RFC 3339 time for the manager's entry, used only if something changes.
        api_version: `group/version` in which `applied` is written.
        subresource: empty for the object itself; with `status` only its status counts.
        has_status: whether the kind has the status subresource, so that status is ignored elsewhere.

    Raises:
        Conflict: others own fields that would change; one cause of type FieldManagerConflict for each.
    """
    root = root_of(topology)
    wanted = _tracked(applied, subresource, has_status)
    fields = fields_of(wanted, root)
    if live is None:
        entries = [_entry(manager, APPLY, api_version, now, fields, subresource)] if fields else []
        rest = {key: applied[key] for key in ("apiVersion", "kind", "metadata") if key in applied}
        return ApplyResult(_assemble(copy(wanted), _untracked(rest, subresource, has_status), entries), True)

    before = _tracked(live, subresource, has_status)
    entries = _entries_of(live)
    mine = next((e for e in entries if _is(e, manager, APPLY, "", subresource)), None)
    same_fields = mine is not None and mine["apiVersion"] == api_version and mine["fieldsV1"] == fields
    if same_fields and covers(before, wanted, root):
        return ApplyResult(live, False)

    merged = merge(before, wanted, root)
    others = [entry for entry in entries if entry is not mine]
    if mine is not None:
        owned: FieldSet = fields
        for entry in others:
            owned = union(owned, entry["fieldsV1"])
        prune(merged, root, mine["fieldsV1"], owned)
    changes = compare(before, merged, root)
    taken = union(changes.added, changes.modified)
    if not force:
        _refuse_conflicts(others, taken, lambda: _client_side_applied(live, root, manager, api_version))
    changed = bool(taken or changes.removed) or not equal(before, merged)
    entries = _reduce(others, taken, changes.removed)
    if fields:
        kept = mine if same_fields and not changed else None
        entries.append(kept or _entry(manager, APPLY, api_version, now, fields, subresource))
    entries.sort(key=_order)
    if not changed and entries == _entries_of(live):
        return ApplyResult(live, False)
    rest = {**_untracked(live, subresource, has_status), "apiVersion": api_version}
    return ApplyResult(_assemble(merged, rest, entries), True)


def track_update(
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any],
    *,
    manager: str,
    topology: Node | None,
    now: str,
    api_version: str,
    subresource: str = "",
    has_status: bool = True,
) -> list[Entry]:
    """The managedFields that `new` must have after a create, update or patch by `manager`.

    Entries that the client wrote into `new` are honoured; `[{}]` resets them all. What can't be read, and an empty list
    (clients that don't know the field send it), leaves the entries of `old`. A subresource can't change others' entries.

    Args:
        old: the object before; None when it is created. Not changed.
        new: the object as it is about to be stored. Not changed.
        manager: name of the field manager.
        topology: of the kind.
        now: RFC 3339 time for the manager's entry, used only if it took a field.
        api_version: `group/version` in which the client wrote.
        subresource: `status`, `scale`, or empty.
        has_status: whether the kind has the status subresource.
    """
    entries = _entries_of(old) if old is not None else []
    if not subresource:
        sent = _entries_of(new)
        if sent == [{}]:
            entries = []
        elif sent and sent != entries:
            entries = decode(sent) or entries
    before = _tracked(old, subresource, has_status) if old is not None else {}
    changes = compare(before, _tracked(new, subresource, has_status), root_of(topology))
    if old is None and not entries:
        # All there is is new, and nobody else's.
        fields = changes.added
        return [_entry(manager, UPDATE, api_version, now, fields, subresource)] if fields else []
    taken = union(changes.added, changes.modified)
    if taken or changes.removed:
        entries = _reduce(entries, taken, changes.removed)
    if taken:
        mine = next((e for e in entries if _is(e, manager, UPDATE, api_version, subresource)), None)
        if mine is not None:
            entries.remove(mine)
            taken = union(mine["fieldsV1"], taken)
        entries.append(_entry(manager, UPDATE, api_version, now, taken, subresource))
    return sorted(_cap(entries), key=_order)


def decode(raw: Any) -> list[Entry] | None:
    """The entries that a client sent, in canonical form and order; None if anything in them is not valid."""
    if not isinstance(raw, list):
        return None
    entries: list[Entry] = []
    for item in raw:
        fields = parse(item.get("fieldsV1", {})) if isinstance(item, dict) else None
        if fields is None or item.get("operation") not in (APPLY, UPDATE) or item.get("fieldsType") != "FieldsV1":
            return None
        texts = [item.get(key, "") for key in ("manager", "apiVersion", "time", "subresource")]
        if not all(isinstance(text, str) for text in texts) or not texts[1]:
            return None
        try:
            texts[2] = texts[2] and rfc3339(parse_rfc3339(texts[2]))
        except ValueError:
            return None
        entry = _entry(texts[0], item["operation"], texts[1], texts[2], fields, texts[3])
        # As in Kubernetes the last of several entries of one manager counts.
        entries = [e for e in entries if not _is(e, texts[0], item["operation"], texts[1], texts[3])]
        if fields:
            entries.append(entry)
    return sorted(entries, key=_order)


def _tracked(obj: Mapping[str, Any], subresource: str, has_status: bool) -> dict[str, Any]:
    """The part of an object whose fields are owned through that endpoint."""
    if subresource == "status":
        return {"status": obj["status"]} if "status" in obj else {}
    out = {}
    for key, value in obj.items():
        if key == "metadata":
            if metadata := {k: v for k, v in (value or {}).items() if k not in _UNOWNED_METADATA}:
                out[key] = metadata
        elif key not in ("apiVersion", "kind") and not (has_status and key == "status"):
            out[key] = value
    return out


def _untracked(obj: Mapping[str, Any], subresource: str, has_status: bool) -> dict[str, Any]:
    """What `_tracked` leaves out, except managedFields."""
    metadata = obj.get("metadata") or {}
    if subresource == "status":
        rest = {key: value for key, value in obj.items() if key != "status"}
        rest["metadata"] = {key: value for key, value in metadata.items() if key != "managedFields"}
        return rest
    rest = {key: obj[key] for key in ("apiVersion", "kind", *(("status",) if has_status else ())) if key in obj}
    rest["metadata"] = {k: v for k, v in metadata.items() if k in _UNOWNED_METADATA and k != "managedFields"}
    return rest


def _assemble(tracked: dict[str, Any], rest: Mapping[str, Any], entries: list[Entry]) -> dict[str, Any]:
    """The whole object again, from its two parts; `tracked` is used up, `rest` copied."""
    out: dict[str, Any] = copy(rest)
    out["metadata"].update(tracked.pop("metadata", {}))
    if entries:
        out["metadata"]["managedFields"] = entries
    out.update(tracked)
    return out


def _entries_of(obj: Mapping[str, Any]) -> list[Entry]:
    """The entries that an object has. Stored ones are canonical, because only this module writes them."""
    entries = (obj.get("metadata") or {}).get("managedFields")
    return list(entries) if isinstance(entries, list) else []


def _entry(manager: str, operation: str, api_version: str, time: str, fields: FieldSet, subresource: str) -> Entry:
    entry: Entry = {"manager": manager, "operation": operation, "apiVersion": api_version}
    if time:
        entry["time"] = time
    entry["fieldsType"] = "FieldsV1"
    entry["fieldsV1"] = fields
    if subresource:
        entry["subresource"] = subresource
    return entry


def _is(entry: Entry, manager: str, operation: str, api_version: str, subresource: str) -> bool:
    # An applier has one entry whatever version it applies; updaters have one for each.
    return (
        entry["manager"] == manager
        and entry["operation"] == operation
        and entry.get("subresource", "") == subresource
        and (operation == APPLY or entry["apiVersion"] == api_version)
    )


def _order(entry: Entry) -> tuple[str, ...]:
    # All times are UTC with `Z` and whole seconds, so their text sorts as they do.
    return (
        entry["operation"], entry.get("time", ""), entry["manager"], entry["apiVersion"], entry.get("subresource", "")
    )  # fmt: skip


def _reduce(entries: Iterable[Entry], taken: FieldSet, removed: FieldSet) -> list[Entry]:
    """The entries without what was taken from them or is gone; those left with nothing are dropped."""
    out = []
    touched = {*taken, *removed}
    for entry in entries:
        if touched.isdisjoint(entry["fieldsV1"]):
            out.append(entry)
            continue
        fields = without(difference(entry["fieldsV1"], taken), removed)
        if fields:
            out.append(entry if fields == entry["fieldsV1"] else {**entry, "fieldsV1": fields})
    return out


def _cap(entries: list[Entry]) -> list[Entry]:
    """The entries with the oldest updates joined, one bucket for each version, until there are few enough."""
    while len(entries) > MAX_UPDATE_MANAGERS:
        updates = sorted((entry for entry in entries if entry["operation"] == UPDATE), key=_order)
        if len(updates) <= MAX_UPDATE_MANAGERS:
            return entries
        versions = [entry["apiVersion"] for entry in updates]
        oldest = next((version for version in versions if versions.count(version) > 1), None)
        if oldest is None:
            return entries
        first, second = [entry for entry in updates if entry["apiVersion"] == oldest][:2]
        joined = [e for e in entries if e is first or e is second or _is(e, ANCIENT_CHANGES, UPDATE, oldest, "")]
        fields: FieldSet = {}
        for entry in joined:
            fields = union(fields, entry["fieldsV1"])
        entries = [entry for entry in entries if entry not in joined]
        entries.append(_entry(ANCIENT_CHANGES, UPDATE, oldest, second.get("time", ""), fields, ""))
    return entries


def _client_side_applied(live: Mapping[str, Any], root: Node, manager: str, api_version: str) -> FieldSet:
    """Fields that `kubectl apply` without --server-side set and nobody changed since: kubectl may take them over."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    if manager != "kubectl" or not text:
        return {}
    try:
        last = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(last, dict) or last.get("apiVersion") != api_version:
        return {}
    tracked = _tracked(last, "", has_status=True)
    changes = compare(tracked, _tracked(live, "", has_status=True), root)
    return without(difference(fields_of(tracked, root), changes.modified), changes.removed)


def _refuse_conflicts(others: Sequence[Entry], taken: FieldSet, allowed: Callable[[], FieldSet]) -> None:
    """Raise Conflict for fields in `taken` that belong to `others`, unless all of them are in `allowed()`."""
    found = [(entry, both) for entry in others if (both := intersection(entry["fieldsV1"], taken))]
    if not found:
        return
    permitted = allowed()
    conflicts = [
        (_print_manager(entry), path) for entry, both in found for path in sorted(paths(difference(both, permitted)))
    ]
    if conflicts:
        raise _conflict(sorted(conflicts))


def _print_manager(entry: Entry) -> str:
    text = orjson.dumps(entry["manager"]).decode()
    if entry.get("subresource"):
        text += f" with subresource {orjson.dumps(entry['subresource']).decode()}"
    return f"{text} using {entry['apiVersion']}" if entry["operation"] == UPDATE else text


def _conflict(conflicts: Sequence[tuple[str, str]]) -> errors.Conflict:
    """Kubernetes' error for field conflicts, each given as the printed manager and the path."""
    causes = tuple(errors.Cause("FieldManagerConflict", f"conflict with {who}", path) for who, path in conflicts)
    if len(conflicts) == 1:
        (who, path) = conflicts[0]
        message = f"Apply failed with 1 conflict: conflict with {who}: {path}"
    else:
        lines: list[str] = []
        for who in dict.fromkeys(who for who, _ in conflicts):
            lines += [f"conflicts with {who}:", *(f"- {path}" for other, path in conflicts if other == who)]
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
    return errors.Conflict(message, causes=causes)
