"""Group `vector`: entries with metadata in a KnowledgeBase that has an embedder, kept and found by meaning.

An entry has an id; keeping one again puts it in place of the one before, so a call that is made again changes nothing more.
Documents of the base's sources are found as well, and never changed. Read next: `kastra.tool.toolkit.knowledge`.
"""

from typing import Annotated, Any

from kastra.tool.toolkit.bounds import bounded, text_of, write_json
from kastra.tool.toolkit.builtin import READ, REMOVE, REPLACE, Builtin, unfit
from kastra.tool.toolkit.kit import Kit
from kastra.tool.toolkit.knowledge import MAX_QUERY, Base, knowledge_of, one_base

MOST_ENTRIES = 100
MOST_FOUND = 50
MAX_ENTRY = 20_000
"""Characters of an entry."""
MAX_METADATA = 8 * 1024
MAX_ID = 256

Where = Annotated[
    dict[str, Any],
    "Filter over metadata: {field: value}, or {field: {$gte: 3}}; $eq $ne $gt $gte $lt $lte $in $nin $exists, $and $or $not.",
]


async def query(
    kit: Kit,
    text: Annotated[str, "What the entries shall be like."],
    where: Where = {},  # noqa: B006 - never changed; the schema shows it
    limit: Annotated[int, "Entries at most, up to 50."] = 5,
    base: Base = "",
) -> dict[str, Any]:
    """Find the entries nearest in meaning to a text, maybe only those with certain metadata."""
    if not text.strip() or len(text) > MAX_QUERY or not 1 <= limit <= MOST_FOUND:
        raise unfit(f"text must hold a word and at most {MAX_QUERY} characters, limit must be from 1 to {MOST_FOUND}")
    found = await knowledge_of(kit).near(kit.namespace, one_base(kit, base), text, bounded(where, "where"), limit)
    return {"entries": found}


async def upsert(
    kit: Kit,
    entries: Annotated[list[dict[str, Any]], "At most 100 of {id, text, metadata}; metadata may be left out."],
    base: Base = "",
) -> dict[str, Any]:
    """Keep entries, each in place of the one that has its id."""
    if not 1 <= len(entries) <= MOST_ENTRIES:
        raise unfit(f"entries must be from 1 to {MOST_ENTRIES}")
    checked = [_entry(entry, f"entries[{n}]") for n, entry in enumerate(entries)]
    if len({entry["id"] for entry in checked}) < len(checked):
        raise unfit("entries: two of them have the same id")
    return {"kept": await knowledge_of(kit).keep(kit.namespace, one_base(kit, base), checked)}


async def delete(
    kit: Kit, ids: Annotated[list[str], "Ids of entries, at most 100."], base: Base = ""
) -> dict[str, Any]:
    """Forget entries; tells how many were there."""
    if not 1 <= len(ids) <= MOST_ENTRIES:
        raise unfit(f"ids must be from 1 to {MOST_ENTRIES}")
    return {"deleted": await knowledge_of(kit).forget(kit.namespace, one_base(kit, base), ids)}


def _entry(entry: dict[str, Any], where: str) -> dict[str, Any]:
    if unknown := sorted(entry.keys() - {"id", "text", "metadata"}):
        raise unfit(f"{where}: there is no field {unknown[0][:100]!r}; an entry has id, text and metadata")
    name, text, metadata = entry.get("id"), entry.get("text"), entry.get("metadata", {})
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_ID:
        raise unfit(f"{where}.id: must be a text of 1 to {MAX_ID} characters")
    if not isinstance(text, str) or not text.strip():
        raise unfit(f"{where}.text: must be a text that says something")
    if not isinstance(metadata, dict) or len(write_json(metadata)) > MAX_METADATA:
        raise unfit(f"{where}.metadata: must be an object of at most {MAX_METADATA:,} bytes")
    return {"id": name, "text": text_of(text, f"{where}.text", MAX_ENTRY), "metadata": metadata}


_SETTINGS = ("bases",)
TOOLS = (
    Builtin("vector.query", query, READ, _SETTINGS, _SETTINGS, 60.0),
    Builtin("vector.upsert", upsert, REPLACE, _SETTINGS, _SETTINGS, 120.0),
    Builtin("vector.delete", delete, REMOVE, _SETTINGS, _SETTINGS),
)
