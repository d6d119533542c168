"""A value of the input that knows where it stands, and which of its fields have been read.

Converters take the fields they understand; what nobody took is reported, so that no field is lost unnoticed. Read next:
`kastra.migrate.report`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kastra.manifest.position import Mark, PathTuple, Positions, format_path


@dataclass(frozen=True, slots=True)
class Origin:
    """A file of the input.

    Args:
        file: as the user named it; `-` for standard input.
        positions: where the fields of one of its documents stand.
        api_version: of that document; empty if it has none.
    """

    file: str
    positions: Positions
    api_version: str = ""


class Node:
    """A value below `path` of a document."""

    __slots__ = ("_children", "_taken", "origin", "path", "value")

    def __init__(self, value: Any, origin: Origin, path: PathTuple = ()) -> None:
        self.value = value
        self.origin = origin
        self.path = path
        self._taken: set[str] = set()
        self._children: dict[str | int, Node] = {}

    @property
    def mark(self) -> Mark:
        """Line and column of the field's key, or of its nearest ancestor that stands in the text."""
        return self.origin.positions.find(self.path)[0].key

    @property
    def field(self) -> str:
        """The path as text, `spec.steps[0].agent`."""
        return format_path(self.path)

    @property
    def text(self) -> str:
        """The value if it is a text, else an empty one."""
        return self.value if isinstance(self.value, str) else ""

    def child(self, key: str | int) -> "Node":
        """The value below `key`, which must be there; the same node each time, so that it knows what was read of it."""
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = Node(self.value[key], self.origin, (*self.path, key))
        return found

    def get(self, *names: str) -> "Node | None":
        """The value of the first field of these names that is given and not null; all of them count as read."""
        if not isinstance(self.value, dict):
            return None
        found = None
        for name in names:
            if self.value.get(name) is not None:
                self._taken.add(name)
                found = found or self.child(name)
        self._taken.update(name for name in names if name in self.value)
        return found

    def peek(self, name: str) -> Any:
        """The value of a field, or None; it doesn't count as read."""
        return self.value.get(name) if isinstance(self.value, dict) else None

    def has(self, *names: str) -> bool:
        """Whether one of these fields is given and not null; none counts as read."""
        return isinstance(self.value, dict) and any(self.value.get(name) is not None for name in names)

    def untaken(self) -> list["Node"]:
        """The fields that nobody has read, without nulls."""
        if not isinstance(self.value, dict):
            return []
        return [self.child(name) for name, value in self.value.items() if name not in self._taken and value is not None]

    def entries(self, name_key: str = "name") -> Iterator[tuple[str, "Node"]]:
        """The members of a map by key, or of a list by what their field `name_key` (or else `id`) says; "" if nothing."""
        if isinstance(self.value, dict):
            for key in self.value:
                yield key, self.child(key)
        elif isinstance(self.value, list):
            for index, item in enumerate(self.value):
                child = self.child(index)
                name = item if isinstance(item, str) else child.peek(name_key) or child.peek("id")
                yield name if isinstance(name, str) else "", child

    def without(self, *keys: str) -> "Node":
        """The same place without some fields: what is left of a wrapper when its known parts are taken out."""
        return Node({key: value for key, value in self.value.items() if key not in keys}, self.origin, self.path)
