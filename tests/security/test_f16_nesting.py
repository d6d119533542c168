"""F16: the 65th level of nesting is a bad request wherever it stands; nothing recurses to death on the 100,000th."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kastra.api.errors import BadRequest, Invalid, StatusError
from kastra.api.meta import ObjectRef
from kastra.api.strict import decode
from kastra.apiserver.loopback import LoopbackClient
from kastra.cel import CelError, environment
from kastra.client.interface import PatchType
from kastra.manifest.loader import load

DEEP = 100_000
BAG = ObjectRef("bags", "b", "default")
# An object's own levels above what stands in `spec.x`: the object and its spec.
ABOVE = 2


def nested(levels: int, listed: bool = False) -> Any:
    """So many lists or objects, one in the other."""
    value: Any = [] if listed else {}
    for _ in range(levels - 1):
        value = [value] if listed else {"k": value}
    return value


def bag(value: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Bag", "metadata": {"name": "b"}, "spec": {"x": value}}


async def create(client: LoopbackClient, value: Any) -> Any:
    return await client.create(bag(value))


async def update(client: LoopbackClient, value: Any) -> Any:
    await client.create(bag({}))
    obj = (await client.get(BAG)).to_dict()
    obj["spec"]["x"] = value
    return await client.update(obj)


async def apply(client: LoopbackClient, value: Any) -> Any:
    return await client.apply(bag(value))


async def merge_patch(client: LoopbackClient, value: Any) -> Any:
    await client.create(bag(0))
    return await client.patch(BAG, {"spec": {"x": value}})


async def json_patch(client: LoopbackClient, value: Any) -> Any:
    await client.create(bag(0))
    return await client.patch(BAG, [{"op": "add", "path": "/spec/x", "value": value}], PatchType.JSON)


WRITES = [create, update, apply, merge_patch, json_patch]
Write = Callable[[LoopbackClient, Any], Awaitable[Any]]


@pytest.mark.parametrize("listed", [False, True], ids=["objects", "lists"])
@pytest.mark.parametrize("write", WRITES)
async def test_sixty_four_levels_are_stored(client, write: Write, listed: bool) -> None:
    value = nested(64 - ABOVE, listed)
    assert (await write(client, value)).spec["x"] == value


@pytest.mark.parametrize("levels", [65 - ABOVE, DEEP], ids=["65", "100k"])
@pytest.mark.parametrize("listed", [False, True], ids=["objects", "lists"])
@pytest.mark.parametrize("write", WRITES)
async def test_one_more_is_refused_and_changes_nothing(plane, client, write: Write, listed: bool, levels: int) -> None:
    with pytest.raises((BadRequest, Invalid)) as refused:
        await write(client, nested(levels, listed))
    assert refused.value.status()["code"] in (400, 422)
    assert all(
        b'"k"' not in entry.body and b"[[" not in entry.body for entry in plane.store.list("bags.example.com").entries
    )


async def test_a_patch_can_not_build_in_steps_what_may_not_be_sent_at_once(client) -> None:
    await client.create(bag({}))
    path, operations = "/spec/x", []
    for _ in range(65):
        path += "/k"
        operations.append({"op": "add", "path": path, "value": {}})
    with pytest.raises(Invalid, match="nested more than 64 levels"):
        await client.patch(BAG, operations, PatchType.JSON)
    doubling = [{"op": "copy", "from": "/spec/x", "path": "/spec/x/k"}] * 70
    with pytest.raises(StatusError) as refused:
        await client.patch(BAG, doubling, PatchType.JSON)
    assert refused.value.status()["code"] in (413, 422)


async def test_a_patch_whose_path_is_endless_is_refused(client) -> None:
    await client.create(bag({}))
    with pytest.raises(StatusError) as refused:
        await client.patch(BAG, [{"op": "add", "path": "/spec/x" + "/k" * DEEP, "value": 1}], PatchType.JSON)
    assert refused.value.status()["code"] == 422
    assert len(str(refused.value)) < 2 * DEEP + 1000


async def test_a_strategic_merge_patch_is_no_way_around(client) -> None:
    await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
    for levels in (65, DEEP):
        with pytest.raises(StatusError) as refused:
            await client.patch(ObjectRef("configmaps", "c", "default"), {"data": nested(levels)}, PatchType.STRATEGIC)
        assert refused.value.status()["code"] in (400, 422)


@pytest.mark.parametrize("text", [b"[" * DEEP, b'{"a":' * DEEP, b"[" * DEEP + b"]" * DEEP])
def test_a_json_body_is_refused_before_it_is_parsed(text: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(text)


@pytest.mark.parametrize("levels", [65, DEEP])
@pytest.mark.parametrize("keyword", ["properties", "items", "not", "allOf", "additionalProperties"])
async def test_a_schema_is_refused_by_its_place_or_as_a_whole(client, keyword: str, levels: int) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {
            "properties": {"type": "object", "properties": {"k": schema}},
            "items": {"type": "array", "items": schema},
            "not": {"not": schema},
            "allOf": {"allOf": [schema]},
            "additionalProperties": {"type": "object", "additionalProperties": schema},
        }[keyword]
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "deeps.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "deeps", "kind": "Deep"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}},
                }
            ],
        },
    }
    with pytest.raises(StatusError) as refused:
        await client.create(definition)
    assert refused.value.status()["code"] in (400, 422)


EXPRESSIONS = {
    "parentheses": ("(", "true", ")"),
    "lists": ("[", "1", "]"),
    "negations": ("!", "true", ""),
    "minuses": ("-", "1", ""),
    "conditionals": ("true ? ", "true", " : false"),
    "maps": ("{'k': ", "1", "}"),
    "calls": ("size([", "1", "])"),
    "members": ("", "self", ".k"),
    "indices": ("", "self", "[0]"),
    "sums": ("", "1", " + 1"),
    "conjunctions": ("", "true", " && true"),
}


@pytest.mark.parametrize("form", EXPRESSIONS)
def test_an_expression_is_refused_or_answered_but_never_crashes(form: str) -> None:
    before, inner, after = EXPRESSIONS[form]
    for levels in (64, 65, 2_000, DEEP):
        try:
            environment("self").compile(before * levels + inner + after * levels).evaluate({"self": {}})
        except CelError as error:
            assert str(error)
            assert len(str(error)) < 2_000, "a refusal doesn't repeat the whole expression"


@pytest.mark.parametrize("name", ["deep.yaml", "deep.json"])
@pytest.mark.parametrize("levels", [65, DEEP])
async def test_a_file_is_refused_with_its_place(tmp_path, name: str, levels: int) -> None:
    file = tmp_path / name
    head = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": '
    file.write_text(head + "[" * levels + "]" * levels + "}")
    [problem] = load([file]).errors
    assert "nested more than 64 levels" in problem.message
    assert (problem.file, problem.mark.line) == (str(file), 1)
    assert problem.mark.column > len(head) + 50
