"""Steps that hold steps: parallel, branch, loop, forEach and do; and those that need no tool: sleep, set and raise."""

from typing import Any

import pytest

from kastra.engine.progress import Phase
from kastra.engine.step import Effect, StepError
from kastra.testing.clock import VirtualClock
from tests.unit.engine.harness import engine, tool

NEVER = {"limit": 0}


async def add_one(value: Any, effect: Effect) -> Any:
    return {"n": value["n"] + 1}


async def fail(value: Any, effect: Effect) -> Any:
    raise StepError("tool", "broken")


async def test_what_came_before_a_child_is_what_came_before_all_however_they_end() -> None:
    seen = {"prev": "${{ prev }}"}
    children = [tool("a"), {"id": "b", "set": seen}, {"id": "c", "do": {"steps": [{"id": "d", "set": seen}]}}]
    steps = [tool("first"), {"id": "fan", "parallel": {"maxConcurrency": 1, "steps": children}}]
    async with engine({"a": add_one}) as e:
        progress = await e.run({"steps": steps}, {"n": 1})
    assert progress.output == {"a": {"n": 2}, "b": {"prev": {"n": 1}}, "c": {"prev": {"n": 1}}}


async def test_what_came_before_a_step_of_a_graph_is_what_it_depends_on() -> None:
    steps = [
        tool("a"),
        {"id": "b", "set": {"prev": "${{ prev }}"}, "dependsOn": ["a"]},
        tool("x", "slow", dependsOn=["a"]),
    ]
    async with engine({"a": add_one}) as e:
        progress = await e.run({"steps": [*steps, {"id": "r", "set": {"r": "${{ prev }}"}}]}, {"n": 1})
    assert progress.output["b"] == {"prev": {"n": 2}}
    assert progress.output["r"] == {"r": {"n": 1}}, "a root comes after the input"


async def test_parallel_gives_a_map_by_child_id_in_the_order_of_the_children() -> None:
    step = {"id": "fan", "parallel": {"steps": [tool("a"), tool("b"), tool("c")]}}
    async with engine({"b": add_one}) as e:
        progress = await e.run({"steps": [step]}, {"n": 1})
    assert progress.output == {"a": {"n": 1}, "b": {"n": 2}, "c": {"n": 1}}
    assert list(progress.output) == ["a", "b", "c"]
    assert sorted(e.tools.keys)[0].endswith("/fan/a")


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ("all", None),
        ("any", {"good": 1}),
        (
            "settled",
            {
                "good": 1,
                "also": 1,
                "bad": {"error": {"type": "tool", "title": "broken", "details": {"step": "fan/bad"}}},
            },
        ),
        (2, {"good": 1, "also": 1}),
        (3, None),
    ],
)
async def test_join_says_how_many_children_must_succeed(join: Any, expected: Any) -> None:
    children = [tool("good"), tool("bad", retry=NEVER), tool("also")]
    fan = {"id": "fan", "parallel": {"join": join, "maxConcurrency": 1, "steps": children}}
    async with engine({"bad": fail}) as e:
        progress = await e.run({"steps": [fan]}, 1)
    assert progress.output == expected
    assert (progress.phase is Phase.FAILED) == (expected is None)


async def test_branch_takes_the_first_case_that_holds_or_the_default() -> None:
    cases = [{"when": "input > 10", "steps": [tool("big")]}, {"when": "input > 5", "steps": [tool("mid")]}]
    step = {"id": "route", "branch": {"mode": "first", "cases": cases, "default": {"steps": [tool("small")]}}}
    async with engine() as e:
        for value in (20, 7, 1):
            await e.run({"steps": [step]}, value)
    assert [key for key, _ in e.tools.calls] == ["route/case[0]/big", "route/case[1]/mid", "route/default/small"]


async def test_branch_of_mode_all_takes_every_case_that_holds() -> None:
    cases = [{"when": f"input > {limit}", "steps": [tool("t")]} for limit in (1, 9, 2)]
    async with engine() as e:
        progress = await e.run({"steps": [{"id": "route", "branch": {"mode": "all", "cases": cases}}]}, 5)
    assert progress.output == {"0": 5, "2": 5}


async def test_a_branch_may_jump_and_what_came_before_goes_along() -> None:
    route = {"id": "route", "branch": {"cases": [{"when": "true", "next": "c"}], "default": {"next": "b"}}}
    async with engine({"a": add_one}) as e:
        progress = await e.run({"steps": [tool("a"), route, tool("b"), tool("c")]}, {"n": 1})
    assert [key for key, _ in e.tools.calls] == ["a", "c"]
    assert progress.output == {"n": 2}


async def test_loop_until_repeats_its_body_with_what_the_body_gave_last() -> None:
    loop = {
        "id": "poll",
        "loop": {"until": "steps.t.output.n >= 3", "maxIterations": 9, "delay": "10s", "steps": [tool("t")]},
    }
    clock = VirtualClock()
    async with engine({"t": add_one}, clock=clock) as e:
        progress = await e.run({"steps": [loop]}, {"n": 0})
    assert progress.output == {"n": 3}
    assert [key for key, _ in e.tools.calls] == ["poll#1/t", "poll#2/t", "poll#3/t"]
    assert 20 <= clock.monotonic() < 30


async def test_loop_while_sees_the_previous_iteration_and_may_not_begin_at_all() -> None:
    body = {"maxIterations": 5, "steps": [tool("t")]}
    async with engine({"t": add_one}) as e:
        twice = await e.run({"steps": [{"id": "l", "loop": {"while": "iteration < 2", **body}}]}, {"n": 0})
        never = await e.run({"steps": [{"id": "l", "loop": {"while": "prev != null", **body}}]}, {"n": 0})
    assert (twice.output, never.output) == ({"n": 2}, None)


async def test_a_loop_that_does_not_end_fails_instead_of_going_on_silently() -> None:
    async with engine() as e:
        progress = await e.run(
            {"steps": [{"id": "l", "loop": {"until": "false", "maxIterations": 3, "steps": [tool("t")]}}]}
        )
    assert progress.error is not None
    assert (progress.error["type"], len(e.tools.calls)) == ("no_progress", 3)


async def test_forEach_gives_the_values_of_its_bodies_in_the_order_of_the_items() -> None:
    step = {"id": "each", "forEach": {"items": "input.list", "as": "x", "indexAs": "i", "concurrency": 2,
            "steps": [tool("t", input={"with": {"v": "${{ x * 10 + i }}"}})]}}  # fmt: skip
    async with engine() as e:
        progress = await e.run({"steps": [step]}, {"list": [1, 2, 3]})
    assert progress.output == [{"v": 10}, {"v": 21}, {"v": 32}]
    assert sorted(key for key, _ in e.tools.calls) == ["each[0]/t", "each[1]/t", "each[2]/t"]


@pytest.mark.parametrize(
    ("tolerated", "phase"), [(0, Phase.FAILED), (1, Phase.SUCCEEDED), ("50%", Phase.SUCCEEDED), ("10%", Phase.FAILED)]
)
async def test_forEach_tolerates_so_many_failures(tolerated: Any, phase: Phase) -> None:
    async def odd(value: Any, effect: Effect) -> Any:
        if value == 1:
            raise StepError("tool", "odd")
        return value

    step = {
        "id": "each",
        "forEach": {"items": [1, 2, 4], "toleratedFailures": tolerated, "steps": [tool("t", retry=NEVER)]},
    }
    async with engine({"t": odd}) as e:
        progress = await e.run({"steps": [step]})
    assert progress.phase is phase
    if phase is Phase.SUCCEEDED:
        assert progress.output == [None, 2, 4]
    else:
        assert len(e.tools.calls) == 1


async def test_do_is_a_scope_of_its_own_of_which_only_the_value_is_seen() -> None:
    inner = {"flow": "DAG", "steps": [tool("a"), tool("b", dependsOn=["a"])]}
    steps = [{"id": "box", "do": inner}, tool("after", input={"with": {"b": "${{ steps.box.output.b.n }}"}})]
    async with engine({"a": add_one}) as e:
        progress = await e.run({"steps": steps}, {"n": 1})
    assert progress.output == {"b": 2}
    assert [key for key, _ in e.tools.calls] == ["box/a", "box/b", "after"]


async def test_what_is_inside_sees_what_is_around_it() -> None:
    inner = {
        "id": "box",
        "do": {
            "steps": [tool("b", input={"with": {"a": "${{ steps.a.output.n }}"}}), tool("c", input={"from": ["first"]})]
        },
    }
    async with engine({"a": add_one}) as e:
        progress = await e.run({"steps": [tool("a", output={"type": "first"}), inner]}, {"n": 1})
    assert progress.output == {"n": 2}
    assert dict(e.tools.calls)["box/b"] == {"a": 2}


async def test_a_body_that_fails_is_retried_under_keys_of_its_own() -> None:
    calls = 0

    async def flaky(value: Any, effect: Effect) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise StepError("tool", "once", retryable=True)
        return value

    box = {
        "id": "box",
        "retry": {"limit": 1, "initialInterval": "1s"},
        "do": {"steps": [tool("a"), tool("b", retry=NEVER)]},
    }
    async with engine({"b": flaky}) as e:
        progress = await e.run({"steps": [box]}, 1)
    assert progress.phase is Phase.SUCCEEDED
    assert [key for key, _ in e.tools.calls] == ["box/a", "box/b", "box~2/a", "box~2/b"]


async def test_sleep_waits_so_long_and_lets_the_data_through() -> None:
    clock = VirtualClock()
    steps = [
        {"id": "nap", "sleep": {"duration": "10m"}},
        {"id": "more", "sleep": {"expression": "input.pause"}},
        tool("a"),
    ]
    async with engine(clock=clock) as e:
        uid = e.submit({"steps": steps}, {"pause": "5m"})
        waiting = await e.until(uid, lambda p: p.phase is Phase.WAITING)
        progress = await e.ended(uid)
    assert waiting.waiting_for[0]["stepKey"] == "nap"
    assert waiting.waiting_for[0]["kind"] == "Timer"
    assert progress.output == {"pause": "5m"}
    assert 900 <= clock.monotonic() < 905


async def test_sleep_until_waits_for_a_time_and_not_at_all_for_one_that_has_passed() -> None:
    clock = VirtualClock()
    steps = [{"id": "a", "sleepUntil": "2026-01-01T00:10:00Z"}, {"id": "b", "sleepUntil": "input"}]
    async with engine(clock=clock) as e:
        await e.run({"steps": steps}, "2020-01-01T00:00:00+02:00")
    assert 600 <= clock.monotonic() < 605


async def test_a_timer_is_never_early_when_the_clock_is_set_back_and_fires_once_when_it_is_set_forward() -> None:
    clock = VirtualClock()
    async with engine(clock=clock) as e:
        back = e.submit({"steps": [{"id": "nap", "sleep": {"duration": "10m"}}]})
        await e.until(back, lambda p: p.phase is Phase.WAITING)
        clock.jump(-3600)
        await clock.advance(660)
        progress = await e.pool.progress(back)
        assert progress is not None
        assert progress.phase is Phase.WAITING
        clock.jump(7200)
        await clock.advance(61)
        progress = await e.ended(back)
        records = await e.journal(back)
    assert records.count(("TimerFired", "nap")) == 1


async def test_set_merges_into_the_state_and_raise_fails_with_its_own_type() -> None:
    steps = [
        {"id": "one", "set": {"round": "${{ state.round + 1 }}", "tag": "x"}},
        {"id": "out", "raise": {"type": "sold_out", "title": "round ${{ state.round }}", "status": 409}},
    ]
    async with engine() as e:
        progress = await e.run({"steps": steps, "state": {"initial": {"round": 1}}})
    assert progress.error == {"type": "sold_out", "title": "round 2", "details": {"status": 409, "step": "out"}}


async def test_a_hundred_branches_take_a_handful_of_commits() -> None:
    fan = {"id": "fan", "parallel": {"steps": [tool(f"s{i}", "t") for i in range(100)]}}
    async with engine() as e:
        before = e.writer.submitted
        progress = await e.run({"steps": [fan]}, 1)
        assert e.writer.submitted - before < 12
    assert progress.counts["succeeded"] == 101


async def test_a_workflow_may_limit_how_many_effects_run_at_once() -> None:
    clock = VirtualClock()
    running = peak = 0

    async def slow(value: Any, effect: Effect) -> Any:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await clock.sleep(1)
        running -= 1

    fan = {"id": "fan", "parallel": {"steps": [tool(f"s{i}", "slow") for i in range(9)]}}
    async with engine({"slow": slow}, clock=clock) as e:
        await e.run({"steps": [fan], "concurrency": {"maxStepsInFlight": 3}})
    assert peak == 3
