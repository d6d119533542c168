"""What a rule allows, and that nothing can be granted that isn't held."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.apiserver.authorization import Access
from kastra.apiserver.rbac_rules import Rule, compile_rules, missing


def rule(**fields: list[str]) -> Rule:
    [made] = compile_rules([{"verbs": ["get"], **fields}])
    return made


@pytest.mark.parametrize(
    ("fields", "access", "allowed"),
    [
        ({"apiGroups": [""], "resources": ["configmaps"]}, Access("get", "", "configmaps"), True),
        ({"apiGroups": [""], "resources": ["configmaps"]}, Access("list", "", "configmaps"), False),
        ({"apiGroups": [""], "resources": ["configmaps"]}, Access("get", "x", "configmaps"), False),
        ({"apiGroups": ["*"], "resources": ["*"]}, Access("get", "x", "configmaps", "status"), True),
        ({"apiGroups": ["x"], "resources": ["runs"]}, Access("get", "x", "runs", "log"), False),
        ({"apiGroups": ["x"], "resources": ["runs/log"]}, Access("get", "x", "runs", "log"), True),
        ({"apiGroups": ["x"], "resources": ["*/log"]}, Access("get", "x", "runs", "log"), True),
        ({"apiGroups": ["x"], "resources": ["a"], "resourceNames": ["one"]}, Access("get", "x", "a", name="one"), True),
        (
            {"apiGroups": ["x"], "resources": ["a"], "resourceNames": ["one"]},
            Access("get", "x", "a", name="two"),
            False,
        ),
        ({"apiGroups": ["x"], "resources": ["a"], "resourceNames": ["one"]}, Access("get", "x", "a"), False),
        ({"nonResourceURLs": ["/metrics"]}, Access("get", path="/metrics"), True),
        ({"nonResourceURLs": ["/metrics"]}, Access("get", path="/metrics/x"), False),
        ({"nonResourceURLs": ["/openapi/*"]}, Access("get", path="/openapi/v3"), True),
        ({"nonResourceURLs": ["*"]}, Access("get", "", "configmaps"), False),
        ({"apiGroups": ["*"], "resources": ["*"]}, Access("get", path="/metrics"), False),
    ],
)
def test_a_rule_allows_what_it_names(fields: dict[str, list[str]], access: Access, allowed: bool) -> None:
    assert rule(**fields).allows(access) is allowed


_words = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=2, unique=True)
_resources = st.lists(st.sampled_from(["a", "a/log", "*/log", "*"]), min_size=1, max_size=2, unique=True)
_names = st.lists(st.sampled_from(["one", "two"]), max_size=2, unique=True)
_rules = st.lists(
    st.fixed_dictionaries({"verbs": _words, "apiGroups": _words, "resources": _resources, "resourceNames": _names}),
    max_size=3,
)


@given(_rules, _rules)
def test_what_is_contained_never_allows_more(
    owned: list[dict[str, list[str]]], wanted: list[dict[str, list[str]]]
) -> None:
    held, asked = compile_rules(owned), compile_rules(wanted)
    if missing(held, asked):
        return
    for verb, group, resource, below, name in product("abc", "abc", "ab", ("", "log"), ("", "one", "two")):
        access = Access(verb, group, resource, below, name=name)
        if any(one.allows(access) for one in asked):
            assert any(one.allows(access) for one in held)


@given(_rules)
def test_everybody_may_give_what_they_have(owned: list[dict[str, list[str]]]) -> None:
    assert missing(compile_rules(owned), compile_rules(owned)) == []
