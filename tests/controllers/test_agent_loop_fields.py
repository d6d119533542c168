"""What an Agent says of its loop is checked when it is applied: processors, guardrails, stop conditions, choice of tools."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
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


async def test_processors_that_are_known_and_without_effect_are_named(env: ControlPlane) -> None:
    sides = {"input": ["language-detector", "pii-detector"], "error": ["stream-error-retry"]}
    await apply(env, agent("clerk", processors=sides))
    [found] = [c for c in (await status(env, "Agent", "clerk"))["conditions"] if c["type"] == "UnsupportedFeatures"]
    assert "spec.processors.input[0]" in found["message"]
    assert "spec.processors.error" in found["message"]
    assert "input[1]" not in found["message"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"guardrails": ["pii-detecter"]}, r"spec.guardrails\[0\].id.*did you mean .pii-detector"),
        ({"guardrails": ["language-detector"]}, r"spec.guardrails\[0\].id.*there is no processor"),
        ({"guardrails": ["token-limiter"]}, r"spec.guardrails\[0\].id.*stops nothing"),
        ({"processors": {"output": [{"id": "length-limiter"}]}}, r"spec.processors.output\[0\].config.max"),
        (
            {"guardrails": [{"id": "moderation", "config": {"model": "opnai/x"}}]},
            r"spec.guardrails\[0\].config.model.*opnai",
        ),
        ({"stopWhen": "turns >"}, "spec.stopWhen"),
        ({"stopWhen": "step > 3"}, "spec.stopWhen"),
        ({"toolChoice": {"tool": "nothing"}}, "spec.toolChoice.tool.*no tool of this agent"),
        ({"toolChoice": "sometimes"}, "spec.toolChoice"),
        ({"toolCallConcurrency": 0}, "spec.toolCallConcurrency"),
        ({"toolCallConcurrency": 101}, "spec.toolCallConcurrency"),
        ({"instructions": "Help ${{ user }}"}, "spec.instructions"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_place(env: ControlPlane, fields: Any, words: str) -> None:
    with pytest.raises(ApplyFailed, match=words):
        await apply(env, agent("clerk", **fields))
