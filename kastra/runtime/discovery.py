"""Which kinds and controllers are there? Found in packages and folders, so that adding one is adding a file.

A module of a controllers package may hold views (`class X(View, kind="X")`), `validate(view) -> causes`, `validate_update(view, old) -> causes`, ControllerSpecs
(from `@controller`) and `setup(manager)`. Packages come from the entry point group `kastra.controllers`, the built-in one
among them; a project's own `controllers/` folder is given as a path and loaded under a private package name, so that it
never shadows another `controllers`. Only what a module defines itself counts, not what it imports. Starts nothing.

Source: controller-runtime's SetupWithManager; Python entry points. Read next: `kastra.runtime.manager`.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from kastra.api.errors import Cause

from .declarative import ControllerSpec
from .views import TypedView, Views

if TYPE_CHECKING:
    from .manager import Manager

ENTRY_POINTS = "kastra.controllers"

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
    """

    controllers: list[ControllerSpec[Any]] = field(default_factory=list)
    setups: list[Setup] = field(default_factory=list)
    views: Views = field(default_factory=Views)
    validators: dict[tuple[str, str], Validator] = field(default_factory=dict)
    update_validators: dict[tuple[str, str], UpdateValidator] = field(default_factory=dict)


def discover(folders: Iterable[Path] = (), *, packages: Iterable[str] | None = None) -> Discovered:
    """Everything from the installed packages and the given folders, in a stable order.

    Args:
        folders: users' own; one that doesn't exist has nothing in it.
        packages: instead of those that entry points name.

    Raises:
        DiscoveryError: a module doesn't load, or two views read the same kind.
    """
    found = Discovered()
    names = sorted({e.value for e in entry_points(group=ENTRY_POINTS)}) if packages is None else packages
    for name in names:
        for module in _modules(_import(name, f"entry point {ENTRY_POINTS}")):
            _collect(module, found)
    for folder in folders:
        if folder.is_dir():
            for module in _modules(_folder_package(folder)):
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
        return importlib.import_module(name)
    except Exception as error:
        # Whatever a module does while it loads, the message must say which one it was.
        raise DiscoveryError(
            f"{_place(error, name)}: {type(error).__name__}: {error} (wanted by {wanted_by})"
        ) from error


def _place(error: BaseException, name: str) -> str:
    """file:line of the deepest frame of `error` outside the import machinery."""
    place, trace = name, error.__traceback__
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if not filename.startswith("<frozen") and filename != __file__ and "importlib" not in filename:
            place = f"{filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
    return place


def _folder_package(folder: Path) -> ModuleType:
    """An empty package whose modules are the files of `folder`; loaded anew each time, as the files may have changed."""
    path = folder.resolve()
    name = f"_kastra_controllers_{sha256(str(path).encode()).hexdigest()[:12]}"
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
            raise DiscoveryError(f"{_place(error, str(init))}: {type(error).__name__}: {error}") from error
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
        found.validators[(view.api_group, view.api_kind)] = _validator(view, None)
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
    """The view that a module's `validate` checks: its only one, or that of the first parameter's annotation."""
    if len(views) == 1:
        return views[0]
    hints = get_type_hints(validate)
    hints.pop("return", None)
    hinted = next(iter(hints.values()), None)
    if hinted in views:
        return hinted  # type: ignore[return-value] # narrowed by membership
    raise DiscoveryError(f"{module.__name__}.validate: annotate its parameter with one of the module's views")


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
