"""Files, folders, globs and standard input to manifests, each able to say where any of its fields stands.

Folders are read recursively (`.yaml`, `.yml`, `.json`; names that start with a dot are passed over). A `List` is taken
apart. CustomResourceDefinitions of the old form are converted. Objects come in the order in which they can be applied:
namespaces, definitions, then what others refer to before what refers. All problems of all files are collected, so that the
user sees them at once; nothing here talks to a server.

Read next: `kastra.app.applying`, which sends what is found here.
"""

import glob
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from kastra.api.errors import Cause
from kastra.api.meta import ObjectRef

from .decode import MAX_BYTES, DecodeError, DecodeWarning, Document, decode, looks_like_json
from .legacy import convert_definition, is_old_definition
from .position import NOWHERE, Mark, Positions, parse_path
from .problem import Problem

_SUFFIXES = (".yaml", ".yml", ".json")
_TESTS = ".test.yaml"
"""How names of test files end, which stand among manifests and are none."""
_ORDER = {
    kind: rank
    for rank, kinds in enumerate(
        (
            ("Namespace",),
            ("CustomResourceDefinition",),
            ("ServiceAccount", "Secret", "ConfigMap"),
            ("ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding"),
            ("ModelProvider",),
            ("Model",),
            ("MCPServer",),
            ("Tool",),
            ("Agent",),
            ("Workflow",),
            ("Network",),
            ("System",),
        )
    )
    for kind in kinds
}
_OTHERS, _RUNS = len(_ORDER), len(_ORDER) + 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as it stands in a file.

    Args:
        object: parsed, with `apiVersion`, `kind` and `metadata`; the caller's to change.
        file: as the user named it; `-` for standard input.
        text: the whole file, for showing lines.
        positions: the places of the object's fields in it.
    """

    object: dict[str, Any]
    file: str
    text: str
    positions: Positions

    @property
    def ref(self) -> ObjectRef:
        """The object's address; the namespace is as written, so maybe empty."""
        group, _, _ = self.object["apiVersion"].rpartition("/")
        metadata = self.object["metadata"]
        kind = self.object["kind"]
        return ObjectRef(f"{kind}.{group}" if group else kind, metadata.get("name", ""), metadata.get("namespace", ""))

    def problem(self, cause: Cause, *, suggestion: str = "") -> Problem:
        """The cause as an error at the place of its field."""
        path = parse_path(cause.field)
        place, exact = self.positions.find(path)
        # A missing field has no place of its own: its parent's key is shown, and underlining the parent's value would
        # suggest that the value is wrong.
        mark, caret, length = (place.key, place.value, place.length) if exact else (place.key, place.key, 0)
        if exact and cause.message.startswith("unknown field"):
            caret, length = place.key, len(str(path[-1])) if path else 0
        return Problem(
            "error", self.file, mark, cause.field, cause.message, self._line(caret.line), caret, length, suggestion
        )

    def _line(self, number: int) -> str:
        lines = _lines(self.text)
        return lines[number - 1].rstrip("\r") if len(lines) >= number else ""


@lru_cache(maxsize=4)
def _lines(text: str) -> list[str]:
    # Thousands of problems may stand in one file.
    return text.split("\n")


@dataclass(slots=True)
class Loaded:
    """What was found: manifests in apply order, and all problems (errors and warnings) in order of files."""

    manifests: list[Manifest] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[Problem]:
        """The problems that forbid sending."""
        return [problem for problem in self.problems if problem.severity == "error"]


def load(paths: Iterable[str | Path], *, stdin: BinaryIO | None = None, strict_yaml: bool = False) -> Loaded:
    """All manifests of `paths`, in apply order.

    Args:
        paths: files, folders, glob patterns, or `-` for standard input.
        stdin: what `-` reads; the process's by default.
        strict_yaml: make a surprising scalar (`yes`, `0755`) an error instead of a warning.
    """
    loaded = Loaded()
    seen: set[Path] = set()
    for path in map(str, paths):
        if path == "-":
            source = stdin or sys.stdin.buffer
            data = source.read(MAX_BYTES + 1)
            _read(loaded, "-", data, looks_like_json(data), strict_yaml)
            continue
        try:
            files = _files(loaded, path)
        except OSError as error:
            # A name that is too long, or a folder that may not be read.
            loaded.problems.append(Problem("error", path, NOWHERE, "", error.strerror or str(error)))
            continue
        for file in files:
            resolved = file.resolve()
            if resolved in seen:
                continue
            seen.add(resolved)
            try:
                with file.open("rb") as opened:
                    # Pipes and devices have no size to be asked for, and may have no end.
                    data = opened.read(MAX_BYTES + 1)
            except OSError as error:
                loaded.problems.append(Problem("error", str(file), NOWHERE, "", error.strerror or str(error)))
            else:
                _read(loaded, str(file), data, file.suffix == ".json", strict_yaml)
    _refuse_repeats(loaded)
    loaded.manifests.sort(key=_rank)
    return loaded


def _files(loaded: Loaded, path: str) -> Sequence[Path]:
    place = Path(path)
    if place.is_dir():
        files = [
            file
            for file in sorted(place.rglob("*"))
            if file.suffix in _SUFFIXES
            and not file.name.endswith(_TESTS)
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(place).parts)
        ]
        root = place.resolve()
        for file in [file for file in files if not file.resolve().is_relative_to(root)]:
            # A folder may come from strangers, and what its links lead to would be quoted in messages.
            files.remove(file)
            what = "link that leads out of the folder; name the file itself to load it"
            loaded.problems.append(Problem("error", str(file), NOWHERE, "", what))
            loaded.files.append(str(file))
        if not files and not loaded.problems:
            loaded.problems.append(
                Problem("error", path, NOWHERE, "", f"folder has no manifests ({', '.join(_SUFFIXES)})")
            )
        return files
    if place.exists():
        return [place]
    matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []  # noqa: PTH207 - Path.glob takes no absolute pattern
    found = [file for match in matches for file in ([Path(match)] if Path(match).is_file() else _files(loaded, match))]
    if not found:
        what = "pattern matches nothing" if glob.has_magic(path) else "no such file or folder"
        loaded.problems.append(Problem("error", path, NOWHERE, "", what))
    return found


def _read(loaded: Loaded, name: str, data: bytes, json: bool, strict_yaml: bool) -> None:
    loaded.files.append(name)
    text = data.decode("utf-8", "replace") if len(data) <= MAX_BYTES else ""
    try:
        documents = decode(data, json=json)
    except DecodeError as error:
        _report(loaded, name, text, error)
        return
    for document in documents:
        for warning in document.warnings:
            loaded.problems.append(_scalar_problem(name, text, warning, strict_yaml))
        for manifest in _manifests(name, text, document):
            problem = _check_form(manifest)
            if problem is not None:
                loaded.problems.append(problem)
            else:
                loaded.manifests.append(_modern(manifest))


def _report(loaded: Loaded, name: str, text: str, error: DecodeError) -> None:
    lines = text.split("\n", error.line)
    line = lines[error.line - 1].rstrip("\r") if len(lines) >= error.line else ""
    mark = Mark(error.line, error.column)
    loaded.problems.append(Problem("error", name, mark, error.path, error.message, line, mark))


def _scalar_problem(name: str, text: str, warning: DecodeWarning, strict: bool) -> Problem:
    line = _lines(text)[warning.mark.line - 1].rstrip("\r")
    severity: Any = "error" if strict else "warning"
    return Problem(severity, name, warning.mark, warning.path, warning.message, line, warning.mark)


def _manifests(name: str, text: str, document: Document) -> list[Manifest]:
    value = document.value
    if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
        return [
            Manifest(item, name, text, document.positions.shifted(("items", index)))
            for index, item in enumerate(value["items"])
        ]
    return [Manifest(value, name, text, document.positions)]


def _check_form(manifest: Manifest) -> Problem | None:
    """What must be there before anything can be asked about the object."""
    value: Any = manifest.object
    if not isinstance(value, dict):
        return manifest.problem(Cause("", "a manifest must be a mapping with apiVersion, kind and metadata", ""))
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str) or not value[key]:
            what = "Required value" if key not in value else "Invalid value: must be a string"
            return manifest.problem(Cause("", what, key))
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        what = "Required value" if metadata is None else "Invalid value: must be a mapping"
        return manifest.problem(Cause("", what, "metadata"))
    for key in ("name", "namespace", "generateName"):
        if metadata.get(key) is not None and not isinstance(metadata[key], str):
            shown = metadata[key]
            return manifest.problem(
                Cause("", f"Invalid value: {shown!r}: must be a string; quote it", f"metadata.{key}")
            )
    if not metadata.get("name") and not metadata.get("generateName"):
        return manifest.problem(Cause("", "Required value: name or generateName", "metadata.name"))
    return None


def _modern(manifest: Manifest) -> Manifest:
    if not is_old_definition(manifest.object):
        return manifest
    converted, renames = convert_definition(manifest.object)
    return replace(manifest, object=converted, positions=manifest.positions.moved(renames))


def _refuse_repeats(loaded: Loaded) -> None:
    first: dict[ObjectRef, Manifest] = {}
    kept: list[Manifest] = []
    for manifest in loaded.manifests:
        ref = manifest.ref
        if ref.name and ref in first:
            place, _ = first[ref].positions.find(("metadata", "name"))
            where = f"{first[ref].file}:{place.key.line}"
            message = f'{manifest.object["kind"]} "{ref.name}" is already declared at {where}'
            loaded.problems.append(manifest.problem(Cause("", message, "metadata.name")))
            continue
        first[ref] = manifest
        kept.append(manifest)
    loaded.manifests = kept


def _rank(manifest: Manifest) -> int:
    kind = manifest.object["kind"]
    return _RUNS if kind == "Run" else _ORDER.get(kind, _OTHERS)
