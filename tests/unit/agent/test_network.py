"""A network chooses, acts and stops; always with a reason, and the same again after a crash."""

from collections.abc import Mapping
from typing import Any

import pytest

from kastra.agent.assembly import Assembly
from kastra.agent.network_check import unsupported
from kastra.agent.runners import generate, runners
from kastra.agent.services import AgentServices
from kastra.engine.output import Output
from kastra.engine.step import StepError
from kastra.testing.clock import VirtualClock

from .recording import Crash, Journal, Recording, closure, obj, scripted, target

SAYS = {name: scripted({"reply": f"{name} did it"}) for name in ("search", "write", "check")}


def net(router: Mapping[str, Any], *, members: Any = ("search", "write"), models: Any = None, **spec: Any) -> Any:
    models = {**SAYS, **(models or {})}
    entries = [m if isinstance(m, dict) else {"name": m} for m in members]
    entries = [
        {"kind": "Agent", "path": f"spec.agents[{i}]", "ref": {"kind": "Agent", "name": m["name"]}, **m}
        for i, m in enumerate(entries)
    ]
    body = {"instructions": "Work.", "members": entries, "router": router, **spec}
    refs = {entry["path"]: f"Agent/default/{entry['name']}" for entry in entries}
    agents = [obj("Agent", entry["name"], {"model": models[entry["name"]]}) for entry in entries]
    return closure(obj("Network", "team", body, refs), *agents)


def picks(*choices: Mapping[str, Any]) -> dict[str, Any]:
    """A router whose model makes these choices, turn by turn."""
    rules = [{"when": f"turn == {n}", "object": {"reason": "because", **c}} for n, c in enumerate(choices)]
    return {"mode": "router", "model": scripted(*rules)}


async def run(services: AgentServices, made: Any, value: Any = "the request", step: Recording | None = None) -> Any:
    return await runners(services)["network"].run(step or Recording(), target(made), value, {})


async def full(services: AgentServices, made: Any, value: Any = "the request") -> dict[str, Any]:
    return await generate(Assembly(services), made, value, Recording())


async def test_a_model_picks_members_until_it_finishes_with_the_answer(services: AgentServices) -> None:
    made = net(
        picks(
            {"next": "search", "task": "find"},
            {"next": "write", "task": "sum up"},
            {"next": "FINISH", "finalAnswer": "42"},
        )
    )
    step = Recording()
    output = await run(services, made, step=step)
    assert (output.value, output.stop_reason) == ("42", "Completed")
    assert step.journal.performed == [
        "turn[0]/route", "turn[0]/search/turn[0]", "turn[1]/route", "turn[1]/write/turn[0]", "turn[2]/route",
    ]  # fmt: skip
    assert [data["next"] for event, data in step.journal.events if event == "router.decision"] == [
        "search",
        "write",
        "FINISH",
    ]


@pytest.mark.parametrize("survives", range(5))
async def test_a_recovered_network_repeats_nothing_and_ends_the_same(survives: int, services: AgentServices) -> None:
    made = net(picks({"next": "search"}, {"next": "write", "task": "sum up"}, {"next": "FINISH"}))
    first = Recording(Journal(lose_after=survives))
    with pytest.raises(Crash):
        await run(services, made, step=first)
    second = Recording(first.journal.survivor())
    assert (await run(services, made, step=second)).value == "write did it"
    assert len(second.journal.performed) == 5 - survives


async def test_finishing_without_an_answer_gives_the_last_output(services: AgentServices) -> None:
    result = await full(services, net(picks({"next": "search"}, {"next": "FINISH"})))
    assert (result["output"], result["stopReason"], result["usage"]["calls"]) == ("search did it", "Completed", 3)


async def test_rules_go_first_and_spare_the_model(services: AgentServices) -> None:
    router = {
        "mode": "router",
        "rules": [
            {"when": "turn == 0", "next": "search"},
            {"when": 'last.next == "search"', "next": "write"},
            {"when": "true", "next": "END"},
        ],
        "model": scripted({"when": "false", "reply": "never asked"}),
    }
    step = Recording()
    assert (await run(services, net(router), step=step)).value == "write did it"
    assert step.journal.performed == ["turn[0]/search/turn[0]", "turn[1]/write/turn[0]"]


async def test_one_member_needs_no_model(services: AgentServices) -> None:
    step = Recording()
    output = await run(services, net({"mode": "router"}, members=["search"]), step=step)
    assert (output.value, step.journal.performed) == ("search did it", ["turn[0]/search/turn[0]"])


async def test_round_robin_lets_each_act_once_in_order(services: AgentServices) -> None:
    result = await full(services, net({"mode": "roundRobin"}, members=["search", "write", "check"]))
    assert [turn["next"] for turn in result["turns"]] == ["search", "write", "check"]
    assert (result["output"], result["stopReason"]) == ("check did it", "Completed")


async def test_round_robin_goes_on_until_the_condition_holds(services: AgentServices) -> None:
    made = net({"mode": "roundRobin"}, termination={"when": "turn == 3"})
    assert [turn["next"] for turn in (await full(services, made))["turns"]] == ["search", "write", "search"]


async def test_expressions_alone_choose_by_state_and_turns(services: AgentServices) -> None:
    rules = [
        {"when": "size(turns) == 0", "next": "write"},
        {"when": 'input.go && last.next == "write"', "next": "check"},
    ]
    made = net({"mode": "expression", "rules": rules}, members=["write", "check"])
    assert [turn["next"] for turn in (await full(services, made, {"go": True}))["turns"]] == ["write", "check"]


async def test_an_invalid_choice_is_asked_for_again_with_the_reason(services: AgentServices) -> None:
    router = {
        "mode": "router",
        "model": scripted(
            {"when": 'turn == 0 && size(messages) > 2 && messages[3].content.contains("must be one of search, write, FINISH")',
             "object": {"next": "write", "reason": ""}},
            {"when": "turn == 0", "object": {"next": "nobody", "reason": ""}},
            {"object": {"next": "FINISH", "reason": ""}},
        ),
    }  # fmt: skip
    step = Recording()
    assert (await run(services, net(router), step=step)).value == "write did it"
    assert step.journal.performed[:2] == ["turn[0]/route", "turn[0]/route[1]"]


@pytest.mark.parametrize(
    "answer", [{"object": {"next": "nobody"}}, {"reply": "no json"}, {"object": [1]}, {"object": {"next": None}}]
)
async def test_garbage_falls_back_to_the_default_agent_and_stops(
    answer: dict[str, Any], services: AgentServices
) -> None:
    router = {"mode": "router", "model": scripted(answer), "invalidChoice": {"retries": 1, "fallback": "defaultAgent"}}
    result = await full(services, net(router, defaultAgent="write", termination={"maxSteps": 3}))
    assert [turn["next"] for turn in result["turns"]] == ["write"] * 3
    assert result["stopReason"] == "MaxSteps"


@pytest.mark.parametrize("fallback", ["fail", "defaultAgent"])
async def test_garbage_without_a_default_agent_fails_and_names_it(fallback: str, services: AgentServices) -> None:
    router = {"mode": "router", "model": scripted({"object": {"next": "x"}}), "invalidChoice": {"fallback": fallback}}
    with pytest.raises(
        StepError, match='no valid choice was made: next is "x", and must be one of search, write, FINISH'
    ):
        await run(services, net(router))


async def test_two_members_sent_back_and_forth_are_stopped(services: AgentServices) -> None:
    choices = [{"next": ("search", "write")[n % 2], "task": f"try {n}"} for n in range(20)]
    result = await full(services, net(picks(*choices), termination={"maxSteps": 20, "stall": {"action": "finish"}}))
    assert (result["stopReason"], len(result["turns"])) == ("Stalled", 3)


async def test_the_same_task_twice_is_a_stall_unless_the_state_changed(services: AgentServices) -> None:
    same = [{"next": "search", "task": "find"}] * 5
    assert (await full(services, net(picks(*same))))["stopReason"] == "Stalled"
    moving = [{"next": "search", "task": "find", "stateUpdates": {"n": n}} for n in range(3)]
    made = net(picks(*moving, {"next": "FINISH"}), state={"initial": {"n": -1}})
    result = await full(services, made)
    assert (result["stopReason"], result["state"]) == ("Completed", {"n": 2})


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"termination": {"maxSteps": 2}}, "MaxSteps"),
        ({"budget": {"maxModelCalls": 3, "onExceeded": "finish"}}, "Budget"),
        ({"termination": {"when": "turn == 2"}}, "Completed"),
    ],
)
async def test_limits_stop_with_their_reason(spec: dict[str, Any], reason: str, services: AgentServices) -> None:
    choices = [{"next": ("search", "write", "check")[n % 3], "task": f"try {n}"} for n in range(9)]
    model = picks(*choices)
    model["model"]["parameters"]["rules"].insert(
        0, {"when": 'messages[0].content.contains("final answer to")', "reply": "summed up"}
    )
    result = await full(services, net(model, members=["search", "write", "check"], **spec))
    assert result["stopReason"] == reason
    assert result["output"] == ("write did it" if reason == "Completed" else "summed up")


async def test_the_default_limit_is_twice_the_members_and_two(services: AgentServices) -> None:
    choices = [{"next": ("search", "write", "check")[n % 3], "task": f"try {n}"} for n in range(20)]
    made = net(picks(*choices), members=["search", "write", "check"], termination={"onLimit": "fail"})
    with pytest.raises(StepError, match="stopped after 8 turns: MaxSteps") as caught:
        await run(services, made)
    assert (caught.value.type, caught.value.details) == ("no_progress", {"stopReason": "MaxSteps"})


async def test_a_duration_is_counted_from_the_first_start_of_the_run(
    services: AgentServices, clock: VirtualClock
) -> None:
    made = net(picks({"next": "search"}, {"next": "write"}, {"next": "FINISH"}), termination={"maxDuration": "10m"})
    first = Recording(Journal(lose_after=3))
    with pytest.raises(Crash):
        await run(services, made, step=first)
    clock.jump(3600)
    second = Recording(first.journal.survivor())
    result = await generate(Assembly(services), made, "the request", second)
    # Turn 1 had been allowed before the crash; turn 2 is not.
    assert (result["stopReason"], [turn["next"] for turn in result["turns"]]) == ("Timeout", ["search", "write"])


async def test_a_member_that_failed_twice_or_used_up_its_calls_is_no_longer_offered(services: AgentServices) -> None:
    choices = [{"next": "search", "task": f"try {n}"} for n in range(2)] + [
        {"next": "write", "task": "a"},
        {"next": "write", "task": "b"},
        {"next": "FINISH"},
    ]
    router = {**picks(*choices), "invalidChoice": {"retries": 0, "fallback": "END"}}
    members = ["search", {"name": "write", "maxCalls": 1}]
    made = net(router, members=members, models={"search": scripted({"when": "false", "reply": ""})})
    result = await full(services, made)
    assert [(turn["next"], turn["error"] is None) for turn in result["turns"]] == [
        ("search", False),
        ("search", False),
        ("write", True),
    ]
    assert "none of its 1 rules" in result["turns"][0]["error"]["title"]


async def test_members_are_told_as_much_as_their_context_says(services: AgentServices) -> None:
    echo = {name: scripted({"reply": "${{ input.text }}"}) for name in ("search", "write", "check")}
    choices = [
        {"next": "search"},
        {"next": "write", "task": "sum up"},
        {"next": "check", "task": "check it"},
        {"next": "FINISH"},
    ]
    members = ["search", {"name": "write", "context": "full"}, {"name": "check", "context": "task"}]
    turns = (await full(services, net(picks(*choices), members=members, models=echo)))["turns"]
    assert turns[0]["output"] == "the request"
    assert turns[1]["output"] == "Request: the request\n\nFrom search: the request\n\nYour task: sum up"
    assert turns[2]["output"] == "check it"


async def test_state_is_reduced_checked_and_written_with_the_effect_that_changed_it(services: AgentServices) -> None:
    setter = scripted(
        {"when": "turn == 0", "call": {"tool": "state.set", "arguments": {"found": "b"}}}, {"reply": "done"}
    )
    schema = {"properties": {"found": {"type": "array", "items": {"type": "string"}}}}
    state = {
        "initial": {"found": ["a"]},
        "reducers": {"found": "append"},
        "schema": schema,
        "persistence": True,
        "ttl": "1h",
    }
    choices = [{"next": "search", "stateUpdates": {"found": ["x"]}}, {"next": "FINISH"}]
    made = net(picks(*choices), models={"search": setter}, state=state)
    step = Recording()
    await run(services, made, step=step)
    assert [write.parameters[0:2] for write in step.journal.writes] == [("network/uid-team/run-1", "found")] * 2
    assert step.journal.writes[-1].parameters[3] == b'["a","x","b"]'
    assert step.journal.writes[-1].parameters[2] == 1767229200000  # an hour after the clock's start
    again = Recording(step.journal.survivor())
    result = await generate(Assembly(services), made, "the request", again)
    assert result["state"] == {"found": ["a", "x", "b"]}
    assert again.journal.performed == []


@pytest.mark.parametrize("updates", [{"nope": 1}, {"found": 7}])
async def test_changes_that_are_not_allowed_make_a_choice_invalid(
    updates: dict[str, Any], services: AgentServices
) -> None:
    state = {"initial": {"found": []}, "schema": {"properties": {"found": {"type": "array"}}}}
    router = {**picks({"next": "search", "stateUpdates": updates}), "invalidChoice": {"retries": 0, "fallback": "fail"}}
    with pytest.raises(StepError, match="state"):
        await run(services, net(router, state=state))


async def test_shared_state_is_read_once_at_the_start(services: AgentServices) -> None:
    class Rows:
        async def load(self, scope: str) -> Mapping[str, Any]:
            return {"seen": scope}

    with_state = AgentServices(services.guard, services.clock, services.secrets, state=Rows())
    made = net({"mode": "roundRobin"}, state={"initial": {"seen": ""}, "persistence": True, "scope": "network"})
    assert (await full(with_state, made))["state"] == {"seen": "network/uid-team/shared"}
    with pytest.raises(StepError, match="needs a store"):
        await run(services, made)


async def test_an_output_schema_is_satisfied_by_a_last_call_or_it_is_an_error(services: AgentServices) -> None:
    router = picks({"next": "search"}, {"next": "FINISH", "finalAnswer": "words"})
    router["model"]["parameters"]["rules"].append({"when": "turn == 2", "object": {"score": 1}})
    output = {"schema": {"type": "object", "required": ["score"]}}
    rules = router["model"]["parameters"]["rules"]
    rules[1:1] = [{"when": 'messages[0].content.contains("final answer to")', "object": {"score": 1}}]
    assert (await run(services, net(router, output=output))).value == {"score": 1}
    with pytest.raises(StepError, match="'search did it' is not of type 'object'") as caught:
        await run(services, net({"mode": "roundRobin"}, members=["search"], output=output))
    assert caught.value.type == "output"


async def test_tools_inline_agents_and_child_runs_are_members(services: AgentServices) -> None:
    class Children:
        async def run(self, step: Any, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
            return f"{target['id']} at {step.key}"

    body = {
        "members": [
            {"name": "add", "kind": "Tool", "path": "spec.tools[0]", "ref": {"kind": "Tool", "name": "add"}},
            {"name": "inline", "kind": "Agent", "path": "spec.agents[0]",
             "spec": {"model": scripted({"when": "turn == 0", "call": {"tool": "add", "arguments": {"a": 40, "b": 2}}}, {"reply": "${{ results[0] }}"}),
                      "tools": [{"name": "add"}]}},
            {"name": "wf", "kind": "Workflow", "path": "spec.workflows[0]", "ref": {"kind": "Workflow", "name": "wf"}},
        ],
        "router": {"mode": "roundRobin"},
    }  # fmt: skip
    refs = {
        "spec.tools[0]": "Tool/default/add",
        "spec.agents[0].spec.tools[0]": "Tool/default/add",
        "spec.workflows[0]": "Workflow/default/wf",
    }
    made = closure(
        obj("Network", "team", body, refs),
        obj("Tool", "add", {"python": {"inline": "def add(a: int, b: int) -> int:\n    return a + b"}}),
        obj("Workflow", "wf", {"steps": []}),
    )
    with_children = AgentServices(services.guard, services.clock, services.secrets, children={"Workflow": Children()})
    turns = (await full(with_children, made, {"a": 1, "b": 2}))["turns"]
    assert [turn["output"] for turn in turns] == [3, "42", "Workflow/default/wf at turn[2]/wf"]


async def test_a_network_step_is_a_run_of_its_own_where_there_can_be_one(services: AgentServices) -> None:
    class Children:
        async def run(self, step: Any, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
            return Output(f"{target['id']} at {step.key}", usage={"inputTokens": 5})

    with_children = AgentServices(services.guard, services.clock, services.secrets, children={"Network": Children()})
    made = net({"mode": "roundRobin"})
    assert (await run(with_children, made)).value == "write did it"
    assert (await run(with_children, made, step=Recording(key="team"))).value == "Network/default/team at team"
    assert (await run(services, made, step=Recording(key="team"))).value == "write did it"
    outer = net({"mode": "roundRobin"}, members=["search", {"name": "team2", "kind": "Network"}], models={"team2": {}})
    outer["objects"]["Agent/default/team2"] = obj("Network", "team2", {})
    output = await run(with_children, outer)
    assert (output.value, output.usage) == ("Network/default/team2 at turn[1]/team2", {"inputTokens": 5})


async def test_a_failure_that_no_router_can_react_to_fails_the_network(services: AgentServices) -> None:
    models = {"search": scripted({"when": "false", "reply": ""})}
    for router in ({"mode": "roundRobin"}, {"mode": "router"}):
        with pytest.raises(StepError, match="none of its 1 rules"):
            await run(services, net(router, members=["search"], models=models))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"members": []}, "it has no members"),
        ({"router": {"rules": [{"when": "1 +", "next": "END"}]}}, "Network default/team: "),
        ({"state": {"reducers": {"a": "fold"}}}, r"spec\.state\.reducers\[a\]: 'fold' is not one of"),
        (
            {"router": {"mode": "router", "allowParallel": True}},
            r"spec\.router\.allowParallel: several .* isn't supported",
        ),
        ({"termination": {"maxDuration": "soon"}}, '"soon" is no duration'),
    ],
)
async def test_a_network_that_cannot_be_made_says_where_and_why(
    spec: dict[str, Any], message: str, services: AgentServices
) -> None:
    made = net({"mode": "roundRobin"})
    made["objects"]["Network/default/team"]["spec"].update(spec)  # type: ignore[attr-defined]
    with pytest.raises(StepError, match=message) as caught:
        await run(services, made)
    assert caught.value.type == "validation"


async def test_several_members_without_a_routing_model_are_an_error_that_says_what_to_write(
    services: AgentServices,
) -> None:
    with pytest.raises(StepError, match=r"spec\.router\.model is required"):
        await run(services, net({"mode": "router"}))


def test_what_is_accepted_and_not_done_is_listed_with_its_path() -> None:
    spec = {
        "router": {"mode": "supervisor", "allowParallel": True},
        "termination": {"onLimit": "suspend", "stall": {"window": 3, "action": "finish"}},
        "state": {"scope": "thread"},
        "memory": {"enabled": True},
        "members": [{"path": "spec.agents[0]", "canHandoffTo": ["b"], "inputSchema": {"type": "object"}}],
    }
    assert [path for path, _ in unsupported(spec)] == [
        "spec.router.allowParallel", "spec.termination.onLimit", "spec.state.scope", "spec.memory",
        "spec.agents[0].canHandoffTo",
    ]  # fmt: skip
    assert unsupported({"router": {"mode": "router"}, "members": []}) == []
