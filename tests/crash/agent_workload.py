"""A process that lets a guarded agent answer one question, and can be killed at any moment: `python -m tests.crash.agent_workload FOLDER`.

What failpoints are armed is in the environment, as everywhere. Started again on the same folder it goes on with the same Run. It
prints the output.
"""

import sys
from contextlib import suppress
from pathlib import Path

import anyio

import kastra
from kastra.api.errors import AlreadyExists
from kastra.api.meta import ObjectRef
from kastra.app.running import RunResult, create_run, has_ended, wait_until
from kastra.config import Settings

MANIFESTS = r"""
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: look-up}
spec:
  python:
    inline: |
      from kastra import ToolContext

      def look_up(context: ToolContext) -> str:
          with open("effects", "a") as file:
              file.write(context.idempotency_key + "\n")
          return "ask eve@example.org"
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: clerk}
spec:
  instructions: Help.
  tools: [look-up]
  processors: {input: [pii-detector], output: [pii-detector]}
  guardrails: [{id: length-limiter, config: {max: 200}}]
  model:
    provider: scripted
    parameters:
      chunkSize: 4
      rules:
      - {when: size(results) == 0, call: {tool: look-up}}
      - {reply: '${{ messages[1].content }} ${{ results[0] }} and bob@example.org'}
"""


async def main(folder: Path) -> None:
    """Answer, or go on answering."""
    (folder / "m.yaml").write_text(MANIFESTS)
    async with kastra.open(settings=Settings(data=folder / ".kastra", project=folder)) as k:
        report = await k.apply(folder / "m.yaml")
        assert report.ok, report.problems
        with suppress(AlreadyExists):
            await create_run(k.client, "agent/clerk", "I am ann@example.org:", name="r")
        ended = RunResult.of(await wait_until(k.client, ObjectRef("runs", "r", "default"), has_ended))
        print(ended.output if ended.phase == "Succeeded" else ended.error)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
