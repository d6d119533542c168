"""Which cases there are, which are run, and which are not: `cases.yaml`, `skipped.yaml`, and the markers of the tests.

Markers are read from the source, so that docs/generate.py needs neither pytest nor a server.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kastra.manifest.decode import decode

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


@dataclass(frozen=True)
class Case:
    """One case of Kubernetes' own tests.

    Args:
        name: its official name.
        tier: how far it is from what every API server must do.
        file: where it is, below the root of kubernetes/kubernetes.
        instead: what stands in for kinds that don't exist here.
    """

    name: str
    tier: int
    file: str
    instead: str = ""


def cases() -> list[Case]:
    """All, in the order of the file."""
    return [Case(**entry) for entry in _entries("cases.yaml")]


def skipped() -> dict[str, str]:
    """Why a case is not run, by name."""
    entries = _entries("skipped.yaml")
    found: dict[str, str] = {entry["name"]: entry["reason"] for entry in entries}
    if len(found) < len(entries):
        raise ValueError("skipped.yaml names a case twice")
    return found


def run_by() -> dict[str, list[str]]:
    """The tests that run a case, as pytest names them, by the name of the case."""
    found: dict[str, list[str]] = {}
    for file in sorted(FOLDER.glob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                for name in _marked(node):
                    found.setdefault(name, []).append(f"{file.relative_to(ROOT)}::{node.name}")
    return found


def _marked(test: ast.FunctionDef) -> Iterator[str]:
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.conformance":
            (name,) = decorator.args
            yield ast.literal_eval(name)


def _entries(name: str) -> list[dict[str, Any]]:
    (document,) = decode((FOLDER / name).read_bytes())
    entries: list[dict[str, Any]] = document.value
    return entries
