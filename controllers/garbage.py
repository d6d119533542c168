"""Garbage: an object whose owners are all gone goes too, and an owner goes in the way that its deletion asked for.

    background   the owner is gone; each dependent without another owner is deleted
    foreground   the owner has the finalizer `foregroundDeletion`: it stays until no dependent blocks its deletion
    orphan       the owner has the finalizer `orphan`: references to it are removed, then it goes

There is one controller for each kind that the server has, those that come later included. Its requests are few: objects
with an owner that no cache has, dependents of an object that went, and owners with one of the two finalizers. That an
owner is absent is asked of the server each time, never concluded from a cache. Events and Leases own nothing and are
owned by nobody. Never looks at a spec.

Source: kube-controller-manager's pkg/controller/garbagecollector. Read next: `kastra.runtime.ownership`.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial

import anyio

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.api.scheme import Resource
from kastra.client.interface import PropagationPolicy, WriteOptions
from kastra.runtime.controller import Controller
from kastra.runtime.manager import Manager
from kastra.runtime.ownership import FOREGROUND, ORPHAN, Ownership, OwnerState
from kastra.runtime.predicates import always
from kastra.runtime.reconcile import Request, Result

DEFINITIONS = "CustomResourceDefinition.apiextensions.k8s.io"
OWNERLESS = frozenset({"events", "events.events.k8s.io", "leases.coordination.k8s.io"})
"""Kinds that own nothing and are owned by nobody, and of which there may be many."""

_OPTIONS = WriteOptions(field_manager="kastra-garbage")
_CONCURRENCY = 16
_DISCOVERY_DELAY = 1.0
"""Seconds until a definition whose kind isn't served yet is looked at again."""


def setup(manager: Manager) -> None:
    """One controller per kind, and one that notices new kinds."""
    collector = GarbageCollector(manager)
    collector.cover_all()
    manager.controller(DEFINITIONS, NewKinds(manager, collector), name="garbage", predicate=always)


class GarbageCollector:
    """What the collectors of all kinds share."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._client = manager.client
        self.ownership = Ownership(manager.client, manager.cache, manager.recorder)
        self._controllers: dict[str, Controller] = {}
        # Owners that wait for dependents, by uid: they must be looked at again when one of these changes.
        self._blocked: dict[str, tuple[str, Request]] = {}
        # Objects with an owner of a kind that isn't served.
        self._undecided: set[tuple[str, Request]] = set()

    def cover_all(self) -> None:
        """Collect objects of every kind that the server has now."""
        for resource in self._client.scheme:
            kind = resource.group_resource
            if kind not in OWNERLESS and "list" in resource.verbs and not self.ownership.covers(kind):
                self._cover(resource)

    def _cover(self, resource: Resource) -> None:
        kind = resource.group_resource
        informer = self.ownership.cover(kind)
        self._controllers[kind] = self._manager.controller(
            f"{resource.kind}.{resource.group}" if resource.group else resource.kind,
            Collector(self, kind),
            name=f"garbage/{kind}",
            concurrency=_CONCURRENCY,
            predicate=self._concerns,
        )
        informer.add_handler(partial(self._observe, kind))

    def _concerns(self, old: Object | None, new: Object | None) -> bool:
        """Whether there may be something to do for an object itself. `old` isn't looked at: it would have to be parsed."""
        if new is None:
            return False
        if new.deleting:
            return FOREGROUND in new.finalizers or ORPHAN in new.finalizers
        return bool(new.owner_references) and not self.ownership.all_owners_cached(new)

    def _observe(self, kind: str, old: Object | None, new: Object | None) -> None:
        """Whether there may be something to do for the relatives of an object."""
        if old is None:
            return
        if new is None:
            self.ownership.remember_gone(old.uid)
            self._blocked.pop(old.uid, None)
            self._undecided.discard((kind, Request(old.namespace, old.name)))
            self.enqueue_dependents(old)
        if self._blocked:
            for reference in old.owner_references:
                blocked = self._blocked.get(reference.get("uid", ""))
                if blocked is not None:
                    self._enqueue(*blocked, f"{old.kind}/{old.name}")

    def enqueue_dependents(self, owner: Object) -> None:
        """Look at everything that `owner` owns."""
        for kind, dependent in self.ownership.dependents(owner.uid):
            self._enqueue(kind, Request(dependent.namespace, dependent.name), f"{owner.kind}/{owner.name}")

    def reconsider(self) -> None:
        """Look again at what could not be judged because an owner's kind wasn't served."""
        undecided, self._undecided = self._undecided, set()
        for kind, request in undecided:
            self._enqueue(kind, request, "CustomResourceDefinition")

    def _enqueue(self, kind: str, request: Request, trigger: str) -> None:
        self._controllers[kind].enqueue(request, trigger)

    # ---- one object

    async def collect(self, kind: str, request: Request) -> None:
        """Delete an object that has no owner left, or rid it of references to those that went."""
        try:
            obj = await self._client.get(ObjectRef(kind, request.name, request.namespace))
        except NotFound:
            return
        if obj.deleting or not obj.owner_references:
            return
        states = [(await self.ownership.state(reference, obj), reference["uid"]) for reference in obj.owner_references]
        found = {state for state, _ in states}
        if OwnerState.UNKNOWN in found:
            self._undecided.add((kind, request))
        elif OwnerState.LEFT in found:
            # What remains is judged when this change comes by.
            await self._remove_references(kind, obj, {uid for state, uid in states if state is OwnerState.LEFT})
        elif OwnerState.SOLID in found:
            await self._remove_references(kind, obj, {uid for state, uid in states if state is not OwnerState.SOLID})
        elif OwnerState.WAITING in found and self.ownership.has_dependents(obj.uid):
            dependents = self.ownership.dependents(obj.uid)
            if any(dependent.deleting and FOREGROUND in dependent.finalizers for _, dependent in dependents):
                # They own each other in a circle, and each would wait for the next.
                obj = await self._unblock_owners(kind, obj)
            await self._delete(kind, obj, "Foreground")
        else:
            await self._delete(kind, obj, _policy(obj))

    async def delete_dependents(self, kind: str, owner: Object) -> None:
        """Let an owner that is being deleted in the foreground go, or see to it that what it waits for goes."""
        dependents = list(self.ownership.dependents(owner.uid))
        if not any(_blocks(dependent, owner) for _, dependent in dependents):
            self._blocked.pop(owner.uid, None)
            await self._remove_finalizer(kind, owner, FOREGROUND)
            return
        self._blocked[owner.uid] = (kind, Request(owner.namespace, owner.name))
        for dependent_kind, dependent in dependents:
            if not dependent.deleting:
                request = Request(dependent.namespace, dependent.name)
                self._enqueue(dependent_kind, request, f"{owner.kind}/{owner.name}")

    async def orphan_dependents(self, kind: str, owner: Object) -> None:
        """Remove the references to an owner from its dependents, then let it go."""
        self.ownership.remember_left(owner.uid)
        dependents = list(self.ownership.dependents(owner.uid))
        await _together(
            partial(self._remove_references, kind, dependent, {owner.uid}) for kind, dependent in dependents
        )
        await self._remove_finalizer(kind, owner, ORPHAN)

    # ---- writes

    async def _delete(self, kind: str, obj: Object, policy: PropagationPolicy) -> None:
        with suppress(NotFound):
            # Only in the state that was judged: somebody may be giving it another owner.
            await self._client.delete(
                ObjectRef(kind, obj.name, obj.namespace),
                propagation_policy=policy,
                uid=obj.uid,
                resource_version=obj.resource_version,
            )

    async def _remove_references(self, kind: str, obj: Object, uids: set[str]) -> None:
        owners = [reference for reference in obj.owner_references if reference["uid"] not in uids]
        if len(owners) < len(obj.owner_references):
            with suppress(NotFound):
                await self._patch_metadata(kind, obj, ownerReferences=owners or None)

    async def _unblock_owners(self, kind: str, obj: Object) -> Object:
        owners = [{**reference, "blockOwnerDeletion": False} for reference in obj.owner_references]
        return await self._patch_metadata(kind, obj, ownerReferences=owners)

    async def _remove_finalizer(self, kind: str, obj: Object, finalizer: str) -> None:
        with suppress(NotFound):
            await self._patch_metadata(kind, obj, finalizers=[name for name in obj.finalizers if name != finalizer])

    async def _patch_metadata(self, kind: str, obj: Object, **fields: object) -> Object:
        patch = {"metadata": {"uid": obj.uid, "resourceVersion": obj.resource_version, **fields}}
        return await self._client.patch(ObjectRef(kind, obj.name, obj.namespace), patch, options=_OPTIONS)


class Collector:
    """Reconciles the objects of one kind."""

    def __init__(self, collector: GarbageCollector, kind: str) -> None:
        self._collector = collector
        self._kind = kind
        self._lister = collector.ownership.cover(kind).lister

    async def reconcile(self, request: Request) -> Result:
        """See which of the three ways an object is on, if any. Raises Conflict when it changed meanwhile."""
        obj = self._lister.get(request.namespace, request.name)
        if obj is None:
            return Result()
        if not obj.deleting:
            await self._collector.collect(self._kind, request)
        elif ORPHAN in obj.finalizers:
            await self._collector.orphan_dependents(self._kind, obj)
        elif FOREGROUND in obj.finalizers:
            await self._collector.delete_dependents(self._kind, obj)
        return Result()


class NewKinds:
    """Reconciles definitions: their kinds are collected as well."""

    def __init__(self, manager: Manager, collector: GarbageCollector) -> None:
        self._collector = collector
        self._scheme = manager.client.scheme
        self._lister = manager.cache.lister(DEFINITIONS)

    async def reconcile(self, request: Request) -> Result:
        """Cover what is new, and judge again what waited for it, or for a kind to be gone for good."""
        self._collector.cover_all()
        self._collector.reconsider()
        definition = self._lister.get("", request.name)
        if definition is None or definition.deleting or self._scheme.for_group_resource(request.name) is not None:
            return Result()
        return Result(requeue_after=_DISCOVERY_DELAY if definition.is_condition_true("Established") else None)


def _blocks(dependent: Object, owner: Object) -> bool:
    return dependent.uid != owner.uid and any(
        reference["uid"] == owner.uid and reference.get("blockOwnerDeletion")
        for reference in dependent.owner_references
    )


def _policy(obj: Object) -> PropagationPolicy:
    """What the object's own finalizers say about its dependents."""
    if ORPHAN in obj.finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in obj.finalizers else "Background"


async def _together(functions: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Call all, so that their writes share commits. Raises the first error, after all have ended."""
    errors: list[Exception] = []

    async def call(function: Callable[[], Awaitable[None]]) -> None:
        try:
            await function()
        except Exception as error:  # noqa: BLE001 - raised below, when the others have had their chance
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for function in functions:
            tasks.start_soon(call, function)
    if errors:
        raise errors[0]
