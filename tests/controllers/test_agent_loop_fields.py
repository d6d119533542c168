"""What an Agent says of its loop is checked when it is applied: processors, guardrails, stop conditions, choice of tools."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.controllers.agent import AgentView
from kastra.testing import ControlPlane
from kastra.testing.control_plane import ApplyFailed

from .objects import agent, apply, ready, status


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as plane:
        yield plane


async def test_processors_that_are_applied_leave_nothing_unsupported(env: ControlPlane) -> None:
    guards = ["prompt-injection-detector", {"id": "regex-filter", "config": {"presets": ["secrets"]}}]
    sides = {"input": ["unicode-normalizer"], "output": [{"id": "pii-detector", "config": {"strategy": "warn"}}]}
    await apply(env, agent("clerk", guardrails=guards, processors=sides, stopWhen="turns > 2", toolChoice="none"))
    assert (await ready(env, "Agent", "clerk"))[0] == "True"
    conditions = {entry["type"] for entry in (await status(env, "Agent", "clerk"))["conditions"]}
    assert "UnsupportedFeatures" not in conditions


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"guardrails": ["pii-detecter"]}, r"spec.guardrails\[0\].id.*did you mean .pii-detector"),
        ({"guardrails": ["working-memory"]}, r"spec.guardrails\[0\].id.*there is no processor"),
        ({"guardrails": ["language-detector"]}, r"spec.guardrails\[0\].config.model.*is required"),
        ({"processors": {"error": ["pii-detector"]}}, r"spec.processors.error\[0\].id.*no processor of errors"),
        ({"processors": {"input": ["batch-parts"]}}, r"spec.processors.input\[0\].id.*spec.processors.output"),
        ({"processors": {"output": ["batch-parts", "batch-parts"]}}, r"output\[1\].id.*there is a batch-parts already"),
        (
            {
                "outputSchema": {"type": "object"},
                "processors": {"output": [{"id": "structured-output", "config": {"schema": {"type": "object"}}}]},
            },
            r"spec.processors.output\[0\].*spec.outputSchema",
        ),
        (
            {
                "processors": {
                    "input": [
                        {
                            "id": "model-selection",
                            "config": {
                                "model": "scripted/judge",
                                "choices": [
                                    {"model": "opnai/x", "criteria": "easy"},
                                    {"model": "scripted/y", "criteria": "hard"},
                                ],
                            },
                        }
                    ]
                }
            },
            r"config.choices\[0\].model.*opnai",
        ),
        ({"maxProcessorRetries": 11}, "spec.maxProcessorRetries"),
        ({"guardrails": ["skill-search"]}, r"spec.guardrails\[0\].id.*processor of spec.processors.input"),
        ({"guardrails": ["agents-md-injector"]}, r"spec.guardrails\[0\].id.*processor of spec.processors.input"),
        ({"processors": {"output": ["memory-input-filter"]}}, r"output\[0\].id.*processor of spec.processors.input"),
        ({"processors": {"input": ["skill-search"]}}, r"spec.processors.input\[0\]: .*no skills to look for"),
        (
            {"processors": {"input": [{"id": "agents-md-injector", "config": {"folder": "../x"}}]}},
            r"input\[0\].config.folder.*'..' is not allowed",
        ),
        (
            {"processors": {"input": [{"id": "memory-input-filter", "config": {"retainFullInput": "yes"}}]}},
            r"input\[0\].config.retainFullInput.*true or false",
        ),
        ({"guardrails": ["token-limiter"]}, r"spec.guardrails\[0\].id.*stops nothing"),
        ({"processors": {"output": [{"id": "length-limiter"}]}}, r"spec.processors.output\[0\].config.max"),
        (
            {"guardrails": [{"id": "moderation", "config": {"model": "opnai/x"}}]},
            r"spec.guardrails\[0\].config.model.*opnai",
        ),
        ({"stopWhen": "turns >"}, "spec.stopWhen"),
        ({"stopWhen": "step > 3"}, "spec.stopWhen"),
        ({"toolChoice": {"tool": "nothing"}}, "spec.toolChoice.tool.*no tool of this agent"),
        ({"toolChoice": "sometimes"}, r"spec\.toolChoice: .*must be auto, none, required or {tool: NAME"),
        ({"toolChoice": {"tool": "find", "often": True}}, r"spec\.toolChoice: .*must be auto, none, required or"),
        ({"toolCallConcurrency": 0}, "spec.toolCallConcurrency"),
        ({"toolCallConcurrency": 101}, "spec.toolCallConcurrency"),
        ({"instructions": "Help ${{ user }}"}, "spec.instructions"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_place(env: ControlPlane, fields: Any, words: str) -> None:
    with pytest.raises(ApplyFailed, match=words):
        await apply(env, agent("clerk", **fields))


async def test_memory_can_be_written_as_processors(env: ControlPlane) -> None:
    uses: list[Any] = [
        {"id": "message-history", "config": {"lastMessages": 5}},
        {"id": "working-memory", "config": {"template": "Name:", "scope": "resource"}},
        "pii-detector",
    ]
    await apply(env, agent("clerk", memory={"ttl": 60}, processors={"input": uses, "output": ["message-history"]}))
    assert (await ready(env, "Agent", "clerk"))[0] == "True"
    conditions = {entry["type"] for entry in (await status(env, "Agent", "clerk"))["conditions"]}
    assert "UnsupportedFeatures" not in conditions


def test_what_memory_says_itself_goes_before_its_processors() -> None:
    uses = [{"id": "message-history", "config": {"lastMessages": 5}}, "semantic-recall"]
    read = AgentView.of(
        {"metadata": {"name": "x"}, "spec": {"memory": {"lastMessages": 3}, "processors": {"input": uses}}}
    )
    memory = read.spec.plain()["memory"]
    assert (memory["lastMessages"], memory["semanticRecall"]["enabled"]) == (3, True)
    plain = AgentView.of({"metadata": {"name": "x"}, "spec": {"processors": {"input": uses}}}).spec.plain()
    assert plain["memory"]["lastMessages"] == 5
    assert len(plain["processors"]["input"]) == 2


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ({"id": "message-history", "config": {"lastMessages": -1}}, r"processors.input\[0\].config.lastMessages"),
        ({"id": "semantic-recall", "config": {"topk": 3}}, r"processors.input\[0\].config.topk"),
    ],
)
async def test_settings_of_memory_processors_are_checked_at_their_place(
    env: ControlPlane, use: Any, words: str
) -> None:
    with pytest.raises(ApplyFailed, match=words):
        await apply(env, agent("clerk", processors={"input": [use]}))
