"""Which kinds and controllers are there? Found in packages and folders, so that adding one is adding a file.

A module of a controllers package may hold views (`class X(View, kind="X")`), `validate(view) -> causes`, `validate_update(view, old) -> causes`, ControllerSpecs
(from `@controller`) and `setup(manager)`. Packages come from the entry point group `kastra.controllers`, the built-in one
among them; a project's own `controllers/` folder is given as a path and loaded under a private package name, so that it
never shadows another `controllers`. Only what a module defines itself counts, not what it imports. Starts nothing.

What is wrong with the project's own files is an error; a package that is merely installed and doesn't load is left out, as a
whole, and found in `failures`.

Source: controller-runtime's SetupWithManager; Python entry points. Read next: `kastra.runtime.manager`.
"""

import importlib
import importlib.util
import logging
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from kastra.api.errors import Cause
from kastra.plugins import Plugin, PluginError, everything, failed, place_of, reason_of

from .declarative import ControllerSpec
from .views import TypedView, Views

if TYPE_CHECKING:
    from .manager import Manager

logger = logging.getLogger(__name__)

ENTRY_POINTS = "kastra.controllers"
FOLDER_PACKAGE = "_kastra_controllers_"
"""How the private names of folders' packages begin."""
BUILT_IN = "kastra.controllers"
"""The package of the built-in ones."""
SLOW_IMPORT = 2.0
"""Seconds after which the import of a module is said to be slow."""

Setup = Callable[["Manager"], None]
Validator = Callable[[Mapping[str, Any]], Sequence[Cause]]
"""From a parsed object to what is wrong with it beyond its schema; an empty result means nothing."""


UpdateValidator = Callable[[Mapping[str, Any], Mapping[str, Any]], Sequence[Cause]]
"""From an object and what it was before to what is wrong with the change."""


class DiscoveryError(Exception):
    """A controllers package or folder can't be used; the message names the module and why."""


@dataclass(slots=True)
class Discovered:
    """What was found.

    Args:
        controllers: for `Manager.add`.
        setups: called with the manager.
        views: by kind.
        validators: by (group, kind), for admission. Each parses the object into its view and then asks `validate`.
        update_validators: likewise, from `validate_update(view, old)`.
        failures: installed packages that don't load.
        plugins: the installed packages of controllers, by the controller's name.
    """

    controllers: list[ControllerSpec[Any]] = field(default_factory=list)
    setups: list[Setup] = field(default_factory=list)
    views: Views = field(default_factory=Views)
    validators: dict[tuple[str, str], Validator] = field(default_factory=dict)
    update_validators: dict[tuple[str, str], UpdateValidator] = field(default_factory=dict)
    failures: list[PluginError] = field(default_factory=list)
    plugins: dict[str, Plugin] = field(default_factory=dict)

    def can_do_without(self, spec: ControllerSpec[Any], error: Exception) -> bool:
        """Whether a controller that can't be brought to life is a package's, whose defect is then noted, and not the project's."""
        plugin = self.plugins.get(spec.name)
        if plugin is not None:
            failed(plugin, reason_of(error, plugin.module))
        return plugin is not None

    def builtin(self, wanted: bool) -> "Discovered":
        """The same views and validators, with the built-in controllers only, or with all others."""

        def chosen(function: Callable[..., Any]) -> bool:
            return (getattr(function, "__module__", "").partition(".")[0] == "kastra") == wanted

        return replace(
            self,
            controllers=[spec for spec in self.controllers if chosen(spec.reconcile)],
            setups=[setup for setup in self.setups if chosen(setup)],
        )

    def _take(self, other: "Discovered") -> None:
        """Add what a package has, or raise and add nothing."""
        names = {spec.name for spec in self.controllers}
        for spec in other.controllers:
            if spec.name in names:
                raise DiscoveryError(f"there is a controller named {spec.name!r} already; give it another name")
        for view in other.views:
            known = self.views.of_kind(view)
            if known is not None:
                raise DiscoveryError(f"{view.api_kind}.{view.api_group} has a view already: {known.__module__}")
        for view in other.views:
            self.views.add(view)
        self.controllers += other.controllers
        self.setups += other.setups
        self.validators.update(other.validators)
        self.update_validators.update(other.update_validators)
        self.plugins.update(other.plugins)


def discover(folders: Iterable[Path] = (), *, packages: Iterable[str] | None = None) -> Discovered:
    """Everything from the installed packages and the given folders, in a stable order.

    Args:
        folders: users' own; one that doesn't exist has nothing in it.
        packages: instead of those that entry points name.

    Raises:
        DiscoveryError: a module of a folder or of `packages` doesn't load, or two views read the same kind.
    """
    found = Discovered()
    if packages is not None:
        for name in packages:
            _collect_package(name, found)
    else:
        plugins = {plugin.value: plugin for plugin in everything(ENTRY_POINTS)}
        if plugins.pop(BUILT_IN, None) is not None:
            _collect_package(BUILT_IN, found)
        for plugin in plugins.values():
            _collect_plugin(plugin, found)
    for folder in folders:
        if folder.is_dir():
            for module in _modules(_folder_package(folder)):
                _collect(module, found)
    return found


def _collect_package(name: str, found: Discovered) -> None:
    for module in _modules(_import(name, f"entry point {ENTRY_POINTS}")):
        _collect(module, found)


def _collect_plugin(plugin: Plugin, found: Discovered) -> None:
    """All of an installed package, or nothing of it and a failure."""
    alone = Discovered()
    try:
        with slow_import_told(plugin.module):
            package = importlib.import_module(plugin.module)
        for module in _modules(package):
            _collect(module, alone)
        alone.plugins = dict.fromkeys((spec.name for spec in alone.controllers), plugin)
        alone.setups = [_guarded(setup, plugin) for setup in alone.setups]
        found._take(alone)
    except DiscoveryError as error:
        found.failures.append(failed(plugin, str(error)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a package does while it loads, Kastra goes on
        found.failures.append(failed(plugin, reason_of(error, plugin.module)))


def _guarded(setup: Setup, plugin: Plugin) -> Setup:
    """A package's `setup` that can't keep the manager from starting."""

    @wraps(setup)
    def call(manager: "Manager") -> None:
        try:
            setup(manager)
        except Exception as error:  # noqa: BLE001 - as for its import
            failed(plugin, reason_of(error, plugin.module))

    return call


def folder_package(folder: Path) -> ModuleType:
    """The package whose modules are the files of a project's folder, without any of them loaded.

    Raises:
        DiscoveryError: its `__init__.py` doesn't load.
    """
    return _folder_package(folder)


def collect(module: ModuleType) -> Discovered:
    """What one module has.

    Raises:
        DiscoveryError: it can't be used as it is.
    """
    found = Discovered()
    _collect(module, found)
    return found


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for info in sorted(pkgutil.iter_modules(getattr(package, "__path__", ())), key=lambda info: info.name):
        module = _import(f"{package.__name__}.{info.name}", str(package.__file__ or package.__name__))
        if info.ispkg:
            yield from _modules(module)
        else:
            yield module


def _import(name: str, wanted_by: str) -> ModuleType:
    try:
        with slow_import_told(name):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # Whatever a module does while it loads, the message must say which one it was.
        raise DiscoveryError(
            f"{place_of(error, name)}: {type(error).__name__}: {error} (wanted by {wanted_by})"
        ) from error


@contextmanager
def slow_import_told(name: str) -> Iterator[None]:
    """Say in the log which module keeps everybody waiting, while it does: an import that hangs never comes to an end."""

    def tell() -> None:
        place = getattr(sys.modules.get(name), "__file__", None) or name
        logger.warning(
            "%s: is still being imported after %g s, and nothing starts before it is; leave slow work to reconcile or setup",
            place,
            SLOW_IMPORT,
        )

    if name.startswith(BUILT_IN):
        yield
        return
    timer = threading.Timer(SLOW_IMPORT, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _folder_package(folder: Path) -> ModuleType:
    """An empty package whose modules are the files of `folder`; loaded anew each time, as the files may have changed."""
    path = folder.resolve()
    name = f"{FOLDER_PACKAGE}{sha256(str(path).encode()).hexdigest()[:12]}"
    for loaded in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
        del sys.modules[loaded]
    importlib.invalidate_caches()
    init = path / "__init__.py"
    if init.is_file():
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(path)])
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        try:
            spec.loader.exec_module(package)
        except Exception as error:
            # As for every other module of the folder.
            raise DiscoveryError(f"{place_of(error, str(init))}: {type(error).__name__}: {error}") from error
        return package
    package = ModuleType(name)
    package.__path__ = [str(path)]
    package.__file__ = str(path)
    sys.modules[name] = package
    return package


def _collect(module: ModuleType, found: Discovered) -> None:
    views: list[type[TypedView]] = []
    for value in vars(module).values():
        if isinstance(value, ControllerSpec):
            if getattr(value.reconcile, "__module__", module.__name__) == module.__name__:
                found.controllers.append(value)
        elif isinstance(value, type) and value.__module__ == module.__name__ and vars(value).get("api_kind"):
            views.append(value)
    for view in views:
        try:
            found.views.add(view)
        except ValueError as error:
            raise DiscoveryError(str(error)) from error
        # A module that was loaded before may have brought more than the view says.
        found.validators.setdefault((view.api_group, view.api_kind), _validator(view, None))
    setup: Any = vars(module).get("setup")
    if callable(setup) and setup.__module__ == module.__name__:
        found.setups.append(cast(Setup, setup))
    validate: Any = vars(module).get("validate")
    if callable(validate) and validate.__module__ == module.__name__:
        subject = _subject(module, validate, views)
        found.validators[(subject.api_group, subject.api_kind)] = _validator(
            subject, cast(Callable[[Any], Sequence[Cause]], validate)
        )
    validate_update: Any = vars(module).get("validate_update")
    if callable(validate_update) and validate_update.__module__ == module.__name__:
        subject = _subject(module, validate_update, views)
        found.update_validators[(subject.api_group, subject.api_kind)] = _update_validator(
            subject, cast(Callable[[Any, Any], Sequence[Cause]], validate_update)
        )


def _subject(module: ModuleType, validate: Callable[..., Any], views: Sequence[type[Any]]) -> type[Any]:
    """The view that a module's `validate` checks: its only one, or that of the first parameter's annotation, which may come
    from another module of the package.
    """
    if len(views) == 1:
        return views[0]
    hints = get_type_hints(validate)
    hints.pop("return", None)
    hinted = next(iter(hints.values()), None)
    if isinstance(hinted, type) and bool(getattr(hinted, "api_kind", None)):
        return hinted
    raise DiscoveryError(f"{module.__name__}.validate: annotate its parameter with a view")


def _update_validator(view: type[TypedView], validate_update: Callable[[Any, Any], Sequence[Cause]]) -> UpdateValidator:
    def check(data: Mapping[str, Any], old: Mapping[str, Any]) -> Sequence[Cause]:
        return list(validate_update(view.of(data), view.of(old)))

    return check


def _validator(view: type[TypedView], validate: Callable[[Any], Sequence[Cause]] | None) -> Validator:
    def check(data: Mapping[str, Any]) -> Sequence[Cause]:
        try:
            parsed = view.of(data)
        except ValueError as error:
            from pydantic import ValidationError

            from .view_errors import causes

            if isinstance(error, ValidationError):
                return causes(error)
            raise
        return list(validate(parsed)) if validate is not None else []

    return check
