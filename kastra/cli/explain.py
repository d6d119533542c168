"""`kastra explain`: a kind or one of its fields, documented from its schema. Layout and wording are kubectl's."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from kastra.api.names import closest

from .arguments import find_resource
from .completing import complete_objects
from .options import examples
from .session import reading

if TYPE_CHECKING:
    from kastra.api.scheme import Resource
    from kastra.client.interface import Client

_WIDTH = 76
_TEXT = {"type": "string"}
_METADATA: Mapping[str, Any] = {
    "type": "object",
    "description": "Standard object's metadata.",
    "properties": {
        "annotations": {
            "type": "object",
            "additionalProperties": _TEXT,
            "description": "Text of any kind for tools and people; not used for selecting objects.",
        },
        "creationTimestamp": {**_TEXT, "description": "When the object was created. Set by the server."},
        "deletionTimestamp": {
            **_TEXT,
            "description": "When deletion was asked for; finalizers still hold the object. Set by the server.",
        },
        "finalizers": {
            "type": "array",
            "items": _TEXT,
            "description": "Who must have cleaned up before the object goes.",
        },
        "generateName": {**_TEXT, "description": "Prefix of a name that the server makes when there is no name."},
        "generation": {
            "type": "integer",
            "description": "Rises with each change outside metadata and status. Set by the server.",
        },
        "labels": {
            "type": "object",
            "additionalProperties": _TEXT,
            "description": "Keys and values by which objects are selected.",
        },
        "managedFields": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Which manager owns which fields. Set by the server.",
        },
        "name": {**_TEXT, "description": "Unique in the namespace for the kind. Can't be changed."},
        "namespace": {**_TEXT, "description": "In which names are unique; empty means default."},
        "ownerReferences": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Objects with which this one goes when they are deleted.",
        },
        "resourceVersion": {
            **_TEXT,
            "description": "Changes with each write; for optimistic locking. Set by the server.",
        },
        "uid": {**_TEXT, "description": "Unique over time. Set by the server."},
    },
}
_COMMON: Mapping[str, Any] = {
    "apiVersion": {**_TEXT, "description": "Group and version of the kind, such as mastra.ai/v1."},
    "kind": {**_TEXT, "description": "The kind of the object, in CamelCase."},
    "metadata": _METADATA,
}


@click.command(
    epilog=examples(
        "kastra explain agent",
        "kastra explain agent.spec.tools",
        "kastra explain workflow.spec --recursive",
    )
)
@click.argument("field", metavar="KIND[.FIELD[.FIELD]]", shell_complete=complete_objects)
@click.option("--recursive", is_flag=True, help="All fields below, without their descriptions.")
@click.option("--api-version", default="", metavar="GROUP/VERSION", help="Another version than the preferred one.")
def explain(field: str, recursive: bool, api_version: str) -> int:
    """Document a kind or one of its fields."""
    return reading(lambda client: _explain(client, field, api_version, recursive=recursive), schemas=True)


async def _explain(client: "Client", field: str, api_version: str, *, recursive: bool) -> int:
    resource, path = find_field(client, field)
    if api_version:
        other = client.scheme.for_kind(api_version, resource.kind)
        if other is None:
            raise ValueError(f'couldn\'t find resource for "{api_version}, Kind={resource.kind}"')
        resource = other
    click.echo("\n".join(explanation(resource, path, recursive=recursive)))
    return 0


def find_field(client: "Client", text: str) -> "tuple[Resource, Sequence[str]]":
    """The kind and the path below it in `agents.spec.model` or `agents.mastra.ai.spec.model`.

    Raises:
        ValueError: there is no such kind.
    """
    parts = [part for part in text.split(".") if part]
    if not parts:
        raise ValueError("say what to explain: KIND or KIND.FIELD")
    # The longest beginning that names a kind together with its group, else the first word alone.
    for size in range(len(parts), 1, -1):
        group = ".".join(parts[1:size])
        for resource in client.scheme:
            if group in (resource.group, f"{resource.version}.{resource.group}") and parts[0].lower() in (
                resource.plural,
                resource.singular,
                resource.kind.lower(),
                *resource.short_names,
            ):
                return resource, parts[size:]
    return find_resource(client.scheme, parts[0]), parts[1:]


def explanation(resource: "Resource", path: Sequence[str], *, recursive: bool = False) -> list[str]:
    """The lines that document a kind, or the field at `path` below it.

    Raises:
        ValueError: there is no such field; with a suggestion where one is near.
    """
    schema: Mapping[str, Any] = dict(resource.schema or {"type": "object"})
    schema = {**schema, "properties": {**_COMMON, **_without_common(schema.get("properties") or {})}}
    node = schema
    for depth, name in enumerate(path):
        properties = _properties(node)
        if name not in properties:
            near = closest(name, properties)
            hint = f'; did you mean "{near}"?' if near else ""
            raise ValueError(f'field "{".".join(path[: depth + 1])}" does not exist in {resource.kind}{hint}')
        node = properties[name]
    lines = [f"GROUP:      {resource.group}"] if resource.group else []
    lines += [f"KIND:       {resource.kind}", f"VERSION:    {resource.version}", ""]
    if path:
        lines += [f"FIELD: {path[-1]} <{type_name(node)}>", *_constraints(node, ""), ""]
    lines += ["DESCRIPTION:", *_paragraphs(node.get("description") or "<empty>", "    ")]
    fields = _properties(node)
    if fields:
        lines += ["", "FIELDS:"]
        if recursive:
            lines += _tree(node, "  ")
        else:
            for name in sorted(fields):
                lines += [_field_line(name, fields[name], node, "  "), *_constraints(fields[name], "  ")]
                lines += [*_paragraphs(fields[name].get("description") or "<no description>", "    "), ""]
    return lines


def _without_common(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema's own fields; it may mention metadata, but never describes it."""
    return {name: node for name, node in properties.items() if name not in _COMMON}


def _properties(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a node; those of a list's or map's values stand for its own."""
    while True:
        properties = node.get("properties")
        if properties:
            found: Mapping[str, Any] = properties
            return found
        inner = node.get("items") or node.get("additionalProperties")
        if not isinstance(inner, Mapping):
            return {}
        node = inner


def type_name(node: Mapping[str, Any]) -> str:
    """`string`, `[]string`, `map[string]integer`, `Object`, `IntOrString`."""
    if node.get("x-kubernetes-int-or-string"):
        return "IntOrString"
    if node.get("type") == "array":
        return f"[]{type_name(node.get('items') or {})}"
    values = node.get("additionalProperties")
    if isinstance(values, Mapping) and not node.get("properties"):
        return f"map[string]{type_name(values)}"
    kind = node.get("type")
    if kind is None:
        return "any" if node.get("x-kubernetes-preserve-unknown-fields") else "Object"
    return "Object" if kind == "object" else str(kind)


def _field_line(name: str, node: Mapping[str, Any], parent: Mapping[str, Any], indent: str) -> str:
    while not parent.get("properties"):
        parent = parent.get("items") or parent.get("additionalProperties") or {}
        if not isinstance(parent, Mapping) or not parent:
            return f"{indent}{name}\t<{type_name(node)}>"
    required = " -required-" if name in (parent.get("required") or ()) else ""
    return f"{indent}{name}\t<{type_name(node)}>{required}"


def _constraints(node: Mapping[str, Any], indent: str) -> Iterator[str]:
    if node.get("enum"):
        yield f"{indent}enum: {', '.join(map(str, node['enum']))}"
    if "default" in node:
        yield f"{indent}default: {node['default']}"


def _tree(node: Mapping[str, Any], indent: str) -> Iterator[str]:
    fields = _properties(node)
    for name in sorted(fields):
        yield _field_line(name, fields[name], node, indent)
        yield from _tree(fields[name], indent + "  ")


def _paragraphs(text: str, indent: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.strip().split("\n"):
        lines += textwrap.wrap(paragraph, _WIDTH, initial_indent=indent, subsequent_indent=indent) or [""]
    return lines
