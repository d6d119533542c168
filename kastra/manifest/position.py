"""Where in a file does a field stand?

A decoded document comes with the place of every key and value, by path. A path is a tuple of keys and indices; in errors it
is written the Kubernetes way, `spec.steps[0].agent` or `metadata.annotations[example.com/x]`. Read next:
`kastra.manifest.decode`, which records the places.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

PathTuple = tuple[str | int, ...]

_SEGMENT = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


class Mark(NamedTuple):
    """A place in a text; both count from 1, columns in characters."""

    line: int
    column: int


START = Mark(1, 1)
"""Where a file begins: the place of what has no better one."""

NOWHERE = Mark(0, 0)
"""The place of what isn't in a file: that there is none, say."""


class Place(NamedTuple):
    """Where a field stands: its key (the value itself for list items and the document) and its value."""

    key: Mark
    value: Mark
    length: int
    """Characters of the value if it is a scalar on one line, else 0."""


RawPlace = tuple[int, int, int, int, int]
"""A Place as it is kept: line and column of the key, line and column of the value, length. There are many, and a tuple of
plain numbers is left alone by the garbage collector."""


class Positions:
    """The places of one document's fields, or of a part of it.

    Args:
        places: of all fields of the document.
        prefix: where in it the part stands.
        renames: pairs of a path within the part and the path below which its fields stand in the text.
    """

    __slots__ = ("_places", "_prefix", "_renames")

    def __init__(
        self,
        places: Mapping[PathTuple, RawPlace],
        prefix: PathTuple = (),
        renames: tuple[tuple[PathTuple, PathTuple], ...] = (),
    ) -> None:
        self._places = places
        self._prefix = prefix
        self._renames = renames

    def find(self, path: PathTuple) -> tuple[Place, bool]:
        """The place of `path` and True, or of its nearest ancestor that stands in the text and False."""
        exact = True
        found = self._raw(path)
        while found is None:
            if not path:
                return Place(START, START, 0), exact
            path, exact = path[:-1], False
            found = self._raw(path)
        return Place(Mark(*found[:2]), Mark(*found[2:4]), found[4]), exact

    def shifted(self, prefix: PathTuple) -> "Positions":
        """The positions of the part of the document below `prefix`, as a document of its own."""
        return Positions(self._places, self._prefix + prefix)

    def moved(self, renames: Mapping[PathTuple, PathTuple]) -> "Positions":
        """These positions, also found under new paths: `renames` maps an old prefix to the new one."""
        return Positions(self._places, self._prefix, tuple((new, old) for old, new in renames.items()))

    def _raw(self, path: PathTuple) -> RawPlace | None:
        found = self._places.get(self._prefix + path)
        if found is None:
            for new, old in self._renames:
                if path[: len(new)] == new:
                    found = self._places.get(self._prefix + old + path[len(new) :], found)
        return found


def parse_path(text: str) -> PathTuple:
    """A Kubernetes field path as a tuple: `spec.steps[0].agent` as (`spec`, `steps`, 0, `agent`)."""
    path: list[str | int] = []
    for bracketed, name in _SEGMENT.findall(text):
        if name:
            path.append(name)
        else:
            path.append(int(bracketed) if bracketed.isdigit() else bracketed.strip("\"'"))
    return tuple(path)


def format_path(path: PathTuple) -> str:
    """The inverse of `parse_path`; keys that are no plain names are put in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_$-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{part}]"
    return text
