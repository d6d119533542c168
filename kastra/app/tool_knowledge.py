"""Knowledge for the built-in tools: KnowledgeBases by name, as they are now.

A Run goes on with the bases that there are, whatever they hold by then: knowledge is data, not a part of the closure. Read next:
`kastra.agent.library`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from kastra.agent.library import Base, Library
from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.api.types import Closure
from kastra.client.interface import Client
from kastra.engine.step import StepError
from kastra.memory.passages import ENTRY, Passage
from kastra.runtime.closure import UnresolvedReferences
from kastra.tool.interface import ToolError
from kastra.tool.toolkit.builtin import missing

KIND = "KnowledgeBase"
Closer = Callable[[Object], Awaitable[Closure]]


def config_maps(client: Client) -> Callable[[str, str], Awaitable[Mapping[str, str]]]:
    """Reads ConfigMaps."""

    async def read(namespace: str, name: str) -> Mapping[str, str]:
        try:
            found = await client.get(ObjectRef("configmaps", name, namespace))
        except NotFound:
            raise LookupError(f"ConfigMap {namespace}/{name} does not exist") from None
        data: Mapping[str, str] = found.data.get("data") or {}
        return data

    return read


class ToolKnowledge:
    """`kastra.tool.platform.Knowledge` over the library.

    Args:
        client: with the rights of Runs.
        library: keeps and finds.
        close: builds the closure of an object.
    """

    def __init__(self, client: Client, library: Library, close: Closer) -> None:
        self._client = client
        self._library = library
        self._close = close

    async def described(self, namespace: str, bases: Sequence[str]) -> list[dict[str, Any]]:
        """What there is."""
        found = []
        for name in bases:
            base = await self._base(namespace, name)
            tally = await self._library.tally(base)
            described = {"base": base.name, "description": base.spec.get("description") or ""}
            found.append({**described, "documents": tally.documents, "passages": tally.passages})
        return found

    async def documents(self, namespace: str, base: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Documents by name."""
        listed = await self._library.documents(await self._base(namespace, base), after, limit)
        return [{"document": name, "source": _source(source), "passages": count} for name, source, count in listed]

    async def read(self, namespace: str, base: str, document: str) -> str:
        """A document. Raises ToolError."""
        text = await self._library.text(await self._base(namespace, base), document)
        if text is None:
            raise missing(f"there is no document {document[:200]!r}; knowledge.list tells which there are")
        return text

    async def search(self, namespace: str, bases: Sequence[str], query: str, limit: int) -> list[dict[str, Any]]:
        """Passages of all bases, the best first. Raises ToolError."""
        found: list[tuple[float, dict[str, Any]]] = []
        for name in bases:
            base = await self._base(namespace, name)
            for passage in await self._library.search(base, query, limit):
                told = {"base": base.name, "document": passage.document, "position": passage.position}
                found.append((passage.score, {**told, "text": passage.text}))
        found.sort(key=lambda entry: -entry[0])
        return [told for _, told in found[:limit]]

    async def near(
        self, namespace: str, base: str, query: str, where: Mapping[str, Any], limit: int
    ) -> list[dict[str, Any]]:
        """Entries by meaning. Raises ToolError."""
        found = await self._library.near(await self._base(namespace, base), query, where, limit)
        return [_entry(passage) for passage in found]

    async def keep(self, namespace: str, base: str, entries: Sequence[Mapping[str, Any]]) -> int:
        """Keep entries. Raises ToolError."""
        given = [(str(entry["id"]), str(entry["text"]), entry["metadata"]) for entry in entries]
        await self._library.keep(await self._base(namespace, base), given)
        return len(given)

    async def forget(self, namespace: str, base: str, ids: Sequence[str]) -> int:
        """Drop entries."""
        return await self._library.forget(await self._base(namespace, base), ids)

    async def _base(self, namespace: str, name: str) -> Base:
        """The base of a name, which an agent's reference gives with its namespace. Raises ToolError."""
        elsewhere, _, own = name.rpartition("/")
        try:
            found = await self._client.get(ObjectRef(KIND, own, elsewhere or namespace))
            if found.deleting:
                raise missing(f"KnowledgeBase {own} is being deleted")
            return self._library.base(await self._close(found))
        except NotFound:
            raise missing(f"there is no KnowledgeBase {own}") from None
        except (StepError, UnresolvedReferences, ValueError) as error:
            raise ToolError(f"KnowledgeBase {own}: {error}", retryable=False) from None


def _entry(passage: Passage) -> dict[str, Any]:
    return {
        "id": passage.document,
        "source": _source(passage.source),
        "text": passage.text,
        "metadata": dict(passage.metadata),
        "score": round(passage.score, 4),
    }


def _source(source: str) -> str:
    return "entry" if source == ENTRY else f"sources[{source}]"
