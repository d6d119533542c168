"""F20: small arguments that would make a tool work, hold or print without end are refused or cut, in bounded time."""

import itertools
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.toolbox import Toolbox, site, toolbox

SOON = 45.0
"""Seconds within which everything here must have ended; on a quiet machine nothing takes a tenth of it."""


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Toolbox]:
    async with toolbox(tmp_path / "project") as made:
        yield made


def doubling(levels: int) -> dict[str, Any]:
    """A schema whose parts are each looked at twice by the one above."""
    defs: dict[str, Any] = {f"d{levels}": {"type": "integer"}}
    for level in range(levels):
        defs[f"d{level}"] = {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2}
    return {"$ref": "#/$defs/d0", "$defs": defs}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


SELF_TWICE = {"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}
COPIES = [{"op": "copy", "from": "", "path": f"/k{n}"} for n in range(60)]
EVIL = "a" * 200_000 + "!"
BOMBS: dict[str, tuple[str, dict[str, Any]]] = {
    "regular expression": ("text.find", {"text": EVIL, "pattern": "^(a+)+$"}),
    "regular expression, nested": ("text.find", {"text": EVIL, "pattern": "(a|aa)*(a|aa)*b"}),
    "regular expression, large": ("text.find", {"text": "x", "pattern": "((a{1,100}){1,100}){1,100}"}),
    "replacement that grows": ("text.replace", {"text": "a" * 100_000, "pattern": "a", "replacement": "b" * 10_000}),
    "replacement, empty matches": ("text.replace", {"text": "a" * 9_000, "pattern": "x*", "replacement": "b" * 9_000, "regex": True}),
    "emails": ("text.extract", {"text": "a@" * 500_000, "what": "emails"}),
    "phones": ("text.extract", {"text": "1-" * 500_000, "what": "phones"}),
    "diff": ("text.diff", {"before": "a\nb\n" * 1_000, "after": "b\na\n" * 1_000}),
    "similarity": ("text.similarity", {"a": "a" * 2_000_000, "b": "b" * 2_000_000}),
    "template": ("text.template", {"text": "${{ values.l.map(x, values.l.map(y, values.l)) }}", "values": {"l": list(range(500))}}),
    "query": ("json.query", {"value": list(range(5_000)), "expression": "value.map(a, value.map(b, value))"}),
    "patch that doubles": ("json.patch", {"value": {"a": [1] * 100}, "operations": COPIES}),
    "schema that doubles": ("json.validate", {"value": 1, "schema": doubling(40)}),
    "schema of itself": ("json.validate", {"value": nested(50), "schema": SELF_TWICE}),
    "schema pattern": ("json.validate", {"value": EVIL, "schema": {"pattern": "^(a+)+$"}}),
    "json, nested": ("json.parse", {"text": "[" * 500_000}),
    "json, many": ("json.parse", {"text": "[" + "1," * 900_000 + "1]"}),
    "value, nested": ("json.format", {"value": nested(200)}),
    "yaml, aliases": ("yaml.parse", {"text": "\n".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}1]" if n else "a0: &a0 [1]" for n in range(20))}),
    "yaml, nested": ("yaml.parse", {"text": "[" * 100_000}),
    "csv, columns": ("csv.read", {"text": "," * 500_000}),
    "csv, one cell": ("csv.read", {"text": 'a\n"' + "x" * 1_000_000}),
    "csv, rows": ("csv.filter", {"text": "a\n" + "1\n" * 900_000, "where": "row.a == 2"}),
    "csv, groups": ("csv.aggregate", {"text": "a\n" + "\n".join(map(str, range(50_000))), "measures": {}, "by": ["a"]}),
    "power": ("math.evaluate", {"expression": "9**9**9**9"}),
    "power of a float": ("math.evaluate", {"expression": "10.0**400"}),
    "product": ("math.evaluate", {"expression": "*".join(["(9**1000)"] * 50)}),
    "factorial": ("math.evaluate", {"expression": "factorial(10**9)"}),
    "rounding": ("math.evaluate", {"expression": "round(5, -10**9)"}),
    "brackets": ("math.evaluate", {"expression": "(" * 900 + "1" + ")" * 900}),
    "signs": ("math.evaluate", {"expression": "-" * 900 + "1"}),
    "time": ("time.format", {"moment": "2026-01-01T00:00:00Z", "format": "%c" * 5_000}),
    "schedule": ("time.next", {"schedule": "0 0 31 2 *"}),
    "entities": ("encoding.decode", {"text": "&#x41;" * 300_000, "encoding": "html"}),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
async def test_a_bomb_is_refused_or_cut_soon(case: str, box: Toolbox) -> None:
    name, arguments = BOMBS[case]
    with anyio.fail_after(SOON):
        try:
            result = await box.call(name, arguments)
        except Exception as error:
            assert len(str(error)) < 3_000
        else:
            assert len(json.dumps(result)) < 3_000_000


HTML: dict[str, bytes] = {
    "deep": b"<div>" * 100_000,
    "deep, inline": b"<b><i>" * 2_000 + b"x",
    "lists": b"<ul><li>" * 1_500,
    "quotes": b"<blockquote>" * 1_000 + b"x",
    "many": b"<p>x</p>" * 150_000,
    "attributes": b"<p " + b" ".join(b"a%d=1" % n for n in range(50_000)) + b">x",
    "unclosed": b"<a href='" * 20_000,
    "comments": b"<!--" * 100_000,
    "tables": b"<table><tr><td>" * 700,
    "large": b"x" * 3_000_000,
    "levels of lines": b"<blockquote>" * 100 + b"x<br>" * 30_000,
}


@pytest.mark.parametrize("case", HTML)
@pytest.mark.parametrize("format_", ["markdown", "text", "raw"])
async def test_a_page_that_is_a_bomb_is_refused_or_cut_soon(case: str, format_: str, box: Toolbox) -> None:
    async with site() as pages:
        pages.pages["/x"] = b"<html><body>" + HTML[case]
        with anyio.fail_after(SOON):
            try:
                found = await box.call("http.fetch", {"url": f"{pages.url}/x", "format": format_}, allowPrivate=True)
            except Exception as error:
                assert len(str(error)) < 3_000
                assert format_ != "raw"
            else:
                assert len(found["content"]) < 201_000


@pytest.mark.parametrize("name", ["files.glob", "files.grep"])
async def test_a_folder_that_is_a_bomb_is_refused_soon(name: str, box: Toolbox) -> None:
    for number in range(10_050):
        os.close(os.open(box.folder / str(number), os.O_CREAT))
    with anyio.fail_after(SOON):
        assert "more than 10,000 entries" in (await box.refused(name, {"pattern": "x"})).message


async def test_a_deep_folder_is_walked_to_its_limit(box: Toolbox) -> None:
    deep = box.folder
    for _ in range(60):
        deep = deep / "d"
    deep.mkdir(parents=True)
    paths = (await box.call("files.glob", {"pattern": "**"}))["paths"]
    assert len(paths) <= 40


def test_the_bombs_are_small() -> None:
    sizes = itertools.chain((len(json.dumps(arguments)) for _, arguments in BOMBS.values()), map(len, HTML.values()))
    assert max(sizes) < 4_100_000
