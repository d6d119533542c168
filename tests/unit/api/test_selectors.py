"""Selectors match what Kubernetes' selectors match, and refuse what they refuse with the same words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.api.errors import BadRequest
from kastra.api.selectors import (
    MAX_LENGTH,
    FieldRequirement,
    Requirement,
    field_text,
    label_selector_of,
    parse_field_selector,
    parse_label_selector,
)

LABELS = {"app": "web", "tier": "front", "n": "5", "empty": "", "example.com/team": "a"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier = front", True),
        ("app=web,tier=back", False),
        ("app!=web", False),
        ("app!=api", True),
        ("missing!=x", True),
        ("missing=x", False),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("! missing", True),
        ("!app", False),
        ("app in (web,api)", True),
        ("app in ( api )", False),
        ("app notin (api)", True),
        ("app notin (web, api)", False),
        ("missing notin (x)", True),
        ("missing in (x)", False),
        ("empty=", True),
        ("empty in (,x)", True),
        ("app=,tier", False),
        ("n>4", True),
        ("n>5", False),
        ("n<6", True),
        ("app>1", False),
        ("missing<1", False),
        ("example.com/team=a", True),
        ("in=x", False),
        ("!in", True),
    ],
)
def test_a_label_selector_matches_as_in_kubernetes(text: str, matches: bool) -> None:
    assert parse_label_selector(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a=b,,c", "found ',', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',', ')' or identifier"),
        ("a==!b", "unable to parse requirement: found '!', expected: identifier"),
        ("a>x", "values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"),
        ("-a=b", 'key: Invalid value: "-a": name part must consist of'),
        ("/a=b", 'key: Invalid value: "/a": prefix part must be non-empty'),
        ("A/a=b", 'key: Invalid value: "A/a": prefix part a lowercase RFC 1123 subdomain'),
        ("a" * 64, "name part must be no more than 63 characters"),
        ("a=b.", 'values[0][a]: Invalid value: "b.": a valid label must be'),
        ("a=" + "b" * 64, "must be no more than 63 characters"),
        ("a=" + "b" * MAX_LENGTH, f"at most {MAX_LENGTH} are allowed"),
        (",".join(["a"] * 1001), "selector has 1001 requirements; at most 1000 are allowed"),
    ],
)
def test_a_broken_label_selector_is_a_bad_request_in_kubernetes_words(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_label_selector(text)
    assert message in caught.value.message


def test_requirements_are_listed_in_the_order_of_their_keys() -> None:
    assert parse_label_selector("b in (y,x),a!=1,!c").requirements == (
        Requirement("a", "notin", ("1",)),
        Requirement("b", "in", ("x", "y")),
        Requirement("c", "!"),
    )


def test_everything_and_nothing_are_told_apart() -> None:
    assert label_selector_of({}).everything
    assert label_selector_of({}).matches(None)
    assert not label_selector_of(None).matches({})
    assert not label_selector_of(None).everything


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({"matchLabels": {"b": "1", "a": "2"}}, "a=2,b=1"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}]}, "a in (x,y)"),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x"]}]}, "a!=x"),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, "a"),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, "!a"),
    ],
)
def test_a_metav1_label_selector_means_the_same_as_its_text(selector: dict, text: str) -> None:
    assert str(label_selector_of(selector)) == text
    assert label_selector_of(selector) == parse_label_selector(text)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"key": "a", "operator": "Like"}, '"Like" is not a valid label selector operator'),
        ({"key": "a", "operator": "In"}, "for 'in', 'notin' operators, values set can't be empty"),
        ({"key": "a", "operator": "Exists", "values": ["x"]}, "values set must be empty for exists and does not exist"),
    ],
)
def test_a_broken_metav1_label_selector_is_a_bad_request(expression: dict, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        label_selector_of({"matchExpressions": [expression]})
    assert message in caught.value.message


_names = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)


@given(
    st.dictionaries(_names, _names, max_size=4),
    st.lists(
        st.one_of(
            st.builds(
                lambda k, v: Requirement(k, "in", tuple(sorted(v))), _names, st.sets(_names, min_size=1, max_size=3)
            ),
            st.builds(lambda k, v: Requirement(k, "notin", tuple(sorted(v))), _names, st.sets(_names, min_size=1)),
            st.builds(lambda k: Requirement(k, "exists"), _names),
            st.builds(lambda k: Requirement(k, "!"), _names),
        ),
        max_size=4,
    ),
)
def test_a_selector_printed_and_parsed_again_matches_the_same(labels: dict, requirements: list[Requirement]) -> None:
    text = ",".join(map(str, requirements))
    assert parse_label_selector(text).matches(labels) is all(r.matches(labels) for r in requirements)


@given(st.text(max_size=40))
def test_any_text_is_a_selector_or_a_bad_request(text: str) -> None:
    for parse in (parse_label_selector, parse_field_selector):
        try:
            parse(text)
        except BadRequest as error:
            assert error.message


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("", ()),
        ("a=b", (FieldRequirement("a", "b"),)),
        ("a==b,c!=d", (FieldRequirement("a", "b"), FieldRequirement("c", "d", equal=False))),
        ("metadata.name=x,", (FieldRequirement("metadata.name", "x"),)),
        (r"a=b\,c\=d\\e", (FieldRequirement("a", r"b,c=d\e"),)),
        ("a=", (FieldRequirement("a", ""),)),
    ],
)
def test_field_selectors_know_equality_and_escapes(text: str, requirements: tuple) -> None:
    assert parse_field_selector(text).requirements == requirements


@pytest.mark.parametrize("text", ["a", "=b", "a=b=c", "a=b\\", r"a=b\c"])
def test_a_broken_field_selector_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequest, match=r"invalid selector: .*; can't understand"):
        parse_field_selector(text)


def test_a_field_selector_matches_values_found_by_the_caller() -> None:
    fields = {"metadata.name": "x", "spec.on": field_text(True), "spec.n": field_text(3)}
    get = lambda name: fields.get(name, "")  # noqa: E731
    assert parse_field_selector("metadata.name=x,spec.on=true,spec.n=3,other!=y,absent=").matches(get)
    assert not parse_field_selector("metadata.name!=x").matches(get)
    assert parse_field_selector("metadata.name=x").required("metadata.name") == "x"
    assert parse_field_selector("metadata.name!=x").required("metadata.name") is None


def test_unsupported_fields_are_refused_with_the_message_kubectl_completes() -> None:
    parse_field_selector("metadata.namespace=d,spec.a=1").check(["spec.a"])
    with pytest.raises(BadRequest, match=r"^field label not supported: spec\.x$"):
        parse_field_selector("metadata.name=d,spec.x=1").check(["spec.a"])
