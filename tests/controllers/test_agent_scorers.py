"""An Agent's scorers are checked when it is applied, and what they say is in its Runs, in answers and in the metrics."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ControlPlane
from kastra.testing.control_plane import ApplyFailed

from .objects import agent, apply, ready, said

HELLO: list[Any] = [
    "usedNoTools",
    {"scorer": "includes", "config": {"expected": "hello"}, "sampling": {"type": "none"}},
]


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
        yield plane


async def test_scores_are_in_the_journal_the_answer_and_the_metrics(env: ControlPlane) -> None:
    await apply(env, agent("a", scorers=HELLO))
    assert await said(env, "Agent", "a", "UnsupportedFeatures") == ("", "", "")
    run = await env.start("agent/a", "x")
    await env.result(run)
    records = [record async for record in env.client.connect(run.ref, "history")]
    [scored] = [record for record in records if record.get("stepKey") == "scores" and "output" in str(record)]
    assert "'score': 1.0" in str(scored)
    body = {"input": "x"}
    (answer,) = [record async for record in env.client.connect((await env.get("Agent", "a")).ref, "generate", body)]
    assert [(each["scorer"], each["score"]) for each in answer["scores"]] == [("usedNoTools", 1.0), ("includes", 1.0)]
    counted = env.manager.metrics.histogram("kastra_agent_score", "", ())
    assert counted.count("default", "a", "includes") == 2


async def test_scorers_that_are_known_and_without_effect_are_named(env: ControlPlane) -> None:
    await apply(env, agent("a", scorers=["completeness", "faithfulness"]))
    assert await ready(env, "Agent", "a") == ("True", "Resolved")
    assert "spec.scorers[1]" in (await said(env, "Agent", "a", "UnsupportedFeatures")).message


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("completness", r"spec.scorers\[0\].scorer.*did you mean .completeness"),
        ({"scorer": "includes"}, r"spec.scorers\[0\].config.expected.*is required"),
        ({"scorer": "equals", "sampling": {"type": "ratio", "rate": 2}}, r"spec.scorers\[0\].sampling.rate"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_place(env: ControlPlane, use: Any, words: str) -> None:
    with pytest.raises(ApplyFailed, match=words):
        await apply(env, agent("a", scorers=[use]))
