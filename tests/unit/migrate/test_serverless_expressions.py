"""jq to CEL: what an expression gives for a value, as the manual of jq 1.7 says, and which ones are refused."""

from typing import Any

import pytest

from kastra.cel import environment
from kastra.migrate.serverless.cel import Seen, to_cel, to_condition
from kastra.migrate.serverless.jq import NotExact

SEEN = Seen(names={"item": "x", "err": "err"}, errors=frozenset({"err"}))
ERROR = {"type": "tool", "title": "HTTP 404", "details": {"status": 404}}


def value(cel: str, given: Any) -> Any:
    """What CEL gives where `.` is `given`, $item 3, and $err an error."""
    names = {"prev": given, "x": 3, "err": ERROR, "input": {"n": 1}, "run": {"uid": "u"}, "state": {}}
    return environment(*names).compile(cel).evaluate(names)


@pytest.mark.parametrize(
    ("expression", "given", "gives"),
    [
        (".", {"a": 1}, {"a": 1}),
        (".a.b", {"a": {"b": 1}}, 1),
        (".a", None, None),
        (".a", {}, None),
        ('.a["b c"]', {"a": {"b c": 1}}, 1),
        ('."a b"', {"a b": 1}, 1),
        (".for.in", {"for": {"in": 1}}, 1),
        (".[0]", [5], 5),
        (".[0]", [], None),
        (".[-1]", [5, 6], 6),
        (".[-1]", [], None),
        (".a[1].b", {"a": [0, {"b": 2}]}, 2),
        ('.tags + ["red"]', {}, ["red"]),
        ('.tags + ["red"]', {"tags": ["blue"]}, ["blue", "red"]),
        (".a + .b", {"a": 1}, 1),
        (".a + .b", {"a": 1, "b": 2}, 3),
        ('"a" + .b', {"b": "c"}, "ac"),
        (".n + 1", {"n": 1}, 2),
        (".n + 1", {}, 1),
        (".n - 1 == 0", {"n": 1}, True),
        (".n * 2 + 1", {"n": 3}, 7),
        (".n % 2", {"n": 3}, 1),
        ("-.n", {"n": 3}, -3),
        (".age < 18", {}, True),
        (".age >= 18", {}, False),
        ("18 > .age", {}, True),
        (".age >= 18", {"age": 20}, True),
        ('.a == "b"', {"a": "b"}, True),
        ('"a" == 1', {}, False),
        (".a == null", {}, True),
        (".a and .b", {"a": 1}, False),
        (".a or .b", {"a": 0}, True),
        (".a | not", {"a": False}, True),
        ('.a // "d"', {}, "d"),
        ('.a // .b // "d"', {"a": False, "b": 2}, 2),
        ('if .a then "x" elif .b > 1 then "y" else null end', {"b": 2}, "y"),
        ('if .a then "x" end', {"b": 2}, {"b": 2}),
        ('"Hello \\(.who)!"', {"who": "Zoë"}, "Hello Zoë!"),
        ('"\\(.n + 1) of \\(.m)"', {"n": 1, "m": True}, "2 of true"),
        ('"a\\"b\\u00e9\\n"', {}, 'a"bé\n'),
        ('"}}" + .a', {"a": "x"}, "}}x"),
        ('{a, b: 1, "c d": [$item]}', {"a": 2}, {"a": 2, "b": 1, "c d": [3]}),
        ("{(.key): .value}", None, NotExact),
        ('[.a, 1, "b", null]', {"a": [2]}, [[2], 1, "b", None]),
        ("[]", {}, []),
        ("[.xs[]]", {"xs": [1]}, [1]),
        ("[.xs[] | . + 1]", {"xs": [1]}, [2]),
        ("[.xs[] | select(.p > 2) | .n]", {"xs": [{"p": 1, "n": "a"}, {"p": 3, "n": "b"}]}, ["b"]),
        (".xs | map(select(.p > 2)) | length", {"xs": [{"p": 1}, {"p": 3}]}, 1),
        ("[.m[] | [.[] | .n]]", {"m": [[{"n": 1}], [{"n": 2}]]}, [[1], [2]]),
        (".xs | any(. == 2)", {"xs": [1, 2]}, True),
        (".xs | all(. == 2)", {"xs": [1, 2]}, False),
        (".xs | first", {"xs": [4, 5]}, 4),
        (".xs | last", {"xs": [4, 5]}, 5),
        (".xs | length", {}, 0),
        ("length", "Zoë", 3),
        ("length", {"a": 1, "b": 2}, 2),
        ('has("a")', {"a": None}, True),
        ('.t | startswith("a")', {"t": "abc"}, True),
        ('.t | endswith("a")', {"t": "abc"}, False),
        (".t | ascii_upcase", {"t": "abc"}, "ABC"),
        ('.t | join("-")', {"t": ["a", "b"]}, "a-b"),
        (".n | tostring", {"n": 5}, "5"),
        (". | .a | .b", {"a": {"b": 2}}, 2),
        ("$err.status", {}, 404),
        ("$err.type", {}, "tool"),
        ("$err.detail", {}, None),
        ("$workflow.input.n", {}, 1),
        ("$workflow.id", {}, "u"),
        ("1.5", {}, 1.5),
        (".a # a comment", {"a": 1}, 1),
    ],
    ids=lambda part: part if isinstance(part, str) and len(part) < 60 else "",
)  # fmt: skip
def test_an_expression_gives_what_it_gives_in_jq(expression: str, given: Any, gives: Any) -> None:
    if gives is NotExact:
        with pytest.raises(NotExact):
            to_cel(expression, SEEN)
    else:
        assert value(to_cel(expression, SEEN), given) == gives


@pytest.mark.parametrize(
    ("expression", "given", "holds"),
    [
        (".a", {"a": 0}, True),
        (".a", {"a": ""}, True),
        (".a", {"a": False}, False),
        (".a", {}, False),
        (".a == 1 and (.b | not)", {"a": 1}, True),
        ("true", {}, True),
        ("null", {}, False),
        ("[]", {}, True),
    ],
)
def test_a_condition_holds_for_all_but_false_and_null(expression: str, given: Any, holds: bool) -> None:
    assert value(to_condition(expression, SEEN), given) is holds


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (".a / 2", "divides"),
        (".a, .b", "several results"),
        (".a[]", "several results"),
        (".a[1:2]", "slice"),
        (".a |= 1", "changes its input"),
        (".a?", "suppresses errors"),
        ("..", "walks through everything"),
        (".a as $x | $x", "binds a variable"),
        ("reduce .[] as $x (0; . + $x)", 'uses "reduce"'),
        ("$ENV", "needs $ENV"),
        ("$secrets.key", "secrets aren't in scope"),
        ("$task.name", "needs $task.name"),
        ("$err.instance", "details.step"),
        ("now", 'calls "now"'),
        ("sort_by(.a)", 'calls "sort_by"'),
        ("{a: 1} + {b: 2}", "merges objects"),
        ('1 + "a"', "different types"),
        ('[1] < "a"', "different types"),
        ('"\\([1])"', "puts a list"),
        ("@base64", "formats"),
        (".a b", "after its end"),
        ("(.a", 'lacks ")"'),
        ('"abc', "doesn't end"),
        ("", "ends too early"),
        ("§", "isn't jq"),
        ("99999999999999999999", "too large"),
    ],
)
def test_what_has_no_exact_counterpart_is_refused_with_the_reason(expression: str, said: str) -> None:
    with pytest.raises(NotExact) as refused:
        to_cel(expression, SEEN)
    assert said in str(refused.value)
