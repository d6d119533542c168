"""Runs that are long: a forEach of 10,000 items, and a loop of 10,000 iterations that is taken up near its end.

The first goes through the whole of Kastra (store file, API server, controllers, executor), since its size is that of the
object that `kubectl get` gives: the largest that its status ever was. The second is the engine alone, as in `bench.engine`.
Part of `python -m bench engine`; each in a process of its own.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kastra
from kastra.app.running import create_run, wait_until
from kastra.config import Settings
from kastra.engine.orders import RunOrder
from kastra.engine.step import Effect, StepContext

from . import Row, memory
from .engine import TOOL, Bench, closure, engine

ITEMS = 10_000
ITERATIONS = 10_000
MANIFEST = """apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: many}
spec:
  durability: process
  steps:
  - {id: each, forEach: {items: input, concurrency: 100, steps: [{id: keep, set: {last: '${{ item }}'}}]}}
"""


async def items(folder: Path, driver: str) -> dict[str, float]:
    """A forEach: how long, and the largest status of its Run."""
    os.environ["KASTRA_SQL_DRIVER"] = driver
    (folder / "many.yaml").write_text(MANIFEST)
    sizes: list[int] = []

    def note(run: Any) -> bool:
        sizes.append(len(json.dumps(run.status)))
        return bool(run.is_condition_true("Complete"))

    settings = Settings(project=folder, data=folder / "data", controllers=())
    async with kastra.open(folder / "k.db", settings=settings) as k:
        assert (await k.apply(folder / "many.yaml")).ok
        assert await k.settle(20)
        begun = time.perf_counter()
        run = await create_run(k.client, "workflow/many", list(range(ITEMS)), name="many")
        done = await wait_until(k.client, run.ref, note)
        taken = time.perf_counter() - begun
    assert done.status["counts"]["succeeded"] == ITEMS + 1, done.status
    return {"seconds": taken, "status": max(sizes) / 1024}


class StopsAtTheEnd:
    """A tool that never returns in the last iteration: where a crash interrupts."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        if f"#{ITERATIONS}/" in step.key:
            self.reached.set()
            await asyncio.Event().wait()

        async def call(effect: Effect) -> Any:
            return {"text": "x" * 180, "n": effect.attempt}

        return await step.call("", call, TOOL)


async def loop(folder: Path, driver: str) -> dict[str, float]:
    """A loop of two steps: records in its journal at the end, and how long taking it up and ending it takes."""
    steps = [{"id": "t", "tool": {"name": "t"}}, {"id": "s", "set": {"n": "${{ iteration }}"}}]
    body = {"until": f"iteration >= {ITERATIONS}", "maxIterations": ITERATIONS, "steps": steps}
    what = closure({"steps": [{"id": "poll", "loop": body}]}, ["spec.steps[0].loop.steps[0].tool"])
    stops = StopsAtTheEnd()
    pool, bus, writer = engine(folder, driver, stops)
    begun, cpu = time.perf_counter(), time.process_time()
    await pool.__aenter__()
    pool.submit(RunOrder("u1", "default", "r", what, {"q": 1}, durability="process"))
    await stops.reached.wait()
    ran, cpu = time.perf_counter() - begun, time.process_time() - cpu
    ((records,),) = await writer.query("SELECT count(*) FROM journal")
    await pool.__aexit__(None, None, None)
    await writer.aclose()
    begun = time.perf_counter()
    pool, bus, writer = engine(folder, driver)
    bench = Bench(pool, bus, writer)
    async with pool:
        await bench.ended(1)
        taken = time.perf_counter() - begun
    await writer.aclose()
    return {
        "records": records,
        "rate": 2 * ITERATIONS / ran,
        "cpu": cpu / (2 * ITERATIONS) * 1e3,
        "recovery": taken * 1e3,
        "memory": memory(),
    }


PARTS = {"items": items, "loop": loop}


def measure(part: str, driver: str) -> dict[str, float]:
    """A part in a process of its own."""
    command = [sys.executable, "-m", "bench._long", part, driver]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def rows(driver: str) -> list[Row]:
    """The figures of both."""
    wide, long = measure("items", driver), measure("loop", driver)
    return [
        Row(f"forEach of {ITEMS:,}: status of the Run at its largest", wide["status"], "KB", 256, at_most=True),
        Row(f"forEach of {ITEMS:,}: time", wide["seconds"], "s"),
        Row(f"loop of {ITERATIONS:,}: records in its journal", long["records"], "", 3_000, at_most=True),
        Row(f"loop of {ITERATIONS:,}: CPU per step, NORMAL", long["cpu"], "ms"),
        Row(f"loop of {ITERATIONS:,}: taking up and ending", long["recovery"], "ms"),
        Row(f"loop of {ITERATIONS:,}: memory", long["memory"], "MB", 90, at_most=True),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(asyncio.run(PARTS[sys.argv[1]](Path(name), sys.argv[2]))))
