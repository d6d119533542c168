"""What memory costs: an agent's answer in a thread, the event loop beside it, and recall by meaning over many vectors.

The agent is asked over the in-process API; its model answers at once. It sees ten messages of its thread, which grows by two with each
answer; every answer is on disk before it is given. One of the agents recalls by meaning too; its vectors are made in
this process. The event loop is that of `kastra serve`. CPU is that of the whole process, writer and reader threads included.

Vectors are 100,000 of 384 numbers around 2,000 centres, as texts about so many things would be; the queries are others around the
same centres. Recall is the share of the ten nearest that are found. One thread searches, numpy's own threads switched off.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio

from kastra.app import open as open_kastra
from kastra.config import Settings

from . import Row

NAME = "memory"

ANSWERS = 200
ROUNDS = 5
VECTORS = 100_000
DIMENSIONS = 384
QUERIES = 500
CENTRES = 2000
EXACT = 19_999


def run() -> list[Row]:
    """The figures."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return [*anyio.run(_answers, backend_options={"use_uvloop": True}), *_vectors()]


def _agent(name: str, **spec: Any) -> dict[str, Any]:
    model = {"provider": "scripted", "parameters": {"rules": [{"reply": "Noted, and what else?"}]}}
    return {"apiVersion": "mastra.ai/v1", "kind": "Agent", "metadata": {"name": name}, "spec": {"model": model, **spec}}


async def _answers() -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(project=Path(folder), data=Path(folder) / ".kastra")
        async with open_kastra(settings=settings, execute=True) as kastra:
            recall = {"lastMessages": 10, "semanticRecall": {"topK": 4, "embedder": {"provider": "scripted"}}}
            for name, spec in (
                ("plain", {}),
                ("remembers", {"memory": {"lastMessages": 10}}),
                ("recalls", {"memory": recall}),
            ):
                await kastra.client.create(_agent(name, **spec) | {"metadata": {"name": name, "namespace": "default"}})
            for name, what, target in (
                ("plain", "generate without a thread: CPU", None),
                ("remembers", "generate with a thread of 10 messages: CPU", 1.2),
                ("recalls", "generate with recall by meaning as well: CPU", None),
            ):
                thread = "" if name == "plain" else name
                await _ask(kastra.client, name, thread, 20)
                found = []
                for _ in range(ROUNDS):
                    before = time.process_time()
                    await _ask(kastra.client, name, thread, ANSWERS)
                    found.append((time.process_time() - before) / ANSWERS * 1000)
                rows.append(Row(what, min(found), "ms", target, at_most=True, note="one after the other"))
    return rows


async def _ask(client: Any, name: str, thread: str, count: int) -> None:
    from kastra.api.meta import ObjectRef

    body: dict[str, Any] = {"input": "I have seen a red bicycle in the cellar."}
    if thread:
        body["memory"] = {"thread": thread}
    for _ in range(count):
        async for _answer in client.connect(ObjectRef("Agent.mastra.ai", name, "default"), "generate", body):
            pass


def _vectors() -> list[Row]:
    import numpy as np

    from kastra.memory.vectors import VectorIndex, normalized

    luck = np.random.default_rng(1)
    centres = luck.standard_normal((CENTRES, DIMENSIONS)).astype(np.float32)

    def around(count: int) -> Any:
        noise = 0.6 * luck.standard_normal((count, DIMENSIONS)).astype(np.float32)
        found: Any = centres[luck.integers(0, CENTRES, count)] + noise
        return normalized(found)

    vectors, queries = around(VECTORS), around(QUERIES)
    index = VectorIndex(DIMENSIONS, start=lambda build: build())
    began = time.perf_counter()
    index.add(range(VECTORS), vectors)
    built = time.perf_counter() - began
    near = [{int(row) for row in np.argpartition(vectors @ query, -10)[-10:]} for query in queries]
    times, hits = [], 0
    for _ in range(3):
        began = time.perf_counter()
        found = [index.search(query, 10) for query in queries]
        times.append(time.perf_counter() - began)
        hits = sum(len({number for number, _ in rows} & exact) for rows, exact in zip(found, near, strict=True))
    size = f"{VECTORS:,} x {DIMENSIONS}, annoy, built in {built:.0f} s"
    few = VectorIndex(DIMENSIONS)
    few.add(range(EXACT), vectors[:EXACT])
    began = time.perf_counter()
    for query in queries[:100]:
        few.search(query, 10)
    exact_rate = 100 / (time.perf_counter() - began)
    return [
        Row("recall of the ten nearest", hits / (10 * QUERIES), "", 0.95, note=size),
        Row("searches", QUERIES / min(times), "/s", 1000, note=size),
        Row("searches, exact", exact_rate, "/s", note=f"{EXACT:,} x {DIMENSIONS}, numpy, recall 1"),
    ]
