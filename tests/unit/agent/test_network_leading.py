"""Supervisors, handoffs, judges of completion, patience with a routing model, and what members take: the same after a crash."""

from collections.abc import Mapping
from typing import Any

import anyio
import orjson
import pytest

from kastra.agent.services import AgentServices
from kastra.engine.step import StepError
from kastra.testing.clock import VirtualClock

from .recording import Crash, Journal, Recording, closure, obj, scripted
from .test_network import full, net, picks, run

# --- supervisor ---------------------------------------------------------------------------------------------------

ASKS = {"call": {"tool": "search", "arguments": {"prompt": "find it"}}}
WRITES = {"call": {"tool": "write", "arguments": {"prompt": "write ${{ results[0] }}"}}}


def leader(*rules: Mapping[str, Any], **router: Any) -> dict[str, Any]:
    return {"mode": "supervisor", "model": scripted(*rules), **router}


def by_results(*answers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One answer after the other, by how many results there are."""
    return [{"when": f"size(results) == {count}", **answer} for count, answer in enumerate(answers)]


async def test_a_supervisor_calls_members_as_tools_and_answers(services: AgentServices) -> None:
    made = net(leader(*by_results(ASKS, WRITES, {"reply": "all: ${{ results }}"})))
    step = Recording()
    output = await run(services, made, step=step)
    assert output.value == 'all: ["search did it","write did it"]'
    assert output.stop_reason == "Completed"
    assert step.journal.performed == [
        "turn[0]/route", "turn[0]/search/turn[0]", "turn[1]/route", "turn[1]/write/turn[0]", "turn[2]/route",
    ]  # fmt: skip


@pytest.mark.parametrize("survives", range(5))
async def test_a_recovered_supervisor_goes_on_with_its_conversation(survives: int, services: AgentServices) -> None:
    made = net(leader(*by_results(ASKS, WRITES, {"reply": "all: ${{ results }}"})))
    first = Recording(Journal(lose_after=survives))
    with pytest.raises(Crash):
        await run(services, made, step=first)
    second = Recording(first.journal.survivor())
    assert (await run(services, made, step=second)).value == 'all: ["search did it","write did it"]'
    assert len(second.journal.performed) == 5 - survives


async def test_several_calls_of_one_answer_are_turns_one_after_the_other(services: AgentServices) -> None:
    both = {"call": [ASKS["call"], {"tool": "write", "arguments": {"prompt": "a poem"}}]}
    result = await full(services, net(leader(*by_results(both), {"reply": "${{ size(results) }} results"})))
    assert [(turn["next"], turn["task"]) for turn in result["turns"]] == [("search", "find it"), ("write", "a poem")]
    assert (result["output"], result["usage"]["calls"]) == ("2 results", 4)


async def test_a_call_that_is_none_goes_back_to_the_supervisor(services: AgentServices) -> None:
    wrong = {"call": [{"tool": "boss", "arguments": {}}, {"tool": "write", "arguments": {"prompt": ""}}]}
    made = net(leader(*by_results(wrong), {"reply": "${{ results.map(r, r.error.title) }}"}))
    said = orjson.loads((await run(services, made)).value)
    assert "'boss' can't be called; there are: search, write" in said[0]
    assert "prompt must be a text" in said[1]


async def test_a_supervisor_that_never_makes_a_valid_call_leads_to_the_fallback(services: AgentServices) -> None:
    wrong = {"call": {"tool": "boss", "arguments": {}}}
    step = Recording()
    with pytest.raises(StepError, match="no valid choice was made: 'boss' can't be called"):
        await run(services, net(leader(wrong)), step=step)
    assert step.journal.performed == ["turn[0]/route", "turn[0]/route[1]", "turn[0]/route[2]"]
    fallback = leader(*by_results(wrong, wrong, wrong), {"reply": "saved"})
    result = await full(services, net(fallback, defaultAgent="write"))
    assert [turn["next"] for turn in result["turns"]] == ["write"]


async def test_a_member_that_fails_is_told_to_the_supervisor(services: AgentServices) -> None:
    broken = {"search": scripted({"when": "false", "reply": ""})}
    made = net(leader(*by_results(ASKS), {"reply": "${{ results[0].error.title }}"}), models=broken)
    assert "none of its 1 rules" in (await run(services, made)).value


async def test_the_limits_of_a_network_hold_for_its_supervisor(services: AgentServices) -> None:
    endless = {"call": {"tool": "search", "arguments": {"prompt": "once more ${{ turn }}"}}}
    result = await full(services, net(leader(endless, maxSteps=3)))
    assert (len(result["turns"]), result["stopReason"]) == (3, "MaxSteps")
    same = await full(services, net(leader(ASKS)))
    assert same["stopReason"] == "Stalled"
    spent = await full(services, net(leader(endless), budget={"maxModelCalls": 2, "onExceeded": "finish"}))
    assert spent["stopReason"] == "Budget"


async def test_a_member_that_may_be_called_once_is_offered_once(services: AgentServices) -> None:
    rules = [*by_results(ASKS), {"reply": "${{ tools }}"}]
    result = await full(services, net(leader(*rules), members=[{"name": "search", "maxCalls": 1}, "write"]))
    assert orjson.loads(result["output"]) == ["write"]


async def test_what_a_rule_had_done_is_told_to_the_supervisor(services: AgentServices) -> None:
    router = leader(
        {"reply": "${{ messages[size(messages) - 1].content }}"}, rules=[{"when": "turn == 0", "next": "search"}]
    )
    assert (await run(services, net(router))).value == "search was asked by a rule, and gave: search did it"


async def test_a_supervisor_answers_by_the_schema_of_the_network(services: AgentServices) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    rules = [{"when": "size(messages) < 4", "object": {"n": "many"}}, {"object": {"n": 3}}]
    assert (await run(services, net(leader(*rules), output={"schema": schema}))).value == {"n": 3}


async def test_a_supervisor_changes_shared_state(services: AgentServices) -> None:
    changes = {"call": {"tool": "state.set", "arguments": {"found": "x"}}}
    state = {"initial": {"found": []}, "reducers": {"found": "append"}}
    result = await full(services, net(leader(*by_results(changes), {"reply": "done"}), state=state))
    assert (result["state"], result["output"]) == ({"found": ["x"]}, "done")


async def test_tools_are_called_by_their_own_arguments(services: AgentServices) -> None:
    double = "def double(n: int) -> int:\n    return 2 * n"
    calls = [{"call": {"tool": "double", "arguments": {"n": n}}} for n in ("two", 21)]
    rules = by_results(*calls, {"reply": "${{ results[1] }} after: ${{ results[0].error.title }}"})
    entry = {"name": "double", "kind": "Tool", "path": "spec.tools[0]"}
    spec = {"members": [entry], "router": leader(*rules)}
    made = closure(
        obj("Network", "team", spec, {"spec.tools[0]": "Tool/default/double"}),
        obj("Tool", "double", {"python": {"inline": double}}),
    )
    said = (await run(services, made)).value
    assert said.startswith("42 after: no valid call: arguments of double:")


# --- handoff ------------------------------------------------------------------------------------------------------


def hands(to: str, task: str) -> dict[str, Any]:
    return {"call": {"tool": f"handoff_to_{to}", "arguments": {"task": task}}}


async def test_members_pass_control_on_until_one_answers(services: AgentServices) -> None:
    models = {
        "search": scripted(hands("write", "write it up")),
        "write": scripted({"reply": "${{ messages[0].content }}"}),
    }
    step = Recording()
    output = await run(services, net({"mode": "handoff"}, models=models), step=step)
    assert "Your task: write it up" in output.value
    assert output.stop_reason == "Completed"
    assert step.journal.performed == ["turn[0]/search/turn[0]", "turn[1]/write/turn[0]"]
    second = Recording(step.journal.survivor())
    assert (await run(services, net({"mode": "handoff"}, models=models), step=second)).value == output.value
    assert second.journal.performed == []


async def test_the_default_agent_begins_and_a_member_hands_off_to_those_it_names(services: AgentServices) -> None:
    rules = [{"when": "'handoff_to_search' in tools", **hands("search", "x")}, {"reply": "${{ tools }}"}]
    members = [{"name": "search", "canHandoffTo": ["write"]}, "write"]
    made = net({"mode": "handoff"}, members=members, models={"write": scripted(*rules)}, defaultAgent="write")
    result = await full(services, made)
    assert [turn["next"] for turn in result["turns"]] == ["write"]
    assert orjson.loads(result["output"]) == []


async def test_two_members_that_only_hand_off_to_each_other_are_stopped(services: AgentServices) -> None:
    models = {"search": scripted(hands("write", "you")), "write": scripted(hands("search", "no, you"))}
    result = await full(services, net({"mode": "handoff"}, models=models))
    assert result["stopReason"] in ("Stalled", "MaxSteps")
    assert len(result["turns"]) <= 6


async def test_only_one_handoff_of_an_answer_counts_and_one_without_a_task_is_none(services: AgentServices) -> None:
    twice = {"call": [hands("write", "first")["call"], hands("check", "second")["call"]]}
    members = ["search", "write", "check"]
    result = await full(services, net({"mode": "handoff"}, members=members, models={"search": scripted(twice)}))
    assert [turn["next"] for turn in result["turns"]] == ["search", "write"]
    empty = [{"when": "size(results) == 0", **hands("write", "")}, {"reply": "${{ results[0].error.title }}"}]
    made = net({"mode": "handoff"}, models={"search": scripted(*empty)})
    assert (await full(services, made))["output"] == "handoff_to_write: task must be a text"


async def test_only_agents_can_be_members_of_a_network_that_hands_off(services: AgentServices) -> None:
    entry = {"name": "t", "kind": "Tool", "path": "spec.tools[0]"}
    spec = {"members": [entry], "router": {"mode": "handoff"}}
    made = closure(obj("Network", "team", spec, {"spec.tools[0]": "Tool/default/t"}), obj("Tool", "t", {}))
    with pytest.raises(StepError, match="in mode handoff members are Agents"):
        await run(services, made)


# --- completion ---------------------------------------------------------------------------------------------------

DONE = {"isComplete": True, "finalResult": "enough", "completionReason": "it is all there"}


def judged(*rules: Mapping[str, Any], **completion: Any) -> dict[str, Any]:
    return {"completion": {"model": scripted(*rules), "criteria": "there are two results", **completion}}


async def test_a_judge_ends_the_network_when_the_task_is_done(services: AgentServices) -> None:
    rules = [
        {"when": "turn == 2 && messages[0].content.contains('there are two results')", "object": DONE},
        {"object": {"isComplete": False, "completionReason": "no"}},
    ]
    made = net({"mode": "roundRobin"}, members=["search", "write", "check"], termination=judged(*rules))
    step = Recording()
    output = await run(services, made, step=step)
    assert (output.value, output.stop_reason) == ("enough", "Completed")
    assert step.journal.performed == [
        "turn[0]/search/turn[0]", "turn[1]/completion", "turn[1]/write/turn[0]", "turn[2]/completion",
    ]  # fmt: skip
    second = Recording(step.journal.survivor())
    assert (await run(services, made, step=second)).value == "enough"
    assert second.journal.performed == []


async def test_a_judge_is_asked_every_so_many_turns(services: AgentServices) -> None:
    made = net(
        {"mode": "roundRobin"}, members=["search", "write", "check"], termination=judged({"object": DONE}, everySteps=2)
    )
    result = await full(services, made)
    assert (len(result["turns"]), result["output"]) == (2, "enough")


@pytest.mark.parametrize(
    ("verdict", "extra"),
    [
        ({"reply": "I can't say"}, {}),
        ({"object": {"isComplete": "yes"}}, {}),
        ({"object": DONE}, {"schema": {"type": "object"}}),
    ],
)
async def test_a_verdict_that_cannot_be_used_means_that_the_network_goes_on(
    services: AgentServices, verdict: Any, extra: Any
) -> None:
    result = await full(services, net({"mode": "roundRobin"}, termination=judged(verdict, **extra)))
    assert (result["output"], result["stopReason"]) == ("write did it", "Completed")


async def test_without_a_model_of_its_own_the_routing_model_judges(services: AgentServices) -> None:
    schema = {"type": "object", "required": ["n"]}
    rules = [
        {"when": "size(messages) < 4", "object": {"next": "FINISH", "reason": "r", "finalAnswer": "words"}},
        {"object": {"next": "FINISH", "reason": "r", "finalAnswer": {"n": 1}}},
    ]
    termination = {"completion": {"criteria": "n is known", "schema": schema}}
    made = net({"mode": "router", "model": scripted(*rules)}, termination=termination)
    assert (await run(services, made)).value == {"n": 1}
    with pytest.raises(StepError, match=r"spec\.termination\.completion\.model: is required"):
        await run(services, net({"mode": "roundRobin"}, termination=termination))


# --- patience and inputs ------------------------------------------------------------------------------------------

DOWN = {"error": {"kind": "unavailable", "message": "down"}, "times": 2}
FINISHES = {"object": {"next": "FINISH", "reason": "r", "finalAnswer": "ok"}}


@pytest.mark.parametrize(("limit", "works"), [(2, True), (1, False)])
async def test_a_routing_model_that_fails_is_asked_again_as_often_as_is_said(
    services: AgentServices, clock: VirtualClock, limit: int, works: bool
) -> None:
    router = {"mode": "router", "model": scripted(DOWN, FINISHES), "retry": {"limit": limit, "initialInterval": "1s"}}
    said: list[Any] = []

    async def ask() -> None:
        try:
            said.append((await run(services, net(router))).value)
        except StepError as error:
            said.append(error.message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await clock.advance(10)
    assert said == (["ok"] if works else ["scripted model: down"])


async def test_a_choice_that_takes_too_long_is_a_failure(services: AgentServices, clock: VirtualClock) -> None:
    slow = scripted(FINISHES)
    slow["parameters"]["delay"] = "1m"
    said: list[str] = []

    async def ask() -> None:
        with pytest.raises(StepError) as failed:
            await run(services, net({"mode": "router", "model": slow, "timeout": "5s"}))
        said.append(failed.value.type)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await clock.advance(4.9)
        assert said == []
        await clock.advance(0.2)
    assert said == ["timeout"]


TAKES = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


async def test_a_choice_must_give_what_the_member_takes(services: AgentServices) -> None:
    members = [{"name": "search", "inputSchema": TAKES}, "write"]
    rules = [
        {"when": "turn == 0 && size(messages) < 4", "object": {"next": "search", "reason": "r"}},
        {"when": "turn == 0", "object": {"next": "search", "reason": "r", "input": {"city": "Ulm"}}},
        FINISHES,
    ]
    step = Recording()
    made = net(
        {"mode": "router", "model": scripted(*rules)},
        members=members,
        models={"search": scripted({"reply": "${{ input.city }}"})},
    )
    assert (await run(services, made, step=step)).value == "ok"
    assert step.journal.performed[:3] == ["turn[0]/route", "turn[0]/route[1]", "turn[0]/search/turn[0]"]
    assert step.journal.values["turn[0]/search/turn[0]"]["text"] == "Ulm"


async def test_a_member_that_is_given_something_else_fails_without_being_asked(services: AgentServices) -> None:
    step = Recording()
    made = net({"mode": "roundRobin"}, members=[{"name": "search", "inputSchema": TAKES}])
    with pytest.raises(StepError, match="search: input of search"):
        await run(services, made, "just text", step)
    assert step.journal.performed == []
    fits = net({"mode": "roundRobin"}, members=[{"name": "search", "inputSchema": TAKES}])
    assert (await run(services, fits, {"city": "Ulm"})).value == "search did it"


async def test_a_first_choice_by_the_model_still_works_beside_all_this(services: AgentServices) -> None:
    made = net(picks({"next": "search"}, {"next": "FINISH"}), termination=judged({"object": {"isComplete": False}}))
    assert (await run(services, made)).value == "search did it"
