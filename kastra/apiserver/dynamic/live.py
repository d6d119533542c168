"""The configurations of one kind as they are stored now, each compiled once.

Asked at every write, so it must cost next to nothing while nothing changes: an unchanged list of the store is the same
object. Read next: `kastra.apiserver.dynamic.webhooks`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import orjson

from kastra.store.interface import Entry, Storage

_T = TypeVar("_T")
_log = logging.getLogger("kastra.apiserver")


class Live(Generic[_T]):
    """Compiled objects in the order of their names.

    Args:
        compile_: makes one of an object that was admitted.
    """

    def __init__(self, storage: Storage, group_resource: str, compile_: Callable[[Mapping[str, Any]], _T]) -> None:
        self._storage = storage
        self._group_resource = group_resource
        self._compile = compile_
        self._seen: Sequence[Entry] = ()
        self._compiled: dict[str, tuple[int, _T]] = {}

    def present(self) -> list[_T]:
        """All of them."""
        entries = self._storage.list(self._group_resource).entries
        if entries is not self._seen:
            self._refresh(entries)
        return [compiled for _, compiled in self._compiled.values()]

    def _refresh(self, entries: Sequence[Entry]) -> None:
        fresh: dict[str, tuple[int, _T]] = {}
        for entry in sorted(entries, key=lambda entry: entry.key.name):
            known = self._compiled.get(entry.key.name)
            if known is not None and known[0] == entry.revision:
                fresh[entry.key.name] = known
            else:
                fresh[entry.key.name] = (entry.revision, self._compile(orjson.loads(entry.body)))
        self._compiled, self._seen = fresh, entries
        _log.debug("admission configurations compiled", extra={"kind": self._group_resource, "count": len(fresh)})
