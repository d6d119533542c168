"""What does each verb mean? The semantics of the Kubernetes API for every kind, over any Storage.

    create, update, patch           this file: find the object, make the change, try again if somebody was faster
    apply                           `applying`
    delete, delete_collection       `deletion`
    list, watch                     `listing`, `watching`
    connect                         `subresources`

What a write goes through on its way to storage is `writing`. The registry knows which kinds are served (`install`), and
nothing of HTTP; plain objects given to it are its own from then on. Never waits for anything but storage and admission.

Source: apiserver/pkg/registry/generic and pkg/endpoints/handlers. Read next: `kastra.apiserver.writing`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from kastra.api.errors import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    UnsupportedMediaType,
    not_found,
)
from kastra.api.object import Object
from kastra.api.patch import apply_json_patch, apply_merge_patch
from kastra.api.scheme import Resource, Scheme
from kastra.api.strategic import apply_strategic_merge_patch
from kastra.api.values import copy
from kastra.client.interface import ObjectList, PatchType
from kastra.clock import Clock
from kastra.store.interface import Entry, Key, Storage

from . import metadata
from .admission import AdmissionChain, Attributes, Operation
from .applying import Applier, Written
from .authorization import AllowEverything, Authorizer
from .call import Call, User
from .deletion import DeleteOptions, Deleter, Deletion
from .listing import Lister, ListOptions
from .reviews import ReviewStrategy, TokenIssuer, TokenReader
from .selection import Selection
from .served import Served
from .subresources import ConnectorRegistry, ConnectRequest, scale_of, set_scale
from .watching import ObjectWatch, WatchOptions, open_watch
from .webhookcall import Outbound
from .writing import ObjectWriter

APPLY_PATCH = "application/apply-patch+yaml"


class Registry:
    """Every verb on every kind.

    Args:
        storage: where objects are.
        scheme: filled by `install`; shared with clients.
        admission: the chain that every write passes.
        clock: for creation times, deletion times and time-outs.
        connectors: the streams and actions below objects.
    """

    def __init__(
        self,
        storage: Storage,
        scheme: Scheme,
        admission: AdmissionChain,
        clock: Clock,
        connectors: ConnectorRegistry | None = None,
    ) -> None:
        self.storage = storage
        self.scheme = scheme
        self.admission = admission
        self.clock = clock
        self.connectors = connectors or ConnectorRegistry()
        self.authorizer: Authorizer = AllowEverything()
        """Answers questions about access; a server that has users sets another, and asks it for every request."""
        self.token_reader: TokenReader | None = None
        """Recognises tokens for whoever asks; None where there are none."""
        self.token_issuer: TokenIssuer | None = None
        """Makes tokens for ServiceAccounts; None where there are none."""
        self.outbound: Outbound | None = None
        """The guard that webhooks are called through; None in a process that calls nobody."""
        self.writer = ObjectWriter(storage, admission, clock)
        self._deleter = Deleter(self.writer)
        self._applier = Applier(self.writer)
        self._lister = Lister(storage, clock)
        self._served: dict[tuple[str, str, str], Served] = {}

    # Which kinds there are

    def install(self, served: Served) -> None:
        """Serve a kind in one version from now on; replaces what was served under that group, version and kind."""
        resource = served.resource
        self._served[(resource.group, resource.version, resource.plural)] = served
        self.scheme.register(resource)

    def uninstall(self, resource: Resource) -> None:
        """Serve it no longer."""
        self._served.pop((resource.group, resource.version, resource.plural), None)
        self.scheme.unregister(resource.group, resource.kind, resource.version)

    def served(self, resource: Resource) -> Served:
        """How a resource is served. Raises NotFound when it no longer is."""
        found = self._served.get((resource.group, resource.version, resource.plural))
        if found is None:
            raise NotFound(
                "the server could not find the requested resource", group=resource.group, kind=resource.plural
            )
        return found

    def equivalents(self, served: Served) -> Sequence[Served]:
        """The other ways in which the same objects are served: versions, and groups that share a storage."""
        return [
            other
            for other in self._served.values()
            if other is not served and other.group_resource == served.group_resource
        ]

    # Reads

    async def get(self, resource: Resource, namespace: str, name: str, subresource: str = "") -> Object:
        """One object, or its scale. Raises NotFound."""
        served = self.served(resource)
        entry = self._entry(served, served.key(namespace, name))
        await served.prepare(entry)
        if subresource:
            self._check_subresource(resource, subresource)
        if subresource == "scale" and resource.scale is not None:
            return Object.of(scale_of(served.parsed(entry), resource.scale))
        return served.object(entry)

    def exists(self, resource: Resource, namespace: str, name: str) -> bool:
        """Whether there is such an object."""
        return self.storage.get(self.served(resource).key(namespace, name)) is not None

    async def list(self, resource: Resource, namespace: str, options: ListOptions) -> ObjectList:
        """One page of a kind's objects. Raises Expired, BadRequest, ServerTimeout."""
        return await self._lister.list(self.served(resource), namespace, options)

    def watch(self, resource: Resource, namespace: str, options: WatchOptions) -> ObjectWatch:
        """Changes of a kind's objects; close it when done. Raises Expired, BadRequest, Invalid."""
        return open_watch(self.served(resource), self.storage, self.clock, namespace, options)

    # Writes

    async def create(self, resource: Resource, namespace: str, obj: dict[str, Any], call: Call) -> Object:
        """POST. Raises AlreadyExists, Invalid, NotFound (the namespace), Forbidden, BadRequest."""
        served = self.served(resource)
        if isinstance(served.strategy, ReviewStrategy):
            return await self._answer(served, served.strategy, namespace, obj, call)
        return await self.writer.create(served, namespace, obj, call)

    async def _answer(
        self, served: Served, strategy: ReviewStrategy, namespace: str, obj: dict[str, Any], call: Call
    ) -> Object:
        """A question with its answer as status."""
        resource = served.resource
        if (obj.get("apiVersion"), obj.get("kind")) != (resource.api_version, resource.kind):
            raise BadRequest(f"the object is no {resource.kind} of {resource.api_version}")
        obj["metadata"] = {"creationTimestamp": None}
        attributes = Attributes(Operation.CREATE, served, namespace, "", obj, None, call)
        await self.admission.mutate(attributes)
        await self.admission.validate(attributes)
        return Object.of({**obj, "status": dict(strategy.answer(self, namespace, obj, call.user))})

    async def update(
        self, resource: Resource, namespace: str, name: str, obj: dict[str, Any], call: Call, subresource: str = ""
    ) -> Object:
        """PUT: the object becomes `obj`. Raises Conflict, NotFound, Invalid, BadRequest."""
        unconditional = self.served(resource).strategy.unconditional_update

        def replaced(old: dict[str, Any]) -> dict[str, Any]:
            # A copy, because what is given to the writer is changed, and this may be called again.
            new: dict[str, Any] = copy(obj)
            return new

        return await self.change(resource, namespace, name, replaced, call, subresource, unconditional=unconditional)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType,
        call: Call,
        subresource: str = "",
    ) -> Object:
        """PATCH: change what the patch names, in the newest state.

        Raises:
            UnsupportedMediaType: a strategic merge patch for a custom resource.
            Conflict, NotFound, Invalid, BadRequest.
        """
        change = _patcher(resource, patch, patch_type)
        if subresource == "status" and patch_type != PatchType.JSON:
            # Patching copies what it patches, and of these only status and metadata can take effect.
            return await self.change(resource, namespace, name, lambda old: change(_narrow(old)), call, subresource)
        return await self.change(resource, namespace, name, change, call, subresource)

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        obj: dict[str, Any],
        call: Call,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Written:
        """Server-side apply.

        Raises:
            Conflict: others own fields that would change, and `force` is not set.
            Invalid, BadRequest, NotFound, Forbidden.
        """
        served = self.served(resource)
        self._check_subresource(resource, subresource)
        return await self._applier.apply(served, namespace, name, obj, call, force=force, subresource=subresource)

    async def change(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        call: Call,
        subresource: str,
        *,
        unconditional: bool = True,
    ) -> Object:
        """Read, change, write (GuaranteedUpdate); again from the start if somebody wrote in between.

        Args:
            change: gives the new object for the present one, which it must not touch.
            unconditional: whether the new object may lack a resourceVersion.
        """
        served = self.served(resource)
        self._check_subresource(resource, subresource)
        key = served.key(namespace, name)
        warned = len(call.warnings)

        async def attempt() -> Object:
            del call.warnings[warned:]
            entry = self._entry(served, key)
            await served.prepare(entry)
            # Its own, not what readers in this process share: what one of them changed by mistake would be stored, unexamined.
            old = served.parsed(entry)
            new = change(old) if subresource != "scale" else _scaled(served, old, change)
            metadata.expected_revision(_metadata_of(new), entry.revision, resource, name, required=not unconditional)
            return await self.writer.change(served, entry, old, new, call, subresource=subresource)

        stored = await self.writer.retried(key, attempt)
        if subresource == "scale" and resource.scale is not None:
            return Object.of(scale_of(stored.data, resource.scale))
        return stored

    # Deletion

    async def delete(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions, call: Call
    ) -> Deletion:
        """DELETE one. Raises NotFound, Conflict (preconditions), Forbidden."""
        served = self.served(resource)
        return await self._deleter.delete(served, served.key(namespace, name), options, call)

    async def delete_collection(
        self, resource: Resource, namespace: str, selection: ListOptions, options: DeleteOptions, call: Call
    ) -> Sequence[Object]:
        """DELETE all that are selected; returns them as they were last seen. Raises MethodNotAllowed, BadRequest."""
        served = self.served(resource)
        if "deletecollection" not in served.resource.verbs:
            raise MethodNotAllowed(f"deletecollection is not supported on resources of kind {resource.plural!r}")
        selected = Selection.parse(served, selection.label_selector, selection.field_selector)
        entries = self.storage.list(served.group_resource, namespace).entries
        if selected.inside:
            await served.prepare(*entries)
        keys = [entry.key for entry in entries if selected.matches is None or selected.matches(entry)]
        return await self.delete_keys(served, keys, options, call)

    async def delete_keys(
        self, served: Served, keys: Sequence[Key], options: DeleteOptions, call: Call
    ) -> Sequence[Object]:
        """Delete these, many at a time; those that are gone already are left out of the result."""
        return await self._deleter.delete_all(served, keys, options, call)

    # Streams and actions

    async def connect(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        subresource: str,
        user: User,
        body: Mapping[str, Any] | None = None,
        since: int | None = None,
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Records of a connect subresource. Raises NotFound for the object or the subresource."""
        found = self.connectors.find(resource, subresource)
        served = self.served(resource)
        key = served.key(namespace, name)
        entry = self._entry(served, key)
        await served.prepare(entry)
        obj = served.object(entry)
        attributes = Attributes(Operation.CONNECT, served, key.namespace, name, None, obj.data, Call(user), subresource)
        await self.admission.validate(attributes)
        return found.factory(ConnectRequest(obj, user, body, since))

    def _entry(self, served: Served, key: Key) -> Entry:
        entry = self.storage.get(key)
        if entry is None:
            raise not_found(served.resource.plural, served.resource.group, key.name)
        return entry

    def _check_subresource(self, resource: Resource, subresource: str) -> None:
        known = (
            not subresource
            or (subresource == "status" and resource.has_status)
            or (subresource == "scale" and resource.scale is not None)
            or (subresource == "finalize" and subresource in resource.subresources)
        )
        if not known:
            message = f"{resource.group_resource} has no subresource {subresource!r}"
            raise NotFound(message, group=resource.group, kind=resource.plural)


def _narrow(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {key: obj[key] for key in ("apiVersion", "kind", "metadata", "status") if key in obj}


def _scaled(
    served: Served, old: Mapping[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    assert served.resource.scale is not None
    new: dict[str, Any] = copy(old)
    set_scale(new, change(scale_of(old, served.resource.scale)), served.resource)
    return new


def _metadata_of(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    found = obj.get("metadata")
    return found if isinstance(found, dict) else {}


def _patcher(resource: Resource, patch: Any, patch_type: PatchType) -> Callable[[dict[str, Any]], dict[str, Any]]:
    if patch_type == PatchType.MERGE:
        # Strategies of built-in kinds may change parts of the new object that it would share with the old one.
        return lambda old: apply_merge_patch(copy(old) if resource.builtin else old, patch)
    if patch_type == PatchType.JSON:
        return lambda old: apply_json_patch(old, patch)
    if not resource.builtin:
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: "
            f"{PatchType.JSON}, {PatchType.MERGE}, {APPLY_PATCH}"
        )
    return lambda old: apply_strategic_merge_patch(old, patch)
