"""A Kubernetes API in a dictionary: just enough of one to specify the runtime's behaviour, with faults on demand."""

import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from kastra.api import errors
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.api.scheme import Resource, Scheme
from kastra.client.interface import DEFAULT_OPTIONS, ObjectList, PatchType, WatchEvent, WriteOptions


def resource(kind: str, plural: str, group: str = "mastra.ai", **options: Any) -> Resource:
    defaults = {"namespaced": True, "has_status": bool(group), "has_generation": bool(group)}
    return Resource(
        group=group,
        version="v1",
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        list_kind=f"{kind}List",
        **{**defaults, **options},
    )


KINDS = (
    resource("Agent", "agents"),
    resource("Tool", "tools"),
    resource("Model", "models"),
    resource("Workflow", "workflows"),
    resource("System", "systems"),
    resource("Event", "events", ""),
    resource("Secret", "secrets", ""),
    resource("Namespace", "namespaces", "", namespaced=False),
    resource("Lease", "leases", "coordination.k8s.io", has_status=False, has_generation=False),
    resource("CustomResourceDefinition", "customresourcedefinitions", "apiextensions.k8s.io", namespaced=False),
)

_Key = tuple[str, str, str]


class MemoryClient:
    """A client and its server. Counts calls by verb and kind in `calls`; `fail` makes the next calls of a verb fail."""

    def __init__(self, kinds: Sequence[Resource] = KINDS) -> None:
        self.scheme = Scheme()
        for kind in kinds:
            self.scheme.register(kind)
        self.calls: Counter[tuple[str, str]] = Counter()
        self.revision = 0
        self.fail: dict[str, list[Exception]] = {}
        self.page_limit = 0
        self._objects: dict[_Key, dict[str, Any]] = {}
        self._history: list[tuple[int, str, str, dict[str, Any]]] = []
        self._compacted = 0
        self._changed = anyio.Event()
        self._cut = 0

    # ---- faults

    def compact(self) -> None:
        """Forget history: watches from the past answer 410."""
        self._compacted = self.revision

    def cut_watches(self, error: Exception | None = None) -> None:
        """End all open watches, cleanly or with an error."""
        self._cut += 1
        self._cut_error = error
        self._wake()

    def writes(self) -> int:
        return sum(
            n for (verb, kind), n in self.calls.items() if verb not in ("get", "list", "watch") and kind != "Event"
        )

    # ---- reads

    async def get(self, ref: ObjectRef, *, subresource: str = "") -> Object:
        found = self._call("get", ref.kind)
        return Object.of(self._stored(found, ref))

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
        found = self._call("list", kind)
        keys = sorted(k for k in self._objects if k[0] == found.group_resource and namespace in (None, "", k[1]))
        start = int(continue_token or 0)
        stop = start + (self.page_limit or limit or len(keys))
        items = [Object.of(self._objects[key]) for key in keys[start:stop]]
        token = str(stop) if stop < len(keys) else ""
        return ObjectList(items, str(self.revision), token)

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
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[AsyncIterator[WatchEvent]]:
            found = self._call("watch", kind)
            since = int(resource_version or 0)
            if since < self._compacted:
                raise errors.expired()
            yield self._events(found.group_resource, namespace or "", since)

        return opened()

    async def _events(self, group_resource: str, namespace: str, since: int) -> AsyncIterator[WatchEvent]:
        cut = self._cut
        while True:
            changed = self._changed
            for revision, type_, where, body in tuple(self._history):
                if revision > since and where == group_resource:
                    since = revision
                    if namespace in ("", body["metadata"].get("namespace", "")):
                        yield WatchEvent(type_, Object.of(body))  # type: ignore[arg-type]
            if self._cut != cut:
                if self._cut_error is not None:
                    raise self._cut_error
                return
            await changed.wait()

    # ---- writes

    async def create(self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS) -> Object:
        found = self._call("create", f"{obj['kind']}.{obj['apiVersion'].rpartition('/')[0]}".rstrip("."))
        key = self._key(found, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        if key in self._objects:
            raise errors.already_exists(found.plural, found.group, key[2])
        body = copy.deepcopy(dict(obj))
        body["metadata"] = {**body["metadata"], "uid": f"uid-{self.revision + 1}"}
        if found.namespaced:
            body["metadata"].setdefault("namespace", "default")
        if found.has_generation:
            body["metadata"]["generation"] = 1
        key = self._key(found, body["metadata"].get("namespace", ""), key[2])
        return self._store(key, body, "ADDED")

    async def update(
        self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS, *, subresource: str = ""
    ) -> Object:
        found = self._call("update", obj["kind"])
        ref = ObjectRef(obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace", ""))
        return self._change(found, ref, lambda old: copy.deepcopy(dict(obj)))

    async def patch(
        self,
        ref: ObjectRef,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        subresource: str = "",
    ) -> Object:
        assert isinstance(patch, Mapping)
        found = self._call("patch", ref.kind)
        return self._change(found, ref, lambda old: _merged(old, patch))

    async def apply(
        self,
        obj: Mapping[str, Any],
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        found = self._call("apply", obj["kind"])
        namespace = obj["metadata"].get("namespace", "")
        if self._key(found, namespace, obj["metadata"]["name"]) not in self._objects:
            self.calls["create", found.kind] -= 1
            return await self.create(obj, options)
        return self._change(
            found, ObjectRef(obj["kind"], obj["metadata"]["name"], namespace), lambda old: _merged(old, obj)
        )

    async def delete(
        self,
        ref: ObjectRef,
        *,
        propagation_policy: str | None = None,
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
    ) -> Object | None:
        found = self._call("delete", ref.kind)
        body = self._stored(found, ref)
        if uid and body["metadata"]["uid"] != uid:
            raise errors.conflict(found.plural, found.group, ref.name)
        key = self._key(found, ref.namespace, ref.name)
        if body["metadata"].get("finalizers"):
            body = copy.deepcopy(body)
            body["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
            return self._store(key, body, "MODIFIED")
        self._remove(key)
        return None

    async def delete_collection(self, kind: str, namespace: str | None = None, **_: Any) -> Sequence[Object]:
        page = await self.list(kind, namespace)
        for obj in page.items:
            await self.delete(obj.ref)
        return page.items

    def connect(self, ref: ObjectRef, subresource: str, body: Any = None, since: int | None = None) -> Any:
        raise errors.NotFound("no subresources here")

    # ---- inside

    def _call(self, verb: str, kind: str) -> Resource:
        found = self.scheme.find(kind)
        self.calls[verb, found.kind] += 1
        waiting = self.fail.get(verb) or self.fail.get(f"{verb} {found.kind}")
        if waiting:
            raise waiting.pop(0)
        return found

    def _key(self, found: Resource, namespace: str, name: str) -> _Key:
        return (found.group_resource, (namespace or "default") if found.namespaced else "", name)

    def _stored(self, found: Resource, ref: ObjectRef) -> dict[str, Any]:
        body = self._objects.get(self._key(found, ref.namespace, ref.name))
        if body is None:
            raise errors.not_found(found.plural, found.group, ref.name)
        return body

    def _change(self, found: Resource, ref: ObjectRef, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Object:
        old = self._stored(found, ref)
        new = change(copy.deepcopy(old))
        if new["metadata"].get("resourceVersion", "") not in ("", old["metadata"]["resourceVersion"]):
            raise errors.conflict(found.plural, found.group, ref.name)
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return Object.of(old)
        if found.has_generation and new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        key = self._key(found, ref.namespace, ref.name)
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            self._remove(key)
            return Object.of(new)
        return self._store(key, new, "MODIFIED")

    def _store(self, key: _Key, body: dict[str, Any], type_: str) -> Object:
        self.revision += 1
        body["metadata"]["resourceVersion"] = str(self.revision)
        self._objects[key] = body
        self._history.append((self.revision, type_, key[0], copy.deepcopy(body)))
        self._wake()
        return Object.of(body)

    def _remove(self, key: _Key) -> None:
        self.revision += 1
        body = self._objects.pop(key)
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.revision)}}
        self._history.append((self.revision, "DELETED", key[0], body))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def manifest(kind: str, name: str, namespace: str = "default", **parts: Any) -> dict[str, Any]:
    """`manifest("Tool", "t", spec={...}, labels={...})`; other keywords than spec and status go to the metadata."""
    found = next(r for r in KINDS if r.kind == kind)
    body: dict[str, Any] = {"apiVersion": found.api_version, "kind": kind, "metadata": {"name": name}}
    if found.namespaced:
        body["metadata"]["namespace"] = namespace
    for key in ("spec", "status"):
        if key in parts:
            body[key] = parts.pop(key)
    body["metadata"].update(parts)
    return body
