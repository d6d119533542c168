"""What is there, page by page, all of it as of one moment?

The first page of a limited list takes a snapshot, a copy of pointers, and keeps it five minutes; later pages are cut
from the same snapshot, so a list that takes many requests still shows one state. A token that comes too late is
answered with 410 and a fresh token that continues from the same place in the present state.

Never filters in storage: selectors are evaluated here, page by page, on labels without parsing.
Source: the API concepts 'Retrieving large results sets in chunks'. Read next: `kastra.apiserver.watching`.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kastra.api.errors import BadRequest, Expired, ServerTimeout
from kastra.client.interface import ObjectList
from kastra.clock import Clock
from kastra.store.interface import Entry, Snapshot, Storage

from .selection import Selection
from .served import Served

SNAPSHOT_SECONDS = 300.0
_SNAPSHOTS = 256
_REVISION_DIGITS = 20
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the "
    "continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing "
    "with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the "
    "time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What narrows a list, and from when it may be.

    Args:
        resource_version: at least (or with match `Exact`, exactly) this; empty or `0` for the present.
    """

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    resource_version_match: str = ""


@dataclass(eq=False)
class ContinueExpired(Expired):
    """410 with a token for going on in the present state."""

    continue_token: str = ""

    def status(self) -> dict[str, Any]:
        """As every Status, with the fresh token where lists have it."""
        body = super().status()
        body["metadata"] = {"continue": self.continue_token}
        return body


class Lister:
    """Lists, and keeps the snapshots of those under way."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        # By kind, namespace and revision, so that equal lists share; in the order in which they expire.
        self._kept: dict[tuple[str, str, int], tuple[float, Snapshot]] = {}

    async def list(self, served: Served, namespace: str, options: ListOptions) -> ObjectList:
        """One page.

        Raises:
            BadRequest: a selector or the token can't be read.
            Expired: the token's snapshot is gone; `ContinueExpired` carries a fresh token.
            ServerTimeout: `resource_version` lies in the future.
        """
        selection = Selection.parse(served, options.label_selector, options.field_selector)
        if options.continue_token:
            snapshot, start = self._resume(served, namespace, options)
        else:
            snapshot, start = self._present(served, namespace, selection, options), 0
        entries = snapshot.entries
        if selection.matches is None and not options.limit:
            page = entries[start:]
            await served.prepare(*page)
            return ObjectList([served.object(entry) for entry in page], str(snapshot.revision))
        if selection.inside:
            await served.prepare(*entries[start:])
        page, end = _page(entries, start, options.limit, selection.matches)
        await served.prepare(*page)
        items = [served.object(entry) for entry in page]
        if end >= len(entries):
            return ObjectList(items, str(snapshot.revision))
        self._keep(served.group_resource, namespace, snapshot)
        return ObjectList(
            items,
            str(snapshot.revision),
            _token(snapshot.revision, entries[end - 1]),
            len(entries) - end if selection.matches is None else None,
        )

    def _present(self, served: Served, namespace: str, selection: Selection, options: ListOptions) -> Snapshot:
        check_revision(options, self._storage)
        if selection.name is not None and (namespace or not served.resource.namespaced):
            # `metadata.name=x`, which kubectl asks for when it waits, is a look-up.
            entry = self._storage.get(served.key(namespace, selection.name))
            return Snapshot(self._storage.revision, (entry,) if entry is not None else ())
        return self._storage.list(served.group_resource, namespace)

    def _resume(self, served: Served, namespace: str, options: ListOptions) -> tuple[Snapshot, int]:
        revision, last = _read_token(options.continue_token)
        kept = None
        if revision > 0:
            self._expire()
            kept = self._kept.get((served.group_resource, namespace, revision))
            if kept is None:
                raise ContinueExpired(_TOO_OLD, continue_token=_encode_token(-1, last))
        snapshot = kept[1] if kept else self._storage.list(served.group_resource, namespace)
        return snapshot, _first_after(snapshot, last)

    def _keep(self, group_resource: str, namespace: str, snapshot: Snapshot) -> None:
        self._expire()
        key = (group_resource, namespace, snapshot.revision)
        if key not in self._kept:
            self._kept[key] = (self._clock.monotonic() + SNAPSHOT_SECONDS, snapshot)
            if len(self._kept) > _SNAPSHOTS:
                del self._kept[next(iter(self._kept))]

    def _expire(self) -> None:
        now = self._clock.monotonic()
        for key, (expires, _) in list(self._kept.items()):
            if expires > now:
                break
            del self._kept[key]


async def reached(options: ListOptions, storage: Storage) -> None:
    """Wait a little for a state that is asked for and not there yet: a client may know of a write before all its readers do.

    Raises:
        BadRequest: `options.resource_version` is no number.
        ServerTimeout: it isn't there in time.
    """
    asked = read_revision(options.resource_version)
    if asked > storage.revision:
        await storage.wait_for(asked)


def check_revision(options: ListOptions, storage: Storage) -> None:
    """Whether the present state answers a list for `options.resource_version`.

    Raises:
        BadRequest: it is no number.
        ServerTimeout: it lies in the future.
        Expired: exactly that revision is asked for, and it isn't the present one.
    """
    asked = read_revision(options.resource_version)
    if not asked:
        return
    if asked > storage.revision:
        raise ServerTimeout(f"Too large resource version: {asked}, current: {storage.revision}", retry_after=1)
    if options.resource_version_match == "Exact" and asked != storage.revision:
        raise Expired(f"The resourceVersion for the provided list is too old: {asked}")


def read_revision(text: str) -> int:
    """A resourceVersion as a number; 0 for none. Raises BadRequest for anything but one of at most 64 bits."""
    if not text:
        return 0
    if not text.isascii() or not text.isdecimal() or len(text) > _REVISION_DIGITS:
        raise BadRequest(f'Invalid value: "{text[:64]}": resourceVersion must be a decimal number')
    return int(text)


def _page(entries: Any, start: int, limit: int, matches: Callable[[Entry], bool] | None) -> tuple[list[Entry], int]:
    # The end is the index of the first entry not looked at.
    if matches is None:
        end = min(start + limit, len(entries)) if limit else len(entries)
        return list(entries[start:end]), end
    page: list[Entry] = []
    for index in range(start, len(entries)):
        if matches(entries[index]):
            if limit and len(page) == limit:
                return page, index
            page.append(entries[index])
    return page, len(entries)


def _first_after(snapshot: Snapshot, last: tuple[str, str]) -> int:
    low, high = 0, len(snapshot.entries)
    while low < high:
        middle = (low + high) // 2
        key = snapshot.entries[middle].key
        if (key.namespace, key.name) <= last:
            low = middle + 1
        else:
            high = middle
    return low


def _token(revision: int, last: Entry) -> str:
    return _encode_token(revision, (last.key.namespace, last.key.name))


def _encode_token(revision: int, last: tuple[str, str]) -> str:
    raw = orjson.dumps({"v": "kastra/1", "rv": revision, "ns": last[0], "name": last[1]})
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        data: Mapping[str, Any] = orjson.loads(raw)
        revision, namespace, name = data["rv"], data["ns"], data["name"]
        if data["v"] != "kastra/1" or not isinstance(revision, int):
            raise ValueError("another form of token")
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise BadRequest("continue key is not valid; list again without it") from error
    return revision, (str(namespace), str(name))
