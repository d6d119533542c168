"""Names obey Kubernetes' rules, generated ones too, and a typing error finds what was meant."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.api.names import (
    SUFFIX_ALPHABET,
    closest,
    edit_distance,
    generate_name,
    generate_name_problems,
    name_problems,
)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("Agent", "a"), ("Agent", "a.b-c.1"), ("Agent", "a" * 253), ("Namespace", "a-b"), ("Role", "system:Admin_x y")],
)
def test_good_names_have_no_problems(kind: str, name: str) -> None:
    assert name_problems(name, kind) == []


@pytest.mark.parametrize(
    ("kind", "name", "problem"),
    [
        ("Agent", "", "a lowercase RFC 1123 subdomain must"),
        ("Agent", "A", "a lowercase RFC 1123 subdomain must"),
        ("Agent", "a..b", "a lowercase RFC 1123 subdomain must"),
        ("Agent", "a\n", "a lowercase RFC 1123 subdomain must"),
        ("Agent", "a" * 254, "must be no more than 253 characters"),
        ("Namespace", "a.b", "a lowercase RFC 1123 label must"),
        ("Namespace", "a" * 64, "must be no more than 63 characters"),
        ("Role", "a/b", "may not contain '/'"),
        ("ClusterRoleBinding", "a%b", "may not contain '%'"),
        ("Role", "..", "may not be '..'"),
    ],
)
def test_bad_names_are_explained_in_kubernetes_words(kind: str, name: str, problem: str) -> None:
    assert name_problems(name, kind)[0].startswith(problem)


def test_a_generate_name_may_end_with_a_dash() -> None:
    assert generate_name_problems("run-") == []
    assert generate_name_problems("Run-") != []
    assert name_problems("run-") != []


def test_generated_names_have_five_letters_that_make_no_words_and_fit_a_label() -> None:
    assert re.fullmatch(f"run-[{SUFFIX_ALPHABET}]{{5}}", generate_name("run-"))
    assert len(generate_name("x" * 200)) == 63
    assert generate_name("run-", choose=lambda alphabet: alphabet[0]) == "run-bbbbb"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("opnai", "openai"),
        ("OpenAI", "openai"),
        ("agnets", "agents"),
        ("workflw", "workflow"),
        ("instrutcions", "instructions"),
        ("xyz", None),
        ("ag", None),
        ("toool", "tool"),
        ("teol", "tool"),
    ],
)
def test_one_good_near_miss_is_suggested(word: str, meant: str | None) -> None:
    known = ["agents", "anthropic", "instructions", "openai", "tool", "workflow"]
    assert closest(word, known) == meant


def test_two_equally_near_candidates_make_no_suggestion() -> None:
    assert closest("cat", ["bat", "hat"]) is None
    assert closest("tool", ["tools", "Tool"]) == "Tool"


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_the_distance_is_symmetric_and_zero_only_between_equals(a: str, b: str) -> None:
    assert edit_distance(a, b, 10) == edit_distance(b, a, 10)
    assert (edit_distance(a, b, 10) == 0) is (a == b)
    assert edit_distance(a, b, 2) == min(edit_distance(a, b, 10), 3)
