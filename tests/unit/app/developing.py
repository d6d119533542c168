"""A project that is being worked on, without its terminal and without a watcher: tests say themselves which files changed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.app.composition import Composition, compose
from kastra.app.development import Development, Round
from kastra.config import Settings

BOXES = """\
apiVersion: apiextensions.k8s.io/v1
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
BOX = """\
apiVersion: example.com/v1
kind: Box
metadata: {{name: {name}}}
spec: {{size: {size}}}
"""
CONTROLLER = '''\
"""Boxes."""

from typing import Any

from pydantic import Field

from kastra import Context, Fields, Result, View, controller


class BoxSpec(Fields):
    size: int = 0


class BoxStatus(Fields):
    pass


class Box(View, kind="Box", group="example.com"):
    spec: BoxSpec = Field(default_factory=BoxSpec)
    status: BoxStatus = Field(default_factory=BoxStatus)


@controller(Box)
async def reconcile(box: Box, ctx: Context) -> Result:
    return ctx.ready(f"MESSAGE {box.spec.size}")
'''
CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data: {{text: "{text}"}}
"""


class Project:
    """The folder, the loop on it, and what came of the last change."""

    def __init__(self, folder: Path, parts: Composition, settings: Settings) -> None:
        self.folder = folder
        self.parts = parts
        self.development = Development(parts, settings, [folder / "crds", folder / "manifests"])

    @property
    def controllers(self) -> set[str]:
        """The names of the controllers that aren't built in."""
        assert self.parts.manager is not None
        names = {name for name in self.parts.manager.controllers if name not in self.builtin}
        return {name for name in names if not name.startswith("garbage/")}

    builtin: frozenset[str] = frozenset()

    def write(self, name: str, text: str) -> Path:
        """Save a file as many editors do: beside it, then in its place."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.new")
        beside.write_text(text)
        beside.replace(path)
        return path

    async def change(self, *paths: Path) -> Round:
        """Tell the loop which files changed."""
        return await self.development.change(paths)

    async def save(self, name: str, text: str) -> Round:
        """Write a file and tell the loop."""
        return await self.change(self.write(name, text))

    async def remove(self, name: str) -> Round:
        """Delete a file and tell the loop."""
        await anyio.to_thread.run_sync((self.folder / name).unlink)
        return await self.change(self.folder / name)

    async def get(self, kind: str, name: str) -> Object | None:
        """An object, or None."""
        try:
            return await self.development.kastra.client.get(ObjectRef(kind, name, "default"))
        except NotFound:
            return None

    async def ready(self, kind: str, name: str) -> str:
        """The message of its condition Ready."""
        found = await self.get(kind, name)
        assert found is not None
        condition = found.condition("Ready") or {}
        return str(condition.get("message", ""))


@asynccontextmanager
async def developing(folder: Path) -> AsyncIterator[Project]:
    """The loop on a project in `folder`, over a store in memory, with the built-in controllers."""
    settings = Settings(project=folder, data=folder / ".kastra")
    async with compose(replace(settings, controllers=()), path=":memory:") as parts:
        assert parts.manager is not None
        project = Project(folder, parts, settings)
        project.builtin = frozenset(parts.manager.controllers)
        yield project


def places(done: Round) -> list[str]:
    """The problems of a round, each as it is shown, with files by their names."""
    return [str(problem).replace(problem.file, Path(problem.file).name) for problem in done.problems]


def verbs(done: Round) -> dict[str, str]:
    """What was done, by object."""
    return {one.ref.name: one.verb for one in done.applied}
