"""How does an expression see an object? Values converted by their schema, and how large they can get.

A rule's `self` has the fields that the schema names: numbers are doubles, integers are ints, and names that CEL can't
spell are escaped as in Kubernetes (`x-y` is `x__dash__y`). At the root and in embedded resources there are `apiVersion`,
`kind`, `metadata.name` and `metadata.generateName`. What `x-kubernetes-preserve-unknown-fields` admits can't be seen.

Times and durations stay texts: write `timestamp(self.at)`, which Kubernetes understands too.

Source: Kubernetes' apiserver cel (escaping.go, schemas.go). Read next: `kastra.schema.rules`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kastra.cel import Size, UndefinedField

from .structural import Structural

REQUEST = 3 * 1024 * 1024
"""Bytes of the largest object: what bounds the lists, maps and texts that the schema doesn't."""

_RESERVED = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
     "loop", "package", "namespace", "return", "var", "void", "while"}
)  # fmt: skip
_SPELLABLE = re.compile(r"[A-Za-z_./-][A-Za-z0-9_./-]*")
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_LONGEST = {"date": 10, "date-time": 64, "datetime": 64, "duration": 64, "uuid": 36, "ipv4": 15, "ipv6": 45, "mac": 17}

View = Callable[[Any], Any]


def escape(name: str) -> str | None:
    """A property's name as expressions spell it; None if they can't."""
    if name in _RESERVED:
        return f"__{name}__"
    if not _SPELLABLE.fullmatch(name):
        return None
    return re.sub(r"__|[./-]", lambda found: _ESCAPES[found[0]], name)


def visible(node: Structural) -> bool:
    """Whether expressions can see values of this node: it has a type, or is an int-or-string."""
    return bool(node.type) or node.int_or_string


def fields_of(node: Structural, root: bool) -> dict[str, Structural]:
    """By spelling, the fields that an expression can read of an object."""
    fields = {}
    for name, child in node.properties.items():
        spelling = escape(name)
        if spelling is not None and visible(child):
            fields[spelling] = child
    if root or node.embedded:
        text = Structural(node.path, {"maxLength": 253}, "string")
        names = {"name": text, "generateName": text}
        fields |= {"apiVersion": text, "kind": text, "metadata": Structural(node.path, {}, "object", names)}
    return fields


def view(node: Structural, root: bool = False, only: frozenset[str] | None = None) -> View:
    """The conversion of values of a node into what expressions see.

    Args:
        node: the schema of the values.
        root: whether they are whole objects.
        only: spellings of the fields that are needed; None for all.
    """
    return _view(node, root, only) or (lambda value: value)


def _view(node: Structural, root: bool, only: frozenset[str] | None = None) -> View | None:
    """None stands for: as it is."""
    if node.type == "number":
        return lambda value: float(value) if type(value) is int else value
    if node.type == "integer":
        return lambda value: int(value) if type(value) is float else value
    if node.type == "array" and node.items is not None:
        item = _view(node.items, False)
        return None if item is None else _list_view(item)
    if node.type != "object":
        return None
    if isinstance(node.additional, Structural):
        rest = _view(node.additional, False)
        return None if rest is None else _map_view(rest)
    return _object_view(node, root, only)


def _list_view(item: View) -> View:
    return lambda value: [item(each) for each in value] if isinstance(value, list) else value


def _map_view(rest: View) -> View:
    return lambda value: {name: rest(each) for name, each in value.items()} if isinstance(value, dict) else value


def _object_view(node: Structural, root: bool, only: frozenset[str] | None) -> View | None:
    fields: list[tuple[str, str, View | None]] = []
    whole = root or node.embedded
    for name, child in node.properties.items():
        spelling = escape(name)
        if spelling is not None and visible(child) and not (whole and name in _OWN):
            fields.append((name, spelling, _view(child, False)))
    if whole:
        fields.extend(_OWN.values())
    if only is not None:
        fields = [field for field in fields if field[1] in only]
    as_written = all(name == spelling and convert is None for name, spelling, convert in fields)
    if as_written and len(fields) == len(node.properties) and not node.preserve_unknown and not whole:
        return None

    def convert_object(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {
            spelling: convert(value[name]) if convert is not None else value[name]
            for name, spelling, convert in fields
            if name in value
        }

    return convert_object


def _metadata_view(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return {}
    return {name: value[name] for name in ("name", "generateName") if name in value}


# What every object has, whether or not its schema names it.
_OWN: dict[str, tuple[str, str, View | None]] = {
    "apiVersion": ("apiVersion", "apiVersion", None),
    "kind": ("kind", "kind", None),
    "metadata": ("metadata", "metadata", _metadata_view),
}


@dataclass(frozen=True, slots=True)
class SchemaSize(Size):
    """The size of any value that a schema admits; it knows its fields, so that reading others is an error."""

    node: Structural
    root: bool = False

    def field(self, name: str) -> Size:
        """The size of a field of an object, or of a map's value.

        Raises:
            UndefinedField: the schema names no such field.
        """
        if self.node.type == "object" and not isinstance(self.node.additional, Structural):
            found = fields_of(self.node, self.root).get(name)
            if found is None:
                raise UndefinedField(name)
            return size_of(found)
        return self.index()

    def index(self) -> Size:
        """The size of an item of a list, or of a map's value."""
        if self.node.items is not None:
            return size_of(self.node.items)
        if isinstance(self.node.additional, Structural):
            return size_of(self.node.additional)
        return Size(self.items, self.nodes, self.chars)

    def each(self) -> Size | None:
        """The size of every item of a list; of every key of a map."""
        if self.node.type == "array" and self.node.items is not None:
            return size_of(self.node.items)
        return Size(0, 1, self.chars / max(1, self.items))


def size_of(node: Structural, root: bool = False) -> SchemaSize:
    """The largest that a value of this schema can be."""
    items, nodes, chars = _sizes(node, root)
    return SchemaSize(items, nodes, chars, node, root)


def count_of(node: Structural) -> int:
    """How many items a list or map of this schema can have."""
    if node.type == "array":
        return int(node.raw.get("maxItems", REQUEST // (_least(node.items) + 1)))
    return int(node.raw.get("maxProperties", REQUEST // (_least(node.additional) + 6)))


def _least(node: Any) -> int:
    """Bytes of the shortest JSON of a value."""
    if not isinstance(node, Structural):
        return 1
    if node.type == "object":
        required = [node.properties[name] for name in node.raw.get("required", ()) if name in node.properties]
        return 2 + sum(5 + _least(child) for child in required)
    return {"boolean": 4, "string": 2, "array": 2}.get(node.type, 1)


def _sizes(node: Structural, root: bool = False) -> tuple[float, float, float]:
    """Items, nodes and characters."""
    match node.type:
        case "boolean" | "integer" | "number":
            return 0, 1, 0
        case "string":
            return 0, 1, _text_length(node)
        case "array" if node.items is not None:
            count = count_of(node)
            _, nodes, chars = _sizes(node.items)
            return count, min(REQUEST, 1 + count * nodes), min(REQUEST, count * chars)
        case "object":
            if isinstance(node.additional, Structural):
                count = count_of(node)
                _, nodes, _chars = _sizes(node.additional)
                return count, min(REQUEST, 1 + count * nodes), REQUEST
            sizes = [_sizes(child) for child in fields_of(node, root).values()]
            total_nodes, total_chars = 1 + sum(size[1] for size in sizes), sum(size[2] for size in sizes)
            return len(sizes), min(REQUEST, total_nodes), min(REQUEST, total_chars)
        case _ if node.int_or_string:
            return 0, 1, _text_length(node)
        case _:
            return REQUEST, REQUEST, REQUEST


def _text_length(node: Structural) -> float:
    if "maxLength" in node.raw:
        return float(node.raw["maxLength"])
    if "enum" in node.raw:
        return float(max((len(value) for value in node.raw["enum"] if isinstance(value, str)), default=0))
    return float(_LONGEST.get(node.raw.get("format", ""), REQUEST))
