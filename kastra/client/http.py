"""The Client over HTTP: the same calls as in process, against `kastra serve` or any other Kubernetes API server.

Kinds come from discovery when the client is opened, and anew when one is asked for that isn't there or a definition was
written. Refusals arrive as the errors that the server raised, `Warning` headers at `on_warning`. A watch whose connection
breaks ends as one does whose time is up: who goes on lists again, and that call says what is wrong.

Source: Kubernetes API concepts. Read next: `kastra.client.transport`, `kastra.client.discovery`.
"""

import math
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Self
from urllib.parse import quote

import anyio

from kastra.api.errors import BadRequest, NotFound, from_status
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.api.scheme import Resource, Scheme
from kastra.clock import Clock, SystemClock
from kastra.version import __version__

from .discovery import DEFINITIONS, Discovered, DiscoveryCache, Known, discover
from .http_forms import (
    collection_path,
    delete_options,
    encoded,
    items_of,
    loaded_line,
    option_text,
    parsed,
    query_string,
    refusal,
    watch_events,
)
from .interface import (
    DEFAULT_OPTIONS,
    ObjectList,
    PatchType,
    PropagationPolicy,
    Watch,
    WriteOptions,
)
from .kubeconfig import Cluster
from .transport import Answer, Transport, lines_of

APPLY = "application/apply-patch+yaml"
_JSON = {"Accept": "application/json"}
_WARNING = re.compile(r'^299 \S+ "((?:[^"\\]|\\.)*)"')
_AT_ONCE = 16
"""Requests under way at the same time, not counting watches; more wait."""
_AGAIN = 2.0
"""Seconds between two looks for a kind that isn't there."""
_APPEARS = 10.0
"""Seconds that a server gets to serve a kind whose definition was just written."""
_POLL = 0.1


class HttpClient:
    """`kastra.client.interface.Client` for a server elsewhere. Made by `open`.

    Args:
        cluster: which server, as whom.
        field_manager: owner of written fields where a call names none.
        on_warning: called with each warning of the server.
        known: built-in kinds, for their columns and schemas.
        schemas: discover the schemas of kinds, too, and believe no file.
        cache: where discovery is remembered; None to ask each time.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        field_manager: str = "kastra",
        on_warning: Callable[[str], None] | None = None,
        known: Known = tuple,
        schemas: bool = False,
        cache: DiscoveryCache | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.cluster = cluster
        self._clock = clock or SystemClock()
        self._transport = Transport(cluster, user_agent=f"kastra/{__version__}", clock=self._clock)
        self._options = replace(DEFAULT_OPTIONS, field_manager=field_manager)
        self._namespace = cluster.namespace
        self._on_warning = on_warning
        self._known, self._schemas, self._cache = known, schemas, cache
        self._scheme = Scheme()
        self._connects: dict[tuple[str, str], str] = {}
        self._discovered = -math.inf
        self._slots = anyio.CapacityLimiter(_AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def open(cls, cluster: Cluster, **options: Any) -> AsyncIterator[Self]:
        """A client that knows the server's kinds, until the block ends. `options` as for the class.

        Raises:
            Unreachable: there is no such server, or it isn't trusted.
            Unauthorized: it doesn't know the credentials.
            KubeconfigError: there are no credentials to be had.
        """
        client = cls(cluster, **options)
        try:
            remembered = client._remembered()
            if remembered is not None:
                client._learn(remembered)
            else:
                await client.refresh()
            yield client
        finally:
            client.close()

    def close(self) -> None:
        """Hang up; for a client that `open` didn't make."""
        self._transport.close()

    @property
    def scheme(self) -> Scheme:
        """The kinds that the server had when it was last asked."""
        return self._scheme

    async def refresh(self) -> None:
        """Ask for the server's kinds anew."""
        found = await discover(self._document, self._known, schemas=self._schemas)
        self._learn(found)
        self._discovered = self._clock.monotonic()
        if self._cache is not None:
            self._cache.write(found)

    async def version(self) -> Mapping[str, Any]:
        """What the server says of itself (`gitVersion`, `platform`, ...)."""
        return await self._document("/version")

    # Reader

    async def get(self, ref: ObjectRef, *, subresource: str = "") -> Object:
        """One object, or its scale. Raises NotFound."""
        resource = await self._find(ref.kind)
        answer = await self._call("GET", self._object(resource, ref.namespace, ref.name, subresource))
        return Object.from_json(answer.body)

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
        resource = await self._find(kind)
        query = query_string(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=str(limit or ""),
            **{"continue": continue_token},
        )
        answer = await self._call("GET", collection_path(resource, namespace) + query)
        body = parsed(answer)
        metadata = body.get("metadata") or {}
        return ObjectList(
            items_of(body, resource),
            metadata.get("resourceVersion", ""),
            metadata.get("continue") or "",
            metadata.get("remainingItemCount"),
        )

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
        """Changes of a kind's objects. Raises BadRequest on entering, Expired when iterated."""
        query = query_string(
            watch="true",
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version,
            allowWatchBookmarks="true" if allow_bookmarks else "",
            sendInitialEvents="true" if send_initial_events else "",
            resourceVersionMatch="NotOlderThan" if send_initial_events else "",
            timeoutSeconds=str(max(1, math.ceil(timeout))) if timeout is not None else "",
        )
        return self._watch(kind, namespace, query, timeout)

    @asynccontextmanager
    async def _watch(self, kind: str, namespace: str | None, query: str, timeout: float | None) -> AsyncIterator[Watch]:
        resource = await self._find(kind)
        deadline = math.inf if timeout is None else anyio.current_time() + timeout
        async with self._transport.stream("GET", collection_path(resource, namespace) + query, headers=_JSON) as (
            answer,
            parts,
        ):
            await self._check(answer, parts)
            events = watch_events(parts, deadline)
            try:
                yield events
            finally:
                await events.aclose()

    # Writer

    async def create(self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS) -> Object:
        """POST. Raises AlreadyExists, Invalid, NotFound (its namespace, or its kind)."""
        resource, namespace, _, body = await self._own(obj)
        target = collection_path(resource, namespace) + self._write_query(options)
        return await self._write(resource, "POST", target, body, "application/json")

    async def update(
        self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS, *, subresource: str = ""
    ) -> Object:
        """PUT. Raises Conflict, NotFound, Invalid."""
        resource, namespace, name, body = await self._own(obj)
        target = self._object(resource, namespace, name, subresource) + self._write_query(options)
        return await self._write(resource, "PUT", target, body, "application/json")

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
        resource = await self._find(ref.kind)
        target = self._object(resource, ref.namespace, ref.name, subresource) + self._write_query(options)
        return await self._write(resource, "PATCH", target, encoded(patch), str(patch_type))

    async def apply(
        self,
        obj: Mapping[str, Any],
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        """Server-side apply. Raises Conflict unless `force`, Invalid, NotFound."""
        resource, namespace, name, body = await self._own(obj)
        if not name:
            raise BadRequest("metadata.name is needed to apply an object")
        query = self._write_query(options) + ("&force=true" if force else "")
        return await self._write(
            resource, "PATCH", self._object(resource, namespace, name, subresource) + query, body, APPLY
        )

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
        resource = await self._find(ref.kind)
        preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
        answer = await self._call(
            "DELETE",
            self._object(resource, ref.namespace, ref.name),
            delete_options(propagation_policy, preconditions, dry_run=dry_run),
            "application/json",
        )
        gone = Object.from_json(answer.body)
        if resource.plural == DEFINITIONS:
            await self.refresh()
        return gone if gone.kind != "Status" and gone.deleting else None

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
        resource = await self._find(kind)
        target = collection_path(resource, namespace) + query_string(
            labelSelector=label_selector, fieldSelector=field_selector
        )
        options = delete_options(propagation_policy, {}, dry_run=dry_run)
        answer = await self._call("DELETE", target, options, "application/json")
        return items_of(parsed(answer), resource)

    # Connector

    async def connect(
        self, ref: ObjectRef, subresource: str, body: Mapping[str, Any] | None = None, since: int | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Records of a stream or action below an object. Raises NotFound, when iteration begins.

        What only reads is asked for with GET, where `body` becomes the query (`{"follow": False}`).
        """
        resource = await self._find(ref.kind)
        verb = self._connects.get((resource.group_resource, subresource), "get")
        asked = {"since": since, **(body or {})} if verb == "get" else {"since": since}
        query = query_string(**{name: option_text(value) for name, value in asked.items() if value is not None})
        target = self._object(resource, ref.namespace, ref.name, subresource) + query
        headers, content = dict(_JSON), None
        if verb == "create":
            headers["Content-Type"] = "application/json"
            content = encoded(body or {})
        method = "GET" if verb == "get" else "POST"
        async with self._transport.stream(method, target, content, headers) as (answer, parts):
            await self._check(answer, parts)
            async for line in lines_of(parts):
                record = loaded_line(line)
                if record.get("type") == "ERROR" and isinstance(record.get("object"), dict):
                    raise from_status(record["object"])
                yield record

    # How requests are made

    async def _call(
        self, method: str, target: str, body: bytes | None = None, content_type: str = "", *, accept: str = ""
    ) -> Answer:
        headers = {"Accept": accept or "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        async with self._slots:
            answer = await self._transport.request(method, target, body, headers)
        self._warn(answer)
        if answer.status >= 400:
            raise refusal(answer)
        return answer

    async def _document(self, target: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        return parsed(await self._call("GET", target, accept=(headers or {}).get("Accept", "")))

    async def _write(self, resource: Resource, method: str, target: str, body: bytes, content_type: str) -> Object:
        written = Object.from_json((await self._call(method, target, body, content_type)).body)
        if resource.plural == DEFINITIONS and "dryRun=All" not in target:
            await self._learn_definition(written)
        return written

    async def _check(self, answer: Answer, parts: AsyncIterator[bytes]) -> None:
        self._warn(answer)
        if answer.status >= 400:
            answer.body = b"".join([part async for part in parts])
            raise refusal(answer)

    def _warn(self, answer: Answer) -> None:
        if self._on_warning is not None:
            for value in answer.warnings:
                match = _WARNING.match(value)
                if match is not None:
                    self._on_warning(re.sub(r"\\(.)", r"\1", match[1]))

    # How kinds are found

    async def _find(self, name: str) -> Resource:
        try:
            return self._scheme.find(name)
        except NotFound:
            if not await self._look_again():
                raise
            return self._scheme.find(name)

    async def _look_again(self) -> bool:
        """Discover anew unless that was done a moment ago."""
        if self._clock.monotonic() - self._discovered < _AGAIN:
            return False
        await self.refresh()
        return True

    async def _learn_definition(self, definition: Object) -> None:
        """Wait until the server serves what a definition says, so that it can be used at once."""
        spec = definition.spec
        kind = (spec.get("names") or {}).get("kind", "")
        served = [
            f"{spec.get('group')}/{version['name']}" for version in spec.get("versions") or () if version["served"]
        ]
        with anyio.move_on_after(_APPEARS):
            while True:
                await self.refresh()
                if all(self._scheme.for_kind(version, kind) for version in served):
                    return
                await self._clock.sleep(_POLL)

    def _remembered(self) -> Discovered | None:
        if self._cache is None or self._schemas:
            return None
        return self._cache.read(self._clock.now().timestamp())

    def _learn(self, found: Discovered) -> None:
        present = {(r.group, r.version, r.kind) for r in found.resources}
        for resource in self._scheme:
            if (resource.group, resource.version, resource.kind) not in present:
                self._scheme.unregister(resource.group, resource.kind, resource.version)
        for resource in found.resources:
            if self._scheme.for_kind(resource.api_version, resource.kind) != resource or self._schemas:
                self._scheme.register(resource)
        self._connects = found.connects

    async def _own(self, obj: Mapping[str, Any]) -> tuple[Resource, str, str, bytes]:
        """The resource, namespace and name of an object, and its JSON."""
        body = encoded(obj)
        api_version, kind = obj.get("apiVersion", ""), obj.get("kind", "")
        resource = self._scheme.for_kind(api_version, kind)
        if resource is None and await self._look_again():
            resource = self._scheme.for_kind(api_version, kind)
        if resource is None:
            raise NotFound(f'no matches for kind "{kind}" in version "{api_version}"', kind=kind)
        metadata = obj.get("metadata")
        if not isinstance(metadata, Mapping):
            return resource, self._namespace_of(resource, ""), "", body
        return resource, self._namespace_of(resource, metadata.get("namespace") or ""), metadata.get("name") or "", body

    def _namespace_of(self, resource: Resource, namespace: str) -> str:
        return (namespace or self._namespace) if resource.namespaced else ""

    def _object(self, resource: Resource, namespace: str, name: str, subresource: str = "") -> str:
        if not name:
            raise BadRequest("a name is needed")
        path = f"{collection_path(resource, self._namespace_of(resource, namespace))}/{quote(name, safe='')}"
        return f"{path}/{quote(subresource, safe='')}" if subresource else path

    def _write_query(self, options: WriteOptions) -> str:
        return query_string(
            fieldManager=options.field_manager or self._options.field_manager,
            fieldValidation=options.field_validation,
            dryRun="All" if options.dry_run else "",
        )
