"""The loop of `kastra dev`, without its terminal: files changed, so what is to be done?

    code        changed modules and those that import them are loaded anew: controllers replaced, tools looked at again
    manifests   checked and applied, definitions first; what a file no longer declares is deleted
    values      objects that take a value or instructions from the file (`valueFrom: {file: ...}`) are looked at again

One change at a time, in that order, since manifests may need the code that was saved with them. What goes wrong is a Problem
with its place and never an exception: a broken file leaves everything as it was, and a good save of it mends it. Runs go on:
a call that is under way ends with the code that it began with, the next one has the new.

Read next: `kastra.app.project_files`, which tells what changed, and `kastra.cli.dev`, which shows what came of it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from kastra.api.object import Object
from kastra.config import FILE_NAME, Settings
from kastra.manifest.problem import Problem
from kastra.runtime.reconcile import Request

from .applying import Applied
from .code_problem import code_problem, shown
from .composition import Composition
from .declaring import ManifestFiles
from .embedded import Kastra
from .project_code import ProjectCode
from .project_files import ProjectFiles, Stamp, follow, is_ignored_file
from .reloading import ControllerFolders

SUFFIXES = (".yaml", ".yml", ".json")
_SETTLE = 2.0
"""Seconds after which the loop goes on although controllers are still at work."""
_CALLING = {"Tool": "tool", "Workflow": "workflow"}
"""Kinds that name Python functions, and their controllers."""
_READING = {"Agent": "agent", "Tool": "tool", "ModelProvider": "modelprovider"}
"""Kinds that take values from files, and their controllers."""


@dataclass(slots=True)
class Round:
    """What came of a change.

    Args:
        changed: the files, as they are shown.
        applied: every object that was sent or deleted.
        reloaded: (file, what of it was loaded anew or taken away), in words.
        notes: what else there is to say: (of what, what).
        problems: every error that stands, and the warnings about what was looked at.
        mended: files that were broken and aren't any more.
        settled: whether controllers have nothing left to do.
        seconds: from the beginning to applied and loaded, and to settled.
    """

    changed: tuple[str, ...] = ()
    applied: list[Applied] = field(default_factory=list)
    reloaded: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    settled: bool = True
    seconds: tuple[float, float] = (0.0, 0.0)

    @property
    def ok(self) -> bool:
        """Whether no error stands."""
        return not any(problem.severity == "error" for problem in self.problems)


class Development:
    """A project that is being worked on.

    Args:
        parts: with a manager that knows none of the project's controllers.
        settings: of the project, with its folders of controllers.
        sources: files and folders with manifests, in the project; they need not exist yet.

    Attributes:
        kastra: what manifests are applied to.
        files: of the project.
        busy: whether a change is being acted on.

    Raises:
        ValueError: a source lies outside the project.
    """

    def __init__(self, parts: Composition, settings: Settings, sources: Sequence[Path]) -> None:
        assert parts.manager is not None
        project = settings.project.resolve()
        self.kastra = Kastra(parts)
        self.files = ProjectFiles(project, settings.data.resolve())
        self._manager = parts.manager
        self._clock = parts.clock
        self._sources = [source.parent.resolve() / source.name for source in sources]
        for source in self._sources:
            if not self.files.holds(source):
                raise ValueError(f"{source} lies outside the project {project}, which is what is watched")
        self._manifests = ManifestFiles(self.kastra, self.files)
        # In a checkout of Kastra the default folder holds the built-in controllers, which are there already.
        builtin = Path(__file__).resolve().parent.parent / "controllers"
        folders = [(project / folder).resolve() for folder in settings.controllers]
        controllers = ControllerFolders(parts, project, [f for f in folders if f != builtin.resolve()])
        self._recoded = ProjectCode(self.files, controllers)
        self._code_errors: list[Problem] = []
        self._manifest_errors: list[Problem] = []
        self._begun = False
        self.busy = False

    async def run(self, tell: Callable[[Round], object]) -> None:
        """Act on everything there is, and then on every change, until cancelled."""
        seen = await anyio.to_thread.run_sync(self.files.look)
        tell(await self.change(seen))
        await self.follow(seen, tell)

    async def follow(self, seen: Mapping[Path, Stamp], tell: Callable[[Round], object]) -> None:
        """Act on every change since `seen`, until cancelled."""

        async def act(changed: frozenset[Path]) -> None:
            # A project may keep data beside its code: what tools write there is nothing to be told of.
            concerned = self._concerned(changed)
            if concerned:
                tell(await self.change(concerned))

        await follow(self.files, seen, act, self._clock)

    async def change(self, files: Iterable[Path]) -> Round:
        """Files came, went or changed: make it so. Raises nothing."""
        began, self.busy = self._clock.monotonic(), True
        paths = sorted(path for path in files if not is_ignored_file(path.name))
        done = Round(tuple(shown(path) for path in paths))
        for act in (self._code, self._declare, self._values):
            try:
                await act(paths, done)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the loop outlives whatever a project does
                done.problems.append(code_problem(error, self.files.project, self.files.project))
        if self._begun and self.files.project / FILE_NAME in paths:
            done.notes.append((FILE_NAME, "is read at the start: start again to use it"))
        acted = self._clock.monotonic() - began
        done.settled = False
        with anyio.move_on_after(_SETTLE):
            await self._manager.settle(horizon=0)
            done.settled = True
        done.seconds = (acted, self._clock.monotonic() - began)
        self._begun, self.busy = True, False
        return done

    def current(self, kind: str, namespace: str, name: str) -> Object | None:
        """An object of a kind that controllers look at, as they see it."""
        informer = self._manager.cache.find(kind)
        return informer.lister.get(namespace, name) if informer is not None else None

    def objects(self) -> Iterator[Object]:
        """Every object that controllers know."""
        for informer in self._manager.cache.informers():
            yield from informer.lister.list()

    def _concerned(self, paths: Iterable[Path]) -> list[Path]:
        """Those of the files that something is made of."""
        read = {
            (self.files.project / name).resolve()
            for kind in _READING
            for obj in self._manager.cache.lister(kind).list()
            for name in _values_of(obj.spec, "file")
        }
        settings = self.files.project / FILE_NAME
        return [
            path
            for path in paths
            if path.suffix == ".py" or self._is_manifest(path) or path == settings or path.resolve() in read
        ]

    # ---- manifests

    async def _declare(self, paths: Sequence[Path], done: Round) -> None:
        changed = [path for path in paths if self._is_manifest(path)]
        if not changed and not (self._manifests.broken and done.reloaded):
            done.problems += self._manifest_errors
            return
        outcome = await self._manifests.apply(changed)
        done.applied += outcome.applied
        done.problems += outcome.problems
        self._manifest_errors = [problem for problem in outcome.problems if problem.severity == "error"]
        done.mended += [shown(path) for path in outcome.mended]

    def _is_manifest(self, path: Path) -> bool:
        return path in self._sources or (
            path.suffix in SUFFIXES and any(path.is_relative_to(source) for source in self._sources)
        )

    # ---- code

    async def _code(self, paths: Sequence[Path], done: Round) -> None:
        code = [path for path in paths if path.suffix == ".py"]
        if not code:
            done.problems += self._code_errors
            return
        outcome = await self._recoded.change(code)
        done.reloaded += outcome.done
        done.problems += outcome.problems
        done.mended += [shown(path) for path in outcome.mended]
        self._code_errors = outcome.problems

        def calls(spec: Any) -> bool:
            """Whether a function is named of a module that is new, or isn't loaded, maybe because it could not be."""
            for entrypoint in _values_of(spec, "entrypoint"):
                module = entrypoint.partition(":")[0]
                place = self.files.project.joinpath(*module.split("."))
                missing = module not in outcome.loaded
                if module in outcome.fresh or (missing and (place.is_dir() or Path(f"{place}.py").exists())):
                    return True
            return False

        self._look_again(_CALLING, calls, "code")

    # ---- values from files

    async def _values(self, paths: Sequence[Path], done: Round) -> None:
        if not self._begun:
            return
        changed = {path.resolve() for path in paths}

        def uses(spec: Any) -> bool:
            return any((self.files.project / value).resolve() in changed for value in _values_of(spec, "file"))

        for ref in self._look_again(_READING, uses, "file"):
            done.notes.append((ref, "looked at again: a file that it reads has changed"))

    def _look_again(self, kinds: Mapping[str, str], concerned: Callable[[Any], bool], trigger: str) -> list[str]:
        """Have the objects be reconciled that are concerned; their names."""
        found: list[str] = []
        for kind, controller in kinds.items():
            if controller not in self._manager.controllers:
                continue
            for obj in self._manager.cache.lister(kind).list():
                if concerned(obj.spec):
                    self._manager.enqueue(controller, Request(obj.namespace, obj.name), trigger)
                    found.append(f"{kind.lower()}/{obj.name}")
        return found


def _values_of(value: Any, key: str) -> Iterator[str]:
    """Every text that stands under `key`, however deep."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == key and isinstance(inner, str):
                yield inner
            else:
                yield from _values_of(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _values_of(inner, key)
