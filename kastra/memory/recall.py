"""Which earlier messages mean something like this? Vectors of messages, searched by thread or by resource.

A message's vector is a row beside it. Searching happens on the thread that reads, over a cache per thread or resource that
takes in new rows at each search and is thrown away when anything is erased. A store in memory is read by its writer, and
then searched on a thread as well.

Read next: `kastra.memory.backends`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import orjson

from kastra.sql.driver import Rows
from kastra.sql.interface import Statement

from . import rows
from .backends import Index, IndexFactory, built_in
from .interface import RecallSpec, ThreadKey
from .threads import Query, ReadAll, Threads

_KEPT = 64
"""Threads and resources whose vectors are kept in memory."""

_NEW = (
    "SELECT e.rowid, e.message, e.vec FROM embeddings e JOIN messages m ON m.id = e.message JOIN threads t ON t.id = m.thread "
    "WHERE e.model = ? AND e.rowid > ? AND {} ORDER BY e.rowid"
)
_AROUND = (
    "SELECT m.id, m.thread, m.seq, t.name, m.ts, m.body FROM messages h "
    "JOIN messages m ON m.thread = h.thread AND m.seq BETWEEN h.seq - ? AND h.seq + ? "
    "JOIN (SELECT id, uid AS name FROM threads) t ON t.id = m.thread WHERE h.id = ? ORDER BY m.seq"
)
_WITHOUT = (
    "SELECT m.uid, m.text FROM messages m JOIN threads t ON t.id = m.thread "
    "LEFT JOIN embeddings e ON e.message = m.id AND e.model = ? "
    "WHERE t.uid = ? AND m.text IS NOT NULL AND m.role IN ('user', 'assistant') AND e.message IS NULL "
    "ORDER BY m.seq DESC LIMIT ?"
)


@dataclass(slots=True)
class _Cached:
    generation: int
    last: int = 0
    indexes: dict[int, Index] = field(default_factory=dict)


class Recall:
    """Searches the vectors of one store's messages.

    Args:
        threads: all of them.
        index: makes what is searched.
    """

    def __init__(self, threads: Threads, index: IndexFactory = built_in) -> None:
        self.threads = threads
        self._index = index
        self._cache: OrderedDict[tuple[str, ...], _Cached] = OrderedDict()
        self._lock = anyio.Lock()

    async def similar(
        self, thread: ThreadKey, spec: RecallSpec, model: str, vector: Sequence[float], newest: int
    ) -> list[dict[str, Any]]:
        """The messages nearest to `vector` and those around them, oldest first: `{thread, seq, time, message}`.

        Args:
            thread: in which, or in whose resource's threads, is searched.
            model: of which the vectors are.
            newest: number of the first message of the thread that is sent anyway; it and later ones are left out.
        """
        shared = spec.scope == "resource" and bool(thread.resource)
        scope = ("resource", thread.namespace, thread.resource) if shared else ("thread", thread.uid)
        condition = "t.ns = ? AND t.resource_id = ?" if shared else "t.uid = ?"
        key = (model, *scope)
        async with self._lock:
            cached = self._cache.get(key)
            if cached is None or cached.generation != self.threads.generation:
                cached = self._cache[key] = _Cached(self.threads.generation)
            self._cache.move_to_end(key)
            while len(self._cache) > _KEPT:
                self._cache.popitem(last=False)
            query: Query = (_NEW.format(condition), (model, cached.last, *scope[1:]))
            # More than are wanted, since those that are sent anyway are left out.
            search = partial(_search, cached, self._index, vector, spec.top_k * 2 + 20)

            def around(near: Sequence[int]) -> list[Query]:
                return [(_AROUND, (spec.before, spec.after, number)) for number in near]

            def look(read: ReadAll) -> tuple[list[int], list[Rows]]:
                near = search(read((query,))[0])
                return near, read(around(near))

            if self.threads.in_file:
                near, found = await self.threads.work(look)
            else:
                near = await asyncio.to_thread(search, (await self.threads.read(query))[0])
                found = await self.threads.read(*around(near))
        return _chosen(found, near, thread.uid, spec.top_k, newest)

    async def without(self, thread: ThreadKey, model: str, limit: int) -> list[tuple[str, str]]:
        """The newest messages of a thread that have a text and no vector of `model` yet: uid and text."""
        (found,) = await self.threads.read((_WITHOUT, (model, thread.uid, limit)))
        return [(uid, text) for uid, text in found]


def vector_rows(model: str, uids: Sequence[str], vectors: Sequence[Sequence[float]]) -> list[Statement]:
    """The statements that keep the vectors of messages."""
    from .vectors import normalized, packed

    return [
        Statement(rows.VECTOR, (model, packed(vector), uid))
        for uid, vector in zip(uids, normalized(vectors), strict=True)
    ]


def _search(cached: _Cached, factory: IndexFactory, vector: Sequence[float], k: int, new: Rows) -> list[int]:
    import numpy as np

    from .vectors import normalized

    by_length: dict[int, list[tuple[int, bytes]]] = {}
    for rowid, message, data in new:
        cached.last = max(cached.last, rowid)
        by_length.setdefault(len(data) // 4, []).append((message, data))
    for length, found in by_length.items():
        if length not in cached.indexes:
            cached.indexes[length] = factory(length)
        index = cached.indexes[length]
        matrix = np.frombuffer(b"".join(data for _, data in found), dtype="<f4").reshape(len(found), length)
        index.add([message for message, _ in found], np.asarray(matrix, dtype=np.float32))
    wanted = normalized([vector])[0]
    # Vectors of another length are of a model that has been changed since.
    index_of = cached.indexes.get(len(vector))
    return [] if index_of is None else [number for number, score in index_of.search(wanted, k) if score > 0]


def _chosen(found: Sequence[Rows], near: Sequence[int], uid: str, most: int, newest: int) -> list[dict[str, Any]]:
    chosen: dict[int, dict[str, Any]] = {}
    hits = 0
    for number, around in zip(near, found, strict=True):
        hit = next((row for row in around if row[0] == number), None)
        if hit is None or (hit[3] == uid and hit[2] >= newest):
            continue
        for id_, _, seq, of, ts, body in around:
            if not (of == uid and seq >= newest):
                chosen[id_] = {"thread": of, "seq": seq, "time": ts, "message": orjson.loads(body)}
        hits += 1
        if hits == most:
            break
    return sorted(chosen.values(), key=lambda row: (row["time"], row["thread"], row["seq"]))
