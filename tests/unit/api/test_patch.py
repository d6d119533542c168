"""Merge patches and JSON patches: the examples of their RFCs, a reference to compare with, and limits."""

import copy as stdlib_copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kastra.api.errors import BadRequest, Invalid, RequestEntityTooLarge, StatusError
from kastra.api.patch import apply_json_patch, apply_merge_patch, create_merge_patch, merge_patch
from kastra.api.values import equal


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_does_what_appendix_a_of_rfc_7386_says(original: Any, patch: Any, result: Any) -> None:
    before = stdlib_copy.deepcopy((original, patch))
    assert merge_patch(original, patch) == result
    assert (original, patch) == before


_scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x", "é"])
_json = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "", "~/", "0"]), inner, max_size=3)
    ),
    max_leaves=12,
)
_objects = st.dictionaries(st.sampled_from(["a", "b", "", "~/", "0"]), _json, max_size=4)


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


@given(_objects, _objects)
def test_a_created_merge_patch_leads_from_the_old_to_the_new_object(old: dict, new: dict) -> None:
    old, new = _without_nulls(old), _without_nulls(new)
    patch = create_merge_patch(old, new)
    assert equal(apply_merge_patch(old, patch), new)
    assert create_merge_patch(old, old) == {}


def test_a_created_merge_patch_is_small() -> None:
    old = {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"x": [1], "y": True}}
    new = {"metadata": {"labels": {"b": "2", "c": "3"}}, "spec": {"x": [1], "y": 1}}
    assert create_merge_patch(old, new) == {"metadata": {"labels": {"a": None, "c": "3"}}, "spec": {"y": 1}}


@pytest.mark.parametrize("patch", [[], None, "x", 3])
def test_a_merge_patch_that_is_no_object_is_a_bad_request(patch: Any) -> None:
    with pytest.raises(BadRequest, match="a merge patch must be an object, not"):
        apply_merge_patch({}, patch)


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value}
    return value


def test_patches_are_bounded_in_depth() -> None:
    assert apply_merge_patch({}, deep(64)) == deep(64)
    for levels in (65, 900):
        with pytest.raises(BadRequest, match="nested more than 64 levels"):
            apply_merge_patch({}, deep(levels))
        with pytest.raises((BadRequest, Invalid), match="nested more than 64 levels"):
            apply_json_patch({}, [{"op": "add", "path": "/a", "value": deep(levels)}])


# RFC 6902, appendix A
@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        (
            {"baz": "qux", "foo": "bar"},
            [{"op": "replace", "path": "/baz", "value": "boo"}],
            {"baz": "boo", "foo": "bar"},
        ),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
        ),
        (
            {"baz": "qux", "foo": ["a", 2, "c"]},
            [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
            {"baz": "qux", "foo": ["a", 2, "c"]},
        ),
        ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"g": {}}}], {"foo": "bar", "child": {"g": {}}}),
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}], {"foo": "bar", "baz": "qux"}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        (
            {"foo": ["bar"]},
            [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
            {"foo": ["bar", ["abc", "def"]]},
        ),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
    ],
)
def test_json_patch_does_what_appendix_a_of_rfc_6902_says(document: dict, patch: list, result: dict) -> None:
    before = stdlib_copy.deepcopy((document, patch))
    assert apply_json_patch(document, patch) == result
    assert (document, patch) == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/baz", "value": "bar"},
        {"op": "add", "path": "/absent/bat", "value": 1},
        {"op": "test", "path": "/n", "value": "10"},
        {"op": "test", "path": "/n", "value": True},
        {"op": "remove", "path": "/absent"},
        {"op": "remove", "path": ""},
        {"op": "replace", "path": "/absent", "value": 1},
        {"op": "add", "path": "/l/5", "value": 1},
        {"op": "add", "path": "/l/01", "value": 1},
        {"op": "add", "path": "/n/x", "value": 1},
        {"op": "move", "from": "/o", "path": "/o/a"},
        {"op": "copy", "from": "/absent", "path": "/x"},
        {"op": "replace", "path": "", "value": [1]},
    ],
)
def test_an_operation_that_fails_is_invalid_and_changes_nothing(operation: dict) -> None:
    document = {"baz": "qux", "n": 1, "l": [], "o": {}}
    before = json.dumps(document)
    with pytest.raises(Invalid):
        apply_json_patch(document, [{"op": "add", "path": "/new", "value": 1}, operation])
    assert json.dumps(document) == before


def test_errors_never_quote_what_the_object_holds() -> None:
    secret = {"data": {"password": "hunter2"}}
    for operation in (
        {"op": "test", "path": "/data/password", "value": "x"},
        {"op": "remove", "path": "/data/password/x"},
        {"op": "replace", "path": "/data/none/x", "value": "x"},
        {"op": "copy", "from": "/data/none", "path": "/x"},
    ):
        with pytest.raises(Invalid) as caught:
            apply_json_patch(secret, [operation])
        assert "hunter2" not in caught.value.message
        assert caught.value.message.startswith(f"JSON patch operation 0 ({operation['op']} {operation['path']}): ")


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"op": "add"}, "a JSON patch must be a list of operations, not an object"),
        ([1], "JSON patch operation 0 must be an object, not a number"),
        ([{"op": "spam", "path": "/a"}], "op must be one of add, remove, replace, move, copy, test"),
        ([{"op": ["add"], "path": "/a"}], "op must be one of"),
        ([{"op": "add", "path": "/a"}], '"value" is missing'),
        ([{"op": "remove"}], '"path" is missing'),
        ([{"op": "move", "path": "/a"}], '"from" is missing'),
        ([{"op": "remove", "path": "a"}], '"path" must be a JSON pointer'),
        ([{"op": "remove", "path": "/~2"}], '"path" must be a JSON pointer'),
        ([{"op": "copy", "from": 3, "path": "/a"}], '"from" must be a JSON pointer'),
    ],
)
def test_a_malformed_json_patch_is_a_bad_request(patch: Any, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        apply_json_patch({"a": 1}, patch)
    assert message in caught.value.message


def test_json_patches_are_bounded_in_operations_and_growth() -> None:
    with pytest.raises(RequestEntityTooLarge, match="allowed maximum operations in a JSON patch is 10000, got 10001"):
        apply_json_patch({}, [{"op": "test", "path": "", "value": {}}] * 10_001)
    doubling = [{"op": "copy", "from": "", "path": f"/a{i}"} for i in range(60)]
    with pytest.raises(Invalid, match="add more than 3145728 bytes"):
        apply_json_patch({"x": "y" * 100}, doubling)
    nesting = [{"op": "copy", "from": "", "path": "/a"}] * 900
    with pytest.raises(Invalid):
        apply_json_patch({"a": {}}, nesting)


# The reference that the library is compared with: RFC 6902 word for word, on a fresh copy.
class Refused(Exception):
    pass


def _step(value: Any, token: str) -> Any:
    if isinstance(value, dict) and token in value:
        return value[token]
    if isinstance(value, list):
        return value[_index(token, len(value) - 1)]
    raise Refused


def _index(token: str, last: int) -> int:
    if not token.isascii() or not token.isdigit() or (token != "0" and token[0] == "0") or int(token) > last:
        raise Refused
    return int(token)


def _tokens(pointer: str) -> list[str]:
    return [t.replace("~1", "/").replace("~0", "~") for t in pointer.split("/")[1:]]


def _get(document: Any, pointer: str) -> Any:
    for token in _tokens(pointer):
        document = _step(document, token)
    return document


def _put(document: Any, pointer: str, value: Any, insert: bool) -> Any:
    tokens = _tokens(pointer)
    if not tokens:
        return value
    parent = document
    for token in tokens[:-1]:
        parent = _step(parent, token)
    last = tokens[-1]
    if isinstance(parent, dict) and (insert or last in parent):
        parent[last] = value
    elif isinstance(parent, list) and insert:
        parent.insert(len(parent) if last == "-" else _index(last, len(parent)), value)
    elif isinstance(parent, list):
        parent[_index(last, len(parent) - 1)] = value
    else:
        raise Refused
    return document


def _cut(document: Any, pointer: str) -> Any:
    tokens = _tokens(pointer)
    if not tokens:
        raise Refused
    parent = document
    for token in tokens[:-1]:
        parent = _step(parent, token)
    _step(parent, tokens[-1])
    del parent[tokens[-1] if isinstance(parent, dict) else int(tokens[-1])]
    return document


def reference(document: Any, patch: list[dict]) -> Any:
    document = stdlib_copy.deepcopy(document)
    for op in stdlib_copy.deepcopy(patch):
        path = op["path"]
        match op["op"]:
            case "add":
                document = _put(document, path, op["value"], insert=True)
            case "remove":
                document = _cut(document, path)
            case "replace":
                document = _put(document, path, op["value"], insert=False)
            case "copy":
                document = _put(document, path, stdlib_copy.deepcopy(_get(document, op["from"])), insert=True)
            case "move":
                value = _get(document, op["from"])
                if path == op["from"]:
                    continue
                if path.startswith(op["from"] + "/"):
                    raise Refused
                document = _put(_cut(document, op["from"]), path, value, insert=True)
            case "test":
                if not equal(_get(document, path), op["value"]):
                    raise Refused
    if not isinstance(document, dict):
        raise Refused
    return document


_pointers = st.lists(st.sampled_from(["a", "b", "", "~0~1", "0", "1", "-", "01", "x"]), max_size=3).map(
    lambda parts: "".join("/" + part for part in parts)
)
_operations = st.one_of(
    st.fixed_dictionaries({"op": st.sampled_from(["add", "replace", "test"]), "path": _pointers, "value": _json}),
    st.fixed_dictionaries({"op": st.just("remove"), "path": _pointers}),
    st.fixed_dictionaries({"op": st.sampled_from(["move", "copy"]), "path": _pointers, "from": _pointers}),
)


@settings(max_examples=400, deadline=None)
@given(_objects, st.lists(_operations, max_size=5))
def test_json_patches_agree_with_the_reference(document: dict, patch: list[dict]) -> None:
    before = json.dumps(document)
    try:
        expected = reference(document, patch)
    except Refused:
        with pytest.raises(Invalid):
            apply_json_patch(document, patch)
    else:
        assert equal(apply_json_patch(document, patch), expected)
    assert json.dumps(document) == before


@settings(max_examples=200, deadline=None)
@given(_objects, _json)
def test_any_value_as_a_patch_is_applied_or_refused_with_a_status(document: dict, patch: Any) -> None:
    before = json.dumps(document)
    for apply in (apply_json_patch, apply_merge_patch):
        try:
            assert isinstance(apply(document, patch), dict)
        except StatusError as error:
            assert error.code in (400, 422)
    assert json.dumps(document) == before


def test_what_a_merge_patch_does_not_name_is_shared_and_nothing_of_the_patch_is() -> None:
    target = {"spec": {"a": [1]}, "status": {"x": {"y": 1}, "z": 1}}
    patch = {"status": {"z": [{"k": 1}], "new": {"l": [1]}}}
    merged = apply_merge_patch(target, patch)
    assert merged["spec"] is target["spec"]
    assert merged["status"]["x"] is target["status"]["x"]
    merged["status"]["z"][0]["k"] = merged["status"]["new"]["l"][0] = 2
    assert patch == {"status": {"z": [{"k": 1}], "new": {"l": [1]}}}
    assert target == {"spec": {"a": [1]}, "status": {"x": {"y": 1}, "z": 1}}
