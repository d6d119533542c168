"""How long after a save is it in force? As `kastra dev` does it, from the moment the file is written until the object that
it concerns is reconciled: the notification, the comparison of files, the checks, the write, and the controller.

A project with 20 Tools, 20 Agents, a kind of its own and its controller, on a store file with every write synced. Twenty
saves of a manifest, then twenty of the controller, each after the one before has settled; medians. Nothing is served and
nothing is shown.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from . import Row
from .apply import AGENT, TOOL

NAME = "dev"

SAVES = 20
DEFINITION = """apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boxes.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Box, plural: boxes, singular: box}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
BOX = """apiVersion: example.com/v1
kind: Box
metadata: {{name: box}}
spec: {{size: {size}}}
"""
CONTROLLER = """from pydantic import Field

from kastra import Context, Fields, Result, View, controller


class BoxSpec(Fields):
    size: int = 0


class Box(View, kind="Box", group="example.com"):
    spec: BoxSpec = Field(default_factory=BoxSpec)


@controller(Box)
async def reconcile(box: Box, ctx: Context) -> Result:
    return ctx.ready(f"version {version}, size {{box.spec.size}}")
"""


def write_project(folder: Path) -> None:
    """The files as they are before the first save."""
    for name in ("crds", "manifests", "controllers"):
        (folder / name).mkdir()
    (folder / "crds" / "boxes.yaml").write_text(DEFINITION)
    (folder / "manifests" / "box.yaml").write_text(BOX.format(size=0))
    (folder / "controllers" / "box.py").write_text(CONTROLLER.format(version=0))
    for n in range(20):
        text = TOOL.format(n=n, t=n % 7) + "---\n" + AGENT.format(n=n, t=n % 7, a=n, b=(n + 3) % 20)
        (folder / "manifests" / f"part-{n:02}.yaml").write_text(text)


async def measure(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds from each save until the object says so: of the manifest, of the controller."""
    from kastra.api.meta import ObjectRef
    from kastra.app.composition import compose
    from kastra.app.development import Development, Round
    from kastra.config import Settings

    settings = Settings(project=folder, data=folder / ".kastra")
    async with compose(replace(settings, controllers=())) as parts:
        development = Development(parts, settings, [folder / "crds", folder / "manifests"])
        begun = asyncio.Event()

        def tell(done: Round) -> None:
            assert done.ok, [str(problem) for problem in done.problems]
            begun.set()

        async def says(message: str) -> None:
            ref = ObjectRef("boxes.example.com", "box", "default")
            while ((await parts.client.get(ref)).condition("Ready") or {}).get("message") != message:
                await asyncio.sleep(0.002)

        async def saves(
            name: str, text: Callable[[int], str], expected: Callable[[int], Awaitable[None]]
        ) -> list[float]:
            took = []
            for number in range(1, SAVES + 1):
                await asyncio.sleep(0.3)
                (folder / name).write_text(text(number))
                started = time.perf_counter()
                await asyncio.wait_for(expected(number), 10)
                took.append(time.perf_counter() - started)
            return took

        loop = asyncio.create_task(development.run(tell))
        await begun.wait()
        manifests = await saves(
            "manifests/box.yaml", lambda n: BOX.format(size=n), lambda n: says(f"version 0, size {n}")
        )
        controllers = await saves(
            "controllers/box.py", lambda n: CONTROLLER.format(version=n), lambda n: says(f"version {n}, size {SAVES}")
        )
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    return manifests, controllers


def run() -> list[Row]:
    """The figures."""
    with tempfile.TemporaryDirectory(prefix="kastra-bench-") as place:
        folder = Path(place).resolve()
        write_project(folder)
        manifests, controllers = asyncio.run(measure(folder))
    return [
        Row(what, statistics.median(took) * 1000, "ms", target, at_most=True, note=f"slowest {max(took) * 1000:.0f} ms")
        for what, took, target in (
            ("a saved manifest, until reconciled", manifests, 300.0),
            ("a saved controller, until its objects are reconciled", controllers, 500.0),
        )
    ]
