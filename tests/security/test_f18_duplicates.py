"""F18: a key that stands twice is refused, warned of, or passed over as Kubernetes does, and never silently the last one."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from kastra.api.errors import BadRequest
from kastra.api.strict import find_duplicate_keys
from kastra.apiserver.call import SYSTEM, Call
from kastra.client.interface import FieldValidation, WriteOptions
from kastra.manifest.loader import load

HEAD = '"apiVersion": "example.com/v1", "kind": "Bag"'

# A body, and the paths of what stands twice in it.
BODIES = {
    "at the root": (f'{{{HEAD}, "metadata": {{"name": "b"}}, "spec": {{"a": 1}}, "spec": {{"b": 2}}}}', ["spec"]),
    "in metadata": (f'{{{HEAD}, "metadata": {{"name": "a", "name": "b"}}, "spec": {{}}}}', ["metadata.name"]),
    "in the spec": (f'{{{HEAD}, "metadata": {{"name": "b"}}, "spec": {{"a": 1, "a": 2}}}}', ["spec.a"]),
    "in a list": (
        f'{{{HEAD}, "metadata": {{"name": "b"}}, "spec": {{"l": [{{"a": 1}}, {{"a": 1, "a": 2, "a": 3}}]}}}}',
        ["spec.l[1].a"],
    ),
    "several": (
        f'{{{HEAD}, "metadata": {{"name": "b"}}, "spec": {{"a": {{"x": 1, "x": 2}}, "b": {{"y": 1, "y": 1}}}}}}',
        ["spec.a.x", "spec.b.y"],
    ),
    "by an escape": (f'{{{HEAD}, "metadata": {{"name": "b"}}, "spec": {{"a": 1, "\\u0061": 2}}}}', ["spec.a"]),
}


async def create(plane: Any, raw: bytes, validation: FieldValidation) -> list[str]:
    """As a server does with a body; the warnings."""
    call = Call(SYSTEM, WriteOptions(field_manager="t", field_validation=validation))
    if validation != "Ignore":
        call.decoding_errors = [f'duplicate field "{path}"' for path in find_duplicate_keys(raw)]
    resource = plane.server.registry.scheme.find("bags")
    await plane.server.registry.create(resource, "default", orjson.loads(raw), call)
    return call.warnings


@pytest.mark.parametrize("place", BODIES)
async def test_strict_refuses_and_names_each(plane, place: str) -> None:
    text, paths = BODIES[place]
    with pytest.raises(BadRequest, match="strict decoding error") as refused:
        await create(plane, text.encode(), "Strict")
    assert refused.value.status()["code"] == 400
    for path in paths:
        assert f'duplicate field "{path}"' in str(refused.value)
    assert not plane.store.list("bags.example.com").entries


@pytest.mark.parametrize("place", BODIES)
async def test_warn_stores_and_says_so(plane, place: str) -> None:
    text, paths = BODIES[place]
    assert await create(plane, text.encode(), "Warn") == [f'duplicate field "{path}"' for path in paths]
    assert len(plane.store.list("bags.example.com").entries) == 1


@pytest.mark.parametrize("place", BODIES)
async def test_ignore_takes_the_last_one(plane, client, place: str) -> None:
    assert await create(plane, BODIES[place][0].encode(), "Ignore") == []
    [obj] = (await client.list("bags")).items
    assert obj.spec == orjson.loads(BODIES[place][0])["spec"]


YAML = {
    "block": ("kind: A\nspec:\n  a: 1\n  b: 2\n  a: 3\n", (5, 3), "spec.a", 3),
    "flow": ("spec: {a: 1, b: 2, a: 3}\n", (1, 20), "spec.a", 1),
    "quoted": ("a: 1\n'a': 2\n", (2, 1), "a", 1),
    "merged and written twice": ("x: &x {k: 1}\nz:\n  <<: *x\n  k: 2\n  k: 3\n", (5, 3), "z.k", 4),
    "in a list": ("l:\n- a: 1\n  a: 2\n", (3, 3), "l[0].a", 2),
    "numbers that are the same": ("l: {1: a, 1: b}\n", (1, 11), "l.1", 1),
    "an alias": ("a: &k name\nb: {name: 1, *k : 2}\n", (2, 14), "b.name", 2),
    "in the second document": ("a: 1\n---\nb: 1\nb: 2\n", (4, 1), "b", 3),
}


@pytest.mark.parametrize("form", YAML)
def test_a_manifest_is_refused_at_the_second_one_and_names_the_first(tmp_path: Path, form: str) -> None:
    text, (line, column), field, first = YAML[form]
    (tmp_path / "m.yaml").write_text(text)
    error = load([tmp_path / "m.yaml"]).errors[0]
    assert (error.mark.line, error.mark.column, error.field) == (line, column, field)
    assert f"stands twice (first on line {first})" in error.message


@pytest.mark.parametrize("place", BODIES)
def test_a_json_manifest_is_refused_too(tmp_path: Path, place: str) -> None:
    (tmp_path / "m.json").write_text(BODIES[place][0])
    [error] = load([tmp_path / "m.json"]).errors
    assert error.field == BODIES[place][1][0]
    assert "stands twice (first on line 1)" in error.message
