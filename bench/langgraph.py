"""LangGraph beside Kastra, on the same workflow, in the same run: ten steps, many at once, a fan-out, recovery.

Three things are measured: LangGraph with its SQLite checkpointer, LangGraph with Kastra's, and Kastra's engine (the same
figures as of `engine`, taken again here). Steps do nothing and give 200 bytes; LangGraph runs with `durability="sync"`, so
that each step is on the disk before the next begins, as Kastra's are. Both savers sync every commit (`synchronous=FULL`), but
for the figure that says NORMAL, which survives the death of the process and not that of the machine.

LangGraph's many runs are one event loop's tasks; what hasn't ended after the time limit isn't counted. Each figure comes
from a process of its own, and CPU is that of the whole process. Needs the packages of `dev`.
"""

import asyncio
import json
import operator
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypedDict

from kastra.sql.driver import installed
from kastra.sql.interface import Durability, Statement

from . import Row, engine, memory, percentile

NAME = "langgraph"

STEPS = engine.STEPS
RUNS = engine.RUNS
LIMIT = 60.0
"""Seconds after which runs that are still going are given up."""

SAVERS = {"sqlite": "LangGraph on SQLite", "kastra": "LangGraph on Kastra"}


class State(TypedDict, total=False):
    """What a graph carries: the last step's 200 bytes, or all of a fan-out's."""

    text: str
    all: Annotated[list[str], operator.add]


class Counted:
    """A checkpointer, and how often it has committed."""

    def __init__(self, saver: Any, commits: Callable[[], int]) -> None:
        self.saver = saver
        self.commits = commits


@asynccontextmanager
async def sqlite(path: Path, *, normal: bool = False) -> AsyncIterator[Counted]:
    """LangGraph's own; with `normal` a commit survives the death of the process only (`synchronous=NORMAL`)."""
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        count = 0

        def trace(statement: str) -> None:
            nonlocal count
            count += statement == "COMMIT"

        await saver.setup()
        if normal:
            await saver.conn.execute("PRAGMA synchronous=NORMAL")
        await saver.conn.set_trace_callback(trace)
        yield Counted(saver, lambda: count)


@asynccontextmanager
async def kastra(path: Path, *, normal: bool = False) -> AsyncIterator[Counted]:
    """Kastra's; `normal` as there."""
    from kastra.langgraph import KastraSaver
    from kastra.langgraph.link import OwnFile

    class Counting(OwnFile):
        count = 0

        def write(self, statements: Sequence[Statement], durability: Durability) -> "Future[None]":
            self.count += 1
            return super().write(statements, "process" if normal else durability)

    link = Counting(path, None, 10)
    async with KastraSaver(link) as saver:
        yield Counted(saver, lambda: link.count)


OPEN: dict[str, Callable[..., AbstractAsyncContextManager[Counted]]] = {"sqlite": sqlite, "kastra": kastra}


def sequence(saver: Any, **options: Any) -> Any:
    """Ten nodes, one after the other."""
    from langgraph.graph import START, StateGraph

    async def node(state: State) -> State:
        return {"text": "x" * 180}

    builder = StateGraph(State)
    previous = START
    for number in range(STEPS):
        builder.add_node(f"s{number}", node)
        builder.add_edge(previous, f"s{number}")
        previous = f"s{number}"
    return builder.compile(checkpointer=saver, **options)


def fan(saver: Any, width: int) -> Any:
    """So many nodes at once."""
    from langgraph.graph import START, StateGraph
    from langgraph.types import Send

    async def work(state: State) -> State:
        return {"all": ["x" * 180]}

    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_conditional_edges(START, lambda state: [Send("work", {}) for _ in range(width)])
    return builder.compile(checkpointer=saver)


def thread(name: str) -> Any:
    """The config of a thread."""
    return {"configurable": {"thread_id": name}}


async def at_once(graph: Any, given: Any, names: Sequence[str]) -> tuple[int, float, float]:
    """How many of these threads ended within the limit, in how many seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    tasks = [asyncio.create_task(graph.ainvoke(given, thread(name), durability="sync")) for name in names]
    done, late = await asyncio.wait(tasks, timeout=LIMIT)
    taken = time.perf_counter() - wall, time.process_time() - cpu
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        task.result()
    return len(done), *taken


async def many(folder: Path, saver: str) -> dict[str, float]:
    """A thousand at once."""
    async with OPEN[saver](folder / "g.db") as counted:
        graph = sequence(counted.saver)
        await at_once(graph, {"text": ""}, [f"warm{number}" for number in range(20)])
        done, wall, cpu = await at_once(graph, {"text": ""}, [f"t{number}" for number in range(RUNS)])
    used = memory()
    return {"done": done, "rate": done * STEPS / wall, "cpu": cpu / max(1, done * STEPS) * 1e3, "memory": used}


async def alone(folder: Path, saver: str) -> dict[str, float]:
    """One after the other, and one with a hundred branches."""
    async with OPEN[saver](folder / "g.db") as counted:
        graph = sequence(counted.saver)
        for number in range(5):
            await at_once(graph, {"text": ""}, [f"warm{number}"])
        before = counted.commits()
        results = [await at_once(graph, {"text": ""}, [f"t{number}"]) for number in range(30)]
        commits = (counted.commits() - before) / (30 * STEPS)
        wide = fan(counted.saver, 100)
        fans = [await at_once(wide, {"all": []}, [f"f{number}"]) for number in range(6)][1:]
    async with OPEN[saver](folder / "n.db", normal=True) as counted:
        graph = sequence(counted.saver)
        normal = [await at_once(graph, {"text": ""}, [f"t{number}"]) for number in range(35)][5:]
    return {
        "normal": STEPS / percentile([wall for _, wall, _ in normal], 0.5),
        "rate": STEPS / percentile([wall for _, wall, _ in results], 0.5),
        "cpu": sum(cpu for *_, cpu in results) / (30 * STEPS) * 1e3,
        "commits": commits,
        "fan": percentile([wall for _, wall, _ in fans], 0.5) * 1e3,
    }


async def recovery(folder: Path, saver: str) -> dict[str, float]:
    """A thousand that stopped before their first step, taken up and finished by another checkpointer on the file."""
    names = [f"t{number}" for number in range(RUNS)]
    async with OPEN[saver](folder / "g.db") as counted:
        done, *_ = await at_once(sequence(counted.saver, interrupt_before=["s0"]), {"text": ""}, names)
    assert done == RUNS, f"only {done} runs could be begun within {LIMIT:.0f} s"
    begun = time.perf_counter()
    async with OPEN[saver](folder / "g.db") as counted:
        done, *_ = await at_once(sequence(counted.saver), None, names)
        taken = time.perf_counter() - begun
    return {"seconds": taken, "done": done}


PARTS = {"many": many, "alone": alone, "recovery": recovery}


def measure(part: str, saver: str) -> dict[str, float]:
    """A part in a process of its own."""
    command = [sys.executable, "-m", "bench.langgraph", part, saver]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def run() -> list[Row]:
    """LangGraph's figures on both checkpointers, then Kastra's."""
    if find_spec("langgraph") is None or find_spec("langgraph.checkpoint.sqlite") is None:
        return [Row("LangGraph", None, "", note="isn't installed: pip install 'kastra[dev]'")]
    rows = []
    for saver, name in SAVERS.items():
        many_, alone_, recovery_ = (measure(part, saver) for part in PARTS)
        rows += _rows(name, many_, alone_, recovery_)
    driver = installed()[0]
    many_, alone_, recovery_ = (engine.measure(part, driver) for part in engine.PARTS)
    return [*rows, *_rows("Kastra", {**many_, "done": RUNS}, alone_, {**recovery_, "done": RUNS})]


def _rows(name: str, many_: dict[str, float], alone_: dict[str, float], recovery_: dict[str, float]) -> list[Row]:
    note, late = (
        "" if found["done"] == RUNS else f"{found['done']:.0f} ended in {LIMIT:.0f} s" for found in (many_, recovery_)
    )
    return [
        Row(f"{name}: 1,000 runs of 10 steps at once", many_["rate"], "/s", note=note),
        Row(f"{name}: CPU per step, 1,000 runs", many_["cpu"], "ms"),
        Row(f"{name}: memory with 1,000 live runs", many_["memory"], "MB"),
        Row(f"{name}: one run alone, FULL", alone_["rate"], "/s"),
        Row(f"{name}: one run alone, NORMAL", alone_["normal"], "/s"),
        Row(f"{name}: CPU per step, one run alone", alone_["cpu"], "ms"),
        Row(f"{name}: commits per sequential step", alone_["commits"], ""),
        Row(f"{name}: fan-out of 100", alone_["fan"], "ms"),
        Row(f"{name}: taking up and finishing 1,000 runs", recovery_["seconds"], "s", note=late),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as found:
        print(json.dumps(asyncio.run(PARTS[sys.argv[1]](Path(found), sys.argv[2]))))
