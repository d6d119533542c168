"""The one way to objects: `Client` = `Reader` + `Writer` + `Connector`.

Controllers, the CLI and the Python API see nothing else, so the same code runs in process (loopback) and against any
Kubernetes API (HTTP). All methods raise `kastra.api.errors.StatusError` for what the server refuses.

Kinds are addressed by any name that `Scheme.find` takes. `namespace=""` (or None) means all namespaces for list and watch
of namespaced kinds. Read next: `kastra.apiserver.loopback`, the in-process implementation.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.api.scheme import Scheme

FieldValidation = Literal["Strict", "Warn", "Ignore"]
PropagationPolicy = Literal["Background", "Foreground", "Orphan"]


class PatchType(StrEnum):
    """Content types of PATCH; `apply` has a method of its own."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What can accompany every write.

    Args:
        dry_run: all checks and defaults, nothing stored (`dryRun=All`).
        field_manager: who owns the fields written; empty for the client's default.
        field_validation: what happens to unknown and duplicate fields.
    """

    dry_run: bool = False
    field_manager: str = ""
    field_validation: FieldValidation = "Warn"


DEFAULT_OPTIONS = WriteOptions()


@dataclass(frozen=True, slots=True)
class ObjectList:
    """One page of a list, all of it at `resource_version`.

    Args:
        continue_token: pass it to `list` for the next page; empty on the last.
        remaining: how many objects follow after this page; None when unknown (selectors).
    """

    items: Sequence[Object]
    resource_version: str
    continue_token: str = ""
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A change: ADDED, MODIFIED, DELETED, or BOOKMARK (then `object` holds only metadata.resourceVersion)."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


class Watch(Protocol):
    """A stream of changes. Ends cleanly when the server ends it; raises Expired when it must be listed anew."""

    def __aiter__(self) -> AsyncIterator[WatchEvent]: ...


class Reader(Protocol):
    """Reads."""

    @property
    def scheme(self) -> Scheme:
        """The kinds this server has."""
        ...

    async def get(self, ref: ObjectRef, *, subresource: str = "") -> Object:
        """One object. Raises NotFound."""
        ...

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
        """The objects of a kind, sorted by namespace and name. Raises Expired for an old token, BadRequest."""
        ...

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
        """Changes after `resource_version`; without one, an ADDED for every present object first.

        `async with client.watch("agents") as events: async for event in events: ...`
        """
        ...


class Writer(Protocol):
    """Writes. Every method returns the object as stored (or as it would be, in a dry run)."""

    async def create(self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS) -> Object:
        """POST. Raises AlreadyExists, Invalid, NotFound (its namespace)."""
        ...

    async def update(
        self, obj: Mapping[str, Any], options: WriteOptions = DEFAULT_OPTIONS, *, subresource: str = ""
    ) -> Object:
        """PUT; with a resourceVersion it is a compare-and-swap. Raises Conflict, NotFound, Invalid."""
        ...

    async def patch(
        self,
        ref: ObjectRef,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        subresource: str = "",
    ) -> Object:
        """PATCH: change what the patch names."""
        ...

    async def apply(
        self,
        obj: Mapping[str, Any],
        options: WriteOptions = DEFAULT_OPTIONS,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        """Server-side apply: create or merge, owning exactly the fields in `obj`. Raises Conflict unless `force`."""
        ...

    async def delete(
        self,
        ref: ObjectRef,
        *,
        propagation_policy: PropagationPolicy | None = None,
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
    ) -> Object | None:
        """DELETE: None when it is gone, the object when finalizers hold it. `uid`, `resource_version`: preconditions."""
        ...

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
        """Delete all that match; returns them."""
        ...


class Connector(Protocol):
    """Subresources that are streams or actions rather than documents."""

    def connect(
        self, ref: ObjectRef, subresource: str, body: Mapping[str, Any] | None = None, since: int | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Records of a subresource such as `runs/events`, after sequence number `since`.

        Raises:
            NotFound: the object or the subresource doesn't exist.
        """
        ...


class Client(Reader, Writer, Connector, Protocol):
    """Everything one can do with objects."""
