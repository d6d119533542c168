"""A small project with a kitchen in it, and `kastra` as a function that runs a verb in it."""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio
import pytest
from click.testing import CliRunner

from kastra.api.scheme import Scheme
from kastra.app import peek
from kastra.cli.main import main

TOOL = '''
def find(ingredients: list[str]) -> list[dict]:
    """Recipes for what is there."""
    return [{"name": " and ".join(ingredients) + " omelette"}]
'''

KITCHEN = """\
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: finder, namespace: kitchen, labels: {team: food}}
spec:
  description: Finds recipes.
  python: {entrypoint: "kitchen_tools:find"}
  inputSchema:
    type: object
    properties: {ingredients: {type: array, items: {type: string}}}
    required: [ingredients]
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: cook, namespace: kitchen, labels: {team: food}}
spec:
  instructions: You cook.
  model:
    provider: scripted
    parameters:
      rules:
      - when: size(results) == 0
        call: {tool: finder, arguments: {ingredients: "${{ input.ingredients }}"}}
      - when: size(results) > 0
        reply: "Try ${{ results[0][0].name }}."
  tools: [finder]
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: dinner, namespace: kitchen}
spec:
  inputSchema:
    type: object
    properties: {ingredients: {type: array, items: {type: string}}}
    required: [ingredients]
  steps:
  - id: suggest
    agent: cook
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: waiter, namespace: kitchen}
spec:
  instructions: You serve.
  tools: [menu]
---
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: kitchen}
stringData: {token: canary-5f2a}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: prices, namespace: kitchen}
data: {omelette: "7"}
"""


class Result(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()


class Kastra(Protocol):
    """Runs `kastra ARGUMENTS...` in a project."""

    folder: Path

    def __call__(self, *arguments: object, stdin: str = "", env: Mapping[str, str] | None = None) -> Result: ...


class _Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: object, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        handlers = logging.getLogger().handlers[:]
        level = logging.getLogger().level
        code = 0
        try:
            with contextlib.chdir(self.folder), CliRunner().isolation(stdin, env=env) as (out, err, _):
                try:
                    main([*map(str, arguments)])
                except SystemExit as error:
                    code = error.code if isinstance(error.code, int) else 1
                return Result(code, out.getvalue().decode(), err.getvalue().decode())
        finally:
            # The command's log goes to a stream that is gone with the isolation.
            logging.getLogger().handlers[:] = handlers
            logging.getLogger().setLevel(level)


def _made(folder: Path) -> _Project:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kastra.toml").write_text("")
    (folder / "kitchen_tools.py").write_text(TOOL)
    (folder / "kitchen.yaml").write_text(KITCHEN)
    return _Project(folder)


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Kastra:
    """The project with everything applied and one Run done. Only for reading: it is shared by all tests."""
    project = _made(tmp_path_factory.mktemp("kitchen"))
    applied = project("apply", "-f", "kitchen.yaml")
    assert applied.code == 0, applied.stderr
    ran = project("run", "workflow/dinner", "-n", "kitchen", "--name", "first", "--input", '{"ingredients": ["egg"]}')
    assert ran.code == 0, ran.stderr
    return project


@pytest.fixture
def changeable(kitchen: Kastra, tmp_path: Path) -> Kastra:
    """A copy of the kitchen for one test to change."""
    shutil.copytree(kitchen.folder, tmp_path / "copy")
    return _Project(tmp_path / "copy")


@pytest.fixture
def empty(tmp_path: Path) -> Kastra:
    """The project before anything was applied."""
    return _made(tmp_path / "empty")


@pytest.fixture(scope="session")
def scheme(tmp_path_factory: pytest.TempPathFactory) -> Scheme:
    """The built-in kinds."""

    async def read() -> Scheme:
        async with peek(path=tmp_path_factory.mktemp("none") / "absent.db") as client:
            return client.scheme

    return anyio.run(read)


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[Callable[[str], dict[str, str]]]:
    """Makes an editor of a shell script that gets the file as $1; gives the environment that names it."""

    def make(script: str) -> dict[str, str]:
        path = tmp_path / "editor.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return {"KUBE_EDITOR": str(path)}

    yield make
