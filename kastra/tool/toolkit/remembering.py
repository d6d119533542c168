"""Group `memory`: what is kept about the conversation that a call belongs to, or about whose conversation it is.

Which one that is follows from the call, never from an argument, so a model can't reach another's. It is the same memory that
`updateWorkingMemory` changes, in the scope that the agent's manifest gives it. Read next: `kastra.tool.platform`.
"""

from typing import Annotated, Any

from kastra.tool.interface import ToolContext
from kastra.tool.platform import WorkingMemory
from kastra.tool.toolkit.bounds import bounded, text_of
from kastra.tool.toolkit.builtin import READ, REPLACE, Builtin, unfit
from kastra.tool.toolkit.kit import Kit, absent

MAX_FOUND = 50


async def read(kit: Kit, context: ToolContext) -> dict[str, Any]:
    """Read the working memory of this conversation: a text, an object, or null if nothing is kept yet."""
    return await _memory(kit).read(_scope(kit), context)


async def update(
    kit: Kit,
    context: ToolContext,
    text: Annotated[str | None, "The whole text, as it shall be from now on."] = None,
    fields: Annotated[dict[str, Any] | None, "Instead of text: fields to change; null removes one."] = None,
) -> dict[str, Any]:
    """Change the working memory of this conversation: give a whole text, or fields of an object to change."""
    if (text is None) == (fields is None):
        raise unfit("give exactly one of text and fields")
    given = None if text is None else text_of(text)
    return await _memory(kit).update(_scope(kit), given, bounded(fields, "fields"), context)


async def search(
    kit: Kit,
    context: ToolContext,
    query: Annotated[str, "Words; a message has to hold all of them."],
    limit: Annotated[int, "Messages at most, up to 50."] = 10,
) -> dict[str, Any]:
    """Find earlier messages of this conversation that hold all of some words, newest first."""
    if not 1 <= limit <= MAX_FOUND or not query.strip() or len(query) > 1000:
        raise unfit(f"query must hold a word and at most 1000 characters, limit must be from 1 to {MAX_FOUND}")
    return {"messages": await _memory(kit).search(query, limit, context)}


def _memory(kit: Kit) -> WorkingMemory:
    found = kit.platform.memory
    if found is None:
        raise absent("working memory")
    return found


def _scope(kit: Kit) -> str:
    return str(kit.settings.get("scope") or "")


TOOLS = (
    Builtin("memory.read", read, READ, ("scope",)),
    Builtin("memory.update", update, REPLACE, ("scope",)),
    Builtin("memory.search", search, READ),
)
