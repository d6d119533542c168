"""A process that lets a guarded agent answer one question, and can be killed at any moment: `python -m tests.crash.agent_workload`.

Jobs come to the fork server of `tests.crash.forks`; one on a store that another left goes on with the same Run.
"""

import importlib
import json
import os
from contextlib import suppress
from pathlib import Path

import kastra
from kastra.api.errors import AlreadyExists
from kastra.api.meta import ObjectRef
from kastra.app.composition import discover_controllers
from kastra.app.running import RunResult, create_run, has_ended, wait_until
from kastra.config import Settings
from tests.crash.forks import Job, serve

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
  metadata:
    judge: &judge
      provider: scripted
      parameters:
        rules:
        - {when: 'messages[0].content.contains("language")', object: {language: en, confidence: 1}}
        - {object: {choice: one}}
    model: &model
      provider: scripted
      parameters:
        chunkSize: 4
        rules:
        - {when: turn == 0, call: [{tool: look-up}, {tool: skill, arguments: {name: polite}}]}
        - {when: turn == 1, reply: forbidden}
        - {reply: '${{ messages[1].content }} ${{ results[0] }} and bob@example.org, ${{ results[1] }}'}
  instructions: Help.
  tools: [look-up]
  skills: [skills]
  scorers: [noToolErrors]
  processors:
    input:
    - pii-detector
    - id: language-detector
      config: {strategy: warn, targetLanguages: [de], model: *judge}
    - id: model-selection
      config:
        model: *judge
        choices:
        - {name: one, criteria: All questions, model: *model}
        - {name: two, criteria: No question, model: {provider: scripted, parameters: {rules: [{reply: wrong model}]}}}
    output: [pii-detector]
  guardrails:
  - {id: length-limiter, config: {max: 200}}
  - {id: regex-filter, config: {rules: [forbidden], phase: output, retry: true}}
  model: {provider: scripted, parameters: {rules: [{reply: wrong model}]}}
"""


async def execute(job: Job) -> None:
    """Answer, or go on answering; the output, or the error, goes to `outputs`."""
    folder = job.path("m.yaml").parent
    os.chdir(folder)
    job.path("m.yaml").write_text(MANIFESTS)
    # Another one in each process, so that reading it twice would show.
    project = folder / "project"
    (skill := project / "skills" / "polite").mkdir(parents=True, exist_ok=True)
    (skill / "SKILL.md").write_text(f"---\nname: polite\ndescription: How to be polite.\n---\nread in {os.getpid()}")
    async with kastra.open(job.database, settings=Settings(data=folder / ".kastra", project=project)) as k:
        report = await k.apply(job.path("m.yaml"))
        assert report.ok, report.problems
        with suppress(AlreadyExists):
            await create_run(k.client, "agent/clerk", "I am ann@example.org:", name="r")
        ended = RunResult.of(await wait_until(k.client, ObjectRef("runs", "r", "default"), has_ended))
        Path(job.outputs).write_text(json.dumps(ended.output if ended.phase == "Succeeded" else ended.error))


if __name__ == "__main__":
    # Imported once, not in every fork.
    importlib.import_module("kastra.app.execution")
    discover_controllers(Settings(controllers=()))
    serve(Job, execute)
