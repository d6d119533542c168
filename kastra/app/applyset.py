"""Pruning: what an earlier apply of the same set created and this one no longer names is deleted.

A set has a parent ConfigMap that says which kinds and namespaces its members may be in; members carry a label with the
set's id. So pruning never touches an object that the set didn't create, whatever its labels, and a half-finished apply
leaves the parent naming everything that must still be looked at.

Source: Kubernetes' ApplySet specification (KEP-3659); `kubectl apply --prune --applyset` reads and writes the same labels.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.api.scheme import Resource
from kastra.client.interface import Client, WriteOptions

from .applying import FIELD_MANAGER, Applied

PART_OF = "applyset.kubernetes.io/part-of"
_ID = "applyset.kubernetes.io/id"
_TOOLING = "applyset.kubernetes.io/tooling"
_KINDS = "applyset.kubernetes.io/contains-group-kinds"
_NAMESPACES = "applyset.kubernetes.io/additional-namespaces"


class ApplySet:
    """The set called `name`, whose parent lives in `namespace`."""

    def __init__(self, client: Client, name: str, namespace: str) -> None:
        self._client = client
        self._name = name
        self._namespace = namespace
        text = f"{name}.{namespace}.ConfigMap."
        digest = hashlib.sha256(text.encode()).digest()
        self.id = f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"

    @property
    def labels(self) -> Mapping[str, str]:
        """What every member carries."""
        return {PART_OF: self.id}

    async def begin(self, refs: Iterable[ObjectRef]) -> None:
        """Before anything is sent: the parent names the kinds of before and of now."""
        kinds, namespaces = await self._recorded()
        for ref in refs:
            resource = self._client.scheme.find(ref.kind)
            kinds.add(_group_kind(resource))
            namespaces.add(ref.namespace)
        await self._record(kinds, namespaces)

    async def finish(self, applied: Iterable[Applied], *, dry_run: bool = False) -> list[Applied]:
        """Delete members that are not among `applied`, then let the parent name only what is left."""
        kept = [one.object for one in applied if one.object is not None]
        uids = {obj.uid for obj in kept}
        kinds, namespaces = await self._recorded()
        pruned: list[Applied] = []
        for group_kind in sorted(kinds):
            try:
                resource = self._client.scheme.find(group_kind)
            except NotFound:
                continue  # its definition was deleted, and its objects with it
            for namespace in sorted(filter(None, namespaces)) if resource.namespaced else [None]:
                page = await self._client.list(group_kind, namespace, label_selector=f"{PART_OF}={self.id}")
                for member in page.items:
                    if member.uid not in uids and not member.deleting:
                        await self._client.delete(member.ref, uid=member.uid, dry_run=dry_run)
                        pruned.append(Applied(member.ref, "pruned", member))
        if not dry_run:
            now = {_group_kind(self._client.scheme.find(obj.ref.kind)) for obj in kept}
            await self._record(now, {obj.namespace for obj in kept})
        return pruned

    async def _recorded(self) -> tuple[set[str], set[str]]:
        try:
            parent: Object = await self._client.get(ObjectRef("configmaps", self._name, self._namespace))
        except NotFound:
            return set(), {self._namespace}
        annotations = parent.annotations
        kinds = set(filter(None, annotations.get(_KINDS, "").split(",")))
        return kinds, {self._namespace, *filter(None, annotations.get(_NAMESPACES, "").split(","))}

    async def _record(self, kinds: set[str], namespaces: set[str]) -> None:
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "labels": {_ID: self.id},
                "annotations": {
                    _TOOLING: "kastra/v1",
                    _KINDS: ",".join(sorted(kinds)),
                    _NAMESPACES: ",".join(sorted(namespaces - {"", self._namespace})),
                },
            },
        }
        await self._client.apply(body, WriteOptions(field_manager=f"{FIELD_MANAGER}-applyset"), force=True)


def _group_kind(resource: Resource) -> str:
    return f"{resource.kind}.{resource.group}" if resource.group else resource.kind
