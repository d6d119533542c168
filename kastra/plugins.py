"""What do installed packages add to Kastra? Their entry points, read as metadata, imported when they are needed and not before.

    kastra.controllers   a package with kinds' views and controllers        `kastra.runtime.discovery`
    kastra.models        a provider type of models, by its ModelFactory     `kastra.model.providers`
    kastra.tools         a Python function for Tools (spec.python.plugin)   `kastra.tool.python`
    kastra.admission     a hook that judges or changes what is written      `kastra.app.admission_plugins`
    kastra.vectors       an index of vectors, by its factory                `kastra.memory.backends`
    kastra.commands      a verb of the command line, as a click.Command     `kastra.cli.main`

A plugin that doesn't load is somebody else's defect: it is logged once, remembered for the life of the process, and refused
with its place in the source where something needs it. It never takes the process down. What Kastra has built in can't be
replaced by a plugin of the same name.

Source: the entry points specification of PyPA. Read next: one of the modules above.
"""

import importlib
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

logger = logging.getLogger(__name__)

GROUPS = (
    "kastra.admission",
    "kastra.commands",
    "kastra.controllers",
    "kastra.models",
    "kastra.tools",
    "kastra.vectors",
)
"""The groups of entry points that are looked at."""
OWN = "kastra"
"""The distribution whose entry points are the built-in ones."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point.

    Args:
        group: one of `GROUPS`.
        name: what it is called in manifests, or on the command line.
        value: where it is: `package.module` or `package.module:object`.
        distribution: the installed package that has it.
        version: of that package.
    """

    group: str
    name: str
    value: str
    distribution: str
    version: str

    @property
    def module(self) -> str:
        """The module that is imported."""
        return self.value.partition(":")[0].strip()

    @property
    def source(self) -> str:
        """The package and its version, for people."""
        return f"{self.distribution} {self.version}".strip()

    def __str__(self) -> str:
        """How messages call it."""
        return f'plugin "{self.name}" ({self.group}) of {self.source}'


class PluginError(ImportError):
    """A plugin can't be used.

    Args:
        plugin: which one.
        reason: where in its source, and why.
    """

    def __init__(self, plugin: Plugin, reason: str) -> None:
        super().__init__(f"{plugin} does not load: {reason}")
        self.plugin = plugin
        self.reason = reason


_loaded: dict[Plugin, Any] = {}
_failed: dict[Plugin, str] = {}
"""Reasons, and not errors: one that is raised again and again would gather tracebacks."""


def installed(group: str, *, reserved: Iterable[str] = ()) -> list[Plugin]:
    """The plugins of a group, sorted by name; of several with one name the first distribution's. Imports none.

    Args:
        reserved: names that are built in, which no plugin gets.
    """
    taken = set(reserved)
    found = []
    for plugin in everything(group):
        if plugin.name not in taken:
            taken.add(plugin.name)
            found.append(plugin)
    return found


def everything(group: str) -> tuple[Plugin, ...]:
    """As `installed`, with those whose names are taken, and with Kastra's own.

    Remembered for a search path: looking at every installed package takes milliseconds, and they don't come and go otherwise.
    """
    return _on_path(group, tuple(sys.path))


@cache
def _on_path(group: str, _path: tuple[str, ...]) -> tuple[Plugin, ...]:
    points = {_described(group, point) for point in entry_points(group=group)}
    return tuple(sorted(points, key=lambda plugin: (plugin.name, plugin.distribution, plugin.value)))


def _described(group: str, point: EntryPoint) -> Plugin:
    distribution = point.dist
    name, version = (
        (distribution.name, distribution.version) if distribution is not None else ("an unknown package", "")
    )
    return Plugin(group, point.name, point.value, name, version)


def load(plugin: Plugin, check: Callable[[Any], str] | None = None) -> Any:
    """The object that a plugin names, imported when first asked for. Runs the package's code.

    Args:
        check: says what is wrong with the object; an empty text if nothing is.

    Raises:
        PluginError: it doesn't load, now or when it was first tried.
    """
    if plugin in _failed:
        raise PluginError(plugin, _failed[plugin])
    if plugin not in _loaded:
        try:
            found: Any = importlib.import_module(plugin.module)
            for part in filter(None, plugin.value.partition(":")[2].partition("[")[0].strip().split(".")):
                found = getattr(found, part)
            problem = check(found) if check is not None else ""
        except (Exception, SystemExit) as error:
            raise failed(plugin, reason_of(error, plugin.module)) from error
        if problem:
            raise failed(plugin, f"{plugin.value}: {problem}")
        _loaded[plugin] = found
    return _loaded[plugin]


def failed(plugin: Plugin, reason: str) -> PluginError:
    """Remember that a plugin can't be used, and say so in the log, once. Returns the error to raise or to keep."""
    error = PluginError(plugin, reason)
    if plugin not in _failed:
        _failed[plugin] = reason
        logger.error("%s", error)
    return error


def reason_of(error: BaseException, name: str) -> str:
    """`file:line: Type: message` of what went wrong while `name` was imported or used."""
    return f"{place_of(error, name)}: {type(error).__name__}: {error}"


def place_of(error: BaseException, name: str) -> str:
    """file:line of the deepest frame of `error` outside Kastra's own loading and Python's import machinery."""
    place, trace = name, error.__traceback__
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        machinery = filename.startswith("<frozen") or "importlib" in filename or filename == __file__
        if not machinery and not filename.endswith("/kastra/runtime/discovery.py"):
            place = f"{filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
    return place
