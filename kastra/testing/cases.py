"""Reads test files: `*.test.yaml`, each with what is applied and the tests that run on it.

    target: workflow/order
    tools:
      ship: {output: sent}
    tests:
    - name: a payment that fails twice is tried again
      input: {amount: 7}
      tools:
        charge: [{error: {title: down}, times: 2}, {output: {id: r-1}}]
      expect: {output: sent, toolCalls: [charge, charge, charge, ship]}

Says what is wrong with a file at its line and column, and runs nothing. Read next: `kastra.testing.case_schema`, the form;
`kastra.testing.runner`, which runs them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kastra.api.durations import parse_duration
from kastra.api.meta import DEFAULT_NAMESPACE
from kastra.manifest.decode import DecodeError, decode
from kastra.manifest.position import Mark, PathTuple, Positions
from kastra.manifest.problem import Problem

from .case_schema import SCHEMA
from .rehearsal import Delivery

PATTERN = "*.test.yaml"
_ACTIONS = ("signal", "event", "approve", "resume", "suspend", "cancel")
_SKIPPED = frozenset({"node_modules", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Case:
    """One test.

    Args:
        path: in its file, such as `("tests", 0)`.
        tools, models: answers and scripts by name, the file's and its own.
        expect: what must come of it.
        skip: why it isn't run; empty if it is.
    """

    file: "TestFile"
    name: str
    path: PathTuple
    target: str
    namespace: str
    input: Any
    spec: Mapping[str, Any]
    tools: Mapping[str, Sequence[Mapping[str, Any]]]
    models: Mapping[str, Sequence[Mapping[str, Any]]]
    deliver: Sequence[Delivery]
    crash_after: Sequence[str]
    expect: Mapping[str, Any]
    skip: str = ""

    @property
    def id(self) -> str:
        """`FILE::NAME`."""
        return f"{self.file.shown}::{self.name}"


@dataclass(slots=True)
class TestFile:
    """One file.

    Args:
        shown: its path as the user named it.
        manifests: what is applied for its tests.
        problems: what is wrong with it; then there are no cases.
    """

    __test__ = False

    file: Path
    shown: str
    positions: Positions = field(default_factory=lambda: Positions({}))
    lines: Sequence[str] = ()
    manifests: Sequence[Path] = ()
    cases: list[Case] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: PathTuple, message: str, suggestion: str = "") -> Problem:
        """A problem at a field, with its line."""
        place, _ = self.positions.find(path)
        line = self.lines[place.value.line - 1] if 0 < place.value.line <= len(self.lines) else ""
        return Problem(
            "error", self.shown, place.key, _dotted(path), message, line, place.value, place.length, suggestion
        )


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """The test files among these files and folders, in order, each once.

    Raises:
        ValueError: there is no such file or folder.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = (file for file in path.rglob(PATTERN) if not _hidden(file.relative_to(path)))
            found.update(dict.fromkeys(sorted(inside)))
        elif path.is_file():
            found[path] = None
        else:
            raise ValueError(f"{path}: there is no such file or folder")
    return list(found)


def read_file(file: Path) -> TestFile:
    """A test file and everything that is wrong with it."""
    made = TestFile(file, str(file))
    try:
        data = file.read_bytes()
        documents = decode(data)
    except DecodeError as error:
        made.problems.append(Problem("error", made.shown, Mark(error.line, error.column), "", error.message))
        return made
    except OSError as error:
        made.problems.append(Problem("error", made.shown, Mark(1, 1), "", error.strerror or str(error)))
        return made
    made.lines = data.decode("utf-8", "replace").splitlines()
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        made.problems.append(Problem("error", made.shown, Mark(1, 1), "", "must be one document, an object with tests"))
        return made
    made.positions = documents[0].positions
    content = documents[0].value
    made.problems = list(_shape_problems(made, content))
    if not made.problems:
        _read(made, content)
    return made


def _read(made: TestFile, content: Mapping[str, Any]) -> None:
    folder = made.file.parent
    made.manifests = [folder / name for name in content.get("manifests") or (".",)]
    names: dict[str, int] = {}
    for index, given in enumerate(content["tests"]):
        path: PathTuple = ("tests", index)
        name = given["name"]
        if name in names:
            made.problems.append(made.problem((*path, "name"), f'Duplicate value: "{name}"'))
        names[name] = index
        target = given.get("target", content.get("target"))
        if not target:
            made.problems.append(made.problem(path, "target: Required value: here, or at the top for all tests"))
            continue
        try:
            deliver = [_delivery(one) for one in given.get("deliver") or ()]
        except ValueError as error:
            made.problems.append(made.problem((*path, "deliver"), str(error)))
            continue
        made.cases.append(
            Case(
                made,
                name,
                path,
                target,
                given.get("namespace", content.get("namespace", DEFAULT_NAMESPACE)),
                given.get("input"),
                given.get("spec") or {},
                {**_listed(content.get("tools")), **_listed(given.get("tools"))},
                {**_listed(content.get("models")), **_listed(given.get("models"))},
                deliver,
                [one["after"] for one in given.get("crash") or ()],
                given.get("expect") or {},
                given.get("skip", ""),
            )
        )


def _listed(given: Mapping[str, Any] | None) -> dict[str, Sequence[Mapping[str, Any]]]:
    return {name: value if isinstance(value, list) else [value] for name, value in (given or {}).items()}


def _delivery(given: Mapping[str, Any]) -> Delivery:
    [action] = [name for name in _ACTIONS if name in given]
    body = given[action]
    return Delivery(parse_duration(given["at"]), action, body if isinstance(body, dict) else {})


def _shape_problems(made: TestFile, content: Any) -> Iterator[Problem]:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    from kastra.api.names import closest

    for error in sorted(
        Draft202012Validator(SCHEMA).iter_errors(content), key=lambda e: list(map(str, e.absolute_path))
    ):
        if error.validator == "anyOf" and error.context:
            # Of the forms that a value may have, the one that it comes nearest to.
            error = best_match([error]) or error
        path: PathTuple = tuple(error.absolute_path)
        if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
            known = sorted(error.schema.get("properties", {}))
            for name in sorted(set(error.instance) - set(known)):
                near = closest(name, known)
                yield made.problem((*path, name), "unknown field", f'did you mean "{near}"?' if near else "")
            continue
        yield made.problem(path, error.message if len(error.message) <= 200 else f"{error.message[:199]}…")


def _dotted(path: PathTuple) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part in _SKIPPED for part in path.parts)
