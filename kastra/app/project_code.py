"""Python files were saved: which modules are loaded anew, and what of them is in force? The code's half of `kastra dev`.

Modules that changed are imported again with those that import them; those that are controllers then take the place of what
they were. One that doesn't load, or whose controllers can't be used, leaves its old self at work and is tried again with
every later change of code, since that may be what it lacked.

Read next: `kastra.app.project_modules`, which imports, and `kastra.app.reloading`, which replaces controllers.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread

from kastra.manifest.position import NOWHERE
from kastra.manifest.problem import Problem
from kastra.tool.code_version import code_changed

from .code_problem import code_problem, shown
from .project_files import ProjectFiles
from .project_modules import ProjectModules, forget, forget_bytecode, put_back
from .reloading import ControllerFolders, described, loaded_modules

_IMPORT = 30.0
"""Seconds that a project's modules get to load."""


@dataclass(slots=True)
class Recoded:
    """What came of a change of code.

    Args:
        done: (file, what of it was loaded anew or taken away), in words.
        problems: every error that stands.
        mended: files that were broken and aren't any more.
        fresh: modules that are new, or gone, in force.
        loaded: all modules of the project that are loaded.
    """

    done: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    mended: list[Path] = field(default_factory=list)
    fresh: Collection[str] = ()
    loaded: Collection[str] = ()


class ProjectCode:
    """The code of a project.

    Args:
        files: of the project; code outside isn't loaded.
        controllers: the folders with controllers.
    """

    def __init__(self, files: ProjectFiles, controllers: ControllerFolders) -> None:
        self._files = files
        self._controllers = controllers
        self._modules = ProjectModules(files.project)
        self._failing: dict[str, Path] = {}

    async def change(self, changed: Collection[Path]) -> Recoded:
        """Have what is in the changed files be in force."""
        outcome = Recoded()
        for path in changed:
            forget_bytecode(path)
        real = {path.resolve() for path in changed if self._files.holds(path)}
        opened, problems = await anyio.to_thread.run_sync(self._controllers.open, real)
        outcome.problems += problems
        wanted = self._wanted(outcome)
        touched = self._modules.affected(real, self._failing.keys())
        gone = {name: file for name, file in touched.items() if not file.is_file()}
        forget(gone)
        loaded = self._modules.loaded()
        anew = {name: file for name, file in wanted.items() if name not in loaded}
        anew |= {name: file for name, file in touched.items() if name not in gone and name not in opened}
        failed = await self._reimport(anew)
        outcome.problems += [code_problem(error, self._files.project, anew[name]) for name, error in failed.items()]
        for name, file in self._controllers.gone().items():
            dropped = await self._controllers.drop(name)
            outcome.done.append((shown(file), f"{described(dropped) or 'module'} removed"))
        sound = {name: file for name, file in {**opened, **anew}.items() if name not in failed}
        refused = await self._bring(sound, wanted.keys() | opened.keys(), outcome)
        failing = {**{name: anew[name] for name in failed}, **refused}
        outcome.problems = list(dict.fromkeys(outcome.problems))
        outcome.mended = [file for name, file in self._failing.items() if name not in failing and file.is_file()]
        self._failing = failing
        if touched or anew:
            code_changed()
        outcome.fresh, outcome.loaded = touched.keys() - failed.keys(), self._modules.loaded().keys()
        return outcome

    def _wanted(self, outcome: Recoded) -> dict[str, Path]:
        """The controllers' modules that there should be."""
        wanted: dict[str, Path] = {}
        for name, file in self._controllers.modules().items():
            if self._files.holds(file):
                wanted[name] = file
            else:
                what = "link that leads out of the project; its content is not loaded"
                outcome.problems.append(Problem("error", shown(file), NOWHERE, "", what))
        return wanted

    async def _bring(self, sound: Mapping[str, Path], theirs: Collection[str], outcome: Recoded) -> dict[str, Path]:
        """Have the modules that have been loaded be in force; those that can't be used."""
        refused: dict[str, Path] = {}
        for name, file in sorted(sound.items()):
            names: list[str] = []
            if name in theirs:
                names, problem = await self._controllers.bring(name, file)
                if problem is not None:
                    outcome.problems.append(problem)
                    refused[name] = file
                    continue
            outcome.done.append((shown(file), f"{described(names) or 'module'} loaded"))
        return refused

    async def _reimport(self, modules: Mapping[str, Path]) -> Mapping[str, BaseException]:
        if not modules:
            return {}
        before = loaded_modules(modules)
        with anyio.move_on_after(_IMPORT):
            return await anyio.to_thread.run_sync(self._modules.reimport, list(modules), abandon_on_cancel=True)
        put_back(before)
        late = TimeoutError(f"loading it, or what it imports, took longer than {_IMPORT:g} s; its thread goes on")
        return dict.fromkeys(modules, late)
