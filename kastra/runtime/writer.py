"""A Client whose own writes are known to the caches of its process at once.

Everything passes through to the client it wraps; the answers of writes go to the `Cache` as well. Controllers, the pool and
whoever else writes in a manager's process use this one, so that `Manager.settle` knows what there is to wait for.

Read next: `kastra.runtime.cache`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.api.scheme import Scheme
from kastra.client.interface import (
    DEFAULT_OPTIONS,
    Client,
    ObjectList,
    PatchType,
    PropagationPolicy,
    Watch,
    WriteOptions,
)

from .cache import Cache


class ObservedClient:
    """`client`, with its writes observed by `cache`. Dry runs are not: they change nothing."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache

    @property
    def scheme(self) -> Scheme:
        """The kinds this server has."""
        return self._client.scheme

    async def get(self, ref: ObjectRef, *, subresource: str = "") -> Object:
        """One object, from the server. Raises NotFound."""
        return await self._client.get(ref, subresource=subresource)

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
        """The objects of a kind, from the server."""
        return await self._client.list(
            kind,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
            continue_token=continue_token,
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
        """Changes, from the server."""
        return self._client.watch(
            kind,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            resource_version=resource_version,
            allow_bookmarks=allow_bookmarks,
            send_initial_events=send_initial_events,
            timeout=timeout,
        )

    async def create(self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS) -> Object:
        """POST."""
        return self._observe(await self._client.create(obj, options), options)

    async def update(
        self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS, *, subresource: str = ""
    ) -> Object:
        """PUT."""
        return self._observe(await self._client.update(obj, options, subresource=subresource), options)

    async def patch(
        self,
        ref: ObjectRef,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        subresource: str = "",
    ) -> Object:
        """PATCH."""
        known = await self._client.patch(ref, patch, patch_type, options, subresource=subresource)
        return self._observe(known, options)

    async def apply(
        self,
        obj: Mapping[str, Any],
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        """Server-side apply."""
        return self._observe(await self._client.apply(obj, options, force=force, subresource=subresource), options)

    async def delete(
        self,
        ref: ObjectRef,
        *,
        propagation_policy: PropagationPolicy | None = None,
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
    ) -> Object | None:
        """DELETE."""
        left = await self._client.delete(
            ref,
            propagation_policy=propagation_policy,
            uid=uid,
            resource_version=resource_version,
            dry_run=dry_run,
        )
        if not dry_run:
            if left is None:
                self._cache.observe_delete(ref)
            else:
                self._cache.observe_write(left)
        return left

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
        """Delete all that match."""
        deleted = await self._client.delete_collection(
            kind,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            propagation_policy=propagation_policy,
            dry_run=dry_run,
        )
        if not dry_run:
            for obj in deleted:
                if obj.deleting:
                    self._cache.observe_write(obj)
                else:
                    self._cache.observe_delete(obj.ref)
        return deleted

    def connect(
        self, ref: ObjectRef, subresource: str, body: Mapping[str, Any] | None = None, since: int | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Records of a subresource."""
        return self._client.connect(ref, subresource, body, since)

    def _observe(self, obj: Object, options: WriteOptions) -> Object:
        if not options.dry_run:
            self._cache.observe_write(obj)
        return obj
