"""A Run walks its workflow: in sequence, as a graph, in cycles; with inputs, conditions, retries and limits."""

from typing import Any

import pytest

from kastra.engine.progress import Phase
from kastra.engine.step import Effect, StepError
from kastra.testing.clock import VirtualClock
from tests.unit.engine.harness import engine, single, tool


async def add_one(value: Any, effect: Effect) -> Any:
    return {"n": value["n"] + 1}


def failing(times: int, error: StepError | None = None) -> Any:
    """A tool that fails so many times, then gives the number of its attempt."""
    left = times

    async def run(value: Any, effect: Effect) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise error or StepError("tool", "not now")
        return effect.attempt

    return run


async def test_a_sequence_hands_each_output_to_the_next_step_and_gives_the_last() -> None:
    async with engine({"a": add_one, "b": add_one}) as e:
        progress = await e.run({"steps": [tool("a"), tool("b")]}, {"n": 1})
    assert (progress.phase, progress.output, progress.stop_reason) == (Phase.SUCCEEDED, {"n": 3}, "Completed")
    assert e.tools.calls == [("a", {"n": 1}), ("b", {"n": 2})]


async def test_a_finished_step_and_the_intent_of_the_next_share_one_commit() -> None:
    async with engine() as e:
        before = e.writer.submitted
        uid = e.submit({"steps": [tool(f"s{i}") for i in range(10)]})
        await e.ended(uid)
        # One for the start, one per step: never more than 1.1 commits for each of ten.
        assert e.writer.submitted - before == 11
        records = await e.journal(uid)
    assert records[:4] == [
        ("RunStarted", None),
        ("StepScheduled", "s0"),
        ("StepCompleted", "s0"),
        ("StepScheduled", "s1"),
    ]
    assert len(records) == 22


async def test_initial_step_and_next_choose_the_way_and_END_ends_it() -> None:
    steps = [tool("a", next="c"), tool("b", next="END"), tool("c", next="b")]
    async with engine() as e:
        await e.run({"steps": steps}, 1)
        await e.run({"steps": [tool("x", next="END"), tool("y", next="x")], "initialStep": "y"}, 1)
    assert [key for key, _ in e.tools.calls] == ["a", "c", "b", "y", "x"]


async def test_input_comes_from_where_it_is_said_to_come() -> None:
    steps = [
        tool("one", output={"type": "first"}),
        tool("two", input={"with": {"x": "${{ input.n }}", "y": "is ${{ prev.n }}"}}),
        tool("three", input={"from": ["first"]}),
        tool("four", input={"from": ["user-input"]}),
        tool("five", input={"from": ["two", "input"]}),
    ]
    async with engine({"one": add_one}) as e:
        await e.run({"steps": steps}, {"n": 5})
    assert [value for _, value in e.tools.calls] == [
        {"n": 5},
        {"x": 5, "y": "is 6"},
        {"n": 6},
        {"n": 5},
        {"two": {"x": 5, "y": "is 6"}, "input": {"n": 5}},
    ]


async def test_a_step_whose_condition_is_false_is_skipped_and_leaves_no_output() -> None:
    steps = [
        tool("a", when="input > 3"),
        tool("b", input={"with": {"ran": '${{ "a" in steps && steps.a.status == "Succeeded" }}'}}),
    ]
    async with engine() as e:
        skipped = await e.run({"steps": steps}, 1)
        taken = await e.run({"steps": steps}, 5)
    assert (skipped.output, taken.output) == ({"ran": False}, {"ran": True})
    assert skipped.counts["skipped"] == 1


async def test_a_failed_step_is_tried_again_after_growing_waits_under_the_same_idempotency_key() -> None:
    clock = VirtualClock()
    async with engine({"a": failing(2)}, clock=clock) as e:
        progress = await e.run(
            {"steps": [tool("a", retry={"limit": 3, "initialInterval": "10s", "jitter": 0})]}, uid="r"
        )
    assert (progress.output, e.tools.keys) == (3, ["r/a"] * 3)
    assert clock.monotonic() >= 30


async def test_a_wait_that_the_other_side_asks_for_is_honoured() -> None:
    clock = VirtualClock()
    busy = StepError("rate_limit", "busy", retry_after=100)
    async with engine({"a": failing(1, busy)}, clock=clock) as e:
        await e.run({"steps": [tool("a")]})
    assert clock.monotonic() >= 100


@pytest.mark.parametrize("error", ["validation", "authorization", "expression", "budget"])
async def test_what_no_retry_can_help_is_not_tried_again(error: str) -> None:
    async with engine({"a": failing(9, StepError(error, "no"))}) as e:
        progress = await e.run({"steps": [tool("a", retry={"limit": 5})]})
    assert (progress.phase, len(e.tools.calls)) == (Phase.FAILED, 1)
    assert progress.error == {"type": error, "title": "no", "details": {"step": "a"}}


async def test_retries_end_at_their_limit_and_the_run_fails_with_the_error_of_the_step() -> None:
    async with engine({"a": failing(9)}) as e:
        progress = await e.run({"steps": [tool("a", retry={"limit": 2}), tool("b")]})
    assert (progress.phase, len(e.tools.calls), progress.stop_reason) == (Phase.FAILED, 3, "Failed")


async def test_retry_when_decides_by_the_error() -> None:
    async with engine({"a": failing(9)}) as e:
        await e.run({"steps": [tool("a", retry={"limit": 5, "when": 'error.type == "timeout"'})]})
    assert len(e.tools.calls) == 1


async def test_continue_on_error_goes_on_and_the_error_can_be_read() -> None:
    steps = [
        tool("a", continueOnError=True, retry={"limit": 0}),
        tool("b", input={"with": {"why": "${{ steps.a.error.title }}", "status": "${{ steps.a.status }}"}}),
    ]
    async with engine({"a": failing(9)}) as e:
        progress = await e.run({"steps": steps})
    assert progress.output == {"why": "not now", "status": "Failed"}


async def test_catch_takes_the_first_handler_that_matches_and_its_value_is_the_steps_own() -> None:
    catch = [
        {"errors": ["timeout"], "output": "late"},
        {
            "errors": ["tool"],
            "when": 'error.title == "not now"',
            "steps": [tool("mend", input={"with": {"e": "${{ error.type }}"}})],
        },
    ]
    async with engine({"a": failing(9)}) as e:
        progress = await e.run({"steps": [tool("a", retry={"limit": 0}, catch=catch), tool("b")]})
    assert progress.output == {"e": "tool"}
    assert [key for key, _ in e.tools.calls] == ["a", "a/catch[1]/mend", "b"]


async def test_catch_can_jump() -> None:
    steps = [tool("a", retry={"limit": 0}, catch=[{"output": {"gave": "up"}, "next": "END"}]), tool("b")]
    async with engine({"a": failing(9)}) as e:
        progress = await e.run({"steps": steps})
    assert progress.output == {"gave": "up"}


async def test_an_attempt_that_takes_too_long_is_cancelled_and_counts_as_a_failure() -> None:
    clock = VirtualClock()

    async def slow(value: Any, effect: Effect) -> Any:
        if effect.attempt == 1:
            await clock.sleep(1000)
        return "quick"

    async with engine({"a": slow}, clock=clock) as e:
        progress = await e.run({"steps": [tool("a", timeout={"attempt": "5s"})]})
    assert (progress.output, len(e.tools.calls)) == ("quick", 2)
    assert clock.monotonic() < 100


@pytest.mark.parametrize("limit", ["step", "workflow", "order"])
async def test_a_limit_on_the_whole_ends_everything_however_often_it_is_retried(limit: str) -> None:
    clock = VirtualClock()

    async def slow(value: Any, effect: Effect) -> Any:
        await clock.sleep(1000)

    step = tool("a", timeout={"total": "30s"}) if limit == "step" else tool("a")
    spec = {"steps": [step], **({"timeout": {"total": "30s"}} if limit == "workflow" else {})}
    async with engine({"a": slow}, clock=clock) as e:
        progress = await e.run(spec, **({"timeout": 30.0} if limit == "order" else {}))
    assert progress.error is not None
    assert progress.error["type"] == "timeout"
    assert 30 <= clock.monotonic() < 40
    assert progress.stop_reason == ("Failed" if limit == "step" else "Timeout")


async def test_a_cycle_visits_a_step_again_under_a_new_key_and_is_bounded() -> None:
    steps = [tool("count"), {"id": "again", "branch": {"cases": [{"when": "prev.n < 3", "next": "count"}]}}]
    async with engine({"count": add_one}) as e:
        progress = await e.run({"steps": steps}, {"n": 0})
        endless = await e.run({"steps": [tool("count", next="count")], "maxStepExecutions": 7}, {"n": 0})
    assert [key for key, _ in e.tools.calls][:3] == ["count", "count@2", "count@3"]
    assert progress.phase is Phase.SUCCEEDED
    assert endless.error is not None
    assert endless.error["type"] == "no_progress"
    assert len(e.tools.calls) == 3 + 7


async def test_a_graph_runs_what_it_can_at_once_and_joins_what_depends_on_several() -> None:
    steps = [tool("a"), tool("b"), tool("c", dependsOn=["a", "b"]), tool("d", dependsOn=["c"])]
    async with engine({"a": add_one}) as e:
        progress = await e.run({"steps": steps}, {"n": 1})
    keys = [key for key, _ in e.tools.calls]
    assert (sorted(keys[:2]), keys[2:]) == (["a", "b"], ["c", "d"])
    assert dict(e.tools.calls)["c"] == {"a": {"n": 2}, "b": {"n": 1}}
    assert progress.output["d"] == {"a": {"n": 2}, "b": {"n": 1}}


async def test_a_chain_in_a_graph_costs_no_more_commits_than_a_sequence() -> None:
    steps = [tool("s0"), *(tool(f"s{n}", dependsOn=[f"s{n - 1}"]) for n in range(1, 8))]
    async with engine() as e:
        before = e.writer.submitted
        await e.run({"steps": steps})
        assert e.writer.submitted - before <= 10


async def test_a_condition_over_statuses_begins_a_step_or_skips_it() -> None:
    steps = [
        tool("a", retry={"limit": 0}, continueOnError=True),
        tool("mend", dependsOn='steps.a.status == "Failed"'),
        tool("go", dependsOn='steps["a"].status == "Succeeded"'),
    ]
    async with engine({"a": failing(9)}) as e:
        progress = await e.run({"flow": "DAG", "steps": steps})
    assert [key for key, _ in e.tools.calls] == ["a", "mend"]
    assert (progress.counts["skipped"], list(progress.output)) == (1, ["mend"])


async def test_what_is_skipped_may_take_its_dependents_with_it() -> None:
    steps = [
        tool("a", when="false", onSkip="skipDependents"),
        tool("b", dependsOn=["a"]),
        tool("c", when="false"),
        tool("d", dependsOn=["c"]),
    ]
    async with engine() as e:
        await e.run({"steps": steps})
    assert [key for key, _ in e.tools.calls] == ["d"]


async def test_a_failure_in_a_graph_cancels_what_runs_beside_it() -> None:
    clock = VirtualClock()

    async def slow(value: Any, effect: Effect) -> Any:
        await clock.sleep(1000)

    steps = [tool("a", retry={"limit": 0}), tool("b", "slow"), tool("c", dependsOn=["a", "b"])]
    async with engine({"a": failing(9), "slow": slow}, clock=clock) as e:
        progress = await e.run({"steps": steps})
    assert progress.error is not None
    assert progress.error["details"] == {"step": "a"}
    assert clock.monotonic() < 10


async def test_output_as_schema_and_export_shape_what_a_step_gives() -> None:
    def validate(schema: Any, value: Any) -> list[str]:
        return [] if isinstance(value, dict) and schema["required"][0] in value else ["n is missing"]

    steps = [
        tool("a", output={"as": {"m": "${{ output.n * 2 }}"}, "export": {"seen": "${{ output.m }}"}}),
        tool("b", input={"with": {"seen": "${{ state.seen }}"}}),
        tool("c", output={"schema": {"required": ["n"]}}, retry={"limit": 1}),
    ]
    async with engine(validate=validate) as e:
        progress = await e.run({"steps": steps}, {"n": 4})
    assert dict(e.tools.calls)["b"] == {"seen": 8}
    assert progress.error is not None
    assert progress.error["type"] == "output"
    assert [key for key, _ in e.tools.calls] == ["a", "b", "c", "c"]


async def test_input_that_breaks_its_schema_ends_the_run_before_any_effect() -> None:
    async with engine(validate=lambda schema, value: ["topic is missing"]) as e:
        progress = await e.run({"steps": [tool("a")], "input": {"schema": {"type": "object"}}}, {})
    assert (progress.phase, e.tools.calls) == (Phase.FAILED, [])
    assert progress.error == {"type": "validation", "title": "the input doesn't match its schema: topic is missing"}


async def test_a_missing_path_in_an_expression_fails_the_step_with_the_expression() -> None:
    async with engine() as e:
        progress = await e.run({"steps": [tool("a", input={"with": {"x": "${{ input.nope }}"}})]}, {})
    assert progress.error is not None
    assert progress.error["type"] == "expression"
    assert "no such key: nope" in progress.error["title"]


async def test_the_output_of_a_workflow_may_be_composed() -> None:
    spec = {
        "steps": [tool("a"), tool("b")],
        "output": {"as": {"first": "${{ steps.a.output }}", "last": "${{ output }}"}},
    }
    async with engine() as e:
        progress = await e.run(spec, 7)
    assert progress.output == {"first": 7, "last": 7}


async def test_a_sensitive_output_stays_out_of_progress_and_events() -> None:
    async with engine() as e, e.bus.subscribe("run/secret") as events:
        progress = await e.run({"steps": [tool("a", output={"sensitive": True})]}, "s3cret", uid="secret")
        seen = [event for _, event in await events.batch()]
    assert progress.output is None
    assert "s3cret" not in str(seen)


async def test_an_agent_a_tool_or_a_network_runs_by_itself_as_one_leaf() -> None:
    async with engine() as e:
        progress = await e.ended(e.submit_closure(single("Tool"), {"q": 1}, uid="solo"))
    assert (progress.output, e.tools.calls, e.tools.keys) == ({"q": 1}, [("", {"q": 1})], ["solo/"])


async def test_a_defect_in_a_tool_fails_the_run_without_telling_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(value: Any, effect: Effect) -> Any:
        raise KeyError("token=abc")

    async with engine({"a": broken}) as e:
        progress = await e.run({"steps": [tool("a", retry={"limit": 0})]})
    assert progress.error is not None
    assert progress.error["title"] == "unexpected KeyError; see the log"


async def test_a_workflow_that_asks_for_what_is_not_done_fails_with_the_path() -> None:
    async with engine() as e:
        progress = await e.run({"steps": [tool("w", queue="slow")]})
    assert progress.error is not None
    assert "spec.steps[0].queue" in progress.error["title"]
