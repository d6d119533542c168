"""The durable engine: many Runs at once, one Run alone, a fan-out, recovery.

Runs are sequences of ten tool steps whose effect does nothing and gives 200 bytes; every effect crosses the step seam. What
counts is the whole of it: interpreter, journal, group commit, progress. CPU is that of the whole process, writer thread
included, per step. Commits are counted where the engine asks for them: Runs that commit at the same moment share one on the
disk. No API server and no controllers, but for the forEach of 10,000. Each figure comes from a process of its own.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kastra.api.types import Closure, ClosureObject
from kastra.bus import Bus
from kastra.clock import SystemClock
from kastra.engine.execution import Services
from kastra.engine.orders import RunOrder
from kastra.engine.pool import TOPIC, Pool
from kastra.engine.step import CallOptions, Effect, StepContext
from kastra.sql.database import open_database
from kastra.sql.driver import installed
from kastra.sql.interface import Operation
from kastra.sql.writer import Writer

from . import Row, memory, percentile

NAME = "engine"

STEPS = 10
RUNS = 1000
TOOL = CallOptions("tool")


class CountingWriter(Writer):
    """A writer that counts what it is asked to commit."""

    submitted = 0

    def submit(self, operations: Sequence[Operation]) -> "asyncio.Future[None]":
        self.submitted += 1
        return super().submit(operations)


class NoTool:
    """A tool that does nothing and gives 200 bytes."""

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        async def call(effect: Effect) -> Any:
            return {"text": "x" * 180, "n": effect.attempt}

        return await step.call("", call, TOOL)


class Stuck:
    """A tool that never returns: what a crash interrupts."""

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        await asyncio.Event().wait()


def closure(spec: Mapping[str, Any], paths: Sequence[str]) -> Closure:
    """The closure of a workflow whose steps at `paths` are all the same tool."""
    root: ClosureObject = {
        "kind": "Workflow", "namespace": "default", "name": "w", "uid": "w", "generation": 1, "spec": spec,
        "refs": dict.fromkeys(paths, "Tool/default/t"),
    }  # fmt: skip
    tool: ClosureObject = {
        "kind": "Tool", "namespace": "default", "name": "t", "uid": "t", "generation": 1, "spec": {}, "refs": {},
    }  # fmt: skip
    return {
        "root": "Workflow/default/w",
        "objects": {"Workflow/default/w": root, "Tool/default/t": tool},
        "hash": f"h{len(paths)}",
    }


def sequence() -> Closure:
    """Ten tool steps, one after the other."""
    steps = [{"id": f"s{number}", "tool": {"name": "t"}} for number in range(STEPS)]
    return closure({"steps": steps}, [f"spec.steps[{number}].tool" for number in range(STEPS)])


def fan(width: int) -> Closure:
    """So many tool steps at once."""
    steps = [{"id": f"s{number}", "tool": {"name": "t"}} for number in range(width)]
    paths = [f"spec.steps[0].parallel.steps[{number}].tool" for number in range(width)]
    return closure({"steps": [{"id": "fan", "parallel": {"steps": steps}}]}, paths)


class Bench:
    """A pool on a file, and how long its Runs take."""

    def __init__(self, pool: Pool, bus: Bus, writer: CountingWriter) -> None:
        self.pool = pool
        self.writer = writer
        self._changes = bus.subscribe(TOPIC, limit=10**6)
        self._number = 0

    async def execute(self, runs: int, what: Closure, durability: Any = "power") -> tuple[float, float]:
        """Seconds and CPU seconds for so many Runs submitted at once."""
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(runs):
            self._number += 1
            self.pool.submit(RunOrder(f"u{self._number}", "default", "r", what, {"q": 1}, durability=durability))
        await self.ended(runs)
        return time.perf_counter() - wall, time.process_time() - cpu

    async def ended(self, runs: int) -> None:
        """Wait until so many Runs have ended."""
        left = runs
        while left > 0:
            for _, event in await self._changes.batch():
                assert event["phase"] not in ("Failed", "Cancelled"), event
                left -= event["phase"] == "Succeeded"


def engine(folder: Path, driver: str, runner: Any = None) -> tuple[Pool, Bus, CountingWriter]:
    """A pool on a file."""
    database = open_database(folder / "k.db", driver, reserve=True)
    writer = CountingWriter(database.connection, database.epoch)
    bus = Bus()
    services = Services(SystemClock(), {"tool": runner or NoTool()}, lambda schema, value: [])
    return Pool(writer, writer.query, bus, services, holder=f"bench-{os.getpid()}", concurrency=2 * RUNS), bus, writer


async def many(folder: Path, driver: str) -> dict[str, float]:
    """A thousand Runs at once, three times; the median."""
    pool, bus, writer = engine(folder, driver)
    async with pool:
        bench = Bench(pool, bus, writer)
        await bench.execute(100, sequence())
        results = [await bench.execute(RUNS, sequence()) for _ in range(3)]
    await writer.aclose()
    return {
        "rate": RUNS * STEPS / percentile([wall for wall, _ in results], 0.5),
        "cpu": percentile([cpu for _, cpu in results], 0.5) / (RUNS * STEPS) * 1e3,
        "memory": memory(),
    }


async def alone(folder: Path, driver: str) -> dict[str, float]:
    """One Run after the other, and one with a hundred branches."""
    pool, bus, writer = engine(folder, driver)
    async with pool:
        bench = Bench(pool, bus, writer)
        for _ in range(20):
            await bench.execute(1, sequence())
        before, results = writer.submitted, [await bench.execute(1, sequence()) for _ in range(100)]
        commits = (writer.submitted - before) / (100 * STEPS)
        normal = [await bench.execute(1, sequence(), "process") for _ in range(100)]
        await bench.execute(1, fan(100))
        fans = [await bench.execute(1, fan(100)) for _ in range(9)]
    await writer.aclose()
    return {
        "rate": STEPS / percentile([wall for wall, _ in results], 0.5),
        "cpu": sum(cpu for _, cpu in results) / (100 * STEPS) * 1e3,
        "commits": commits,
        "normal": STEPS / percentile([wall for wall, _ in normal], 0.5),
        "normal_cpu": sum(cpu for _, cpu in normal) / (100 * STEPS) * 1e3,
        "fan": percentile([wall for wall, _ in fans], 0.5) * 1e3,
    }


async def recovery(folder: Path, driver: str) -> dict[str, float]:
    """A thousand Runs left in their first step, taken up and finished."""
    pool, bus, writer = engine(folder, driver, Stuck())
    async with bus.subscribe(TOPIC, limit=10**6) as changes:
        await pool.__aenter__()
        for number in range(RUNS):
            pool.submit(RunOrder(f"u{number}", "default", "r", sequence(), {"q": 1}))
        begun = 0
        while begun < RUNS:
            begun += len(await changes.batch())
    await pool.__aexit__(None, None, None)
    await writer.aclose()
    begun_at = time.perf_counter()
    pool, bus, writer = engine(folder, driver)
    bench = Bench(pool, bus, writer)
    async with pool:
        await bench.ended(RUNS)
        taken = time.perf_counter() - begun_at
    await writer.aclose()
    return {"seconds": taken}


PARTS = {"many": many, "alone": alone, "recovery": recovery}


def measure(part: str, driver: str) -> dict[str, float]:
    """A part in a process of its own."""
    command = [sys.executable, "-m", "bench.engine", part, driver]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def run() -> list[Row]:
    """All figures, for each driver that is installed; the first is the default."""
    rows = []
    for index, driver in enumerate(installed()):
        many_, alone_, recovery_ = (measure(part, driver) for part in PARTS)
        targets = index == 0

        def row(
            what: str,
            value: float,
            unit: str,
            target: float,
            at_most: bool = True,
            *,
            on: bool = targets,
            by: str = driver,
        ) -> Row:
            return Row(f"{by}: {what}", value, unit, target if on else None, at_most)

        rows += [
            row("1,000 Runs of 10 steps at once, FULL", many_["rate"], "/s", 12_000, at_most=False),
            row("CPU per step, 1,000 Runs", many_["cpu"], "ms", 0.08),
            row("memory with 1,000 live Runs", many_["memory"], "MB", 90),
            row("CPU per step, one Run alone, FULL", alone_["cpu"], "ms", 0.2),
            row("CPU per step, one Run alone, NORMAL", alone_["normal_cpu"], "ms", 0.2),
            row("commits per sequential step", alone_["commits"], "", 1.1),
            row("one Run alone, FULL", alone_["rate"], "/s", 1, at_most=False, on=False),
            row("one Run alone, NORMAL", alone_["normal"], "/s", 4_000, at_most=False),
            row("fan-out of 100, one Run", alone_["fan"], "ms", 15),
            row("taking up and finishing 1,000 Runs", recovery_["seconds"], "s", 2),
        ]
    # Its parts are made of what is here.
    from . import _long

    return rows + _long.rows(installed()[0])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(asyncio.run(PARTS[sys.argv[1]](Path(name), sys.argv[2]))))
