"""Which passages of a KnowledgeBase fit a question? By their words, in any script, and by meaning where they have vectors.

Documents and passages are rows; what is searched by meaning is a cache of their vectors per base, which takes in new rows at
each search. Ranks by words and by meaning are joined by reciprocal rank, so that neither needs a scale.

Never reads a source and asks no embedder: that is `kastra.agent.library`. Source: BM25 of SQLite's FTS5; reciprocal rank
fusion (Cormack and others, 2009). Read next: `kastra.memory.passage_rows`, the statements.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import orjson

from kastra.failpoint import failpoint
from kastra.sql.driver import Rows
from kastra.sql.interface import Statement

from . import passage_rows as rows
from .backends import Index, IndexFactory, built_in
from .filters import Test
from .threads import Query, Threads

ENTRY = "entry"
"""The source of what tools keep; those of a manifest are numbered."""
MOST_FILTERED = 1000
"""Nearest passages that a filter is asked about."""

_KEPT = 32
_CANDIDATES = 50
_TERMS = 40
_RANK = 60.0
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_RUN = re.compile(f"[{_CJK}]+|[^\\W{_CJK}]+")
_WITHOUT_SPACES = re.compile(f"[{_CJK}]")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that was found.

    Args:
        number: its own.
        document: name of what it is from.
        source: of the document: `entry`, or the number of a source.
        position: in the document, from 0.
        metadata: of the document.
        score: the higher the better; of similarity from -1 to 1, where it was searched by meaning alone.
    """

    number: int
    document: str
    source: str
    position: int
    text: str
    metadata: Mapping[str, Any]
    score: float


@dataclass(frozen=True, slots=True)
class Tally:
    """What a base holds: documents, passages, and characters of these."""

    documents: int
    passages: int
    characters: int


@dataclass(slots=True)
class _Cached:
    model: str
    last: int = 0
    index: Index | None = None
    length: int = 0
    count: int = 0
    gone: set[int] = field(default_factory=set)


class Passages:
    """The documents and passages of every base of one store.

    Args:
        threads: reads and writes the store; its own, since what is searched here may take long.
        index: makes what is searched by meaning.
    """

    def __init__(self, threads: Threads, index: IndexFactory = built_in) -> None:
        self._threads = threads
        self._index = index
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._lock = anyio.Lock()

    async def aclose(self) -> None:
        """Let the file go."""
        await self._threads.aclose()

    # --- reading ---------------------------------------------------------------------------------------------------

    async def known(self, base: str) -> dict[tuple[str, str], str]:
        """The hashes under which documents are known, by source and name."""
        (found,) = await self._threads.read((rows.KNOWN, (base,)))
        return {(source, name): digest for source, name, digest in found}

    async def tally(self, base: str) -> Tally:
        """How much a base holds."""
        (found,) = await self._threads.read((rows.TALLY, (base,)))
        return Tally(*(int(number) for number in found[0]))

    async def entries(self, base: str) -> int:
        """How many entries tools keep in a base."""
        (found,) = await self._threads.read((rows.ENTRIES, (base, ENTRY)))
        return int(found[0][0])

    async def listed(self, base: str, after: str, limit: int) -> list[tuple[str, str, int]]:
        """Name, source and number of passages of documents, by name, after `after`."""
        (found,) = await self._threads.read((rows.LISTED, (base, after, limit)))
        return [(name, source, int(count)) for name, source, count in found]

    async def text(self, base: str, name: str) -> str | None:
        """The text of a document; None if there is none of the name."""
        (found,) = await self._threads.read((rows.TEXT, (base, name)))
        return str(found[0][0]) if found else None

    # --- searching -------------------------------------------------------------------------------------------------

    async def search(
        self, base: str, query: str, limit: int, model: str = "", vector: Sequence[float] | None = None
    ) -> list[Passage]:
        """The passages that fit best.

        Args:
            query: of which any word may occur.
            model: of which vectors are.
            vector: of the query; None to search by words alone.
        """
        ranks = [await self._by_words(base, query)]
        if vector is not None:
            ranks.append([number for number, _ in await self._nearest(base, model, vector, _CANDIDATES)])
        scores: dict[int, float] = {}
        for ranked in ranks:
            for place, number in enumerate(ranked):
                scores[number] = scores.get(number, 0.0) + 1.0 / (_RANK + place)
        best = sorted(scores, key=lambda number: (-scores[number], number))[:limit]
        return await self._passages([(number, scores[number]) for number in best])

    async def near(
        self, base: str, model: str, vector: Sequence[float], limit: int, test: Test | None = None
    ) -> list[Passage]:
        """The passages nearest in meaning; of the nearest 1,000 those that pass `test`, where there is one."""
        scored = await self._nearest(base, model, vector, limit if test is None else MOST_FILTERED)
        found = await self._passages(scored)
        return [passage for passage in found if test is None or test(passage.metadata)][:limit]

    async def _passages(self, scored: Sequence[tuple[int, float]]) -> list[Passage]:
        if not scored:
            return []
        (found,) = await self._threads.read(rows.found([number for number, _ in scored]))
        known = {row[0]: row for row in found}
        return [
            Passage(number, name, source, seq, text, orjson.loads(meta), score)
            for number, score in scored
            if number in known
            for _, name, source, seq, text, meta in (known[number],)
        ]

    async def _by_words(self, base: str, query: str) -> list[int]:
        long, short = terms(query)
        if long:
            match = " OR ".join('"' + term.replace('"', '""') + '"' for term in long)
            (found,) = await self._threads.read((rows.BY_WORDS, (match, base, _CANDIDATES)))
            return [int(number) for (number,) in found]
        # The index knows runs of three characters; shorter words are looked for in the texts.
        patterns = ["%" + re.sub(r"([%_\\])", r"\\\1", term) + "%" for term in short]
        queries: list[Query] = [(rows.BY_SHORT_WORD, (base, pattern, _CANDIDATES)) for pattern in patterns]
        hits: dict[int, int] = {}
        for found in await self._threads.read(*queries) if queries else ():
            for (number,) in found:
                hits[int(number)] = hits.get(int(number), 0) + 1
        return sorted(hits, key=lambda number: (-hits[number], number))[:_CANDIDATES]

    async def _nearest(self, base: str, model: str, vector: Sequence[float], k: int) -> list[tuple[int, float]]:
        async with self._lock:
            cached = self._cache.get(base)
            if cached is None or cached.model != model or len(cached.gone) > max(64, cached.count // 4):
                cached = self._cache[base] = _Cached(model)
            self._cache.move_to_end(base)
            while len(self._cache) > _KEPT:
                self._cache.popitem(last=False)
            search = partial(_search, cached, self._index, vector, k)

            def new() -> Query:
                return rows.NEW, (base, model, cached.last)

            if self._threads.in_file:
                # What is new is known there only: a search that nobody waits for any more may still be taking rows in.
                return await self._threads.work(lambda read: search(read((new(),))[0]))
            found = (await self._threads.read(new()))[0]
            near: list[tuple[int, float]] = []
            with anyio.CancelScope(shield=True):
                near += await asyncio.to_thread(search, found)
            return near

    # --- writing ---------------------------------------------------------------------------------------------------

    async def put(
        self,
        base: str,
        source: str,
        name: str,
        digest: str,
        text: str,
        metadata: Mapping[str, Any],
        passages: Sequence[str],
        model: str = "",
        vectors: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Keep a document in place of what was known of it; durable when this returns.

        Args:
            digest: by which it is known that it hasn't changed.
            vectors: of the passages, one each, of `model`; None for none.
        """
        key = (base, source, name)
        packed: list[bytes | None] = [None] * len(passages)
        if vectors is not None and passages:
            from .vectors import normalized
            from .vectors import packed as as_bytes

            packed = [as_bytes(vector) for vector in normalized(vectors)]
        gone = await self._numbers(key)
        failpoint("knowledge.before_put")
        await self._threads.commit(
            rows.put(key, digest, self._threads.now(), text, dict(metadata), passages, model, packed)
        )
        failpoint("knowledge.after_put")
        self._forget(base, gone)

    async def drop(self, base: str, source: str, name: str) -> bool:
        """Forget a document; whether it was there."""
        key = (base, source, name)
        if (source, name) not in await self.known(base):
            return False
        gone = await self._numbers(key)
        await self._threads.commit(rows.dropped(key))
        self._forget(base, gone)
        return True

    async def erase(self, base: str) -> None:
        """Forget everything of a base."""
        while (await self._threads.read((rows.LEFT, (base,))))[0][0][0]:
            await self._threads.commit([Statement(sql, (base, rows.PORTION)) for sql in rows.ERASE])
        await self._threads.commit([Statement(rows.PURGE)])
        self._cache.pop(base, None)

    async def _numbers(self, key: rows.Key) -> list[int]:
        (found,) = await self._threads.read((rows.NUMBERS, key))
        return [int(number) for (number,) in found]

    def _forget(self, base: str, numbers: Sequence[int]) -> None:
        if (cached := self._cache.get(base)) is not None:
            cached.gone.update(numbers)


def terms(query: str) -> tuple[list[str], list[str]]:
    """What is looked for: terms of three characters and more, and shorter words.

    Scripts without spaces between words are looked for in runs of three characters.
    """
    long: dict[str, None] = {}
    short: dict[str, None] = {}
    for run in _RUN.findall(query.lower()):
        if len(run) < 3:
            short[run] = None
        elif _WITHOUT_SPACES.match(run):
            long.update(dict.fromkeys(run[at : at + 3] for at in range(len(run) - 2)))
        else:
            long[run] = None
    return list(long)[:_TERMS], list(short)[:_TERMS]


def _search(
    cached: _Cached, factory: IndexFactory, vector: Sequence[float], k: int, new: Rows
) -> list[tuple[int, float]]:
    import numpy as np

    from .vectors import normalized

    if new:
        cached.last = max(number for number, _ in new)
        cached.length = cached.length or len(new[0][1]) // 4
        fitting = [(number, data) for number, data in new if len(data) == cached.length * 4]
        if cached.index is None:
            cached.index = factory(cached.length)
        matrix = np.frombuffer(b"".join(data for _, data in fitting), dtype="<f4").reshape(len(fitting), cached.length)
        cached.index.add([number for number, _ in fitting], np.asarray(matrix, dtype=np.float32))
        cached.count += len(fitting)
    if cached.index is None or len(vector) != cached.length:
        return []
    near = cached.index.search(normalized([vector])[0], min(k + len(cached.gone), cached.count))
    return [(number, score) for number, score in near if number not in cached.gone][:k]
