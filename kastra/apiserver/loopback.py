"""The Client in process: what controllers and the embedded CLI use. The same rules as over HTTP, without sockets.

Every call passes the same authorisation and admission as one from outside; what is handed out shares the store's bytes. Objects given to
it are encoded at once and never changed. Warnings of the server arrive at `on_warning`, where an HTTP client would see
`Warning` headers.

Read next: `kastra.apiserver.registry`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson

from kastra.api.errors import BadRequest, NotFound
from kastra.api.meta import DEFAULT_NAMESPACE, ObjectRef
from kastra.api.object import Object
from kastra.api.scheme import Resource, Scheme
from kastra.api.strict import decode
from kastra.client.interface import (
    DEFAULT_OPTIONS,
    ObjectList,
    PatchType,
    PropagationPolicy,
    Watch,
    WriteOptions,
)

from .authorization import access_to, require
from .call import SYSTEM, Call, User
from .deletion import DeleteOptions
from .listing import ListOptions
from .registry import Registry
from .watching import WatchOptions


class LoopbackClient:
    """`kastra.client.interface.Client` over a registry in the same process.

    Args:
        registry: of this process.
        user: on whose behalf; what they may not do is refused.
        field_manager: owner of written fields where a call names none.
        namespace: where namespaced objects are looked for that don't say where they are.
        on_warning: called with each warning of the server, such as `unknown field "spec.x"`.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        user: User = SYSTEM,
        field_manager: str = "kastra",
        namespace: str = DEFAULT_NAMESPACE,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        self._registry = registry
        self._user = user
        self._options = replace(DEFAULT_OPTIONS, field_manager=field_manager)
        self._namespace = namespace
        self._on_warning = on_warning

    @property
    def scheme(self) -> Scheme:
        """The kinds this server has; changes as CustomResourceDefinitions come and go."""
        return self._registry.scheme

    # Reader

    async def get(self, ref: ObjectRef, *, subresource: str = "") -> Object:
        """One object, or its scale. Raises NotFound."""
        resource = self.scheme.find(ref.kind)
        namespace = self._namespace_of(resource, ref.namespace)
        self._require(resource, "get", namespace, ref.name, subresource)
        return await self._registry.get(resource, namespace, ref.name, subresource)

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> ObjectList:
        """One page of a kind's objects, sorted by namespace and name. Raises Expired, BadRequest."""
        resource = self.scheme.find(kind)
        options = ListOptions(label_selector, field_selector, limit, continue_token)
        self._require(resource, "list", _scope(resource, namespace))
        return await self._registry.list(resource, _scope(resource, namespace), options)

    def watch(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        allow_bookmarks: bool = False,
        send_initial_events: bool = False,
        timeout: float | None = None,
    ) -> AbstractAsyncContextManager[Watch]:
        """Changes of a kind's objects. Raises Expired and BadRequest on entering."""
        options = WatchOptions(
            label_selector,
            field_selector,
            resource_version,
            allow_bookmarks=allow_bookmarks,
            send_initial_events=send_initial_events,
            timeout=timeout,
        )
        return self._watch(kind, namespace, options)

    @asynccontextmanager
    async def _watch(self, kind: str, namespace: str | None, options: WatchOptions) -> AsyncIterator[Watch]:
        resource = self.scheme.find(kind)
        self._require(resource, "watch", _scope(resource, namespace))
        events = self._registry.watch(resource, _scope(resource, namespace), options)
        try:
            yield events
        finally:
            await events.aclose()

    # Writer

    async def create(self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS) -> Object:
        """POST. Raises AlreadyExists, Invalid, NotFound (its namespace, or its kind)."""
        resource, namespace, _, own = self._own(obj)
        call = self._call(options)
        self._require(resource, "create", namespace)
        try:
            return await self._registry.create(resource, namespace, own, call)
        finally:
            self._warn(call)

    async def update(
        self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS, *, subresource: str = ""
    ) -> Object:
        """PUT. Raises Conflict, NotFound, Invalid."""
        resource, namespace, name, own = self._own(obj)
        call = self._call(options)
        self._require(resource, "update", namespace, name, subresource)
        try:
            return await self._registry.update(resource, namespace, name, own, call, subresource)
        finally:
            self._warn(call)

    async def patch(
        self,
        ref: ObjectRef,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        subresource: str = "",
    ) -> Object:
        """PATCH. Raises Conflict, NotFound, Invalid, UnsupportedMediaType."""
        resource = self.scheme.find(ref.kind)
        namespace = self._namespace_of(resource, ref.namespace)
        call = self._call(options)
        self._require(resource, "patch", namespace, ref.name, subresource)
        own = _plain(patch, "the patch")
        try:
            return await self._registry.patch(resource, namespace, ref.name, own, patch_type, call, subresource)
        finally:
            self._warn(call)

    async def apply(
        self,
        obj: Mapping[str, Any],
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        """Server-side apply. Raises Conflict unless `force`, Invalid, NotFound."""
        resource, namespace, name, own = self._own(obj)
        call = self._call(options)
        self._require(resource, "patch", namespace, name, subresource)
        if not subresource and not self._registry.exists(resource, namespace, name):
            # Applying what isn't there creates it, which takes the permission for that too.
            self._require(resource, "create", namespace)
        try:
            written = await self._registry.apply(
                resource, namespace, name, own, call, force=force, subresource=subresource
            )
        finally:
            self._warn(call)
        return written.object

    async def delete(
        self,
        ref: ObjectRef,
        *,
        propagation_policy: PropagationPolicy | None = None,
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
    ) -> Object | None:
        """DELETE: None when it is gone, the object when finalizers hold it. Raises NotFound, Conflict, Forbidden."""
        resource = self.scheme.find(ref.kind)
        namespace = self._namespace_of(resource, ref.namespace)
        self._require(resource, "delete", namespace, ref.name)
        options = DeleteOptions(propagation_policy, uid, resource_version)
        call = self._call(WriteOptions(dry_run=dry_run))
        deletion = await self._registry.delete(resource, namespace, ref.name, options, call)
        return None if deletion.gone else deletion.object

    async def delete_collection(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        propagation_policy: PropagationPolicy | None = None,
        dry_run: bool = False,
    ) -> Sequence[Object]:
        """Delete all that match; returns them. Raises BadRequest, MethodNotAllowed."""
        resource = self.scheme.find(kind)
        call = self._call(WriteOptions(dry_run=dry_run))
        self._require(resource, "deletecollection", _scope(resource, namespace))
        return await self._registry.delete_collection(
            resource,
            _scope(resource, namespace),
            ListOptions(label_selector, field_selector),
            DeleteOptions(propagation_policy),
            call,
        )

    # Connector

    async def connect(
        self, ref: ObjectRef, subresource: str, body: Mapping[str, Any] | None = None, since: int | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Records of a stream or action below an object. Raises NotFound, when iteration begins."""
        resource = self.scheme.find(ref.kind)
        namespace = self._namespace_of(resource, ref.namespace)
        verb = self._registry.connectors.find(resource, subresource).verb
        self._require(resource, verb, namespace, ref.name, subresource)
        records = await self._registry.connect(resource, namespace, ref.name, subresource, self._user, body, since)
        try:
            async for record in records:
                yield record
        finally:
            close = getattr(records, "aclose", None)
            if close is not None:
                await close()

    def _own(self, obj: Mapping[str, Any]) -> tuple[Resource, str, str, dict[str, Any]]:
        """The resource, namespace and name of an object, and a copy for the registry to keep."""
        own: dict[str, Any] = _plain(obj, "the object")
        api_version, kind = own.get("apiVersion", ""), own.get("kind", "")
        resource = self.scheme.for_kind(api_version, kind)
        if resource is None:
            raise NotFound(f'no matches for kind "{kind}" in version "{api_version}"', kind=kind)
        metadata = own.get("metadata")
        if not isinstance(metadata, dict):
            return resource, self._namespace_of(resource, ""), "", own
        return resource, self._namespace_of(resource, metadata.get("namespace") or ""), metadata.get("name") or "", own

    def _require(
        self, resource: Resource, verb: str, namespace: str = "", name: str = "", subresource: str = ""
    ) -> None:
        """Raises Forbidden if the user may not do that."""
        require(self._registry.authorizer, self._user, access_to(resource, verb, namespace, name, subresource))

    def _namespace_of(self, resource: Resource, namespace: str) -> str:
        return (namespace or self._namespace) if resource.namespaced else ""

    def _call(self, options: WriteOptions) -> Call:
        if options is DEFAULT_OPTIONS:
            return Call(self._user, self._options)
        if not options.field_manager:
            options = replace(options, field_manager=self._options.field_manager)
        return Call(self._user, options)

    def _warn(self, call: Call) -> None:
        if self._on_warning is not None:
            for warning in call.warnings:
                self._on_warning(warning)


def _plain(value: Any, what: str) -> Any:
    """A copy of what is given, as it would arrive over HTTP. Raises BadRequest."""
    try:
        raw = orjson.dumps(value)
    except TypeError as error:
        raise BadRequest(f"{what} can't be written as JSON: {error}") from error
    return decode(raw)


def _scope(resource: Resource, namespace: str | None) -> str:
    return namespace or "" if resource.namespaced else ""
