"""Strangers' JSON is bounded before it is parsed, and its duplicate keys are found with their paths."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.api.errors import BadRequest
from kastra.api.strict import check_depth, decode, find_duplicate_keys, surely_without_duplicates
from kastra.api.values import copy, deeper_than, equal


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":[', "]}]")])
def test_sixty_four_levels_pass_and_one_more_does_not(opening: str, closing: str) -> None:
    levels = opening.count("[") + opening.count("{")

    def nested(count: int) -> bytes:
        text = (
            opening * (count // levels) + "[" * (count % levels) + "]" * (count % levels) + closing * (count // levels)
        )
        return text.replace(":}", ":1}").encode()

    assert decode(nested(64)) is not None
    for count in (65, 66, 1_000, 100_000):
        with pytest.raises(BadRequest, match="nested more than 64 levels deep"):
            decode(nested(count))


def test_wide_documents_and_brackets_in_strings_are_not_deep() -> None:
    assert decode(b"[" + b",".join([b'{"a":[{}]}'] * 500) + b"]")
    assert decode(json.dumps({"a": "[{" * 500, "b": '\\"[[[[' * 100, "c": ["\\"]}).encode())


def test_a_text_that_never_closes_is_refused_in_linear_time() -> None:
    for raw in (b"[" * 1_000_000, b'"' + b'\\"[' * 1_000_000, b'["a' * 1_000_000, b"[]" * 1_000_000 + b"["):
        with pytest.raises(BadRequest):
            decode(raw)


@pytest.mark.parametrize(
    "raw", [b"NaN", b'{"a": Infinity}', b'{"a": -Infinity}', b"{", b"", b"[1,]", b"\xff", b"{'a': 1}"]
)
def test_what_is_not_json_is_a_bad_request(raw: bytes) -> None:
    with pytest.raises(BadRequest, match="json parse error"):
        decode(raw)
    with pytest.raises(BadRequest, match="json parse error"):
        find_duplicate_keys(raw)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("[]{}\\\"'ab", max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('a"\\[{', max_size=3), inner, max_size=4),
    max_leaves=30,
)


@given(_json, st.integers(0, 6))
def test_depth_is_the_same_before_and_after_parsing(value: object, limit: int) -> None:
    raw = json.dumps(value).encode()
    try:
        check_depth(raw, limit)
        refused = False
    except BadRequest:
        refused = True
    assert refused is deeper_than(value, limit)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"{}", []),
        (b'{"a":1,"b":{"a":2}}', []),
        (b'{"a":1,"a":2}', ["a"]),
        (b'{"a":1,"a":2,"a":3}', ["a"]),
        (b'{"spec":{"x":1,"x":1},"metadata":{"labels":{"k":"","k":""}}}', ["spec.x", "metadata.labels.k"]),
        (b'{"spec":{"steps":[{},{"agent":1,"agent":2}]}}', ["spec.steps[1].agent"]),
        (b'{"a":{"b":1,"b":2},"a":{"c":1,"c":2}}', ["a", "a.c"]),
    ],
)
def test_duplicate_keys_are_found_with_their_paths(raw: bytes, found: list[str]) -> None:
    assert find_duplicate_keys(raw) == found


def test_many_duplicates_are_found_quickly() -> None:
    raw = b"{" + b",".join(b'"k%d":0' % (i // 2) for i in range(100_000)) + b"}"
    assert len(find_duplicate_keys(raw)) == 50_000


@given(_json)
def test_a_copy_is_equal_and_shares_no_container(value: object) -> None:
    duplicate = copy(value)
    assert equal(duplicate, value)
    if isinstance(value, dict | list) and value:
        assert duplicate is not value
        value.clear()
        assert not equal(duplicate, value)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [(1, True, False), (0, False, False), ([1], [True], False), ({"a": {"b": 1}}, {"a": {"b": True}}, False),
     (1, 1.0, True), ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), (None, False, False), ("1", 1, False)],
)  # fmt: skip
def test_true_is_not_one(a: object, b: object, same: bool) -> None:
    assert equal(a, b) is same


@given(_json, st.booleans(), st.sampled_from(["", " ", "\n"]))
def test_a_text_that_is_surely_without_duplicates_has_none(value: object, twice: bool, space: str) -> None:
    raw = json.dumps(value, separators=(",", f"{space}:")).encode()
    if twice and raw.startswith(b"{") and len(raw) > 2:
        raw = raw[:-1] + b"," + raw[1:]
    if surely_without_duplicates(raw, decode(raw)):
        assert find_duplicate_keys(raw) == []


def test_ordinary_objects_need_no_closer_look() -> None:
    raw = b'{"metadata":{"name":"a","labels":{"b":"c"}},"spec":{"items":[{"x": 1},{"x":2}]}}'
    assert surely_without_duplicates(raw, decode(raw))
    for suspicious in (b'{"a":1,"a":2}', b'{"a" :1,"a":2}', b'{"a": "b\\":c"}'):
        assert not surely_without_duplicates(suspicious, decode(suspicious))
