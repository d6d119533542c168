"""What an agent costs: CPU of an answer over the in-process API, and of a chunk from the model to whoever follows the Run.

The model answers at once: it is scripted, in this process, so its own cost is in the figures. An answer is one call of the
subresource `generate`; a chunk goes from the model through the loop, the Run's topic and `stream`, to its reader. Figures are CPU of
this process, the best of some rounds.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

import kastra
from kastra.api.meta import ObjectRef
from kastra.config import Settings

from . import Row

NAME = "agents"

ANSWERS = 300
ROUNDS = 5
CHUNKS = 1000
AT_ONCE = 8
MANIFESTS = """
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: find}
spec:
  description: Finds a recipe.
  inputSchema: {type: object, required: [topic], properties: {topic: {type: string}}}
  python: {inline: "def find(topic: str) -> dict:\\n    return {'name': topic}"}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: plain}
spec:
  instructions: 'Help.'
  model: {provider: scripted, parameters: {rules: [{reply: Yes.}]}}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: caller}
spec:
  instructions: 'Help.'
  tools: [find]
  model:
    provider: scripted
    parameters:
      rules: [{when: size(results) == 0, call: {tool: find, arguments: {topic: eggs}}}, {reply: Yes.}]
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: guarded}
spec:
  instructions: 'Help.'
  guardrails: [prompt-injection-detector, {id: regex-filter, config: {presets: [secrets]}}]
  processors: {input: [unicode-normalizer, pii-detector], output: [pii-detector]}
  model: {provider: scripted, parameters: {rules: [{reply: Yes.}]}}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: talker}
spec:
  instructions: 'Talk.'
  model: {provider: scripted, parameters: {chunkSize: 4, rules: [{reply: '${{ input.text }}'}]}}
"""


def run() -> list[Row]:
    """The figures."""
    return anyio.run(_measured)


async def _measured() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "manifests.yaml").write_text(MANIFESTS)
        async with kastra.open(":memory:", settings=Settings(data=Path(folder) / ".kastra")) as k:
            report = await k.apply(Path(folder) / "manifests.yaml")
            assert report.ok, report.problems
            await k.settle()
            return [
                Row("answer, no tool: CPU", await _answers(k, "plain"), "ms", 0.6, at_most=True),
                Row("answer with one tool call: CPU", await _answers(k, "caller"), "ms", 1.2, at_most=True),
                Row("answer with five processors: CPU", await _answers(k, "guarded"), "ms", 0.8, at_most=True),
                Row("chunk of a followed Run: CPU", await _chunks(k), "us", 40, at_most=True),
            ]


async def _answers(k: Any, agent: str) -> float:
    """Milliseconds of CPU for an answer."""
    ref = ObjectRef("agents.mastra.ai", agent, "default")

    async def some(count: int) -> None:
        for _ in range(count):
            async for _ in k.client.connect(ref, "generate", {"input": "What is for dinner?"}):
                pass

    async def round_() -> float:
        before = time.process_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(some, ANSWERS // AT_ONCE)
        return (time.process_time() - before) / (ANSWERS // AT_ONCE * AT_ONCE) * 1e3

    await some(50)
    return min([await round_() for _ in range(ROUNDS)])


async def _chunks(k: Any) -> float:
    """Microseconds of CPU for a chunk: what a long answer costs beyond a short one."""

    async def answer(count: int) -> float:
        before, seen = time.process_time(), 0
        async for chunk in k.stream("agent/talker", "abcd" * count):
            seen += _is_text(chunk)
        assert seen == count, f"{count - seen} of {count} chunks were missed"
        return time.process_time() - before

    await answer(10)
    short = min([await answer(1) for _ in range(ROUNDS)])
    return min([(await answer(CHUNKS) - short) / CHUNKS for _ in range(ROUNDS)]) * 1e6


def _is_text(chunk: Mapping[str, Any]) -> bool:
    return bool(chunk["type"] == "text-delta")
