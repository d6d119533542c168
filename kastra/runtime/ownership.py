"""Who owns what, and is the owner still there? Ownership over the caches of a manager.

    dependents   from the informers' index by owner's uid; as current as the watches are
    owners       looked up on the server, by name and uid, because an object may be deleted for the lack of one

An owner is in the namespace of its dependent, or cluster-scoped; one that is elsewhere counts as absent, and a
cluster-scoped object with a namespaced owner can't be judged at all. Both are reported as a Warning Event. Never deletes
or changes anything.

Source: kube-controller-manager's pkg/controller/garbagecollector (graph.go, graph_builder.go). Read next:
`controllers/garbage.py`, its user.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.api.scheme import Resource
from kastra.client.interface import Client

from .cache import Cache
from .informer import Informer
from .recorder import Recorder

ORPHAN = "orphan"
"""Finalizer of an object that is being deleted while its dependents stay."""
FOREGROUND = "foregroundDeletion"
"""Finalizer of an object that goes when its dependents are gone."""

_DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
_REMEMBERED = 4096


class OwnerState(Enum):
    """What an ownerReference amounts to."""

    SOLID = "Solid"
    """The owner is there; its dependents stay."""
    WAITING = "Waiting"
    """It is being deleted and waits for its dependents to go first."""
    ABSENT = "Absent"
    """It isn't there, or not where an owner may be."""
    LEFT = "Left"
    """It is gone and was to leave its dependents behind; only the reference has to go."""
    UNKNOWN = "Unknown"
    """It can't be told: its kind isn't served, or no owner of its kind can be valid. Nothing may be done."""


class Ownership:
    """Owners and dependents of all kinds given to `cover`.

    Args:
        client: owners are looked up with it.
        cache: where dependents are found.
        recorder: for references that can't be valid.
    """

    def __init__(self, client: Client, cache: Cache, recorder: Recorder) -> None:
        self._client = client
        self._cache = cache
        self._recorder = recorder
        self._informers: dict[str, Informer] = {}
        self._gone = _Recent()
        self._left = _Recent()

    def cover(self, kind: str) -> Informer:
        """Know objects of `kind`, as owners and as dependents, from now on."""
        informer = self._informers[kind] = self._cache.informer(kind)
        return informer

    def covers(self, kind: str) -> bool:
        """Whether `cover` was called for it."""
        return kind in self._informers

    def dependents(self, uid: str) -> Iterator[tuple[str, Object]]:
        """The objects with an ownerReference to `uid`, each with the kind it was covered as."""
        for kind, informer in self._informers.items():
            for obj in informer.lister.owned_by(uid):
                yield kind, obj

    def has_dependents(self, uid: str) -> bool:
        """Whether any object has an ownerReference to `uid`."""
        return next(self.dependents(uid), None) is not None

    def remember_gone(self, uid: str) -> None:
        """An object was seen to go. Needed where its kind goes too, after which nobody can be asked about it."""
        self._gone.add(uid)

    def remember_left(self, uid: str) -> None:
        """An owner goes and leaves its dependents behind, also those that no cache has yet."""
        self._left.add(uid)

    def all_owners_cached(self, dependent: Object) -> bool:
        """Whether the caches have every owner just where the references say: a look that costs next to nothing."""
        return all(self._is_cached(reference, dependent) for reference in dependent.owner_references)

    def _is_cached(self, reference: Mapping[str, Any], dependent: Object) -> bool:
        group = reference.get("apiVersion", "").rpartition("/")[0]
        kind = reference.get("kind", "")
        informer = self._cache.find(f"{kind}.{group}" if group else kind)
        if informer is None:
            return False
        name, uid = reference.get("name", ""), reference.get("uid", "")
        for namespace in {dependent.namespace, ""}:
            version = informer.indexer.version((namespace, name))
            if version is not None and version[0] == uid:
                return True
        return False

    async def state(self, reference: Mapping[str, Any], dependent: Object) -> OwnerState:
        """What a reference amounts to, from the server.

        Args:
            reference: one of the dependent's ownerReferences.
            dependent: the object that has it.
        """
        uid, name = reference.get("uid", ""), reference.get("name", "")
        if uid in self._left:
            return OwnerState.LEFT
        resource = self._resource(reference)
        if resource is None:
            gone = uid in self._gone and not self._declared(reference)
            return OwnerState.ABSENT if gone else OwnerState.UNKNOWN
        if resource.namespaced and not dependent.namespace:
            self._report_namespace(reference, dependent)
            return OwnerState.UNKNOWN
        namespace = dependent.namespace if resource.namespaced else ""
        try:
            owner = await self._client.get(ObjectRef(resource.group_resource, name, namespace))
        except NotFound as error:
            if error.name != name:
                # It was the kind that wasn't found, which says nothing of the object.
                return OwnerState.UNKNOWN
            if uid not in self._gone and self._is_elsewhere(resource, name, uid):
                self._report_namespace(reference, dependent)
            return OwnerState.ABSENT
        if owner.uid != uid:
            return OwnerState.ABSENT
        if owner.deleting and FOREGROUND in owner.finalizers:
            return OwnerState.WAITING
        return OwnerState.SOLID

    def _resource(self, reference: Mapping[str, Any]) -> Resource | None:
        api_version, kind = reference.get("apiVersion", ""), reference.get("kind", "")
        scheme = self._client.scheme
        found = scheme.for_kind(api_version, kind)
        if found is not None:
            return found
        group = api_version.rpartition("/")[0]
        return next((resource for resource in scheme if (resource.group, resource.kind) == (group, kind)), None)

    def _declared(self, reference: Mapping[str, Any]) -> bool:
        # A kind that is declared and isn't served may still have objects, which were seen to go from the cache only.
        group, kind = reference.get("apiVersion", "").rpartition("/")[0], reference.get("kind", "")
        definitions = (definition.spec for definition in self._cache.lister(_DEFINITIONS).list())
        return any((spec["group"], spec["names"]["kind"]) == (group, kind) for spec in definitions)

    def _is_elsewhere(self, resource: Resource, name: str, uid: str) -> bool:
        informer = self._cache.find(resource.group_resource)
        if informer is None:
            return False
        namespaces = (namespace.name for namespace in self._cache.lister("namespaces").list())
        versions = (informer.indexer.version((namespace, name)) for namespace in namespaces)
        return any(version is not None and version[0] == uid for version in versions)

    def _report_namespace(self, reference: Mapping[str, Any], dependent: Object) -> None:
        namespace = dependent.namespace
        place = f"namespace: {namespace}, " if namespace else ""
        owner = (
            f"[{reference.get('apiVersion')}/{reference.get('kind')}, {place}name: {reference.get('name')}, "
            f"uid: {reference.get('uid')}]"
        )
        message = f'ownerRef {owner} does not exist in namespace "{namespace}"'
        self._recorder.event(dependent, "Warning", "OwnerRefInvalidNamespace", message)


class _Recent:
    """A set that forgets the oldest of more than it may hold."""

    def __init__(self) -> None:
        self._uids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, uid: str) -> bool:
        return uid in self._uids

    def add(self, uid: str) -> None:
        self._uids[uid] = None
        if len(self._uids) > _REMEMBERED:
            self._uids.popitem(last=False)
