"""Files, folders and standard input to documents, within limits; and the files that documents include.

What an input includes must lie below the folder of the file that the user named: configuration may come from strangers, and
what it leads to would be copied. Read next: `kastra.migrate.containers`.
"""

import fnmatch
import glob
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from kastra.manifest.decode import MAX_BYTES, DecodeError, decode, looks_like_json
from kastra.manifest.loader import Manifest
from kastra.manifest.position import Positions

from .node import Node, Origin

_SUFFIXES = (".yaml", ".yml", ".json", ".mastra")
MAX_FILES = 2_000
MAX_INCLUDED = 8
"""Files that include each other, at most."""


class Unreadable(ValueError):
    """An input can't be read at all; the message names it."""


@dataclass(slots=True)
class Source:
    """One document of the input.

    Args:
        node: its content.
        root: the folder below which it may include files; None where it may include none.
        text: of its file.
        depth: how many files lead to it.
    """

    node: Node
    root: Path | None
    text: str
    depth: int = 0

    @property
    def manifest(self) -> Manifest:
        """The document as a manifest, for checking it as it stands."""
        return Manifest(self.node.value, self.node.origin.file, self.text, self.node.origin.positions)


@dataclass(slots=True)
class Reader:
    """Reads each file once.

    Args:
        stdin: what `-` reads.
    """

    stdin: BinaryIO | None = None
    files: list[str] = field(default_factory=list)
    _seen: set[Path] = field(default_factory=set)

    def documents(self, paths: Iterable[str]) -> Iterator[Source]:
        """All documents of files, folders, globs and `-`.

        Raises:
            Unreadable: something isn't there, can't be decoded, or is too much.
        """
        for path in paths:
            if path == "-":
                data = (self.stdin or sys.stdin.buffer).read(MAX_BYTES + 1)
                self.files.append("-")
                yield from _decoded("-", data, looks_like_json(data), None, 0)
                continue
            place = Path(path)
            if place.is_dir():
                found = self.below(place, place.resolve())
                if not found:
                    raise Unreadable(f"{path}: the folder has no {', '.join(_SUFFIXES)} file")
                for file in found:
                    yield from self.read(file, place.resolve(), 0)
            elif place.exists():
                yield from self.read(place, place.resolve().parent, 0)
            else:
                matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []  # noqa: PTH207 - Path.glob takes no absolute pattern
                if not matches:
                    raise Unreadable(f"{path}: no such file or folder")
                yield from self.documents(matches)

    def read(self, file: Path, root: Path | None, depth: int) -> Iterator[Source]:
        """The documents of one file; nothing if it was read before.

        Raises:
            Unreadable: see `documents`.
        """
        resolved = file.resolve()
        if resolved in self._seen:
            return
        self._seen.add(resolved)
        if len(self._seen) > MAX_FILES:
            raise Unreadable(f"{file}: more than {MAX_FILES:,} files")
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
        except OSError as error:
            raise Unreadable(f"{file}: {error.strerror or error}") from None
        self.files.append(str(file))
        yield from _decoded(str(file), data, file.suffix == ".json" or looks_like_json(data), root, depth)

    def below(self, folder: Path, root: Path, pattern: str = "") -> list[Path]:
        """The files of a folder and its subfolders that lie below `root`.

        Args:
            pattern: of their names, or of their paths from the folder; all of a known suffix if empty.
        """
        found = []
        for file in sorted(folder.rglob("*")):
            inside = file.relative_to(folder)
            # The dump of a server lies in a folder whose name begins with a dot.
            if any(part.startswith(".") and part != ".mastrapod" for part in inside.parts):
                continue
            if pattern and not (
                fnmatch.fnmatch(file.name, pattern) or fnmatch.fnmatch(inside.as_posix(), pattern.removeprefix("./"))
            ):
                continue
            if file.suffix in _SUFFIXES and file.is_file() and file.resolve().is_relative_to(root):
                found.append(file)
            if len(found) > MAX_FILES:
                raise Unreadable(f"{folder}: more than {MAX_FILES:,} files")
        return found

    def included(self, source: Source, text: str) -> Path | None:
        """The file or folder that a document names by `text`; None if it isn't there or lies outside."""
        if source.root is None or not text or "\0" in text:
            return None
        place = Path(source.node.origin.file).parent / text
        try:
            inside = place.resolve().is_relative_to(source.root) and place.exists()
        except OSError:
            return None
        return place if inside else None


def _decoded(name: str, data: bytes, json: bool, root: Path | None, depth: int) -> Iterator[Source]:
    try:
        documents = decode(data, json=json)
    except DecodeError as error:
        # A message may quote a scalar; keys are texts, which it never does.
        raise Unreadable(f"{name}:{error.line}:{error.column}: {error.message}") from None
    text = data.decode("utf-8", "replace")
    for document in documents:
        value = document.value
        if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
            for index, item in enumerate(value["items"]):
                yield Source(_node(name, item, document.positions.shifted(("items", index))), root, text, depth)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield Source(_node(name, item, document.positions.shifted((index,))), root, text, depth)
        else:
            yield Source(_node(name, value, document.positions), root, text, depth)


def _node(name: str, value: object, positions: Positions) -> Node:
    version = value.get("apiVersion") if isinstance(value, dict) else None
    return Node(value, Origin(name, positions, version if isinstance(version, str) else ""))
