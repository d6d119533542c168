"""Which objects are tools for MCP clients, under what names and with what schemas?

Those with the label `mastra.ai/export: mcp`, as far as the caller may see them. The name is made of kind, namespace and name, so
that it is unique and says what it leads to; the annotation `mastra.ai/export-name` gives another, as long as no other object
claims the same. Read next: `kastra.app.mcp.calls`.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import orjson

from kastra.api.errors import BadRequest, Forbidden, NotFound
from kastra.api.meta import GROUP, ObjectRef
from kastra.api.object import Object
from kastra.client.interface import Client

LABEL = f"{GROUP}/export"
SELECTOR = f"{LABEL}=mcp"
NAME = f"{GROUP}/export-name"
"""The annotation with a name of one's own."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
KINDS = ("Agent", "Network", "Tool", "Workflow")
ANYTHING: Mapping[str, Any] = {"type": "object"}
PROMPT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "description": "What to ask, in full: it sees nothing else."}},
    "required": ["prompt"],
    "additionalProperties": False,
}
"""How an Agent or a Network is called."""
_SEPARATOR = "_"
_HINTS = {
    "readOnly": "read_only_hint",
    "destructive": "destructive_hint",
    "idempotent": "idempotent_hint",
    "openWorld": "open_world_hint",
}

Namespaces = Callable[[], Awaitable[Sequence[str]]]
"""The namespaces to look into for somebody who may not list all of them at once."""


@dataclass(frozen=True, slots=True)
class Export:
    """An object as a tool.

    Args:
        schema: of the arguments.
        output: of the result; None unless it is an object for certain.
        hints: of the SDK's tool annotations.
        wish: the name that its annotation gives it; empty without.
    """

    kind: str
    namespace: str
    name: str
    description: str
    schema: Mapping[str, Any]
    output: Mapping[str, Any] | None
    hints: Mapping[str, bool]
    wish: str = ""

    @property
    def full(self) -> str:
        """The name that it has in any case, such as `agent_cooking_recipe-assistant`."""
        return _SEPARATOR.join((self.kind.lower(), self.namespace, self.name))

    @property
    def tool(self) -> str:
        """Its name as a tool."""
        return self.wish or self.full

    @property
    def asked(self) -> bool:
        """Whether it is asked in words."""
        return self.kind in ("Agent", "Network")

    @classmethod
    def of(cls, obj: Object) -> "Export":
        """From an object."""
        spec, status = obj.spec, obj.status
        schema, output = spec.get("inputSchema"), spec.get("outputSchema")
        if obj.kind in ("Agent", "Network"):
            schema, output = PROMPT, output or (spec.get("output") or {}).get("schema")
        elif obj.kind == "Workflow":
            schema = schema or (spec.get("input") or {}).get("schema")
            output = output or (spec.get("output") or {}).get("schema")
        else:
            schema = schema or status.get("inputSchema")
        if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
            schema = ANYTHING
        if not isinstance(output, Mapping) or output.get("type") != "object":
            output = None
        given = spec.get("annotations") or {}
        hints = {hint: given[name] for name, hint in _HINTS.items() if isinstance(given.get(name), bool)}
        described = spec.get("description") or f"{obj.kind} {obj.name}"
        wish = (obj.metadata.get("annotations") or {}).get(NAME, "")
        wish = wish if _NAME.fullmatch(wish) and _kind_of(wish) is None else ""
        return cls(obj.kind, obj.namespace, obj.name, described, {**schema, "type": "object"}, output, hints, wish)


async def exports(client: Client, namespaces: Namespaces) -> list[Export]:
    """Everything that is marked and that the client may list, by name."""
    found: list[Object] = []
    for kind in KINDS:
        plural = f"{kind}.{GROUP}"
        try:
            found += (await client.list(plural, label_selector=SELECTOR)).items
        except Forbidden:
            for namespace in await namespaces():
                try:
                    found += (await client.list(plural, namespace, label_selector=SELECTOR)).items
                except Forbidden:
                    continue
    made = [Export.of(obj) for obj in found if not obj.deleting]
    claims = Counter(one.wish for one in made)
    # A name that two claim is nobody's, so that none can take another's place.
    return sorted(
        (replace(one, wish="") if claims[one.wish] > 1 else one for one in made), key=lambda export: export.tool
    )


async def export(client: Client, namespaces: Namespaces, tool: str) -> Export | None:
    """The object that a tool's name means; None if there is none that is marked and that the client may see.

    Raises:
        StatusError: the server can't say.
    """
    kind = _kind_of(tool)
    if kind is None:
        return next((one for one in await exports(client, namespaces) if one.wish == tool), None)
    _, namespace, name = tool.split(_SEPARATOR, 2)
    try:
        obj = await client.get(ObjectRef(f"{kind}.{GROUP}", name, namespace))
    except (NotFound, Forbidden, BadRequest):
        # Whether there is one that they may not see is nobody's business.
        return None
    if (obj.metadata.get("labels") or {}).get(LABEL) != "mcp" or obj.deleting:
        return None
    return Export.of(obj)


def _kind_of(tool: str) -> str | None:
    """The kind, if this is a full name."""
    parts = tool.split(_SEPARATOR, 2)
    if len(parts) != 3 or not parts[1] or not parts[2]:
        return None
    return next((kind for kind in KINDS if kind.lower() == parts[0]), None)


def digest(found: Sequence[Export]) -> str:
    """Equal for equal tools."""
    told = [[one.tool, one.description, one.schema, one.output, one.hints] for one in found]
    return sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()
