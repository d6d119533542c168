"""A folder of 1,000 manifests, applied into a file that doesn't exist, until every object is Ready.

400 Tools, 400 Agents with two tools each and 200 Workflows of three steps with references and templates, in 100 files: as
`kastra apply -f` does it, with controllers running and every write synced. The clock starts with the process, so that
imports count. Then the same folder again, unchanged. Nothing is executed: no Run is among the manifests.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import Row

NAME = "apply"

OBJECTS = 1_000
FILES = 100

TOOL = """apiVersion: mastra.ai/v1
kind: Tool
metadata:
  name: tool-{n}
  labels: {{app: bench, tier: "{t}"}}
spec:
  description: Looks something up in table {n}.
  annotations: {{readOnly: true, idempotent: true}}
  inputSchema:
    type: object
    required: [id]
    properties:
      id: {{type: integer, minimum: 0}}
      # What comes back otherwise is everything.
      columns: {{type: array, items: {{type: string}}}}
  http:
    url: https://tables.example.com/{n}/${{{{ input.id }}}}
    method: GET
    headers:
    - {{name: X-Table, value: "{n}"}}
  timeout: 10s
"""

AGENT = """apiVersion: mastra.ai/v1
kind: Agent
metadata:
  name: agent-{n}
  labels: {{app: bench, tier: "{t}"}}
spec:
  description: Answers questions about tables {a} and {b}.
  instructions: >-
    You answer questions about two tables. Look rows up before you answer, say which table a fact is from, and say so when
    neither has it.
  model:
    provider: scripted
    parameters:
      rules:
      - when: size(results) == 0
        call: {{tool: tool-{a}, arguments: {{id: 1}}}}
      - reply: Found.
  tools:
  - tool-{a}
  - name: other
    toolRef: {{name: tool-{b}}}
  maxSteps: 8
"""

WORKFLOW = """apiVersion: mastra.ai/v1
kind: Workflow
metadata:
  name: workflow-{n}
  labels: {{app: bench, tier: "{t}"}}
spec:
  description: Looks up, asks, and looks up again.
  initialStep: first
  steps:
  - id: first
    tool: tool-{a}
    input: {{type: user-input}}
    output: {{type: row}}
    next: ask
  - id: ask
    agent: agent-{b}
    input:
      prompt: What follows from ${{{{ steps.first.output }}}}?
    output: {{type: answer}}
    next: last
  - id: last
    tool: {{name: tool-{b}}}
    input:
      with: {{id: 3}}
    output: {{type: result}}
    next: END
"""


def write_manifests(folder: Path, objects: int = OBJECTS, files: int = FILES) -> None:
    """The manifests, dealt out to the files in turn, so that no file comes in apply order."""
    tools, agents = objects * 2 // 5, objects * 2 // 5
    documents = [TOOL.format(n=n, t=n % 7) for n in range(tools)]
    documents += [AGENT.format(n=n, t=n % 7, a=n % tools, b=(n * 7 + 3) % tools) for n in range(agents)]
    documents += [
        WORKFLOW.format(n=n, t=n % 7, a=(n * 3) % tools, b=(n * 5 + 1) % agents)
        for n in range(objects - tools - agents)
    ]
    for number in range(files):
        (folder / f"part-{number:03}.yaml").write_text("---\n".join(documents[number::files]))


async def apply_and_settle(database: Path, manifests: Path) -> dict[str, float]:
    """Seconds to open the store, to apply, until all was Ready, and to apply again."""
    import kastra

    begun = time.perf_counter()
    async with kastra.open(database) as k:
        opened = time.perf_counter()
        report = await k.apply(manifests)
        applied = time.perf_counter()
        assert report.ok, [str(problem) for problem in report.problems[:3]]
        await k.settle()
        settled = time.perf_counter()
        ready = 0
        for kind in ("tools", "agents", "workflows"):
            found = (await k.client.list(kind)).items
            waiting = [obj for obj in found if not obj.is_condition_true("Ready")]
            assert not waiting, (waiting[0], waiting[0].status)
            ready += len(found)
        assert ready == len(report.applied)
        cpu, since = time.process_time(), time.perf_counter()
        again = await k.apply(manifests)
        assert {one.verb for one in again.applied} == {"unchanged"}
        return {
            "cpu": cpu,
            "open": opened - begun,
            "apply": applied - opened,
            "settle": settled - applied,
            "again": time.perf_counter() - since,
        }


def run() -> list[Row]:
    """The figures, from a process of their own."""
    with tempfile.TemporaryDirectory(prefix="kastra-bench-") as place:
        folder = Path(place)
        (folder / "manifests").mkdir()
        write_manifests(folder / "manifests")
        started = time.time_ns()
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(folder / "k.db"), str(folder / "manifests"), str(started)],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    took = json.loads(done.stdout)
    total = took["start"] + took["open"] + took["apply"] + took["settle"]
    parts = "start {start:.2f}, open {open:.2f}, apply {apply:.2f}, until Ready {settle:.2f} s".format(**took)
    return [
        Row("1,000 manifests into an empty file, all Ready", total, "s", 4.0, at_most=True, note=parts),
        Row("CPU of that", took["cpu"], "s", note="what it would take on an idle machine of this speed"),
        Row("the same again, nothing changed", took["again"], "s"),
    ]


def main(database: str, manifests: str, started: str) -> None:
    """In the child process: print the figures as JSON."""
    begun = time.time_ns()
    took = asyncio.run(apply_and_settle(Path(database), Path(manifests)))
    print(json.dumps({**took, "start": (begun - int(started)) / 1e9}))


if __name__ == "__main__":
    main(*sys.argv[1:])
