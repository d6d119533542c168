"""Make the API fail for controllers, on purpose: what do they do when a write is refused, or its answer lost?

    env.faults.fail("create", "Tool", times=2)                  the next two creations of Tools are refused
    env.faults.fail("patch", error=Conflict("changed"))         the next patch of anything
    env.faults.fail("apply", "Tool", after=True)                done, but the controller doesn't learn of it

Only calls of controllers fail, never those of the test itself (`env.client`). Watches and lists can fail as well; informers go
on as they do after an interrupted connection. Read next: `kastra.testing.control_plane`.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from kastra.api.errors import ServiceUnavailable
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.api.scheme import Scheme
from kastra.client.interface import DEFAULT_OPTIONS, Client, ObjectList, PatchType, Watch, WriteOptions

Verb = Literal[
    "get", "list", "watch", "create", "update", "patch", "apply", "delete", "deletecollection", "connect", "*"
]


@dataclass(slots=True)
class _Fault:
    verb: str
    kind: str
    name: str
    error: Exception
    times: int
    after: bool

    def meets(self, verb: str, kind: str, name: str) -> bool:
        return self.times > 0 and self.verb in ("*", verb) and self.kind in ("", kind) and self.name in ("", name)


class Faults:
    """What is to fail, and what was called."""

    def __init__(self) -> None:
        self._faults: list[_Fault] = []
        self.calls: Counter[tuple[str, str]] = Counter()
        """How often controllers called each verb on each kind, failed calls included."""

    def fail(
        self,
        verb: Verb = "*",
        kind: str = "",
        name: str = "",
        *,
        error: Exception | None = None,
        times: int = 1,
        after: bool = False,
    ) -> None:
        """Let the next calls fail.

        Args:
            verb: of the call; `*` for any.
            kind: such as `Tool`; empty for any.
            name: of the object; empty for any. Lists and watches have none.
            error: what is raised; 503 by default.
            times: how many calls.
            after: carry the call out, and fail then: the answer is lost.
        """
        self._faults.append(_Fault(verb, kind, name, error or ServiceUnavailable("injected fault"), times, after))

    def clear(self) -> None:
        """Let nothing fail any more."""
        self._faults.clear()

    @property
    def pending(self) -> int:
        """Calls that are still to fail."""
        return sum(fault.times for fault in self._faults)

    @asynccontextmanager
    async def around(self, verb: str, kind: str, name: str = "") -> AsyncIterator[None]:
        """Around one call."""
        self.calls[verb, kind] += 1
        fault = next((fault for fault in self._faults if fault.meets(verb, kind, name)), None)
        if fault is None:
            yield
            return
        fault.times -= 1
        if fault.after:
            yield
        raise fault.error


class FaultyClient:
    """A client some of whose calls fail."""

    def __init__(self, client: Client, faults: Faults) -> None:
        self._client = client
        self._faults = faults

    @property
    def scheme(self) -> Scheme:
        """The kinds this server has."""
        return self._client.scheme

    def _kind(self, name: str) -> str:
        return self.scheme.find(name).kind

    async def get(self, ref: ObjectRef, *, subresource: str = "") -> Object:
        """As the client's."""
        async with self._faults.around("get", self._kind(ref.kind), ref.name):
            return await self._client.get(ref, subresource=subresource)

    async def list(self, kind: str, namespace: str | None = None, **options: Any) -> ObjectList:
        """As the client's."""
        async with self._faults.around("list", self._kind(kind)):
            return await self._client.list(kind, namespace, **options)

    @asynccontextmanager
    async def watch(self, kind: str, namespace: str | None = None, **options: Any) -> AsyncIterator[Watch]:
        """As the client's."""
        async with self._faults.around("watch", self._kind(kind)):
            pass
        async with self._client.watch(kind, namespace, **options) as events:
            yield events

    async def create(self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS) -> Object:
        """As the client's."""
        async with self._faults.around("create", *_named(obj)):
            return await self._client.create(obj, options)

    async def update(
        self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS, *, subresource: str = ""
    ) -> Object:
        """As the client's."""
        async with self._faults.around("update", *_named(obj)):
            return await self._client.update(obj, options, subresource=subresource)

    async def patch(
        self,
        ref: ObjectRef,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        subresource: str = "",
    ) -> Object:
        """As the client's."""
        async with self._faults.around("patch", self._kind(ref.kind), ref.name):
            return await self._client.patch(ref, patch, patch_type, options, subresource=subresource)

    async def apply(
        self,
        obj: Mapping[str, Any],
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        """As the client's."""
        async with self._faults.around("apply", *_named(obj)):
            return await self._client.apply(obj, options, force=force, subresource=subresource)

    async def delete(self, ref: ObjectRef, **options: Any) -> Object | None:
        """As the client's."""
        async with self._faults.around("delete", self._kind(ref.kind), ref.name):
            return await self._client.delete(ref, **options)

    async def delete_collection(self, kind: str, namespace: str | None = None, **options: Any) -> Sequence[Object]:
        """As the client's."""
        async with self._faults.around("deletecollection", self._kind(kind)):
            return await self._client.delete_collection(kind, namespace, **options)

    async def connect(
        self, ref: ObjectRef, subresource: str, body: Mapping[str, Any] | None = None, since: int | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """As the client's."""
        async with self._faults.around("connect", self._kind(ref.kind), ref.name):
            pass
        async for record in self._client.connect(ref, subresource, body, since):
            yield record


def _named(obj: Mapping[str, Any]) -> tuple[str, str]:
    return str(obj.get("kind", "")), str((obj.get("metadata") or {}).get("name", ""))
