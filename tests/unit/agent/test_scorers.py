"""An agent's answers are scored by measures of words and by checks, which change nothing of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kastra.agent.assembly import Assembly
from kastra.agent.runners import generate
from kastra.agent.scorers.catalogue import Scorer, scorer_findings, scorers_of, unsupported_scorers
from kastra.agent.scorers.sample import Called, Sample
from kastra.agent.scorers.texts import common
from kastra.agent.services import AgentServices
from kastra.engine.direct import DirectContext
from kastra.engine.step import StepError
from kastra.telemetry import Metrics

from .recording import Crash, Journal, Recording
from .test_guards import agent, run, use

STEP = "def step() -> str:\n    return 'done'"
FAILS = "def fails() -> str:\n    raise ValueError('no')"


def score(name: str, asked: str = "", said: str = "", calls: Any = (), **config: Any) -> float:
    (made,) = scorers_of({"scorers": [{"scorer": name, "config": config}]})
    assert isinstance(made, Scorer)
    return made.score(Sample(asked, said, [Called(name, failed) for name, failed in calls]))


@pytest.mark.parametrize(
    ("name", "asked", "said", "expected"),
    [
        ("keyword-coverage", "What is the capital of France?", "Paris is the CAPITAL of france.", 1.0),
        ("keyword-coverage", "capital of France", "Paris", 0.0),
        ("keyword-coverage", "capital population France", "The capital.", 1 / 3),
        ("keyword-coverage", "React.js", "react.js it is", 1.0),
        ("keyword-coverage", "", "", 1.0),
        ("keyword-coverage", "France", "", 0.0),
        ("keyword-coverage", "what is it", "Paris", 0.0),
        ("completeness", "reset my passwords", "Your password was reset.", 1.0),
        ("completeness", "reset passwords", "pass", 0.0),
        ("completeness", "cat", "cats", 0.0),
        ("content-similarity", "Hello  World", "hello world", 1.0),
        ("content-similarity", "night", "nacht", 0.25),
        ("content-similarity", "a", "b", 0.0),
        ("content-similarity", "", "", 1.0),
        ("textual-difference", "same", "same", 1.0),
        ("textual-difference", "kitten", "sitting", 8 / 13),
        ("textual-difference", "abc", "", 0.0),
        ("textual-difference", "", "", 1.0),
    ],
)
def test_a_measure_compares_the_answer_with_the_question(name: str, asked: str, said: str, expected: float) -> None:
    assert score(name, asked, said) == pytest.approx(expected)


def test_letter_case_and_blanks_count_where_that_is_asked_for() -> None:
    assert score("content-similarity", "AB CD", "ab cd", ignoreCase=False) == 0
    assert score("content-similarity", "AB  CD", "ab cd", ignoreWhitespace=False) == 1
    assert score("includes", said="Sunny", expected="sunny", ignoreCase=False) == 0


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    def table(one: str, other: str) -> int:
        row = [0] * (len(other) + 1)
        for a in one:
            before = row
            row = [0]
            for at, b in enumerate(other):
                row.append(before[at] + 1 if a == b else max(row[-1], before[at + 1]))
        return row[-1]

    for one, other in (("banana", "ananas"), ("abcbdab", "bdcaba"), ("x" * 70, "xy" * 50), ("", "a"), ("ä€😀", "€😀ä")):
        assert common(one, other) == table(one, other)


TWO = [("find", False), ("tell", True)]


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("includes", {"expected": "SUNNY"}, 1),
        ("includes", {"expected": "rain"}, 0),
        ("excludes", {"unwanted": "rain"}, 1),
        ("excludes", {"unwanted": "sunny"}, 0),
        ("equals", {"expected": "it is sunny "}, 1),
        ("equals", {"expected": "sunny"}, 0),
        ("matches", {"pattern": "s.n"}, 1),
        ("matches", {"pattern": "s.n", "exact": True}, 0),
        ("similarity", {"expected": "it is sunny"}, 1),
        ("similarity", {"expected": "it was sunny", "threshold": 0.9}, 0),
        ("calledTool", {"tool": "find"}, 1),
        ("calledTool", {"tool": "find", "times": 2}, 0),
        ("didNotCall", {"tool": "drop"}, 1),
        ("didNotCall", {"tool": "find"}, 0),
        ("toolOrder", {"tools": ["find", "tell"]}, 1),
        ("toolOrder", {"tools": ["tell", "find"]}, 0),
        ("maxToolCalls", {"max": 2}, 1),
        ("maxToolCalls", {"max": 1}, 0),
        ("usedNoTools", {}, 0),
        ("noToolErrors", {}, 0),
    ],
)
def test_a_check_is_met_or_not(name: str, config: Mapping[str, Any], expected: float) -> None:
    assert score(name, "weather?", "It is sunny", TWO, **config) == expected


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (
            {"scorer": "completness"},
            r"spec.scorers[0].scorer Invalid value: there is no scorer 'completness'; did you mean",
        ),
        ({"scorer": "includes"}, "spec.scorers[0].config.expected Invalid value: is required"),
        (
            {"scorer": "includes", "config": {"word": "x"}},
            "spec.scorers[0].config.word Invalid value: includes has no such",
        ),
        (
            {"scorer": "matches", "config": {"pattern": "("}},
            "spec.scorers[0].config.pattern Invalid value: no RE2 pattern",
        ),
        ({"scorer": "toolOrder"}, "spec.scorers[0].config.tools Invalid value: must be a list"),
        (
            {"scorer": "maxToolCalls", "config": {"max": -1}},
            "spec.scorers[0].config.max Invalid value: must be a whole",
        ),
        ({"scorer": "completeness", "sampling": {"type": "ratio"}}, "spec.scorers[0].sampling.rate Invalid value: is"),
        ({"scorer": "completeness", "sampling": {"rate": 0.1}}, "spec.scorers[0].sampling.type Invalid value: must be"),
    ],
)
async def test_what_makes_no_sense_is_told_with_its_place(services: AgentServices, use: Any, words: str) -> None:
    [wrong] = scorer_findings({"scorers": [use]})
    assert f"{wrong.field} {wrong.message}".startswith(words)
    with pytest.raises(StepError, match=r"Agent default/guarded: spec\.scorers"):
        await run(services, agent(scorers=[use]), "x")


def test_scorers_that_need_a_model_are_known_and_have_no_effect() -> None:
    spec = {"scorers": [{"scorer": "usedNoTools"}, {"scorer": "faithfulness"}, {"scorer": "tone-consistency"}]}
    assert unsupported_scorers(spec) == ["spec.scorers[1]", "spec.scorers[2]"]
    assert scorer_findings(spec) == []
    assert len(list(scorers_of(spec))) == 1


CHECKED = [
    {"scorer": "includes", "config": {"expected": "sunny"}},
    {"scorer": "calledTool", "config": {"tool": "step"}},
    {"scorer": "noToolErrors"},
    {"scorer": "keyword-coverage"},
]
RULES = [{"when": "turn == 0", "call": [{"tool": "step"}, {"tool": "fails"}]}, {"reply": "Sunny."}]


async def test_scores_are_journaled_once_and_counted(services: AgentServices) -> None:
    metrics = Metrics()
    able = replace(services, metrics=metrics)
    made = agent(*RULES, tools=[("step", STEP), ("fails", FAILS)], scorers=CHECKED)
    step = Recording()
    assert await run(able, made, "Is it sunny today?", step) == "Sunny."
    expected = [
        {"scorer": "includes", "path": "spec.scorers[0]", "score": 1.0},
        {"scorer": "calledTool", "path": "spec.scorers[1]", "score": 1.0},
        {"scorer": "noToolErrors", "path": "spec.scorers[2]", "score": 0.0},
        {"scorer": "keyword-coverage", "path": "spec.scorers[3]", "score": 0.5},
    ]
    assert step.journal.values["scores"] == expected
    counted = metrics.histogram("kastra_agent_score", "", ())
    assert counted.count("default", "guarded", "includes") == 1
    assert await run(able, made, "Is it sunny today?", Recording(step.journal.survivor())) == "Sunny."
    assert counted.count("default", "guarded", "includes") == 1
    direct = await generate(Assembly(services), made, "Is it sunny today?", DirectContext())
    assert direct["scores"] == expected


async def test_a_crash_before_the_scores_leaves_them_to_the_next_process(services: AgentServices) -> None:
    made = agent({"reply": "Sunny."}, scorers=CHECKED)
    step = Recording(Journal(lose_after=1))
    with pytest.raises(Crash):
        await run(services, made, "sunny?", step)
    again = Recording(step.journal.survivor())
    assert await run(services, made, "sunny?", again) == "Sunny."
    assert again.journal.performed == ["scores"]


async def test_a_ratio_looks_at_a_share_of_the_answers_and_the_same_ones_each_time(services: AgentServices) -> None:
    half = [{"scorer": "usedNoTools", "sampling": {"type": "ratio", "rate": 0.5}}]
    made = agent({"reply": "ok"}, scorers=half)

    async def looked() -> list[bool]:
        found = []
        for number in range(60):
            step = Recording(key=f"step-{number}")
            await run(services, made, "x", step)
            found.append(f"step-{number}/scores" in step.journal.values)
        return found

    once = await looked()
    assert 10 < sum(once) < 50
    assert await looked() == once
    for rate, expected in ((0, False), (1, True)):
        step = Recording()
        given = [{"scorer": "usedNoTools", "sampling": {"type": "ratio", "rate": rate}}]
        await run(services, agent({"reply": "ok"}, scorers=given), "x", step)
        assert ("scores" in step.journal.values) == expected


async def test_an_answer_that_a_guardrail_ends_has_no_scores(services: AgentServices) -> None:
    step = Recording()
    made = agent({"reply": "ok"}, scorers=CHECKED, guardrails=[use("length-limiter", max=2)])
    with pytest.raises(StepError, match="length-limiter"):
        await run(services, made, "too long", step)
    assert "scores" not in step.journal.values


async def test_an_object_is_looked_at_as_its_json(services: AgentServices) -> None:
    step = Recording()
    rule = {"object": {"weather": "sunny"}}
    made = agent(
        rule,
        outputSchema={"type": "object"},
        scorers=[{"scorer": "equals", "config": {"expected": '{"weather":"sunny"}'}}],
    )
    await run(services, made, "x", step)
    assert step.journal.values["scores"][0]["score"] == 1
