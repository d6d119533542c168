"""Every promise names the tests that hold it, and they exist."""

import ast
import re

import pytest

from .pages import ROOT

PAGE = ROOT / "docs" / "promises.md"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
LINK = re.compile(r"\[([^\]]*)\]\((\.\./tests/[\w/]+\.py)#(test_\w+)\)")


def title(row: str) -> str:
    return re.sub(r"[^\w]+", "-", row.split("|")[1].strip())


@pytest.mark.parametrize("row", ROWS, ids=title)
def test_a_promise_is_held_by_tests_that_exist(row: str) -> None:
    links = LINK.findall(row.split("|")[3])
    assert links, "a promise without a test"
    for words, path, name in links:
        tree = ast.parse((PAGE.parent / path).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in functions, f"{path} has no {name}"
        assert words == name.removeprefix("test_").replace("_", " ")


def test_there_are_as_many_promises_as_lines() -> None:
    assert len(ROWS) >= 20
    assert len({title(row) for row in ROWS}) == len(ROWS)
