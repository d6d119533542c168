"""Decoding reads manifests as kubectl does, knows where every field stands, and refuses hostile text at once."""

import resource
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.manifest.decode import MAX_BYTES, DecodeError, decode, looks_like_json
from kastra.manifest.encode import to_yaml
from kastra.manifest.position import Mark, format_path, parse_path


def value(text: str) -> Any:
    [document] = decode(text.encode())
    return document.value


def refusal(data: bytes, *, json: bool = False) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(data, json=json)
    return caught.value


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("yes", True), ("Off", False), ("y", True), ("true", True), ("~", None), ("null", None),
        ("0755", 493), ("0o17", 15), ("0x1F", 31), ("0b11", 3), ("1_000", 1000), ("-7", -7), ("+7", 7),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("08", 8.0),
        ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("v1", "v1"), ("0x", "0x"), ("1.2.3", "1.2.3"), ("-", "-"),
    ],
)  # fmt: skip
def test_a_plain_scalar_means_what_kubectl_takes_it_for(text: str, meaning: Any) -> None:
    if text == "-":
        assert value('"-"') == "-"
        return
    read = value(f"a: {text}")["a"]
    assert read == meaning
    assert type(read) is type(meaning)


def test_quoted_and_block_scalars_are_text() -> None:
    assert value("{a: 'yes', b: \"1\"}") == {"a": "yes", "b": "1"}
    assert value("a: |\n  yes\n  no\n") == {"a": "yes\nno\n"}


def test_keys_become_text_the_way_kubectl_writes_them() -> None:
    assert value("{1: a, yes: b, 1.5: c}") == {"1": "a", "true": "b", "1.5": "c"}


def test_a_surprising_scalar_warns_at_its_place() -> None:
    [document] = decode(b"metadata:\n  labels:\n    team: y\n    mode: 0755\n    fine: 'no'\n")
    assert [(w.path, w.mark) for w in document.warnings] == [
        ("metadata.labels.team", Mark(3, 11)),
        ("metadata.labels.mode", Mark(4, 11)),
    ]
    assert 'write "y" if text is meant' in document.warnings[0].message


def test_every_field_knows_where_its_key_and_value_stand() -> None:
    [document] = decode(b"spec:\n  steps:\n  - id: one\n    agent: {name: x}\n")
    place, exact = document.positions.find(("spec", "steps", 0, "agent", "name"))
    assert (place.key, place.value, exact) == (Mark(4, 13), Mark(4, 19), True)


def test_a_missing_field_is_located_at_its_nearest_ancestor() -> None:
    [document] = decode(b"spec:\n  model:\n    provider: openai\n")
    place, exact = document.positions.find(("spec", "model", "name"))
    assert (place.key, exact) == (Mark(2, 3), False)


def test_documents_are_separated_and_empty_ones_left_out() -> None:
    documents = decode(b"---\na: 1\n---\n---\n# nothing\n---\nb: 2\n...\n")
    assert [d.value for d in documents] == [{"a": 1}, {"b": 2}]
    assert documents[1].positions.find(("b",))[0].key == Mark(7, 1)


def test_an_alias_is_a_copy_of_its_anchor() -> None:
    read = value("a: &x {k: [1]}\nb: *x\n")
    read["a"]["k"].append(2)
    assert read["b"] == {"k": [1]}


def test_merge_keys_fill_in_what_is_not_written() -> None:
    assert value("base: &b {x: 1, z: 2}\nit:\n  <<: *b\n  z: 3\n")["it"] == {"z": 3, "x": 1}
    assert value("a: &a {p: 1}\nb: &b {p: 2, q: 3}\nc: {<<: [*a, *b]}\n")["c"] == {"p": 1, "q": 3}


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        (b"a: 1\nb: 2\na: 3\n", (3, 1), 'key "a" stands twice (first on line 1)'),
        (b"1: a\n'1': b\n", (2, 1), 'key "1" stands twice'),
        (b"a: &x [*x]\n", (1, 8), "inside its own anchor"),
        (b"a: *nowhere\n", (1, 4), "has no anchor"),
        (b"a: !!python/object/apply:os.system [id]\n", (1, 4), "tag"),
        (b"a: !!binary aGk=\n", (1, 4), "tag"),
        (b"a: !!int seven\n", (1, 4), "not a value of !!int"),
        (b"a: .inf\n", (1, 4), "no JSON form"),
        (b"a: 99999999999999999999999\n", (1, 4), "does not fit 64 bits"),
        (b"? [a]\n: b\n", (1, 3), "key must be a scalar"),
        (b"~: b\n", (1, 1), "key can't be null"),
        (b"a: [1,\n", (2, 1), "expected"),
        (b"a: b\n\tc: d\n", (2, 1), "tab character"),
        (b"a: \xff\n", (1, 4), "not UTF-8"),
        (b"a: {<<: 1}\n", (1, 5), "<< must be followed by"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_column(text: bytes, place: tuple[int, int], says: str) -> None:
    error = refusal(text)
    assert (error.line, error.column) == place
    assert says in error.message


def bomb(width: int = 9, height: int = 9) -> bytes:
    lines = ["l0: &l0 [" + ", ".join("x" * width) + "]"]
    lines += [f"l{n}: &l{n} [" + ", ".join([f"*l{n - 1}"] * width) + "]" for n in range(1, height)]
    return "\n".join(lines).encode()


def merge_chain(length: int) -> bytes:
    lines = ["m0: &m0 {k0: v}"] + [f"m{n}: &m{n}\n  <<: *m{n - 1}\n  k{n}: v" for n in range(1, length)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(bomb(), id="alias bomb"),
        pytest.param(merge_chain(3000), id="merge chain"),
        pytest.param(b"[" * 100_000, id="100,000 flow lists"),
        pytest.param(b"{a: " * 100_000, id="100,000 flow mappings"),
        pytest.param(b"- " * 100_000 + b"x", id="100,000 block lists"),
        pytest.param(b"a: " + b"9" * 1_000_000, id="a million digits"),
        pytest.param(b"a: [" + b"1," * 300_000 + b"]", id="300,000 nodes"),
        pytest.param(b"a: &a x\nb: [" + b"*a, " * 2_000 + b"]", id="2,000 aliases"),
        pytest.param(b"---\na: 1\n" * 20_000, id="20,000 documents"),
        pytest.param(b"x" * (MAX_BYTES + 1), id="one byte too many"),
    ],
)
def test_an_attack_is_refused_quickly_and_cheaply(attack: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    refusal(attack)
    # The bound is for a crash or a hang, which these texts cause elsewhere, not a measurement.
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("depth", [64, 65])
@pytest.mark.parametrize("json", [False, True])
def test_sixty_four_levels_are_allowed_and_one_more_is_not(depth: int, json: bool) -> None:
    # The innermost value is a level of its own.
    text = b"[" * (depth - 1) + b"1" + b"]" * (depth - 1)
    if depth == 64:
        assert len(decode(text, json=json)) == 1
    else:
        assert "nested more than 64 levels" in refusal(text, json=json).message


@pytest.mark.parametrize("json", [False, True])
def test_what_is_nested_too_deeply_is_named_by_its_outer_fields(json: bool) -> None:
    text = b'{"spec": {"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    assert refusal(text, json=json).path == "spec.input[0][0]"


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("a: \x1bb", (1, 4), "character U+001B is not allowed in YAML: control characters are not allowed"),
        ("é: x\nb: é\x00", (2, 5), "character U+0000"),
        ("- 1\n" * 20_000 + "- \x07", (20_001, 3), "character U+0007"),
        ("\ufeffa: \x7f", (1, 4), "character U+007F"),
        ("a: \uffff", (1, 4), "character U+FFFF"),
    ],
    ids=["escape", "after letters of two bytes", "far down", "after a byte-order mark", "no character"],
)  # fmt: skip
def test_a_character_that_yaml_does_not_have_is_shown_by_its_number_at_its_place(
    text: str, place: tuple[int, int], says: str
) -> None:
    error = refusal(text.encode())
    assert ((error.line, error.column), says in error.message) == (place, True), error.message


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        (b'{"a": 1,\n "a": 2}', (2, 2), 'key "a" stands twice (first on line 1)'),
        (b'{"a": NaN}', (1, 7), "expected a JSON value"),
        (b'{"a": 1e999}', (1, 7), "out of range"),
        (b'{"a": "\\ud83d"}', (1, 7), "surrogate"),
        (b'{"a": "x\ny"}', (1, 9), "control character"),
        (b'{"a" 1}', (1, 6), 'expected ":"'),
        (b"[1, 2", (1, 6), 'expected "," or "]"'),
        (b"{} {}", (1, 4), "more text after"),
        (b"", (1, 1), "expected a JSON value"),
    ],
)
def test_malformed_json_is_located(text: bytes, place: tuple[int, int], says: str) -> None:
    error = refusal(text, json=True)
    assert (error.line, error.column) == place
    assert says.lower() in error.message.lower()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029\ufeff\ufffe\uffff")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcy01_-/.", min_size=1), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(data=st.dictionaries(st.text("abc", min_size=1), json_values, max_size=4))
def test_what_is_dumped_is_read_back_unchanged(data: dict[str, Any]) -> None:
    documents = decode(to_yaml(data).encode())
    assert documents[0].value == data
    assert not documents[0].warnings


@given(data=json_values)
def test_json_is_read_as_the_standard_library_reads_it(data: Any) -> None:
    import json

    [document] = decode(json.dumps(data, indent=1).encode(), json=True)
    assert document.value == data


@given(data=st.binary(max_size=200))
def test_no_bytes_make_the_decoder_fail_otherwise_than_by_refusal(data: bytes) -> None:
    for json in (False, True):
        try:
            decode(data, json=json)
        except DecodeError as error:
            assert error.line >= 1
            assert error.column >= 1


@given(text=st.text("[]{},:-&*!|>'\"# \n\tab1?%@", max_size=60))
def test_no_yaml_like_text_makes_the_decoder_fail_otherwise_than_by_refusal(text: str) -> None:
    try:
        decode(text.encode())
    except DecodeError as error:
        assert error.message


def test_paths_are_written_and_read_the_kubernetes_way() -> None:
    path = ("metadata", "annotations", "example.com/x", 0)
    assert format_path(path) == "metadata.annotations[example.com/x][0]"
    assert parse_path(format_path(path)) == path
    assert parse_path("spec.steps[0].agent") == ("spec", "steps", 0, "agent")


@pytest.mark.parametrize(
    ("text", "json"), [(b' {"a": 1}', True), (b"[1]", False), (b"{a: 1}", False), (b"[{}]", True), (b"a: 1", False)]
)
def test_json_on_standard_input_is_recognised_by_its_beginning(text: bytes, json: bool) -> None:
    assert looks_like_json(text) is json
