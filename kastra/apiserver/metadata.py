"""The bookkeeping of ObjectMeta: what the server sets, what the client may change, what is well formed.

Works on plain objects in place. Never talks to storage, and never touches managedFields beyond their form: field
ownership is `kastra.api.managedfields`.

Source: apiserver/pkg/registry/rest (create.go, update.go), apimachinery/pkg/api/validation/objectmeta.go.
Read next: `kastra.apiserver.registry`, which calls these in order.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kastra.api.errors import FORBIDDEN, INVALID, REQUIRED, TOO_LONG, BadRequest, Cause, conflict, invalid
from kastra.api.names import name_problems
from kastra.api.scheme import Resource
from kastra.api.selectors import label_key_problems, label_value_problem
from kastra.api.uids import new_uid
from kastra.api.values import equal
from kastra.clock import parse_rfc3339, rfc3339

ANNOTATIONS_LIMIT = 256 * 1024
ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_STRINGS = frozenset(
    {
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
    }
)
_TIMES = frozenset({"creationTimestamp", "deletionTimestamp"})
_INTEGERS = frozenset({"generation", "deletionGracePeriodSeconds"})
_MAPS = frozenset({"labels", "annotations"})
_LISTS = frozenset({"ownerReferences", "finalizers", "managedFields"})
_OWNER_FIELDS = frozenset({"apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"})
_OUTSIDE_CONTENT = frozenset({"metadata", "status", "apiVersion", "kind"})
_GO_NAMES: Mapping[type, str] = {
    str: "string", bool: "bool", int: "number", float: "number", dict: "object", list: "array"
}  # fmt: skip


def content_changed(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether anything outside metadata and status differs: what starts a new generation."""
    for key, value in new.items():
        if key not in _OUTSIDE_CONTENT:
            before = old.get(key)
            if value is not before and not equal(value, before):
                return True
    if old.keys() <= new.keys():
        return False
    return any(key not in new and old[key] is not None for key in old if key not in _OUTSIDE_CONTENT)


def check_type(obj: Mapping[str, Any], resource: Resource) -> None:
    """The body must be of the resource's kind. Absent apiVersion and kind are the caller's to fill beforehand.

    Raises:
        BadRequest: it is another kind or version.
    """
    if obj.get("kind") != resource.kind or obj.get("apiVersion") != resource.api_version:
        raise BadRequest(
            f"the object provided is {obj.get('apiVersion') or '(no apiVersion)'}, Kind={obj.get('kind') or '(none)'}; "
            f"expected {resource.api_version}, Kind={resource.kind}"
        )


def normalise(obj: dict[str, Any], resource: Resource) -> list[str]:
    """Drop nulls, empty maps and lists, and unknown fields of metadata; returns the paths of the unknown ones.

    Raises:
        BadRequest: a field of metadata has the wrong type.
    """
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    elif not isinstance(metadata, dict):
        raise _mistyped(resource, "metadata", metadata, "v1.ObjectMeta", prefix="")
    unknown: list[str] = []
    for name, value in list(metadata.items()):
        # Empty means absent: without this, removing the last label would leave a map behind, and not be a no-op later.
        if value is None or (not value and isinstance(value, dict | list)):
            del metadata[name]
        elif name in _STRINGS:
            if not isinstance(value, str):
                raise _mistyped(resource, name, value, "string")
            if name in _TIMES:
                metadata[name] = _same_time(value)
        elif name in _MAPS:
            _check_map(resource, name, value)
        elif name in _INTEGERS:
            if not isinstance(value, int) or isinstance(value, bool):
                raise _mistyped(resource, name, value, "int64")
        elif name in _LISTS:
            _check_list(resource, name, value, unknown)
        else:
            del metadata[name]
            unknown.append(f"metadata.{name}")
    return unknown


def _check_map(resource: Resource, name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise _mistyped(resource, name, value, "map[string]string")
    for item in value.values():
        if not isinstance(item, str):
            raise _mistyped(resource, name, item, "string")


def _check_list(resource: Resource, name: str, value: Any, unknown: list[str]) -> None:
    if not isinstance(value, list):
        raise _mistyped(resource, name, value, f"[]{name}")
    items: list[Any] = value
    if name == "finalizers":
        for item in items:
            if not isinstance(item, str):
                raise _mistyped(resource, name, item, "string")
        return
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise _mistyped(resource, name, item, "object")
        if name == "ownerReferences":
            for field in [field for field in item if field not in _OWNER_FIELDS]:
                del item[field]
                unknown.append(f"metadata.ownerReferences[{index}].{field}")
        elif isinstance(item.get("time"), str):
            item["time"] = _same_time(item["time"])


def _same_time(text: str) -> str:
    """A time as the server writes it: clients that parse times may give them back in another form of RFC 3339."""
    if text.endswith("Z"):
        return text
    try:
        return rfc3339(parse_rfc3339(text))
    except (ValueError, OverflowError):
        return text  # refused later, since it isn't what the object has


def _mistyped(resource: Resource, name: str, value: Any, expected: str, prefix: str = "metadata.") -> BadRequest:
    found = _GO_NAMES.get(type(value), "null")
    return BadRequest(
        f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: json: cannot unmarshal '
        f"{found} into Go struct field ObjectMeta.{prefix}{name} of type {expected}"
    )


def set_namespace(obj: dict[str, Any], resource: Resource, namespace: str) -> None:
    """The namespace of the request is that of the object.

    Raises:
        BadRequest: they differ, or a namespaced kind has none.
    """
    metadata = obj["metadata"]
    own = metadata.get("namespace", "")
    if not resource.namespaced:
        metadata.pop("namespace", None)
    elif not namespace:
        raise BadRequest("an empty namespace may not be set during creation")
    elif own and own != namespace:
        raise BadRequest(
            f"the namespace of the provided object does not match the namespace sent on the request ({own} and {namespace})"
        )
    else:
        metadata["namespace"] = namespace


def prepare_create(obj: dict[str, Any], resource: Resource, now: datetime) -> None:
    """Set what only the server sets, and drop what a client can't choose.

    Raises:
        BadRequest: the object carries a resourceVersion.
    """
    metadata = obj["metadata"]
    if metadata.pop("resourceVersion", "") not in {"", "0"}:
        raise BadRequest("resourceVersion should not be set on objects to be created")
    for name in ("selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
        metadata.pop(name, None)
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = rfc3339(now)
    if resource.has_generation:
        metadata["generation"] = 1
    if resource.has_status:
        obj.pop("status", None)


def prepare_update(obj: dict[str, Any], old: Mapping[str, Any], resource: Resource) -> None:
    """Carry over what only the server sets; absent fields mean unchanged ones.

    Raises:
        Conflict: the uid is that of another object.
    """
    metadata, before = obj["metadata"], old["metadata"]
    uid = metadata.get("uid")
    if uid and uid != before["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before['uid']}"
        raise conflict(resource.plural, resource.group, before["name"], why)
    metadata.pop("selfLink", None)
    for name in ("uid", "namespace", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if name in before:
            metadata.setdefault(name, before[name])
        elif name not in {"uid", "namespace", "creationTimestamp"}:
            metadata.pop(name, None)
    if "generation" in before:
        metadata["generation"] = before["generation"]
    else:
        metadata.pop("generation", None)


def only_status(obj: dict[str, Any], old: dict[str, Any], *, with_metadata: bool) -> dict[str, Any]:
    """The old object with the status (and managedFields) of the new: what a write to `/status` means.

    Args:
        with_metadata: also take labels and annotations.
    """
    result = dict(old)
    if "status" in obj:
        result["status"] = obj["status"]
    else:
        result.pop("status", None)
    metadata = dict(old["metadata"])
    for name in ("managedFields", *(("labels", "annotations") if with_metadata else ())):
        if name in obj["metadata"]:
            metadata[name] = obj["metadata"][name]
        else:
            metadata.pop(name, None)
    result["metadata"] = metadata
    return result


def keep_status(obj: dict[str, Any], old: Mapping[str, Any]) -> None:
    """Undo any change of status: what a write to the main resource means where status is a subresource."""
    if "status" in old:
        obj["status"] = old["status"]
    else:
        obj.pop("status", None)


def set_generation(obj: dict[str, Any], old: Mapping[str, Any]) -> bool:
    """Raise the generation when the content changed; returns whether it did."""
    if "generation" not in old["metadata"] or not content_changed(obj, old):
        return False
    obj["metadata"]["generation"] = old["metadata"]["generation"] + 1
    return True


def create_causes(obj: Mapping[str, Any], builtin_kind: str, warnings: list[str]) -> list[Cause]:
    """What is wrong with the metadata of a new object.

    Args:
        builtin_kind: its kind if that is built-in, since only these have names of another form than DNS subdomains.
    """
    metadata = obj["metadata"]
    causes: list[Cause] = []
    name = metadata.get("name", "")
    if not name:
        causes.append(Cause(REQUIRED, "Required value: name or generateName is required", "metadata.name"))
    elif problems := name_problems(name, builtin_kind):
        causes += _bad("metadata.name", name, problems)
    return causes + _common_causes(metadata, {}, warnings)


def update_causes(obj: Mapping[str, Any], old: Mapping[str, Any], warnings: list[str]) -> list[Cause]:
    """What is wrong with the metadata of a changed object. Parts that didn't change are not examined again."""
    metadata, before = obj["metadata"], old["metadata"]
    causes = [
        Cause(INVALID, f'Invalid value: "{metadata.get(name)}": field is immutable', f"metadata.{name}")
        for name in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
        if metadata.get(name) != before.get(name)
    ]
    if "deletionTimestamp" in before:
        added = [name for name in metadata.get("finalizers") or () if name not in (before.get("finalizers") or ())]
        if added:
            quoted = ", ".join(f'"{name}"' for name in added)
            why = (
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{quoted}}}"
            )
            causes.append(Cause(FORBIDDEN, why, "metadata.finalizers"))
    return causes + _common_causes(metadata, before, warnings)


def _bad(path: str, value: str, problems: Iterable[str]) -> list[Cause]:
    return [Cause(INVALID, f'Invalid value: "{value}": {problem}', path) for problem in problems]


def _common_causes(metadata: Mapping[str, Any], before: Mapping[str, Any], warnings: list[str]) -> list[Cause]:
    causes: list[Cause] = []
    labels, annotations = metadata.get("labels"), metadata.get("annotations")
    if labels and labels != before.get("labels"):
        for key, value in labels.items():
            causes += _bad("metadata.labels", key, label_key_problems(key))
            if problem := label_value_problem(value):
                causes.append(Cause(INVALID, f'Invalid value: "{value}": {problem}', "metadata.labels"))
    if annotations and annotations != before.get("annotations"):
        size = 0
        for key, value in annotations.items():
            size += len(key.encode()) + len(value.encode())
            causes += _bad("metadata.annotations", key, label_key_problems(key.lower()))
        if size > ANNOTATIONS_LIMIT:
            why = f"Too long: may not be more than {ANNOTATIONS_LIMIT} bytes"
            causes.append(Cause(TOO_LONG, why, "metadata.annotations"))
    owners = metadata.get("ownerReferences")
    if owners and owners != before.get("ownerReferences"):
        causes += _owner_causes(owners)
    finalizers = metadata.get("finalizers")
    if finalizers and finalizers != before.get("finalizers"):
        causes += _finalizer_causes(finalizers, warnings)
    return causes


def _owner_causes(owners: Sequence[Mapping[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    controllers: list[str] = []
    for index, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{index}]"
        for name, text in (("apiVersion", "version"), ("kind", "kind"), ("name", "name"), ("uid", "uid")):
            if not owner.get(name) or not isinstance(owner[name], str):
                causes.append(Cause(INVALID, f'Invalid value: "": {text} must not be empty', f"{path}.{name}"))
        if owner.get("controller") is True:
            controllers.append(str(owner.get("name", "")))
    if len(controllers) > 1:
        why = (
            'Invalid value: Only one reference can have Controller set to true. Found "true" in references for '
            f"{controllers[0]} and {controllers[1]}"
        )
        causes.append(Cause(INVALID, why, "metadata.ownerReferences"))
    return causes


def _finalizer_causes(finalizers: Sequence[str], warnings: list[str]) -> list[Cause]:
    causes: list[Cause] = []
    for name in finalizers:
        if problems := label_key_problems(name):
            causes.append(Cause(INVALID, f'Invalid value: "{name}": {problems[0]}', "metadata.finalizers"))
        elif "/" not in name and name not in {ORPHAN, FOREGROUND, "kubernetes"} and "." not in name:
            warnings.append(
                f'metadata.finalizers: "{name}": prefer a domain-qualified finalizer name including a path (/) to avoid '
                "accidental conflicts with other finalizer writers"
            )
    if ORPHAN in finalizers and FOREGROUND in finalizers:
        why = f'Invalid value: "{ORPHAN}": finalizers {ORPHAN} and {FOREGROUND} cannot be both set'
        causes.append(Cause(INVALID, why, "metadata.finalizers"))
    return causes


def expected_revision(
    metadata: Mapping[str, Any], current: int, resource: Resource, name: str, *, required: bool
) -> bool:
    """Check the resourceVersion that came with a write against the current one; returns whether there was one.

    Raises:
        Conflict: the object has changed since.
        Invalid: it is no number, or required and absent.
    """
    given = metadata.get("resourceVersion") or "0"
    if given == str(current):
        return True
    if not isinstance(given, str) or not given.isascii() or not given.isdecimal():
        why = f'Invalid value: "{str(given)[:64]}": must be a decimal number in quotes'
        raise invalid(resource.kind, resource.group, name, [Cause(INVALID, why, "metadata.resourceVersion")])
    if not given.strip("0"):
        if required:
            cause = Cause(INVALID, "Invalid value: 0x0: must be specified for an update", "metadata.resourceVersion")
            raise invalid(resource.kind, resource.group, name, [cause])
        return False
    raise conflict(resource.plural, resource.group, name)
