"""How do the documents of a KnowledgeBase become passages that can be found, and who asks for them?

    go_on     reads the sources, portion by portion: what hasn't changed stays, what has is cut, embedded and put in place, one
              commit a document; what is gone is dropped. A crash or a fault in between leaves each document as it was or as it is.
    search    asks the embedder about the question, where the base has one, and finds passages by words and by meaning

A source that can't be looked into keeps what was read from it before. Nothing is made without its vectors: when the embedder
fails, the document stays as it was, and is tried again. Read next: `kastra.agent.knowledge_sources`, `kastra.memory.passages`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import anyio.to_thread

from kastra.api.types import Closure
from kastra.clock import Clock
from kastra.memory.chunking import OVERLAP, SIZE, Chunking, passages
from kastra.memory.filters import BadFilter, compiled
from kastra.memory.passages import ENTRY, Passage, Passages, Tally
from kastra.model.embedding import BATCH, Embedder, create_embedder
from kastra.model.interface import ModelError
from kastra.tool.interface import ToolError
from kastra.tool.toolkit.builtin import unfit

from .calls import step_error
from .knowledge_sources import MOST_DOCUMENTS, ConfigMaps, Document, Sources
from .models import config_of, lookup_in
from .services import AgentServices

MOST_PASSAGES = 100_000
"""Of one base."""
PORTION = 400
"""Passages that one call of `go_on` makes, about."""
_LARGE = 64 * 1024
_KEPT = 256
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Base:
    """A KnowledgeBase, ready to be asked.

    Args:
        uid: of the object; rows hang on it.
        model: of the embedder, by which vectors are told apart; empty without one.
    """

    uid: str
    namespace: str
    name: str
    spec: Mapping[str, Any]
    chunking: Chunking
    embedder: Embedder | None = None
    model: str = ""


@dataclass(slots=True)
class Reading:
    """How far the reading of a base's sources has come.

    Args:
        mark: what was to be read: another for another spec or ConfigMap.
        left: documents that are to be looked at, the next one last.
        problems: of sources and documents, each in a sentence.
        failed: sources that couldn't be looked into.
        read: documents that could be read.
        vectors: of the first passages of the document under way, and the hash of that document.
        slow: whether it was cut off for taking too long; then as little as possible is done at once.
    """

    mark: str
    left: list[Document] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    read: int = 0
    known: dict[tuple[str, str], str] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    passages: int = 0
    begun: bool = False
    vectors: tuple[str, list[Sequence[float]]] = ("", [])
    slow: bool = False

    @property
    def done(self) -> bool:
        """Whether everything was looked at."""
        return self.begun and not self.left

    def told(self) -> str:
        """The problems, for people: the first few."""
        more = len(self.problems) - _SHOWN
        return "; ".join([*self.problems[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])


class Library:
    """The KnowledgeBases of one store.

    Args:
        services: for files, addresses and embedders.
        passages: keeps and finds.
        config_maps: reads ConfigMaps.
        once: whether what somebody else has read already needn't be looked at by this process.
    """

    def __init__(
        self, services: AgentServices, passages: Passages, config_maps: ConfigMaps, *, once: bool = False
    ) -> None:
        self.once = once
        self._services = services
        self._passages = passages
        self._config_maps = config_maps
        self._bases: dict[str, Base] = {}
        # By uid. What isn't known here is read anew: it is in the rows what was read before.
        self._going: dict[str, Reading] = {}
        self._last: dict[str, Reading] = {}
        self._due: dict[str, float] = {}

    @property
    def clock(self) -> Clock:
        """By which documents are dated."""
        return self._services.clock

    def base(self, closure: Closure) -> Base:
        """The base that a closure's root stands for.

        Raises:
            StepError: a reference leads nowhere.
            ValueError: no embedder can be made of what is written.
        """
        digest = closure.get("hash", "")
        known = self._bases.get(digest)
        if known is not None:
            return known
        objects = closure["objects"]
        root = objects[closure["root"]]
        spec = root["spec"]
        cut = spec.get("chunking") or {}
        chunking = Chunking(
            int(cut.get("maxSize") or SIZE), int(OVERLAP if cut.get("overlap") is None else cut["overlap"])
        )
        embedder, model = None, ""
        config = config_of(spec, lookup_in(root, objects), objects, self._services, "spec", "embedder")
        if config is not None:
            embedder = create_embedder(config, self._services.for_models())
            model = f"{config.provider}/{config.name}/{config.parameters.get('dimensions', '')}"
        found = Base(root["uid"], root["namespace"], root["name"], spec, chunking, embedder, model)
        if len(self._bases) >= _KEPT:
            self._bases.clear()
        if digest:
            self._bases[digest] = found
        return found

    # --- reading sources -------------------------------------------------------------------------------------------

    def reading(self, base: Base, mark: str, every: float) -> Reading | None:
        """The reading that is under way, or that is to begin; None if it isn't time.

        Args:
            mark: of what is to be read.
            every: seconds after which it is time again, although nothing has changed.
        """
        going = self._going.get(base.uid)
        if going is not None and going.mark == mark:
            return going
        last = self._last.get(base.uid)
        if last is not None and last.mark == mark and self.due(base.uid) > 0 and every > 0:
            return None
        begun = self._going[base.uid] = Reading(mark)
        return begun

    def last(self, uid: str) -> Reading | None:
        """The last reading that came to its end, in this process."""
        return self._last.get(uid)

    def due(self, uid: str) -> float:
        """Seconds until it is time to read again."""
        return max(0.0, self._due.get(uid, 0.0) - self.clock.monotonic())

    def finish(self, base: Base, reading: Reading, every: float) -> float:
        """A reading has come to its end; how long it is until the next."""
        self._going.pop(base.uid, None)
        # What was known before it is in the rows.
        reading.known, reading.seen = {}, set()
        self._last[base.uid] = reading
        self._due[base.uid] = self.clock.monotonic() + every
        return every

    async def go_on(self, base: Base, reading: Reading) -> None:
        """Look at the next portion of documents; when none is left, drop those that are gone.

        Raises:
            ModelError: the embedder fails; what was to be embedded is still to be looked at.
        """
        if not reading.begun:
            await self._begin(base, reading)
        made, most = 0, 1 if reading.slow else PORTION
        while reading.left and made < most:
            document = reading.left[-1]
            made += 1 + await self._take(base, document, reading)
            reading.left.pop()
        if reading.left:
            return
        for source, name in set(reading.known) - reading.seen:
            if source != ENTRY and int(source) not in reading.failed:
                await self._passages.drop(base.uid, source, name)

    async def _begin(self, base: Base, reading: Reading) -> None:
        """Look into the sources: which documents there are."""
        sources = Sources(self._services.for_tools(base.namespace), self._config_maps)
        reading.known = await self._passages.known(base.uid)
        reading.passages = (await self._passages.tally(base.uid)).passages
        found: list[Document] = []
        for number, source in enumerate(base.spec.get("sources") or ()):
            try:
                found += await sources.documents(number, source, base.namespace)
            except ToolError as error:
                reading.failed.add(number)
                reading.problems.append(f"spec.sources[{number}]: {error.message}")
        if len(found) > MOST_DOCUMENTS:
            reading.problems.append(f"{len(found):,} documents; the first {MOST_DOCUMENTS:,} are kept")
            del found[MOST_DOCUMENTS:]
        reading.left = found[::-1]
        reading.begun = True

    async def _take(self, base: Base, document: Document, reading: Reading) -> int:
        """Bring one document up to date; how many passages that took."""
        key = (str(document.source), document.name)
        try:
            text = await document.load()
        except ToolError as error:
            # What was known of it stays: it may be there again the next time.
            reading.seen.add(key)
            reading.problems.append(f"{document.name}: {error.message}")
            return 0
        reading.read += 1
        digest = _digest(base, text)
        if reading.known.get(key) == digest:
            reading.seen.add(key)
            return 0
        parts = await _cut(text, base.chunking, document.markdown)
        if reading.passages + len(parts) > MOST_PASSAGES:
            reading.seen.add(key)
            reading.problems.append(f"{document.name}: the base would have more than {MOST_PASSAGES:,} passages")
            return 0
        vectors = None if base.embedder is None or not parts else await _embedded(base.embedder, parts, digest, reading)
        metadata = {"document": document.name}
        await self._passages.put(
            base.uid, *key, digest, text, metadata, parts, base.model if vectors is not None else "", vectors
        )
        reading.seen.add(key)
        reading.passages += len(parts)
        return len(parts)

    async def tally(self, base: Base) -> Tally:
        """How much a base holds."""
        return await self._passages.tally(base.uid)

    async def entries(self, base: Base) -> int:
        """How many entries tools keep in it."""
        return await self._passages.entries(base.uid)

    async def erase(self, uid: str) -> None:
        """Forget everything of a base."""
        for kept in (self._going, self._last, self._due):
            kept.pop(uid, None)
        await self._passages.erase(uid)

    # --- asking ----------------------------------------------------------------------------------------------------

    async def search(self, base: Base, query: str, limit: int) -> list[Passage]:
        """The passages that fit a question best. Raises ToolError."""
        vector = None if base.embedder is None else await self._vector(base, query)
        return await self._passages.search(base.uid, query, limit, base.model, vector)

    async def near(self, base: Base, query: str, where: Mapping[str, Any], limit: int) -> list[Passage]:
        """The passages nearest in meaning whose metadata fit a filter. Raises ToolError."""
        try:
            test = compiled(where) if where else None
        except BadFilter as error:
            raise unfit(str(error)) from None
        return await self._passages.near(base.uid, base.model, await self._vector(base, query), limit, test)

    async def _vector(self, base: Base, query: str) -> Sequence[float]:
        return (await self._vectors(base, [query]))[0]

    async def _vectors(self, base: Base, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        if base.embedder is None:
            raise unfit(f"KnowledgeBase {base.name} has no embedder, so nothing in it is found by meaning")
        try:
            return (await base.embedder.embed(texts)).vectors
        except ModelError as error:
            failed = step_error(error)
            raise ToolError(
                failed.message, type=failed.type, retryable=failed.retryable, retry_after=failed.retry_after
            ) from None

    async def documents(self, base: Base, after: str, limit: int) -> list[tuple[str, str, int]]:
        """Name, source and number of passages of documents, by name."""
        return await self._passages.listed(base.uid, after, limit)

    async def text(self, base: Base, document: str) -> str | None:
        """The text of a document; None if there is none of the name."""
        return await self._passages.text(base.uid, document)

    async def keep(self, base: Base, entries: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
        """Keep entries (id, text, metadata), each in place of the one of its id. Raises ToolError."""
        cut = [passages(text, base.chunking) or [text] for _, text, _ in entries]
        tally = await self._passages.tally(base.uid)
        if tally.passages + sum(map(len, cut)) > MOST_PASSAGES:
            raise unfit(f"KnowledgeBase {base.name} would have more than {MOST_PASSAGES:,} passages")
        made = await self._vectors(base, [part for parts in cut for part in parts])
        at = 0
        for (name, text, metadata), parts in zip(entries, cut, strict=True):
            vectors = made[at : at + len(parts)]
            at += len(parts)
            digest = _digest(base, text)
            await self._passages.put(base.uid, ENTRY, name, digest, text, metadata, parts, base.model, vectors)

    async def forget(self, base: Base, ids: Sequence[str]) -> int:
        """Drop entries; how many were there."""
        return sum([await self._passages.drop(base.uid, ENTRY, name) for name in ids])


async def _cut(text: str, how: Chunking, markdown: bool) -> list[str]:
    """The passages of a document; a large one is cut beside everything else."""
    cut = partial(passages, text, how, markdown=markdown)
    return cut() if len(text) < _LARGE else await anyio.to_thread.run_sync(cut)


async def _embedded(
    embedder: Embedder, parts: Sequence[str], digest: str, reading: Reading
) -> Sequence[Sequence[float]]:
    """The vectors of a document's passages; those that were made before a pass was cut off aren't made again."""
    if reading.vectors[0] != digest:
        reading.vectors = (digest, [])
    made = reading.vectors[1]
    while len(made) < len(parts):
        made += (await embedder.embed(parts[len(made) : len(made) + BATCH])).vectors
    reading.vectors = ("", [])
    return made


def _digest(base: Base, text: str) -> str:
    """Equal if the same text would be cut and embedded in the same way."""
    how = f"{base.chunking.size}/{base.chunking.overlap}/{base.model}\0"
    return sha256(how.encode() + text.encode("utf-8", "surrogatepass")).hexdigest()
