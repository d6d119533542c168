"""The controllers of a project, while they are being written: what a changed module had is taken away, what it has now is
brought to life, and the rest goes on.

A controller that is replaced ends what it has in work and then looks at every object of its kind, so nothing that waited is
lost. If a module doesn't load, or what it has can't be used, the controllers that it had stay. `setup` is undone as far as
it added controllers; what else it did (services, handlers of informers) stays until the process ends.

Read next: `kastra.runtime.discovery`, which says what a module may have, and `kastra.app.project_modules`.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from kastra.manifest.position import START
from kastra.manifest.problem import Problem
from kastra.runtime.discovery import Discovered, DiscoveryError, collect, folder_package
from kastra.runtime.manager import Manager

from .code_problem import code_problem, shown
from .composition import Composition
from .project_files import is_ignored_file
from .validation import Remembered


@dataclass(slots=True)
class _Live:
    """What a module has brought to life."""

    file: Path
    found: Discovered = field(default_factory=Discovered)
    set_up: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of its controllers."""
        return [spec.name for spec in self.found.controllers] + self.set_up


class ControllerFolders:
    """The controllers in the folders of a project.

    Args:
        parts: with a manager, which knows none of the project's controllers.
        project: its folder, resolved.
        folders: with controllers, resolved; they need not exist.
    """

    def __init__(self, parts: Composition, project: Path, folders: Sequence[Path]) -> None:
        assert parts.manager is not None
        self._manager: Manager = parts.manager
        self._admission = parts.api.registry.admission
        self._project = project
        self._folders = folders
        self._packages: dict[Path, str] = {}
        self._unopened: set[Path] = set()
        self._live: dict[str, _Live] = {}

    def open(self, files: Collection[Path]) -> tuple[dict[str, Path], list[Problem]]:
        """Have the folders be packages, anew where `__init__.py` is among the changed files. Runs its code, so call it in a
        worker thread.

        Returns:
            The packages that have been loaded here and have code of their own, and what is wrong with others.
        """
        problems: list[Problem] = []
        opened: dict[str, Path] = {}
        for folder in self._folders:
            init = folder / "__init__.py"
            tried = folder in self._packages and folder not in self._unopened
            if not folder.is_dir() or (tried and init not in files):
                continue
            self._unopened.discard(folder)
            known = self._packages.get(folder, "")
            before = {name: module for name, module in sys.modules.items() if known and _is_below(name, known)}
            try:
                package = self._packages[folder] = folder_package(folder).__name__
                if init.is_file():
                    opened[package] = init
            except (DiscoveryError, SystemExit) as error:
                problems.append(code_problem(error, self._project, init))
                sys.modules.update(before)
                self._unopened.add(folder)
        return opened, problems

    def modules(self) -> dict[str, Path]:
        """What modules there should be, by name, with their files."""
        return {
            name: file
            for folder, package in self._packages.items()
            if folder.is_dir()
            for name, file in _modules(package, folder)
        }

    def is_theirs(self, name: str) -> bool:
        """Whether a module is in one of the folders."""
        return any(_is_below(name, package) for package in self._packages.values())

    async def bring(self, name: str, file: Path) -> tuple[list[str], Problem | None]:
        """Have a module that has just been loaded take the place of what it was.

        Returns:
            The names of its controllers, and what is wrong if it can't be used.
        """
        old = self._live.get(name)
        module = sys.modules[name]
        try:
            found = collect(module)
        except DiscoveryError as error:
            return [], Problem("error", shown(file), START, "", str(error))
        except Exception as error:  # noqa: BLE001 - annotations are evaluated here, and may name anything
            return [], code_problem(error, self._project, file)
        clash = self._clash(name, found)
        if clash:
            return [], Problem("error", shown(file), START, "", clash)
        new = _Live(file, found)
        try:
            await self._replace(old, new)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - `setup` is somebody's code
            problem = code_problem(error, self._project, file)
            for controller in {*new.names} & {*self._manager.controllers}:
                await self._manager.remove(controller)
            if old is not None:
                await self._revive(name, old)
            return [], problem
        self._live[name] = new
        return new.names, None

    async def drop(self, name: str) -> list[str]:
        """Take away what a module had whose file is gone; the names of its controllers."""
        old = self._live.pop(name, None)
        if old is None:
            return []
        for controller in old.names:
            await self._manager.remove(controller)
        self._forget_validators(old.found, Discovered())
        return old.names

    def gone(self) -> dict[str, Path]:
        """The modules that have brought something to life and whose files are gone."""
        return {name: live.file for name, live in self._live.items() if not live.file.is_file()}

    async def _replace(self, old: _Live | None, new: _Live) -> None:
        kept = {spec.name for spec in new.found.controllers}
        if old is not None:
            for controller in old.names:
                if controller not in kept or controller in old.set_up:
                    await self._manager.remove(controller)
            self._forget_validators(old.found, new.found)
            old.set_up = []
        for view in new.found.views:
            self._manager.views.replace(view)
        for kind, validator in new.found.validators.items():
            self._admission.validators[kind] = Remembered(validator)
        self._admission.update_validators.update(new.found.update_validators)
        for setup in new.found.setups:
            before = set(self._manager.controllers)
            try:
                setup(self._manager)
            finally:
                new.set_up += [one for one in self._manager.controllers if one not in before]
        for spec in new.found.controllers:
            await self._manager.replace(spec)

    async def _revive(self, name: str, old: _Live) -> None:
        """As `bring`, for what worked before."""
        again = _Live(old.file, old.found)
        try:
            await self._replace(None, again)
        except (Exception, SystemExit):  # noqa: BLE001 - the failure of the new one has been told, and is the one to be mended
            again.found = Discovered()
        self._live[name] = again

    def _clash(self, name: str, found: Discovered) -> str:
        """What keeps a module's views and controllers from being used: somebody else has them already."""
        others = {other: live for other, live in self._live.items() if other != name and live.file.is_file()}
        theirs = {controller: live.file for live in others.values() for controller in live.names}
        own = set(self._live[name].names) if name in self._live else set()
        gone = {one for live in self._live.values() if not live.file.is_file() for one in live.names}
        for spec in found.controllers:
            if spec.name in theirs:
                return f"there is a controller named {spec.name!r} in {shown(theirs[spec.name])}; give one another name"
            if spec.name in self._manager.controllers and spec.name not in own | gone:
                return f"there is a controller named {spec.name!r} already; give this one another name"
        for view in found.views:
            known = self._manager.views.of_kind(view)
            if known is not None and not self.is_theirs(known.__module__):
                return f"{view.api_kind}.{view.api_group} has a view already: {known.__module__}"
            for live in others.values():
                if live.found.views.of_kind(view) is not None:
                    return f"{view.api_kind}.{view.api_group} has a view in {shown(live.file)} already"
        return ""

    def _forget_validators(self, old: Discovered, new: Discovered) -> None:
        for kind in old.validators.keys() - new.validators.keys():
            self._admission.validators.pop(kind, None)
        for kind in old.update_validators.keys() - new.update_validators.keys():
            self._admission.update_validators.pop(kind, None)


def loaded_modules(names: Collection[str]) -> dict[str, ModuleType]:
    """Those of the named modules that are loaded."""
    return {name: sys.modules[name] for name in names if name in sys.modules}


def _modules(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Modules as discovery finds them: files, and folders that have an `__init__.py`."""
    for path in sorted(folder.iterdir()):
        if is_ignored_file(path.name):
            continue
        if path.suffix == ".py" and path.stem != "__init__" and "." not in path.stem and path.is_file():
            yield f"{package}.{path.stem}", path
        elif path.is_dir() and (path / "__init__.py").is_file():
            yield f"{package}.{path.name}", path / "__init__.py"
            yield from _modules(f"{package}.{path.name}", path)


def _is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def described(names: Sequence[Any]) -> str:
    """`controller a`, `controllers a, b`; empty for none."""
    if not names:
        return ""
    return f"controller{'s' if len(names) > 1 else ''} {', '.join(map(str, names))}"
