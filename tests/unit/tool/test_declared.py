"""Around every tool body: schemas, deadlines, turns. And the schema checker beneath."""

from collections.abc import Mapping
from typing import Any

import anyio
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.netguard import Guard, Policy
from kastra.testing.clock import VirtualClock
from kastra.tool.declared import declared, throttle_of
from kastra.tool.interface import ToolContext, ToolError, ToolServices
from kastra.tool.schema import JsonSchema
from kastra.tool.timeout import within

CONTEXT = ToolContext("key")


class Body:
    def __init__(self, result: Any = None, seconds: float = 0.0, clock: VirtualClock | None = None) -> None:
        self.calls: list[Mapping[str, Any]] = []
        self._result, self._seconds, self._clock = result, seconds, clock
        self.now = self.most = 0

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        self.calls.append(arguments)
        self.now += 1
        self.most = max(self.most, self.now)
        if self._clock is not None:
            await self._clock.sleep(self._seconds)
        self.now -= 1
        return self._result


def services(clock: VirtualClock | None = None) -> ToolServices:
    async def none(value_from: Mapping[str, Any]) -> str:
        raise LookupError("none")

    return ToolServices(Guard(Policy()), clock or VirtualClock(), none)


async def test_arguments_that_do_not_fit_never_reach_the_body() -> None:
    body = Body()
    schema = {"type": "object", "required": ["q"], "properties": {"q": {"type": "string", "minLength": 2}}}
    tool = declared("find", {"inputSchema": schema}, body, services())
    for wrong, message in (
        ({}, "'q' is a required property"),
        ({"q": "x"}, "q: 'x' is too short"),
        ({"q": 1}, "q: 1 is not"),
    ):
        with pytest.raises(ToolError, match=message) as caught:
            await tool.call(wrong, CONTEXT)
        assert (caught.value.type, caught.value.retryable) == ("validation", False)
    assert body.calls == []


async def test_a_result_that_does_not_fit_is_an_output_error() -> None:
    tool = declared(
        "find", {"outputSchema": {"type": "array", "items": {"type": "integer"}}}, Body([1, "x"]), services()
    )
    with pytest.raises(ToolError, match=r"result of find: \[1\]: 'x' is not of type 'integer'") as caught:
        await tool.call({}, CONTEXT)
    assert caught.value.type == "output"


async def test_a_deadline_is_counted_by_the_injected_clock() -> None:
    clock = VirtualClock()
    tool = declared("slow", {"timeout": "30s"}, Body("late", 60, clock), services(clock))
    failed: list[ToolError] = []

    async def call() -> None:
        try:
            await tool.call({}, CONTEXT)
        except ToolError as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await clock.advance(29)
        assert failed == []
        await clock.advance(1)
    assert failed[0].type == "timeout"


async def test_within_gives_what_the_call_gave_or_raised() -> None:
    async def value() -> int:
        return 7

    async def error() -> int:
        raise KeyError("x")

    assert await within(VirtualClock(), 5, value) == 7
    assert await within(VirtualClock(), None, value) == 7
    with pytest.raises(KeyError):
        await within(VirtualClock(), 5, error)


async def test_concurrency_lets_so_many_in_at_once() -> None:
    clock = VirtualClock()
    body = Body("ok", 10, clock)
    spec = {"concurrency": 2}
    tool = declared("narrow", spec, body, services(clock), throttle_of(spec, clock))
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(tool.call, {}, CONTEXT)
        await clock.advance(30)
    assert (len(body.calls), body.most) == (5, 2)


async def test_a_rate_limit_spreads_calls_over_its_window() -> None:
    clock = VirtualClock()
    body = Body("ok")
    spec = {"rateLimit": {"window": "1m", "maxRequests": 2}}
    tool = declared("rare", spec, body, services(clock), throttle_of(spec, clock))
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(tool.call, {}, CONTEXT)
        seen = []
        for _ in range(3):
            await clock.advance(0)
            seen.append(len(body.calls))
            await clock.advance(60)
    assert seen == [2, 4, 5]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "inputSchema.type: 'objekt' is not valid"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "is not RE2"),
        ({"patternProperties": {"(": {}}}, "is not RE2"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "can't be used in one schema"),
    ],
)
def test_what_is_no_schema_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JsonSchema(schema, "inputSchema")


def test_a_reference_out_of_the_schema_is_not_fetched() -> None:
    assert "not in it" in JsonSchema({"$ref": "http://127.0.0.1:1/schema.json"}).problems({})[0]


def test_a_schema_that_refers_to_itself_without_end_is_a_problem_not_a_crash() -> None:
    assert JsonSchema({"$ref": "#"}).problems({}) == ["the value or the schema is nested without end"]


def test_a_pattern_that_would_hang_a_backtracking_engine_answers_at_once() -> None:
    assert JsonSchema({"pattern": "^(a+)+$"}).problems("a" * 5000 + "!") != []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(value=_JSON, key=st.sampled_from(["a", "b", "^a", "b$"]), closed=st.booleans())
def test_the_keywords_that_run_on_re2_agree_with_the_library(value: Any, key: str, closed: bool) -> None:
    schema = {
        "properties": {"a": {"pattern": key}},
        "patternProperties": {key: {"type": ["string", "integer"]}},
        "additionalProperties": False if closed else {"type": "string"},
    }
    assert (JsonSchema(schema).problems(value) == []) == jsonschema.Draft202012Validator(schema).is_valid(value)
