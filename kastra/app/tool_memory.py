"""Working memory for the built-in tools: that of the thread that a call belongs to, or of its resource.

Read next: `kastra.tool.toolkit.remembering`, `kastra.agent.working_memory`, which keeps the same.
"""

from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

import anyio
import orjson

from kastra.agent.working_memory import KEY, MAX_SIZE
from kastra.memory import rows
from kastra.memory.interface import ThreadKey
from kastra.memory.threads import Threads
from kastra.tool.interface import ToolContext
from kastra.tool.schema import JsonSchema
from kastra.tool.toolkit.builtin import forbidden, unfit

_KEY_FIELDS = ("uid", "namespace", "name", "resource", "agent", "retention")


class ToolMemory:
    """`kastra.tool.platform.WorkingMemory` over the threads of the store."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        # Two changes of one turn are made one after the other.
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    async def read(self, scope: str, context: ToolContext) -> dict[str, Any]:
        """What is kept. Raises ToolError."""
        thread, named, _ = _belonging(scope, context)
        return {"scope": named, "value": await self._value(thread, rows.scope_of(thread, named))}

    async def update(
        self, scope: str, text: str | None, fields: Mapping[str, Any] | None, context: ToolContext
    ) -> dict[str, Any]:
        """Keep something else. Raises ToolError."""
        thread, named, schema = _belonging(scope, context)
        if context.thread is not None and context.thread["readOnly"]:
            raise forbidden("this agent reads its memory and never writes it (memory.readOnly)")
        place = rows.scope_of(thread, named)
        lock = self._locks.setdefault(place, anyio.Lock())
        async with lock:
            value: Any = text
            if fields is not None:
                old = await self._value(thread, place)
                if isinstance(old, str) and old:
                    raise unfit("a text is kept, which has no fields: give the whole text")
                merged = {**(old if isinstance(old, dict) else {}), **fields}
                value = {name: field for name, field in merged.items() if field is not None}
            if schema is not None:
                if fields is None:
                    raise unfit("the memory is an object by a schema: give fields")
                if problems := JsonSchema(schema, "memory").problems(value):
                    raise unfit("; ".join(problems)[:1000])
            if (size := len(orjson.dumps(value))) > MAX_SIZE:
                raise unfit(f"{size:,} bytes are more than the {MAX_SIZE:,} that working memory keeps")
            await self._threads.commit([rows.valued(thread, place, KEY, value, self._threads.now())])
        return {"scope": named, "value": value}

    async def search(self, query: str, limit: int, context: ToolContext) -> list[dict[str, Any]]:
        """Messages by words. Raises ToolError."""
        thread, _, _ = _belonging("thread", context)
        found = await self._threads.search(thread.uid, query, limit)
        return [{name: row[name] for name in ("seq", "role", "time", "excerpt")} for row in found]

    async def _value(self, thread: ThreadKey, place: str) -> Any:
        return (await self._threads.load(thread, 0)).values.get((place, KEY))


def _belonging(scope: str, context: ToolContext) -> tuple[ThreadKey, str, Mapping[str, Any] | None]:
    """The thread, the scope, and the schema of what is kept in it."""
    told = context.thread
    if told is None:
        raise unfit("this call belongs to no thread, so nothing is remembered: the agent must be asked with a thread")
    thread = ThreadKey(**{field: told[field] for field in _KEY_FIELDS})
    working = told.get("workingMemory") or {}
    named = scope or working.get("scope") or "thread"
    if named == "resource" and not thread.resource:
        named = "thread"
    same = named == (working.get("scope") or "thread")
    return thread, named, working.get("schema") if same else None
