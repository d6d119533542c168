"""Server-side apply: the object gets exactly what this manager wants, beside what others own.

Merging and ownership are `kastra.api.managedfields`; here the object is found or created, unknown fields are dropped
from what was sent before they could be owned, and the result goes the way of every write.

Source: the API concepts 'Server-Side Apply', pkg/endpoints/handlers/patch.go. Read next: `kastra.api.managedfields`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kastra.api import managedfields
from kastra.api.errors import (
    INVALID,
    REQUIRED,
    AlreadyExists,
    BadRequest,
    Cause,
    conflict,
    invalid,
    not_found,
)
from kastra.api.object import Object
from kastra.api.scheme import Resource
from kastra.api.values import copy
from kastra.clock import rfc3339
from kastra.store.interface import Entry

from . import metadata
from .call import Call
from .served import Served
from .writing import ObjectWriter, Raced

_LONGEST_MANAGER = 128


class Written(NamedTuple):
    """The object as stored, and whether it was created just now."""

    object: Object
    created: bool


class Applier:
    """Applies objects."""

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer

    async def apply(
        self,
        served: Served,
        namespace: str,
        name: str,
        obj: dict[str, Any],
        call: Call,
        *,
        force: bool,
        subresource: str,
    ) -> Written:
        """Create the object, or merge `obj` into it.

        Raises:
            Conflict: others own fields that would change, and `force` is not set; or `obj` has a resourceVersion or uid
                that is not the present one.
            BadRequest: there are unknown fields, and the caller asked for `Strict`.
            Invalid, NotFound (a subresource of an object that isn't there), Forbidden.
        """
        resource = served.resource
        unknown = _prepare(served, namespace, name, obj, call)
        if unknown and call.options.field_validation == "Strict":
            raise _undeclared(resource, namespace, name, unknown)
        warned = len(call.warnings)

        async def attempt() -> Written:
            del call.warnings[warned:]
            entry = self._writer.storage.get(served.key(namespace, name))
            if entry is not None:
                done = await self._merge(served, entry, obj, call, force, subresource, unknown)
                return Written(done, created=False)
            if subresource:
                raise not_found(resource.plural, resource.group, name)
            return Written(await self._create(served, namespace, obj, call, unknown), created=True)

        return await self._writer.retried(served.key(namespace, name), attempt)

    async def _create(
        self, served: Served, namespace: str, obj: dict[str, Any], call: Call, unknown: Sequence[str]
    ) -> Object:
        meta = obj["metadata"]
        if meta.get("uid"):
            why = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
            raise conflict(served.resource.plural, served.resource.group, meta["name"], why)
        new = self._applied(served, None, obj, call, force=False, subresource="").object
        try:
            return await self._writer.create(served, namespace, new, call, tracked=True, unknown=unknown)
        except AlreadyExists as error:
            raise Raced(error.message, name=error.name, group=error.group, kind=error.kind) from None

    async def _merge(
        self,
        served: Served,
        entry: Entry,
        obj: dict[str, Any],
        call: Call,
        force: bool,
        subresource: str,
        unknown: Sequence[str],
    ) -> Object:
        resource, name = served.resource, entry.key.name
        metadata.expected_revision(obj["metadata"], entry.revision, resource, name, required=False)
        uid = obj["metadata"].get("uid")
        if uid and uid != entry.uid:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {entry.uid}"
            raise conflict(resource.plural, resource.group, name, why)
        await served.prepare(entry)
        old = served.parsed(entry)
        result = self._applied(served, old, obj, call, force=force, subresource=subresource)
        if not result.changed and not unknown:
            return served.object(entry)
        new = result.object if result.changed else copy(old)
        return await self._writer.change(
            served, entry, old, new, call, subresource=subresource, tracked=True, unknown=unknown
        )

    def _applied(
        self,
        served: Served,
        live: dict[str, Any] | None,
        obj: Mapping[str, Any],
        call: Call,
        *,
        force: bool,
        subresource: str,
    ) -> managedfields.ApplyResult:
        return managedfields.apply(
            live,
            obj,
            manager=call.manager,
            force=force,
            topology=served.topology,
            now=rfc3339(self._writer.clock.now()),
            api_version=served.resource.api_version,
            subresource=subresource,
            has_status=served.resource.has_status,
        )


def _prepare(served: Served, namespace: str, name: str, obj: dict[str, Any], call: Call) -> list[str]:
    """Check and complete what was sent to apply; returns the unknown fields that were dropped from it."""
    resource, manager = served.resource, call.options.field_manager
    if not manager or len(manager) > _LONGEST_MANAGER:
        why = (
            "Invalid value: may not be more than 128 bytes"
            if manager
            else "Required value: is required for apply patch"
        )
        cause = Cause(INVALID if manager else REQUIRED, why, "fieldManager")
        raise invalid("PatchOptions", "meta.k8s.io", "", [cause])
    metadata.check_type(obj, resource)
    unknown = metadata.normalise(obj, resource)
    meta = obj["metadata"]
    if meta.pop("managedFields", None):
        raise BadRequest("metadata.managedFields must be nil")
    if meta.setdefault("name", name) != name:
        raise BadRequest(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
    metadata.set_namespace(obj, resource, namespace)
    # What would not be stored must not be owned either.
    return [*unknown, *served.prune(obj)]


def _undeclared(resource: Resource, namespace: str, name: str, fields: Sequence[str]) -> BadRequest:
    """The refusal of fields that no schema has, in the words of server-side apply."""
    told = [f".{field}: field not declared in schema" for field in fields]
    said = told[0] if len(told) == 1 else "\n  ".join(["errors:", *told])
    whose = f"{namespace}/{name}; {resource.api_version}, Kind={resource.kind}"
    return BadRequest(f"failed to create typed patch object ({whose}): {said}")
