"""How a model is asked can be shaped: what it may cost, which model, which tools, from a cache, into an object."""

from typing import Any

import orjson
import pytest

from kastra.agent.assembly import Assembly
from kastra.agent.runners import generate
from kastra.agent.services import AgentServices
from kastra.engine.direct import DirectContext
from kastra.engine.step import StepError
from kastra.testing.clock import VirtualClock

from .recording import Crash, Journal, Recording, scripted
from .test_guards import agent, run, use

# --- token-cost-control -------------------------------------------------------------------------------------------

LOOP = "def step() -> str:\n    return 'go on'"
WORKS = {"call": {"tool": "step"}, "usage": {"inputTokens": 100, "outputTokens": 20}}


@pytest.mark.parametrize(
    ("limits", "calls", "what"),
    [
        ({"maxTotalTokens": 250}, 2, "maxTotalTokens"),
        ({"maxInputTokens": 100}, 1, "maxInputTokens"),
        ({"maxOutputTokens": 40}, 2, "maxOutputTokens"),
        ({"maxInputTokens": 1}, 0, "maxInputTokens"),
    ],
)
async def test_a_call_that_would_go_over_a_limit_is_not_made(
    services: AgentServices, limits: Any, calls: int, what: str
) -> None:
    step = Recording()
    made = agent(WORKS, tools=[("step", LOOP)], guardrails=[use("token-cost-control", limits=limits)])
    with pytest.raises(StepError, match=f"token-cost-control: {what} would be exceeded") as ended:
        await run(services, made, "a question of some length, so that it has tokens", step)
    assert ended.value.type == "tripwire"
    assert [key for key in step.journal.performed if "/" not in key] == [f"turn[{turn}]" for turn in range(calls)]


async def test_a_limit_of_costs_can_only_warn_and_has_words_of_its_own(services: AgentServices) -> None:
    limit = use("token-cost-control", limits={"maxTotalTokens": 1}, strategy="warn")
    step = Recording()
    assert await run(services, agent({"reply": "ok"}, processors={"input": [limit]}), "hello", step) == "ok"
    assert step.journal.decisions["turn[0]/cost"]["found"][0]["found"] == {"maxTotalTokens": 1}
    told = use("token-cost-control", limits={"maxCost": 0.5, "maxInputTokens": 1}, message="{limitType}: {limit}")
    with pytest.raises(StepError, match="maxInputTokens: 1"):
        await run(services, agent({"reply": "ok"}, processors={"input": [told]}), "hello " * 9)


# --- model-selection ----------------------------------------------------------------------------------------------

EASY, HARD = {"reply": "cheap answer"}, {"reply": "dear answer"}


def selection(judge: Any, **config: Any) -> dict[str, Any]:
    choices = [
        {"name": "easy", "model": scripted(EASY), "criteria": "Short questions"},
        {"name": "hard", "model": scripted(HARD), "criteria": "Proofs"},
    ]
    return use("model-selection", model=scripted(judge), choices=choices, **config)


@pytest.mark.parametrize(
    ("judge", "config", "said"),
    [
        ({"object": {"choice": "easy", "probability": 0.9}}, {}, "cheap answer"),
        ({"object": {"choice": "hard"}}, {}, "dear answer"),
        ({"object": {"choice": "easy", "probability": 0.4}}, {"minProbability": 0.5}, "own answer"),
        ({"object": {"choice": "easy"}}, {"minProbability": 0.5}, "own answer"),
        ({"object": {"choice": "third"}}, {}, "own answer"),
        ({"reply": "no idea"}, {}, "own answer"),
        ({"error": {"kind": "unavailable", "message": "down"}}, {}, "own answer"),
    ],
)
async def test_the_model_that_a_judge_chooses_answers_and_in_doubt_the_agents_own(
    services: AgentServices, judge: Any, config: Any, said: str
) -> None:
    made = agent({"reply": "own answer"}, processors={"input": [selection(judge, **config)]})
    assert await run(services, made, "2 + 2?") == said


async def test_the_choice_of_a_model_is_kept_by_a_recovered_run(services: AgentServices) -> None:
    made = agent({"reply": "own"}, processors={"input": [selection({"object": {"choice": "easy"}})]})
    step = Recording(Journal(lose_after=1))
    with pytest.raises(Crash):
        await run(services, made, "2 + 2?", step)
    other = agent({"reply": "own"}, processors={"input": [selection({"object": {"choice": "hard"}})]})
    again = Recording(step.journal.survivor())
    assert await run(services, other, "2 + 2?", again) == "cheap answer"
    assert again.journal.performed == ["turn[0]"]


async def test_a_chosen_model_that_fails_is_followed_by_the_agents_own(services: AgentServices) -> None:
    broken = scripted({"error": {"kind": "unavailable", "message": "down"}})
    choices = [{"name": name, "model": broken, "criteria": name} for name in ("a", "b")]
    chosen = use("model-selection", model=scripted({"object": {"choice": "a"}}), choices=choices)
    assert await run(services, agent({"reply": "own"}, processors={"input": [chosen]}), "x") == "own"


@pytest.mark.parametrize(("scope", "said"), [("run", "cheap end"), ("first-step", "own end")])
async def test_a_choice_holds_for_the_whole_answer_or_its_first_turn(
    services: AgentServices, scope: str, said: str
) -> None:
    def rules(name: str) -> list[Any]:
        return [{"when": "size(results) == 0", "call": {"tool": "step"}}, {"reply": f"{name} end"}]

    choices = [{"name": name, "model": scripted(*rules(name)), "criteria": name} for name in ("cheap", "dear")]
    chosen = use("model-selection", model=scripted({"object": {"choice": "cheap"}}), choices=choices, scope=scope)
    made = agent(*rules("own"), tools=[("step", LOOP)], processors={"input": [chosen]})
    assert await run(services, made, "x") == said


# --- tool-search --------------------------------------------------------------------------------------------------


def tools(*names: str) -> list[tuple[str, str]]:
    return [(name, f'def {name}() -> str:\n    """About {name}."""\n    return "did {name}"') for name in names]


async def test_tools_are_told_of_once_they_were_looked_for_and_loaded(services: AgentServices) -> None:
    rules = [
        {"when": "turn == 0", "call": {"tool": "search_tools", "arguments": {"query": "what is the weather?"}}},
        {
            "when": "turn == 1",
            "call": {"tool": "load_tool", "arguments": {"toolName": "${{ results[0].tools[0].name }}"}},
        },
        {"when": "turn == 2 && 'weather' in tools", "call": {"tool": "weather"}},
        {"reply": "${{ {'tools': tools, 'results': results} }}"},
    ]
    made = agent(
        *rules, tools=tools("weather", "invoice", "clock"), processors={"input": [use("tool-search", always=["clock"])]}
    )
    said = orjson.loads(await run(services, made, "Rain?"))
    assert said["tools"] == ["clock", "search_tools", "load_tool", "weather"]
    assert said["results"] == [
        {"tools": [{"name": "weather", "description": "About weather."}]},
        {"loaded": ["weather"]},
        "did weather",
    ]


async def test_finding_loads_at_once_where_that_is_said(services: AgentServices) -> None:
    rules = [
        {"when": "turn == 0", "call": {"tool": "search_tools", "arguments": {"query": "an invoice"}}},
        {"reply": "${{ tools }}"},
    ]
    search = use("tool-search", search={"autoLoad": True, "topK": 1})
    made = agent(*rules, tools=tools("weather", "invoice", "invoices_of_all"), processors={"input": [search]})
    assert orjson.loads(await run(services, made, "x")) == ["search_tools", "invoice"]


async def test_an_unknown_tool_cannot_be_loaded_and_nothing_found_is_no_error(services: AgentServices) -> None:
    rules = [
        {"when": "turn == 0", "call": {"tool": "search_tools", "arguments": {"query": "zzz"}}},
        {"when": "turn == 1", "call": {"tool": "load_tool", "arguments": {"toolName": "rm_rf"}}},
        {"reply": "${{ results }}"},
    ]
    made = agent(*rules, tools=tools("weather"), processors={"input": [use("tool-search")]})
    found, refused = orjson.loads(await run(services, made, "x"))
    assert found == {"tools": []}
    assert "there is no tool 'rm_rf'" in refused["error"]["title"]


async def test_a_tool_that_must_be_called_is_told_of(services: AgentServices) -> None:
    rules = [{"when": "turn == 0 && 'weather' in tools", "call": {"tool": "weather"}}, {"reply": "${{ results }}"}]
    made = agent(
        *rules,
        tools=tools("weather", "clock"),
        toolChoice={"tool": "weather"},
        processors={"input": [use("tool-search")]},
    )
    assert orjson.loads(await run(services, made, "x")) == ["did weather"]


async def test_a_tool_of_the_agent_may_not_hide_the_search(services: AgentServices) -> None:
    with pytest.raises(StepError, match="adds a tool search_tools, and there is one already"):
        await run(services, agent(tools=tools("search_tools"), processors={"input": [use("tool-search")]}), "x")


# --- response-cache -----------------------------------------------------------------------------------------------

ONCE = [{"reply": "first", "times": 1}, {"reply": "second"}]


async def test_the_same_question_is_answered_from_the_cache_until_it_is_too_old(
    services: AgentServices, clock: VirtualClock
) -> None:
    made = agent(*ONCE, processors={"input": [use("response-cache", ttl=60)]})
    assembly = Assembly(services)
    first = await generate(assembly, made, "x", DirectContext())
    again = await generate(assembly, made, "x", DirectContext())
    assert (first["text"], again["text"]) == ("first", "first")
    assert (first["usage"]["calls"], again["usage"]["calls"]) == (1, 0)
    assert (await generate(assembly, made, "y", DirectContext()))["text"] == "second"
    await clock.advance(61)
    assert (await generate(assembly, made, "x", DirectContext()))["text"] == "second"


async def test_an_answer_from_the_cache_is_journaled_and_shown_like_any_other(services: AgentServices) -> None:
    made = agent(*ONCE, processors={"input": [use("response-cache")]})
    await run(services, made, "x")
    step = Recording()
    assert await run(services, made, "x", step) == "first"
    assert step.journal.values["turn[0]"]["cached"] is True
    assert step.journal.events == [("delta", {"type": "text", "text": "first"})]


@pytest.mark.parametrize(
    "other",
    [{"instructions": ["Be rude."]}, {"processors": {"input": [use("response-cache", scope="b")]}}],
    ids=["instructions", "scope"],
)
async def test_what_was_asked_otherwise_is_asked_anew(services: AgentServices, other: Any) -> None:
    cached = {"processors": {"input": [use("response-cache")]}}
    await run(services, agent({"reply": "first"}, **cached), "x")
    assert await run(services, agent({"reply": "second"}, **{**cached, **other}), "x") == "second"


async def test_what_was_blocked_or_is_to_be_asked_anew_comes_from_no_cache(services: AgentServices) -> None:
    rules = [{"reply": "ann@example.org", "times": 1}, {"reply": "fine"}]
    made = agent(*rules, processors={"input": [use("response-cache")]}, guardrails=[use("pii-detector")])
    assembly = Assembly(services)
    assert "tripwire" in await generate(assembly, made, "x", DirectContext())
    assert (await generate(assembly, made, "x", DirectContext()))["text"] == "fine"
    busted = agent(*ONCE, processors={"input": [use("response-cache", bust=True)]})
    assert (await generate(assembly, busted, "x", DirectContext()))["text"] == "first"
    assert (await generate(assembly, busted, "x", DirectContext()))["text"] == "second"


# --- structured-output --------------------------------------------------------------------------------------------

AGE = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
READS = scripted(
    {"when": 'messages[1].content.contains("seven")', "object": {"age": 7}}, {"object": {"age": "unknown"}}
)


def structured(**config: Any) -> dict[str, Any]:
    return {"output": [use("structured-output", schema=AGE, model=READS, **config)]}


async def test_an_answer_in_words_becomes_an_object_by_a_second_call(services: AgentServices) -> None:
    step = Recording()
    made = agent({"reply": "She is seven."}, processors=structured())
    assert await run(services, made, "how old?", step) == {"age": 7}
    assert step.journal.performed == ["turn[0]", "turn[0]/answer/structured-output"]
    again = Recording(step.journal.survivor())
    assert await run(services, made, "how old?", again) == {"age": 7}
    assert again.journal.performed == []


async def test_an_object_that_breaks_its_schema_fails_is_null_or_is_replaced(services: AgentServices) -> None:
    vague = {"reply": "Who knows."}
    with pytest.raises(StepError, match="structured-output: the object doesn't satisfy its schema") as failed:
        await run(services, agent(vague, processors=structured()), "how old?")
    assert failed.value.type == "output"
    step = Recording()
    assert await run(services, agent(vague, processors=structured(errorStrategy="warn")), "how old?", step) is None
    assert step.journal.decisions["turn[0]/answer/structured-output/problem"]["strategy"] == "warn"
    fallback = agent(vague, processors=structured(errorStrategy="fallback", fallbackValue={"age": 0}))
    answer = await generate(Assembly(services), fallback, "how old?", DirectContext())
    assert (answer["object"], answer["usedFallbackValue"], answer["text"]) == ({"age": 0}, True, "Who knows.")
    assert answer["usage"]["calls"] == 2


@pytest.mark.parametrize(
    ("side", "made", "message"),
    [
        ("output", use("structured-output"), "config.schema: is required"),
        ("output", use("structured-output", schema={"type": 3}), "config.schema: "),
        ("output", structured(errorStrategy="fallback")["output"][0], "config.fallbackValue: is required"),
        (
            "output",
            structured(errorStrategy="fallback", fallbackValue={})["output"][0],
            "config.fallbackValue: doesn't satisfy the schema",
        ),
        ("input", use("token-cost-control"), "config.limits: needs at least one of"),
        ("input", use("token-cost-control", limits={"maxCost": -1}), "config.limits.maxCost: must be a number above 0"),
        ("input", use("token-cost-control", limits={"maxCost": 1}, scope="thread"), "config.scope: must be run"),
        ("input", use("model-selection", model="x/y", choices=[]), "config.choices: must be a list of two or more"),
        ("input", use("tool-search", search={"topK": 0}), "config.search.topK: must be a whole number"),
        ("input", use("response-cache", ttl="5m"), "config.ttl: must be a whole number"),
        ("input", use("response-cache", time=5), "config.time: response-cache has no such setting"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(
    services: AgentServices, side: str, made: Any, message: str
) -> None:
    with pytest.raises(StepError) as refused:
        await run(services, agent(processors={side: [made]}), "x")
    assert message in refused.value.message
