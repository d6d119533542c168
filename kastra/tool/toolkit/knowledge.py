"""Group `knowledge`: what KnowledgeBases of the namespace hold.

The manifest names the bases; no argument reaches another. What is found was written by others: it is data, and says from which
document it is. Read next: `kastra.tool.platform`.
"""

from typing import Annotated, Any

from kastra.tool.platform import Knowledge
from kastra.tool.toolkit.bounds import clip
from kastra.tool.toolkit.builtin import READ, Builtin, forbidden, unfit
from kastra.tool.toolkit.kit import Kit, absent

MOST_FOUND = 20
MOST_LISTED = 200
MAX_QUERY = 2_000

Base = Annotated[str, "Name of the knowledge base; may be left out if there is only one."]


async def search(
    kit: Kit,
    query: Annotated[str, "What is to be found out, in a sentence or some words."],
    base: Annotated[str, "Only in this knowledge base."] = "",
    limit: Annotated[int, "Passages at most, up to 20."] = 5,
) -> dict[str, Any]:
    """Search the knowledge for passages that answer a question; each says from which document it is."""
    if not query.strip() or len(query) > MAX_QUERY or not 1 <= limit <= MOST_FOUND:
        raise unfit(f"query must hold a word and at most {MAX_QUERY} characters, limit must be from 1 to {MOST_FOUND}")
    bases = bases_of(kit) if not base else [one_base(kit, base)]
    return {"passages": await knowledge_of(kit).search(kit.namespace, bases, query, limit)}


async def listing(
    kit: Kit,
    base: Annotated[str, "Documents of this one; without it, the knowledge bases are listed."] = "",
    after: Annotated[str, "The last document of the page before."] = "",
) -> dict[str, Any]:
    """List the knowledge bases, or the documents of one."""
    if not base:
        return {"bases": await knowledge_of(kit).described(kit.namespace, bases_of(kit))}
    found = await knowledge_of(kit).documents(kit.namespace, one_base(kit, base), after, MOST_LISTED + 1)
    result: dict[str, Any] = {"documents": found[:MOST_LISTED]}
    if len(found) > MOST_LISTED:
        result["truncated"] = f"the first {MOST_LISTED}; go on with after: {found[MOST_LISTED - 1]['document']}"
    return result


async def read(
    kit: Kit,
    document: Annotated[str, "Its name, as knowledge.search and knowledge.list give it."],
    base: Base = "",
) -> dict[str, Any]:
    """Read a whole document of a knowledge base."""
    return {
        "document": document,
        "text": clip(await knowledge_of(kit).read(kit.namespace, one_base(kit, base), document)),
    }


def bases_of(kit: Kit) -> list[str]:
    """The bases that the manifest names."""
    return list(kit.settings.get("bases") or ())


def one_base(kit: Kit, named: str) -> str:
    """The base that is meant. Raises ToolError."""
    bases = bases_of(kit)
    if not named and len(bases) == 1:
        return bases[0]
    for base in bases:
        # An agent may know one of another namespace, which it is shown without.
        if named in (base, base.rpartition("/")[2]):
            return base
    if not named:
        raise unfit(f"base: say which: {', '.join(base.rpartition('/')[2] for base in bases)}")
    raise forbidden(f"base: {named[:100]!r} is none of {', '.join(base.rpartition('/')[2] for base in bases)}")


def knowledge_of(kit: Kit) -> Knowledge:
    """Knowledge, if there is any in this process. Raises ToolError."""
    found = kit.platform.knowledge
    if found is None:
        raise absent("knowledge")
    return found


_SETTINGS = ("bases",)
TOOLS = (
    Builtin("knowledge.search", search, READ, _SETTINGS, _SETTINGS, 60.0),
    Builtin("knowledge.list", listing, READ, _SETTINGS, _SETTINGS),
    Builtin("knowledge.read", read, READ, _SETTINGS, _SETTINGS),
)
