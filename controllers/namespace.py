"""Namespace: what it holds goes before it does.

A deleted Namespace is Terminating: nothing can be created in it any more. Everything of every namespaced kind is deleted;
what finalizers hold is waited for and shown in the conditions of the Namespace:

    NamespaceDeletionContentFailure   something could not be deleted, and is tried again
    NamespaceContentRemaining         objects are still there
    NamespaceFinalizersRemaining      these finalizers hold them

When nothing is left the finalizer `kubernetes` is taken away through the `finalize` subresource. Never removes a finalizer
of anything else: whoever put it there does.

Source: kube-controller-manager's pkg/controller/namespace (deletion/namespaced_resources_deleter.go). Read next:
`kastra.apiserver.core`, which begins what ends here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from kastra.api.errors import NotFound, StatusError
from kastra.api.meta import ObjectRef, find_condition
from kastra.api.object import Object
from kastra.api.scheme import Resource, Scheme
from kastra.client.interface import WriteOptions
from kastra.clock import rfc3339
from kastra.runtime.controller import Controller
from kastra.runtime.manager import Manager
from kastra.runtime.reconcile import Request, Result

KUBERNETES = "kubernetes"
"""The finalizer in `spec.finalizers` that this controller answers for."""
CONTENT_FAILURE = "NamespaceDeletionContentFailure"
CONTENT_REMAINING = "NamespaceContentRemaining"
FINALIZERS_REMAINING = "NamespaceFinalizersRemaining"

_OPTIONS = WriteOptions(field_manager="kastra-namespace")
_UNWATCHED = frozenset({"events", "events.events.k8s.io", "leases.coordination.k8s.io"})
_LOOK_AGAIN = 8.0
"""Seconds until a namespace is looked at again whose content no event is known of."""

_DEADLINE = 300.0
"""Seconds for one pass, which deletes all that a namespace holds."""


def setup(manager: Manager) -> None:
    """One controller, which only deletions concern."""
    reconciler = NamespaceReconciler(manager)
    reconciler.controller = manager.controller("Namespace", reconciler, deadline=_DEADLINE, predicate=_is_terminating)


@dataclass(slots=True)
class Content:
    """What a pass left behind.

    Args:
        resources: how many objects there still are, by `configmaps.` or `agents.mastra.ai`.
        finalizers: how many of them each finalizer holds.
        refusals: of deletions, by resource.
    """

    resources: Counter[str] = field(default_factory=Counter)
    finalizers: Counter[str] = field(default_factory=Counter)
    refusals: dict[str, StatusError] = field(default_factory=dict)


class NamespaceReconciler:
    """Empties namespaces that are being deleted."""

    controller: Controller

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._draining: set[str] = set()
        self._watched: set[str] = set()

    async def reconcile(self, request: Request) -> Result:
        """Delete what is in the namespace, say what is left, and let it go when nothing is.

        Raises:
            StatusError: something could not be deleted; try again.
        """
        try:
            namespace = await self._client.get(ObjectRef("namespaces", request.name))
        except NotFound:
            self._draining.discard(request.name)
            return Result()
        if not namespace.deleting or KUBERNETES not in _finalizers(namespace):
            return Result()
        self._draining.add(namespace.name)
        self._watch_content()
        content = await self._delete_content(namespace.name)
        try:
            namespace = await self._show(namespace, content)
            if content.refusals:
                raise next(iter(content.refusals.values()))
            if content.resources:
                return Result(requeue_after=_LOOK_AGAIN)
            await self._finalize(namespace)
        except NotFound:
            # Somebody else has finalized it meanwhile.
            return Result()
        return Result()

    def _watch_content(self) -> None:
        # From the first deletion on: before it nobody needs to know what goes. Kinds may have been added since the last.
        for resource in _namespaced(self._client.scheme):
            kind = resource.group_resource
            if kind not in self._watched and kind not in _UNWATCHED:
                self._watched.add(kind)
                self.controller.watches(kind, lambda obj: (Request("", obj.namespace),), self._is_drained_of)

    def _is_drained_of(self, old: Object | None, new: Object | None) -> bool:
        return new is None and old is not None and old.namespace in self._draining

    # ---- content

    async def _delete_content(self, namespace: str) -> Content:
        content = Content()
        async with anyio.create_task_group() as tasks:
            for resource in _namespaced(self._client.scheme):
                tasks.start_soon(self._delete_kind, resource, namespace, content)
        return content

    async def _delete_kind(self, resource: Resource, namespace: str, content: Content) -> None:
        kind = resource.group_resource
        name = f"{resource.plural}.{resource.group}"
        try:
            await self._client.delete_collection(kind, namespace, propagation_policy="Background")
        except NotFound:
            return  # the kind went meanwhile, and its objects with it
        except StatusError as error:
            content.refusals[name] = error
        token = ""
        while True:
            try:
                page = await self._client.list(kind, namespace, continue_token=token)
            except NotFound:
                return  # it went just now
            for obj in page.items:
                content.resources[name] += 1
                content.finalizers.update(obj.finalizers)
            token = page.continue_token
            if not token:
                return

    # ---- the namespace itself

    async def _show(self, namespace: Object, content: Content) -> Object:
        """Write the conditions, unless the namespace is about to go without ever having had to wait."""
        present = namespace.status.get("conditions") or []
        if not present and not content.resources and not content.refusals:
            return namespace
        now = rfc3339(self._clock.now())
        wanted = [_condition(present, type_, told, now) for type_, told in _conditions(content).items()]
        others = [condition for condition in present if condition.get("type") not in _OK]
        conditions = [*others, *wanted]
        if conditions == present:
            return namespace
        body = {"metadata": {"resourceVersion": namespace.resource_version}, "status": {"conditions": conditions}}
        return await self._client.patch(namespace.ref, body, options=_OPTIONS, subresource="status")

    async def _finalize(self, namespace: Object) -> None:
        body = namespace.to_dict()
        body["spec"]["finalizers"] = [name for name in _finalizers(namespace) if name != KUBERNETES]
        await self._client.update(body, _OPTIONS, subresource="finalize")


_OK: Mapping[str, tuple[str, str]] = {
    CONTENT_FAILURE: ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
    CONTENT_REMAINING: ("ContentRemoved", "All content successfully removed"),
    FINALIZERS_REMAINING: ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}
"""Reason and message of each condition when it is False, which is the good case."""


def _conditions(content: Content) -> dict[str, tuple[bool, str, str]]:
    """Status, reason and message of every condition."""
    told = {type_: (False, *text) for type_, text in _OK.items()}
    if content.refusals:
        reasons = [f"{name}: {error}" for name, error in sorted(content.refusals.items())]
        message = f"Failed to delete all resource types, {len(reasons)} remaining: {', '.join(reasons)}"
        told[CONTENT_FAILURE] = (True, "ContentDeletionFailed", message)
    if content.resources:
        counts = [f"{name} has {count} resource instances" for name, count in sorted(content.resources.items())]
        message = f"Some resources are remaining: {', '.join(counts)}"
        told[CONTENT_REMAINING] = (True, "SomeResourcesRemain", message)
    if content.finalizers:
        counts = [f"{name} in {count} resource instances" for name, count in sorted(content.finalizers.items())]
        message = f"Some content in the namespace has finalizers remaining: {', '.join(counts)}"
        told[FINALIZERS_REMAINING] = (True, "SomeFinalizersRemain", message)
    return told


def _condition(
    present: Sequence[Mapping[str, Any]], type_: str, told: tuple[bool, str, str], now: str
) -> dict[str, Any]:
    holds, reason, message = told
    status = "True" if holds else "False"
    old = find_condition(present, type_)
    since = old["lastTransitionTime"] if old is not None and old.get("status") == status else now
    return {"type": type_, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}


def _finalizers(namespace: Object) -> Sequence[str]:
    return namespace.spec.get("finalizers") or ()


def _is_terminating(old: Object | None, new: Object | None) -> bool:
    return new is None or new.deleting


def _namespaced(scheme: Scheme) -> list[Resource]:
    """Every namespaced kind once, however many versions of it are served; not those that are questions."""
    return list(
        {
            resource.group_resource: resource
            for resource in scheme
            if resource.namespaced and "deletecollection" in resource.verbs
        }.values()
    )
