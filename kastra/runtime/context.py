"""What a `@controller` function is given besides the object: the world, and words to describe what it found.

    ctx.apply(child)                 an owned child: created, kept equal, pruned when no longer applied
    ctx.status.rows = 3              a field of the status
    ctx.ready("3 rows")              Ready=True for this generation
    ctx.not_ready(reason, message)   Ready=False
    ctx.resolve(reference)           the object that a reference means

Nothing is written to the object itself before the function has returned; then there is one status patch, or none. Never
executes a model, a tool or a Run.

Read next: `kastra.runtime.declarative`, which makes one for each pass.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import orjson

from kastra.api.errors import NotFound, already_exists
from kastra.api.meta import ObjectRef, owner_reference
from kastra.api.object import Object
from kastra.api.scheme import Resource
from kastra.api.types import Closure, Reference
from kastra.api.values import copy, equal
from kastra.client.interface import Client, PatchType, WriteOptions
from kastra.clock import Clock, rfc3339

from .cache import Cache
from .closure import closure
from .indexer import Lister
from .reconcile import Result
from .recorder import EventType, Recorder
from .references import Missing, Resolution, Resolver
from .status import Status, StatusWriter
from .views import TypedView, Views

APPLIED_BY = "mastra.ai/applied-by"
"""Annotation on an applied child: the field manager that may prune it."""

Service = TypeVar("Service")
_ChildKey = tuple[str, str, str]
Applied = dict[_ChildKey, bytes]
"""By (resource, namespace, name): a digest of what was applied last."""


class Host(Protocol):
    """What a context needs of the manager."""

    @property
    def client(self) -> Client:
        """To read from and write to the server."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def cache(self) -> Cache:
        """The informers."""
        ...

    @property
    def views(self) -> Views:
        """All kinds' views."""
        ...

    @property
    def recorder(self) -> Recorder:
        """For Events."""
        ...

    @property
    def resolver(self) -> Resolver:
        """For references."""
        ...

    def service(self, type_: type[Service]) -> Service:
        """What was registered for a type. Raises LookupError."""
        ...


class Context:
    """One pass over one object.

    Args:
        host: the manager.
        obj: the object as the pass found it.
        field_manager: under which the pass writes.
        owned: resources (`tools.mastra.ai`) that `apply` accepts.
        applied: what earlier passes over this object applied; kept current here.
    """

    def __init__(self, host: Host, obj: Object, field_manager: str, owned: Iterable[str], applied: Applied) -> None:
        self.object = obj
        """The object, raw."""
        self.resolution: Resolution | None = None
        """What `resolve_all` found in this pass."""
        self._host = host
        self._options = WriteOptions(field_manager=field_manager)
        self._owned = frozenset(owned)
        self._applied = applied
        self._children: set[_ChildKey] = set()
        self._complete: bool | None = None
        self._silent = False
        self._writer = StatusWriter(obj, rfc3339(host.clock.now()))

    # ---- the world

    @property
    def client(self) -> Client:
        """To read from and write to the server."""
        return self._host.client

    @property
    def clock(self) -> Clock:
        """The time."""
        return self._host.clock

    def lister(self, kind: str) -> Lister:
        """The cache of a kind."""
        return self._host.cache.lister(kind)

    @property
    def views(self) -> Views:
        """All kinds' views."""
        return self._host.views

    @property
    def resolver(self) -> Resolver:
        """Resolves references of any object."""
        return self._host.resolver

    def view(self, kind: str) -> type[TypedView]:
        """The class that reads a kind. Raises KeyError."""
        return self._host.views[kind]

    def service(self, type_: type[Service]) -> Service:
        """A service of the process, such as the executor pool. Raises LookupError."""
        return self._host.service(type_)

    async def resolve(self, reference: Reference) -> Object | Missing:
        """The object that a reference of this object means, or why there is none."""
        return await self._host.resolver.resolve(reference, self.object)

    async def resolve_all(self, references: Iterable[Reference]) -> Resolution:
        """Resolve them and set the condition ResolvedRefs accordingly."""
        self.resolution = resolution = await self._host.resolver.resolve_all(references, self.object)
        self.condition("ResolvedRefs", resolution.ok, resolution.reason, resolution.message)
        return resolution

    async def closure(self) -> Closure:
        """Everything this object needs in order to run. Raises UnresolvedReferences."""
        return await closure(self.object, self._host.views, self._host.resolver)

    # ---- what was found

    @property
    def status(self) -> Status:
        """The status fields: assign to what should change."""
        return self._writer.fields

    def condition(self, type_: str, status: bool | None, reason: str, message: str = "") -> None:
        """Set any condition for this generation; None is Unknown."""
        self._writer.condition(type_, status, reason, message)

    def ready(self, message: str = "", reason: str = "Ready") -> Result:
        """Ready=True. Returns a Result, for `return ctx.ready(...)`."""
        self._complete = True
        self.condition("Accepted", True, "Accepted")
        self.condition("Ready", True, reason, message)
        return Result()

    def not_ready(self, reason: str, message: str, requeue_after: float | None = None) -> Result:
        """Ready=False, with a PascalCase reason. Children that this pass didn't apply are kept, see `keep_only_applied`.

        Args:
            reason: PascalCase and machine-readable.
            message: what is missing or wrong, and what to do about it.
            requeue_after: seconds until the object is looked at again without a change.
        """
        self._complete = False if self._complete is None else self._complete
        self.condition("Accepted", True, "Accepted")
        self.condition("Ready", False, reason, message)
        return Result(requeue_after=requeue_after)

    def look_later(self, seconds: float) -> Result:
        """Say nothing in this pass and look again: at the next change, after `seconds` at the latest. Prunes nothing."""
        self._complete, self._silent = False, True
        return Result(requeue_after=seconds)

    def event(self, reason: str, message: str, type_: EventType = "Normal") -> None:
        """Record an Event on the object."""
        self._host.recorder.event(self.object, type_, reason, message)

    # ---- children

    async def apply(self, child: Mapping[str, Any]) -> Object:
        """Make `child` exist and equal what is given, by server-side apply, owned by this object.

        Its namespace is that of the owner. Nothing is sent when the same was applied before and is still so.

        Raises:
            ValueError: its kind is not among the controller's `owns`, or it names another namespace.
            AlreadyExists: an object of that name exists that this one doesn't own.
        """
        resource = self._host.client.scheme.for_kind(child.get("apiVersion", ""), child.get("kind", ""))
        if resource is None or resource.group_resource not in self._owned:
            raise ValueError(
                f"{child.get('kind')} {child.get('apiVersion')} can't be applied by this controller: add it to owns"
            )
        body = self._owned_child(child, resource)
        key = (resource.group_resource, body["metadata"].get("namespace", ""), body["metadata"]["name"])
        digest = blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
        live = await self._live_child(resource, key)
        self._children.add(key)
        if live is not None and self._applied.get(key) == digest and contains(live.data, body):
            return live
        stored = await self.client.apply(body, self._options, force=True)
        self._applied[key] = digest
        return stored

    def keep_only_applied(self) -> None:
        """Everything that should exist has been applied: prune the rest even if this pass ends not ready."""
        self._complete = True

    # ---- the end of a pass

    async def finish(self) -> None:
        """Prune children and write the status. Called by the runtime after the function has returned."""
        if self._complete is not False:
            await self._prune()
        await self.write_status()

    async def write_status(self) -> None:
        """One patch with what differs, guarded by the version this pass saw. Raises Conflict."""
        patch = {} if self._silent else self._writer.patch()
        if not patch:
            return
        resource = self.client.scheme.find(self.object.ref.kind)
        body = {"metadata": {"resourceVersion": self.object.resource_version}, "status": patch}
        try:
            await self.client.patch(
                self.object.ref,
                body,
                PatchType.MERGE,
                self._options,
                subresource="status" if resource.has_status else "",
            )
        except NotFound:
            # Deleted meanwhile; its status is nobody's concern any more.
            return

    async def _prune(self) -> None:
        for resource in self._owned:
            for child in self.lister(resource).owned_by(self.object.uid):
                key = (resource, child.namespace, child.name)
                mine = child.annotations.get(APPLIED_BY) == self._options.field_manager
                if mine and key not in self._children and not child.deleting:
                    self._applied.pop(key, None)
                    try:
                        await self.client.delete(ObjectRef(resource, child.name, child.namespace), uid=child.uid)
                    except NotFound:
                        continue

    def _owned_child(self, child: Mapping[str, Any], resource: Resource) -> dict[str, Any]:
        body: dict[str, Any] = copy(dict(child))
        metadata = body.setdefault("metadata", {})
        if resource.namespaced:
            namespace = metadata.setdefault("namespace", self.object.namespace)
            if self.object.namespace and namespace != self.object.namespace:
                raise ValueError(
                    f'{resource.kind} "{metadata.get("name")}" is in namespace "{namespace}": an owned object must be in '
                    f'its owner\'s, "{self.object.namespace}"'
                )
        metadata["annotations"] = {**(metadata.get("annotations") or {}), APPLIED_BY: self._options.field_manager}
        metadata["ownerReferences"] = [*(metadata.get("ownerReferences") or ()), owner_reference(self.object.data)]
        return body

    async def _live_child(self, resource: Resource, key: _ChildKey) -> Object | None:
        live = self.lister(key[0]).get(key[1], key[2])
        if live is None and key not in self._applied:
            # Never overwrite what the cache merely hasn't seen yet.
            try:
                live = await self.client.get(ObjectRef(*(key[0], key[2], key[1])))
            except NotFound:
                return None
        if live is not None and all(owner.get("uid") != self.object.uid for owner in live.owner_references):
            error = already_exists(resource.plural, resource.group, key[2])
            error.message += f" and isn't owned by {self.object.kind} {self.object.name}; rename one of them"
            raise error
        return live


def contains(live: Any, wanted: Any) -> bool:
    """Whether `live` has everything that `wanted` has: maps may have more keys, lists must agree item by item."""
    if isinstance(wanted, dict):
        return isinstance(live, Mapping) and all(
            key in live and contains(live[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, Sequence)
            and len(live) == len(wanted)
            and all(contains(have, want) for have, want in zip(live, wanted, strict=True))
        )
    return equal(live, wanted)
