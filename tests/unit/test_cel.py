"""Expressions: what they give, how they fail, what they refer to, and that none can run away."""

import datetime
import subprocess
import sys
import time
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.cel import CelError, Template, environment, hyphen_hint, references

ENV = environment("input", "steps", "state", "self")
DATA: dict[str, Any] = {
    "input": {"a": 1, "f": 1.5, "l": [3, 1, 2], "s": "hi", "n": None},
    "steps": {"check-ingredients": {"output": {"score": 0.7}, "status": "Succeeded"}},
}


def evaluate(text: str, **bindings: Any) -> Any:
    return ENV.compile(text).evaluate({**DATA, **bindings})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("input.a + 1", 2),
        ("input.f * 2.0", 3.0),
        ("input.l.map(x, x * 2)", [6, 2, 4]),
        ('steps["check-ingredients"].output.score > 0.5', True),
        ('"check-ingredients" in steps', True),
        ('"other" in steps', False),
        ("has(input.zz)", False),
        ("input.?zz.orValue(7)", 7),
        ("input.n == null", True),
        ('duration("90m")', "5400s"),
        ('timestamp("2024-01-01T00:00:00Z")', "2024-01-01T00:00:00Z"),
        ('b"abc"', "YWJj"),
        ("[{1: 2}, {true: 3}]", [{"1": 2}, {"true": 3}]),
        ("cel.bind(x, input.a, [x, x])", [1, 1]),
        ('"%s-%d".format(["a", 2])', "a-2"),
        ('"a,b".split(",").join("-")', "a-b"),
        ("math.greatest(1, 5, 3)", 5),
        ('base64.encode(b"x")', "eA=="),
    ],
)  # fmt: skip
def test_values_come_out_as_plain_json(text: str, value: Any) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("input.l.sum()", 6),
        ("[1.5, 2.0].sum()", 3.5),
        ("input.l.min()", 1),
        ("input.l.max()", 3),
        ("[1, 2, 2].isSorted()", True),
        ("input.l.isSorted()", False),
        ('"abc 12 34".find("[0-9]+")', "12"),
        ('"abc".find("[0-9]+")', ""),
        ('"abc".matches("b") && matches("abc", "^a") && !("abc".matches("^b"))', True),
        ('input.s == "matches(x)" || "matches".startsWith("match")', True),
        ('"1 22 3".findAll("[0-9]+")', ["1", "22", "3"]),
        ('"1 22 3".findAll("[0-9]+", 2)', ["1", "22"]),
        ('url("https://user@host:8080/p?q=1&q=2").getHost()', "host:8080"),
        ('url("https://[::1]:80/").getHostname()', "::1"),
        ('url("https://h/p?q=1&q=2").getQuery()', {"q": ["1", "2"]}),
        ('isURL("not a url")', False),
        ('quantity("1Gi").isGreaterThan(quantity("1000M"))', True),
        ('quantity("500m").add(quantity("1")).asApproximateFloat()', 1.5),
        ('quantity("2").sub(1).asInteger()', 1),
        ('isQuantity("12x")', False),
    ],
)
def test_kubernetes_functions_are_there(text: str, value: Any) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("input.zz", "no such key: zz"),
        ("1/0", "division by zero"),
        ("input.l[9]", "index out of bounds: 9 of 3"),
        ("input.s + 1", r"no such overload: _\+_\(string, int64\)"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("state.x", "the variable state has no value here"),
        ("[].min()", "min called on empty list"),
        ('[1, "a"].sum()', "sum\\(\\) adds numbers"),
        ('"a".matches("(?=" + "x)")', "invalid regular expression: invalid perl operator"),
        ('"a".find("(?=" + "x)")', "invalid regular expression: invalid perl operator"),
        ("[1].exists(x, input.a.matches('x'))", r"no such overload: \(int64\).matches\(string\)"),
        ("input.?zz", "optional value; end it with .orValue"),
        ("1.0 / 0.0", "JSON can't hold"),
        ("type(1)", "JSON can't hold"),
        ('quantity("x")', "is no quantity"),
    ],
)
def test_failures_are_one_exception_that_says_why(text: str, reason: str) -> None:
    with pytest.raises(CelError, match=reason) as caught:
        evaluate(text)
    assert caught.value.stage == "evaluate"
    assert caught.value.expression == text


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("1 +", 1, 4, "mismatched input 'the end'"),
        ("true &&\n  nope", 2, 3, "undeclared reference to 'nope'; there are input, self, state, steps"),
        ("nosuch(1)", 1, 7, "undeclared reference to 'nosuch'"),
        ('"a" + 1', 1, 5, "no matching overload"),
        ("", 1, 1, "empty"),
        ('input.s.matches("(?=x)")', 0, 0, "invalid regular expression: invalid perl operator"),
        ("matches(1, 'x')", 1, 8, "no matching overload for 'matches'"),
        ("!" * 20000, 0, 0, "20000 characters, at most 16384"),
        ("(" * 60 + "1" + ")" * 60, 0, 0, "nested too deeply"),
        ("[" * 8000 + "]" * 8000, 0, 0, "nested too deeply"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(CelError, match=reason) as caught:
        ENV.compile(text)
    assert (caught.value.stage, caught.value.line, caught.value.column) == ("compile", line, column)


def test_a_hyphen_that_became_a_subtraction_is_explained() -> None:
    with pytest.raises(CelError, match=r'steps.check-ingredients is a subtraction; write steps\["check-ingredients"\]'):
        ENV.compile("input.a == 1 && steps.check-ingredients.output.ok")
    with pytest.raises(CelError, match=r'no such key: check; .* write steps\["check-1"\]'):
        evaluate("steps.check-1")
    assert hyphen_hint("steps.a - steps.b") == ""
    assert hyphen_hint("input.total-input.paid", known={"check-ingredients"}) == ""


def test_conditions_must_be_true_or_false() -> None:
    assert ENV.compile("input.a == 1").test(DATA) is True
    with pytest.raises(CelError, match="must be true or false, this is an int"):
        ENV.compile("input.a").test(DATA)


def test_other_mappings_sequences_and_times_are_taken_as_json() -> None:
    at = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    frozen = types.MappingProxyType({"t": (1, 2), "at": at})
    assert evaluate("[input.t.size(), input.at]", input=frozen) == [2, "2024-01-01T00:00:00Z"]
    with pytest.raises(CelError, match="a object has no form in an expression"):
        evaluate("input", input=object())
    with pytest.raises(CelError, match="no valid Unicode"):
        evaluate("input", input="\ud800")


def test_one_set_of_bindings_serves_several_programs() -> None:
    bindings = ENV.bind({"self": {"a": 2}, "unknown": object()})
    assert [ENV.compile(text).evaluate(bindings) for text in ("self.a", "self.a * 2", "has(self.b)")] == [2, 4, False]


def test_the_same_text_gives_the_same_program() -> None:
    assert ENV.compile("input.a") is ENV.compile("input.a")
    assert environment("x") is environment("x")
    assert environment("n:int").compile("n + 1").result_type == "int"


# --- budgets -------------------------------------------------------------------------------------------------------


def doubling(times: int) -> str:
    text = f"v{times - 1}.size()"
    for index in reversed(range(times)):
        previous = "self" if index == 0 else f"v{index - 1}"
        text = f"cel.bind(v{index}, {previous} + {previous}, {text})"
    return text


BOMBS: list[tuple[str, Any]] = [
    (doubling(29), "aaa"),
    (doubling(14), "a" * 100_000),
    ("self" + '.replace("a", "aaaaaaaaaaaaaaaaaaaa")' * 12, "a"),
    ("self.all(x, self.all(y, y >= 0))", list(range(9_000))),
    ("self.map(x, self)", list(range(9_000))),
    ("self.map(x, self.map(y, self.map(z, 1)))", list(range(200))),
    ("self.all(x, x >= 0)", list(range(100_000))),
    ("self.l.all(x, self.s.contains(x))", {"l": ["b"] * 9_000, "s": "a" * 1_000_000}),
    ("self.l.map(x, self.s.upperAscii()).size()", {"l": ["b"] * 9_000, "s": "a" * 1_000_000}),
    ("self.l.all(x, self.s.matches(x))", {"l": ["(a+)+$"] * 5_000, "s": "a" * 1_000_000}),
    ("self.map(x, self.sum()).size()", list(range(9_000))),
    ("self.map(x, x)", list(range(9_000))),
    ("self.all(x, x.matches(x) || true)", [r"\pL\pN" * 500] * 100),
    ("self.all(x, x.matches(x))", ["(a{1,50}){0,19}"] * 1_000),
    ('self.findAll(".").size()', "a" * 1_000_000),
    ('self.split("a").map(x, self)', "a" * 9_000),
    ('self.split("").map(x, self).size()', "a" * 9_000),
    ('"%s".format([self])' + '.replace("", self)' * 4, "a" * 3_000),
    ("self.all(a, self.all(b, self.all(c, self.all(d, self.all(e, self.all(f, true))))))", [1]),
]


@pytest.mark.parametrize(("text", "value"), BOMBS, ids=[text[:40] for text, _ in BOMBS])
def test_no_expression_runs_away(text: str, value: Any) -> None:
    started = time.process_time()
    with pytest.raises(CelError) as caught:
        ENV.compile(text).evaluate({"self": value})
    assert time.process_time() - started < 2
    assert caught.value.stage in {"budget", "compile"}


@pytest.mark.parametrize(
    ("text", "value", "result"),
    [
        ('self.matches("(a+)+$")', "a" * 1_000_000 + "b", False),
        ("self.all(x, x >= 0)", list(range(9_000)), True),
        ("self.all(x, x.matches('(a{1,50}){1,19}'))", ["aaaa"] * 9_000, True),
        ("self.all(x, self.all(y, x + y >= 0))", list(range(90)), True),
        ('self.all(x, x.tags.all(t, t.matches("^a+$")))', [{"tags": ["aaa"] * 30} for _ in range(200)], True),
        (
            "self.items.filter(x, x.ok).map(x, x.name).size()",
            {"items": [{"ok": True, "name": "n" * 50}] * 1_200},
            1_200,
        ),
        ("self", {"deep": [{"a": ["x" * 1000] * 100}] * 20}, {"deep": [{"a": ["x" * 1000] * 100}] * 20}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_honest_work_on_large_values_is_not_refused(text: str, value: Any, result: Any) -> None:
    assert ENV.compile(text).evaluate({"self": value}) == result


# --- references ----------------------------------------------------------------------------------------------------


def test_references_name_roots_and_members_with_their_places() -> None:
    found = references(
        'steps.a.output["x-y"] > 1 &&\n  steps["b-c"].status == "ok" || "d" in steps || steps.?e.hasValue()'
    )
    assert found.roots == {"steps"}
    assert found.whole == frozenset()
    assert found.names("steps") == {"a", "b-c", "d", "e"}
    first, second, third, _ = found.members["steps"]
    assert (first.path, first.line, first.column) == (("output", "x-y"), 1, 1)
    assert (second.name, second.line, second.column) == ("b-c", 2, 3)
    assert third.tested


@pytest.mark.parametrize(
    ("text", "roots", "whole"),
    [
        ("steps[input.id].output", {"steps", "input"}, {"steps"}),
        ("items.all(x, x > limit)", {"items", "limit"}, {"items", "limit"}),
        ("items.map(steps, steps.a)", {"items"}, {"items"}),
        ("cel.bind(v, state.n, v + v)", {"state"}, set()),
        ("size(prev) > 0 && math.abs(n) == 1", {"prev", "n"}, {"prev", "n"}),
        ("'steps.x' == \"input\" // state", set(), set()),
        ("""r'\\' + '''it's input''' + state.x""", {"state"}, set()),
        ("{'a': input.b}.a", {"input"}, set()),
        ("a.b.input.c(state)", {"a", "state"}, {"state"}),
        ("has(input.x)", {"input"}, set()),
        ("true || null == false", set(), set()),
        ("input", {"input"}, {"input"}),
        ("1.5e3 + 0x1F + n1", {"n1"}, {"n1"}),
    ],
)
def test_only_free_variables_count(text: str, roots: set[str], whole: set[str]) -> None:
    found = references(text)
    assert (set(found.roots), set(found.whole)) == (roots, whole)


@given(st.text(alphabet="steps.x[]\"'`ab-(){}/\\ \n?,in0", max_size=60))
def test_no_text_upsets_the_tokenizer(text: str) -> None:
    references(text)
    hyphen_hint(text)


# --- templates -----------------------------------------------------------------------------------------------------


def test_a_whole_expression_keeps_its_type_and_an_embedded_one_becomes_text() -> None:
    template = Template.compile(
        {"n": "${{ input.a }}", "t": ["n=${{input.a}}, l=${{ input.l }}, s=${{ input.s }}", 5, None, "plain"]}, ENV
    )
    assert template.evaluate(DATA) == {"n": 1, "t": ["n=1, l=[3,1,2], s=hi", 5, None, "plain"]}
    assert template.references().names("input") == {"a", "l", "s"}
    assert not template.constant


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('${{ {"a": {"b": "}}"}} }}', {"a": {"b": "}}"}}),
        ("$${{ literal }}", "${{ literal }}"),
        ("a $${{ b }} ${{ input.a }}", "a ${{ b }} 1"),
        ("${{ input.a }}${{ input.a }}", "11"),
        ("${{ input.a }}\n", "1\n"),
        ("{{ handlebars }} ${shell} $", "{{ handlebars }} ${shell} $"),
        ("${{ input.n }}!", "null!"),
        ("", ""),
    ],
)
def test_braces_escapes_and_neighbours(text: str, value: Any) -> None:
    assert Template.compile(text, ENV).evaluate(DATA) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\n ${{ input.a", r"spec.with.a\[1\]: 2:2: \$\{\{ is not closed by \}\}"),
        ("${{ input.a }", r"is not closed"),
        ("${{ }}", r"spec.with.a\[1\]: 1:1: the expression is empty"),
        ("${{ nope }}", r"spec.with.a\[1\]: 1:1: undeclared reference to 'nope'"),
    ],
)
def test_a_wrong_template_is_refused_with_its_field(text: str, message: str) -> None:
    with pytest.raises(CelError, match=message):
        Template.compile({"a": [0, text]}, ENV, "spec.with")


def test_a_template_that_fails_names_its_field() -> None:
    template = Template.compile({"a": ["got ${{ input.zz }}"]}, ENV, "spec.with")
    with pytest.raises(CelError, match=r"spec\.with\.a\[0\]: no such key: zz"):
        template.evaluate(DATA)


def test_evaluating_gives_fresh_data() -> None:
    template = Template.compile({"a": [1, {"b": "${{ input.a }}"}]}, ENV)
    first = template.evaluate(DATA)
    first["a"].append(2)
    assert template.evaluate(DATA) == {"a": [1, {"b": 1}]}


def test_a_template_nested_beyond_measure_is_refused() -> None:
    data: Any = "x"
    for _ in range(100):
        data = [data]
    with pytest.raises(CelError, match="nested more than 64 levels"):
        Template.compile(data, ENV)


def test_importing_the_facade_loads_no_cel_library() -> None:
    code = "import sys, kastra.cel, kastra.schema; sys.exit(any(m.startswith('cel_expr') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
