"""5,000 objects of a custom kind, written while no controller ran, reconciled by one of a few lines until all are Ready.

A process of its own opens the file and runs all controllers, the built-in ones included; the clock starts when it opens, and
stops when nothing is left to do and every object has its status. Every write is synced. The memory is what the process
holds more at its peak than before it opened, so imports of what every process needs don't count. Then the same by a Reconciler, a controller
without code, which makes a ConfigMap for each object: 1,000 of them, since every object is four writes and not one.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import Row, memory

NAME = "custom"

OBJECTS = 5_000
COMPOSED = 1_000

CONTROLLER = '''"""Gauge: a trivial kind."""

from typing import Any

from kastra import Context, Fields, Result, View, controller


class GaugeSpec(Fields):
    value: int


class Gauge(View, kind="Gauge", group="bench.example.com"):
    spec: GaugeSpec


@controller(Gauge, concurrency=16)
async def reconcile(gauge: Gauge, ctx: Context) -> Result:
    ctx.status.doubled = 2 * gauge.spec.value
    return ctx.ready()
'''
RECONCILER: dict[str, Any] = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Reconciler",
    "metadata": {"name": "gauges"},
    "spec": {
        "for": {"apiVersion": "bench.example.com/v1", "kind": "Gauge"},
        "resources": [
            {
                "id": "map",
                "template": {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "${{ object.metadata.name }}"},
                    "data": {"value": "${{ string(object.spec.value) }}"},
                },
            }
        ],
        "status": {"doubled": "${{ 2 * object.spec.value }}"},
    },
}


def definition() -> dict[str, Any]:
    """Of the kind Gauge."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"value": {"type": "integer"}}},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gauges.bench.example.com"},
        "spec": {
            "group": "bench.example.com",
            "scope": "Namespaced",
            "names": {"kind": "Gauge", "plural": "gauges"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


async def write(project: Path, objects: int, reconciler: bool) -> None:
    """The definition and the objects, with no controller running."""
    from kastra.app.composition import compose
    from kastra.config import Settings

    async with compose(Settings(project=project, data=project / ".kastra"), reconcile=False, execute=False) as parts:
        await parts.client.create(definition())
        if reconciler:
            await parts.client.create(RECONCILER)
        api_version, kind = "bench.example.com/v1", "Gauge"
        for start in range(0, objects, 500):
            numbers = range(start, min(start + 500, objects))
            async with asyncio.TaskGroup() as tasks:
                for n in numbers:
                    metadata = {"name": f"gauge-{n}", "namespace": "default"}
                    body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": {"value": n}}
                    tasks.create_task(parts.client.create(body))


async def reconcile(project: Path, objects: int) -> dict[str, float]:
    """Seconds until all are Ready, and megabytes that took."""
    import kastra
    from kastra.app.composition import discover_controllers
    from kastra.config import Settings

    settings = Settings(project=project, data=project / ".kastra")
    discover_controllers(settings)
    before, begun = memory("VmRSS"), time.perf_counter()
    async with kastra.open(settings=settings, execute=False) as k:
        opened = time.perf_counter() - begun
        await k.settle()
        while (waiting := await not_ready(k)) > 0:
            assert time.perf_counter() - begun < 120, waiting
            await asyncio.sleep(0.05)
            await k.settle()
        took = time.perf_counter() - begun
        peak = memory("VmHWM")
    return {"seconds": took, "open": opened, "megabytes": peak - before, "peak": peak, "objects": objects}


async def not_ready(k: Any) -> int:
    """How many objects aren't."""
    return sum(not obj.is_condition_true("Ready") for obj in (await k.client.list("gauges")).items)


def measure(objects: int, *, reconciler: bool) -> dict[str, float]:
    """What a process of its own found."""
    with tempfile.TemporaryDirectory(prefix="kastra-bench-") as place:
        project = Path(place)
        (project / "kastra.toml").write_text("")
        if not reconciler:
            (project / "controllers").mkdir()
            (project / "controllers" / "gauge.py").write_text(CONTROLLER)
        asyncio.run(write(project, objects, reconciler))
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(project), str(objects)], check=True, stdout=subprocess.PIPE, text=True
        )
        found: dict[str, float] = json.loads(done.stdout)
        return found


def run() -> list[Row]:
    """The figures."""
    coded = measure(OBJECTS, reconciler=False)
    declared = measure(COMPOSED, reconciler=True)
    opening = f"of which opening {coded['open']:.2f} s"
    return [
        Row("5,000 custom objects, all Ready", coded["seconds"], "s", 3.0, at_most=True, note=opening),
        Row("memory that this takes", coded["megabytes"], "MB", 60, at_most=True, note=f"peak {coded['peak']:.0f} MB"),
        Row("1,000 by a Reconciler, each with a ConfigMap", declared["seconds"], "s"),
    ]


def main(project: str, objects: str) -> None:
    """In the child process: print the figures as JSON."""
    print(json.dumps(asyncio.run(reconcile(Path(project), int(objects)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
