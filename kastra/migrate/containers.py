"""Which dialect is a document of, and which objects does it hold?

    root configuration      {version, agents{}, tools{}, workflows{}, networks{}, providers, memory}
    MastraPod               the same sections at the top or below `spec`, with `resources` and `includes`
    plain document          {apiVersion, kind, metadata, spec}, or without apiVersion, or without spec
    dump of a server        plain documents below .mastrapod/resources/<namespace>/<kind>/
    stored workflow         {id, graph: [...]}
    serverless workflow     {document: {dsl}, do: [...]}

Every object becomes an Item; what it means is decided by the converter of its kind. Read next: `kastra.migrate.convert`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .context import Context
from .naming import namespace_name
from .node import Node
from .report import Level
from .secrets import variable
from .serverless.document import is_document
from .sources import MAX_INCLUDED, Reader, Source

POD = "MastraPod"
SECTIONS = {
    "providers": "Provider", "llms": "LLM", "models": "LLM", "tools": "Tool", "agents": "Agent", "workflows": "Workflow",
    "networks": "Network", "agentNetworks": "Network",
}  # fmt: skip
"""What the entries of a container's section are, in the order in which they are converted."""
KINDS = {
    "provider": "Provider", "modelprovider": "ModelProvider", "llm": "LLM", "model": "Model", "secret": "Secret",
    "configmap": "ConfigMap", "tool": "Tool", "agent": "Agent", "workflow": "Workflow", "network": "Network",
    "agentnetwork": "Network", "system": "System", "namespace": "Namespace",
}  # fmt: skip
"""Today's or our own name of a kind, by its name in lower case."""
_DROPPED = ("memory", "logging", "config", "telemetry", "server", "storage", "mcp", "vectors", "logger")
_WRAPPER = (
    "apiVersion",
    "kind",
    "metadata",
    "status",
    "version",
    "createdAt",
    "updatedAt",
    "name",
    "namespace",
    "description",
)


@dataclass(slots=True)
class Item:
    """One object of the input.

    Args:
        kind: a value of `KINDS`, `Dynamic`, or the kind as it was written.
        node: its spec, or all of it where it has none.
        labels: as written.
    """

    kind: str
    name: str
    namespace: str
    node: Node
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


def items_of(ctx: Context, reader: Reader, source: Source, namespace: str = "") -> Iterator[Item]:
    """The objects of a document and of what it includes.

    Raises:
        Unreadable: an included file can't be decoded.
    """
    node = source.node
    value = node.value
    if not isinstance(value, dict):
        ctx.note("not-migrated", "", node, "a document must be a mapping", "remove it")
        return
    ctx.secrets.learn(value)
    kind = value.get("kind")
    if is_document(value):
        head = _mapping(value["document"])
        own = namespace_name(_text(head.get("namespace")))
        yield Item(
            "ServerlessWorkflow", _text(head.get("name")), own if own not in ("", "default") else namespace, node
        )
    elif kind == POD:
        yield from _pod(ctx, reader, source, namespace)
    elif isinstance(kind, str) and kind:
        yield plain(ctx, node, namespace)
    elif isinstance(value.get("graph") or value.get("stepGraph"), list):
        yield Item("Dynamic", _text(value.get("id")) or _text(value.get("name")), namespace, node)
    elif any(isinstance(value.get(key), (dict, list)) for key in (*SECTIONS, "resources", "includes")) and not node.has(
        "steps", "instructions"
    ):
        yield from _sections(ctx, reader, source, node, namespace)
    elif inferred := _dumped(node.origin.file):
        yield plain(ctx, node, inferred[0] if inferred[0] != "default" else namespace, inferred[1])
    else:
        ctx.note("not-migrated", "", node, "it isn't a configuration of a dialect that is known", "see docs/migrate.md")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dumped(file: str) -> tuple[str, str] | None:
    """Namespace and kind of a file in the dump of a server, from where it lies."""
    parts = Path(file).parts
    if len(parts) < 4 or parts[-4] != "resources":
        return None
    kind = parts[-2].lower()
    known = KINDS.get(kind) or KINDS.get(kind.removesuffix("s"))
    return (namespace_name(parts[-3]), known) if known else None


def plain(ctx: Context, node: Node, namespace: str, kind: str = "") -> Item:
    """The object of one document, or of an entry that is written as a document."""
    value = node.value
    written = kind or _text(value.get("kind"))
    metadata = _mapping(value.get("metadata"))
    name = _text(metadata.get("name")) or _text(value.get("name")) or _text(value.get("id"))
    if not name and isinstance(value.get("spec"), dict):
        name = _text(value["spec"].get("name")) or _text(value["spec"].get("id"))
    own = namespace_name(_text(metadata.get("namespace")) or _text(value.get("namespace"))) or namespace
    spec = value.get("spec")
    body = node.child("spec") if isinstance(spec, dict) else node.without(*_WRAPPER)
    if isinstance(spec, dict):
        for left in node.without("spec", *_WRAPPER).untaken():
            if written.lower() not in ("secret", "configmap"):
                ctx.dropped(f"{written}/{name}", left)
    elif "description" in value:
        body = Node({**body.value, "description": value["description"]}, node.origin, node.path)
    if written.lower() in ("secret", "configmap", "namespace", "customresourcedefinition"):
        body = node
    item = Item(KINDS.get(written.lower(), written), name, own, body)
    for key, target in (("labels", item.labels), ("annotations", item.annotations)):
        given = metadata.get(key)
        if isinstance(given, dict):
            target.update({name: text for name, text in given.items() if isinstance(text, str)})
    return item


def _pod(ctx: Context, reader: Reader, source: Source, namespace: str) -> Iterator[Item]:
    node = source.node
    metadata = node.get("metadata")
    if metadata is not None and isinstance(metadata.value, dict):
        namespace = namespace_name(_text(metadata.peek("namespace"))) or namespace
    node.get("kind", "apiVersion", "version", "name", "status", "description")
    spec = node.get("spec")
    if spec is not None and isinstance(spec.value, dict):
        yield from _sections(ctx, reader, source, spec, namespace)
    yield from _sections(ctx, reader, source, node, namespace)


def _sections(ctx: Context, reader: Reader, source: Source, node: Node, namespace: str) -> Iterator[Item]:
    node.get("version", "apiVersion", "name", "description", "metadata", "namespace", "createdAt", "updatedAt")
    for section, kind in SECTIONS.items():
        entries = node.get(section)
        if entries is not None:
            yield from _entries(ctx, entries, kind, namespace)
    for key in _DROPPED:
        given = node.get(key)
        if given is not None:
            advice = (
                "agents have memory each; set spec.memory"
                if key == "memory"
                else "see kastra.toml"
                if key in ("logging", "server", "config", "logger")
                else ""
            )
            ctx.dropped(POD if node.peek("kind") == POD else "", given, "has no counterpart", advice)
    resources = node.get("resources")
    if resources is not None and isinstance(resources.value, (list, dict)):
        for _, resource in resources.entries():
            yield from _resource(ctx, reader, source, resource, namespace)
    includes = node.get("includes")
    if includes is not None:
        members = [member for _, member in includes.entries()] if isinstance(includes.value, list) else [includes]
        for member in members:
            path = member if isinstance(member.value, str) else member.get("path", "file")
            if path is None or not path.text:
                ctx.note("not-migrated", "", member, "is no path", "write the path of a file")
                continue
            yield from _include(ctx, reader, source, path, "", namespace, optional=bool(member.peek("optional")))
    for left in node.untaken():
        ctx.dropped("", left)


def _entries(ctx: Context, node: Node, kind: str, namespace: str) -> Iterator[Item]:
    if not isinstance(node.value, (dict, list)):
        ctx.dropped("", node, "is no list and no mapping")
        return
    for key, entry in node.entries():
        value = entry.value
        if isinstance(value, str):
            if kind == "Tool":
                yield Item(
                    kind,
                    key if isinstance(node.value, dict) else value,
                    namespace,
                    Node({"execute": value}, entry.origin, entry.path),
                )
            elif kind == "Provider" and isinstance(node.value, dict):
                yield Item(kind, key, namespace, Node({"apiKey": value}, entry.origin, entry.path))
            else:
                ctx.note("not-migrated", f"{kind}/{key}", entry, "is no mapping", "write the object")
            continue
        if not isinstance(value, dict):
            ctx.note("not-migrated", f"{kind}/{key}", entry, "is no mapping", "write the object")
            continue
        if isinstance(value.get("kind"), str) and (isinstance(value.get("spec"), dict) or "apiVersion" in value):
            yield plain(ctx, entry, namespace)
            continue
        metadata = _mapping(value.get("metadata"))
        own = namespace_name(_text(value.get("namespace")) or _text(metadata.get("namespace"))) or namespace
        name = _text(metadata.get("name")) or (
            key if isinstance(node.value, dict) else _text(value.get("name")) or _text(value.get("id")) or key
        )
        if isinstance(value.get("spec"), dict):
            body = entry.child("spec")
        else:
            left_out = (
                "namespace",
                "metadata",
                "createdAt",
                "updatedAt",
                *(("name",) if _text(value.get("name")) in ("", name) else ()),
            )
            body = entry.without(*left_out)
        if isinstance(body.value.get("graph"), list) and kind == "Workflow":
            yield Item("Dynamic", name, own, body)
            continue
        shown = body.value.get("name")
        if isinstance(shown, str) and shown and "spec" not in value and kind in ("Agent", "Network", "Workflow"):
            # The key is the object's name, so this is what people are shown.
            body = Node(
                {**{k: v for k, v in body.value.items() if k != "name"}, "displayName": shown}, entry.origin, entry.path
            )
        yield Item(kind, name, own, body)


def _resource(ctx: Context, reader: Reader, source: Source, node: Node, namespace: str) -> Iterator[Item]:
    if isinstance(node.value, str):
        yield from _include(ctx, reader, source, node, "", namespace)
        return
    if not isinstance(node.value, dict):
        ctx.note("not-migrated", "", node, "is no resource", "write an object, or the path of a file")
        return
    when, optional = node.get("when"), node.get("optional")
    if when is not None and when.value is False:
        ctx.note("note", "", when, "left out, as it says when: false")
        return
    if when is not None and when.value is not True:
        name = variable(when.value)
        what = f"it depended on the variable {name}" if name else "it depended on a condition"
        ctx.note("note", "", when, f"{what}; it is always included", "remove the object where it isn't wanted")
    wanted = optional is not None and optional.value is True
    file, folder, pattern = node.get("file", "path"), node.get("directory", "dir"), node.get("pattern")
    if file is not None:
        yield from _include(ctx, reader, source, file, "", namespace, optional=wanted)
    elif folder is not None:
        yield from _include(
            ctx, reader, source, folder, pattern.text if pattern is not None else "", namespace, optional=wanted
        )
    elif pattern is not None:
        yield from _include(
            ctx, reader, source, Node(".", pattern.origin, pattern.path), pattern.text, namespace, optional=wanted
        )
    elif isinstance(node.value.get("kind"), str):
        yield plain(ctx, node.without("when", "optional"), namespace)
    elif isinstance(node.value.get("type"), str) and node.value["type"].lower() in KINDS:
        yield plain(ctx, node.without("when", "optional", "type"), namespace, KINDS[node.value["type"].lower()])
    else:
        ctx.note("not-migrated", "", node, "is no resource", "write an object, or the path of a file")


def _include(
    ctx: Context, reader: Reader, source: Source, path: Node, pattern: str, namespace: str, *, optional: bool = False
) -> Iterator[Item]:
    place = reader.included(source, path.text)
    if place is None:
        level: Level = "note" if optional else "not-migrated"
        ctx.note(
            level,
            "",
            path,
            "isn't there, or lies outside of the folder of the file that was named",
            "" if optional else "name the file itself",
        )
        return
    if source.depth >= MAX_INCLUDED:
        ctx.note("not-migrated", "", path, f"more than {MAX_INCLUDED} files include each other", "name the file itself")
        return
    assert source.root is not None
    files = reader.below(place, source.root, pattern) if place.is_dir() else [place]
    if not files and not optional:
        ctx.note("not-migrated", "", path, "holds no file that matches")
    for file in files:
        for document in reader.read(file, source.root, source.depth + 1):
            yield from items_of(ctx, reader, document, namespace)
