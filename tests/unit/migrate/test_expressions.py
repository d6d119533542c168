"""Expressions of the older dialects, and what they are today."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.cel.environment import environment
from kastra.cel.template import Template
from kastra.migrate.conditions import condition
from kastra.migrate.expressions import rewrite, rewrite_text
from kastra.migrate.paths import NotAPath, Scope, to_cel
from kastra.migrate.predicates import predicate

SCOPE = Scope(
    frozenset({"a", "get-it", "dotted.id"}),
    labels={"label": "a"},
    whole={"a": "only"},
    aliases={"inner": "steps.a.output.inner"},
)
SEEN = environment("input", "prev", "steps", "state", "run", "lastError", "iteration", "error")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{{ workflow.input.x }}", "${{ input.x }}"),
        ("{{ workflow.inputs.x }}", "${{ input.x }}"),
        ("{{input.user.name}}", "${{ input.user.name }}"),
        ("{{{ input.x }}}", "${{ input.x }}"),
        ("{{ step.a.result }}", "${{ steps.a.output }}"),
        ("{{ steps.a.output.x }}", "${{ steps.a.output.x }}"),
        ("{{ steps.a.outputs.x }}", "${{ steps.a.output.x }}"),
        ("{{ steps.a.outputs.only }}", "${{ steps.a.output }}"),
        ("{{ steps.get-it.output[0].for }}", '${{ steps["get-it"].output[0]["for"] }}'),
        ("{{ steps['dotted.id'].output }}", '${{ steps["dotted.id"].output }}'),
        ("{{ steps.dotted.id.output }}", '${{ steps["dotted.id"].output }}'),
        ("{{ steps.inner.output.x }}", "${{ steps.a.output.inner.x }}"),
        ("{{ steps.a.status }}", "${{ steps.a.status }}"),
        ("{{ state.count }}", "${{ state.count }}"),
        ("{{ label.x }}", "${{ steps.a.output.x }}"),
        ("{{ a.x }}", "${{ steps.a.output.x }}"),
        ("${steps.a.output}", "${{ steps.a.output }}"),
        ("${initData.x}", "${{ input.x }}"),
        ("${inputData.x}", "${{ prev.x }}"),
        ("${stepResults.a.x}", "${{ steps.a.output.x }}"),
        ("$topic", "${{ input.topic }}"),
        ("$a.x", "${{ steps.a.output.x }}"),
        ("about $topic, then {{ input.y }}", "about ${{ input.topic }}, then ${{ input.y }}"),
        ("{{ input.n > 3 }}", "${{ input.n > 3 }}"),
        ("it costs $5 and \\$x stays", "it costs $5 and \\$x stays"),
        ("new already: ${{ input.x }}", "new already: ${{ input.x }}"),
        ("{{! a comment }}text", "text"),
        ("no expression", "no expression"),
    ],
    ids=lambda text: text[:40],
)
def test_an_expression_is_rewritten(old: str, new: str) -> None:
    found = rewrite_text(old, SCOPE)
    assert found.value == new
    assert found.failed == []


@pytest.mark.parametrize(
    "old",
    [
        "{{ env.HOME }}",
        "${env.X}",
        "${X}",
        "${HOME_DIR}",
        "{{#each items}}{{this}}{{/each}}",
        "{{#if x}}never closed",
        "{{ f(x) }}",
        "{{ a b }}",
    ],
)
def test_what_has_no_counterpart_stays_and_is_named(old: str) -> None:
    found = rewrite_text(old, SCOPE)
    assert found.value == old
    assert len(found.failed) == 1


@pytest.mark.parametrize(
    ("old", "values", "text"),
    [
        ("{{#if input.x}}yes{{/if}}", {"x": "there"}, "yes"),
        ("{{#if input.x}}yes{{/if}}", {}, ""),
        ("{{#if input.x}}yes{{else}}no{{/if}}", {"x": ""}, "no"),
        ("{{#if input.x}}yes{{else}}no{{/if}}", {"x": 0}, "no"),
        ("{{#if input.x.y}}yes{{else}}no{{/if}}", {}, "no"),
        ("{{#unless input.x}}none{{/unless}}", {"x": False}, "none"),
        (
            'A{{#if input.x}} "{{input.x}}"\n{{#if input.y}}and {{input.y}}{{/if}}{{/if}}Z',
            {"x": "b", "y": "c"},
            'A "b"\nand cZ',
        ),
        ("{{#if input.x}}{{input.x}}{{/if}}", {"x": 7}, "7"),
    ],
)
def test_a_handlebars_block_gives_what_it_gave(old: str, values: dict[str, object], text: str) -> None:
    found = rewrite_text(old, Scope(prompt=True))
    assert found.failed == []
    assert Template.compile(found.value, environment("input")).evaluate({"input": values}) == text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("input.a === 'x'", 'input.a == "x"'),
        ("{{ steps.a.output.ok !== false }}", "steps.a.output.ok != false"),
        ("input.a > 1 or not (input.b == 2)", "input.a > 1 || !(input.b == 2)"),
        ("input.items.length >= 2", "size(input.items) >= 2"),
        ("(input.a == 1 || input.b == 'it\\'s') && true", '(input.a == 1 || input.b == "it\'s") && true'),
        ("input.a in ['x', 'y']", 'input.a in ["x", "y"]'),
        ("${steps.get-it.output.n} <= 3", 'steps["get-it"].output.n <= 3'),
        ("input.a == undefined", "input.a == null"),
        ("input?.a?.b == 1", "input.a.b == 1"),
    ],
)
def test_a_condition_is_rewritten(old: str, new: str) -> None:
    assert condition(old, SCOPE)[0] == new
    SEEN.compile(new)


@pytest.mark.parametrize("old", ["", "items.map(x => x.y)", "a = 1", "`text`", "input.x && require('fs')", "x" * 3000])
def test_a_condition_without_a_counterpart_is_refused(old: str) -> None:
    with pytest.raises(NotAPath):
        condition(old, SCOPE)


def test_a_path_alone_means_what_counts_as_true() -> None:
    program = SEEN.compile(condition("input.flags.on", SCOPE)[0])
    bound = {"prev": None, "steps": {}, "state": {}, "run": {}, "lastError": None, "iteration": 0, "error": None}
    answers = [
        program.test({**bound, "input": value})
        for value in ({}, {"flags": {}}, {"flags": {"on": 0}}, {"flags": {"on": [1]}})
    ]
    assert answers == [False, False, False, True]


@pytest.mark.parametrize(
    "value",
    [
        {"op": "eq"},
        {"op": "unheard-of"},
        {"op": "and", "args": []},
        {"op": "in", "value": {"path": "inputData.x"}},
        "text",
        None,
        {"op": "not"},
        {"op": "eq", "left": {"path": "a b"}, "right": {"literal": 1}},
    ],
    ids=str,
)
def test_a_predicate_of_an_unknown_shape_is_refused(value: object) -> None:
    with pytest.raises(NotAPath):
        predicate(value, SCOPE)


FRAGMENTS = st.sampled_from(
    [
        "{{",
        "}}",
        "${",
        "}",
        "$",
        "#if ",
        "/if",
        "else",
        "{{else}}",
        "steps.",
        "input",
        ".x",
        "[0]",
        "['y']",
        "a",
        " ",
        "'",
        '"',
        "\\",
        "\n",
        "&&",
        "===",
        "é",
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(FRAGMENTS, max_size=20).map("".join))


@given(TEXTS)
def test_rewriting_never_raises_and_what_it_says_it_made_compiles(text: str) -> None:
    found = rewrite_text(text, SCOPE)
    if found.value != text and not found.failed and "${{" not in text:
        Template.compile(found.value, SEEN)


@given(
    st.recursive(
        TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)
def test_rewriting_keeps_the_shape_of_data(data: object) -> None:
    def shape(value: object) -> object:
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        return [shape(item) for item in value] if isinstance(value, list) else None

    assert shape(rewrite(data, SCOPE).value) == shape(data)


@given(TEXTS)
def test_rewriting_twice_is_rewriting_once(text: str) -> None:
    once = rewrite_text(text, SCOPE)
    if not once.failed and once.value != text:
        assert rewrite_text(once.value, SCOPE).value == once.value


@given(TEXTS)
def test_a_condition_is_refused_or_compiles(text: str) -> None:
    try:
        found, _ = condition(text, SCOPE)
    except NotAPath:
        return
    SEEN.compile(found)


@given(TEXTS)
def test_a_path_is_refused_or_compiles(text: str) -> None:
    try:
        found, _ = to_cel(text, SCOPE)
    except NotAPath:
        return
    SEEN.compile(found)
