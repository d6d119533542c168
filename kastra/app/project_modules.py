"""Which Python modules of a project are loaded, who imports whom, and how are they loaded anew?

A module that changed is imported again together with those that import it, directly or not; nothing else is touched. What
an import statement says is read from the source, so a module that is imported by name at run time isn't seen. If a module
doesn't load, its old self is put back: whoever uses it goes on, and the failure is the caller's to tell.

Objects that are in use keep the code that they were made with. Read next: `kastra.app.reloading`, for controllers, and
`kastra.tool.python`, for tools.
"""

import ast
import importlib
import importlib.util
import linecache
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from kastra.runtime.discovery import slow_import_told

_OURS = "kastra"


class ProjectModules:
    """The modules whose files are in a project.

    Args:
        project: its folder, resolved.
    """

    def __init__(self, project: Path) -> None:
        self._root = f"{project}{os.sep}"
        self._places: dict[str, Path | None] = {}
        self._imports: dict[Path, tuple[tuple[int, int], tuple[tuple[int, str, tuple[str, ...]], ...]]] = {}

    def loaded(self) -> dict[str, Path]:
        """The loaded ones, by name, with their files."""
        found: dict[str, Path] = {}
        for name, module in tuple(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if not isinstance(file, str) or not file.endswith(".py") or name.partition(".")[0] in (_OURS, "__main__"):
                continue
            if file not in self._places:
                real = os.path.realpath(file)
                inside = real.startswith(self._root) and "/site-packages/" not in real
                self._places[file] = Path(real) if inside else None
            place = self._places[file]
            if place is not None:
                found[name] = place
        return found

    def affected(self, files: Collection[Path], names: Iterable[str] = ()) -> dict[str, Path]:
        """The loaded modules that are made of `files` or are named, and those that import them, however indirectly."""
        loaded = self.loaded()
        importers: dict[str, set[str]] = {}
        for name, file in loaded.items():
            for imported in self._imported_by(name, file):
                importers.setdefault(imported, set()).add(name)
        waiting = [name for name, file in loaded.items() if file in files]
        waiting += names
        found: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += importers.get(name, ())
        return {name: file for name, file in loaded.items() if name in found}

    def reimport(self, names: Iterable[str]) -> dict[str, BaseException]:
        """Import modules anew, and others for the first time. Runs their code, so call it in a worker thread.

        Returns:
            Why those failed that did. A module that was loaded before is then as it was.
        """
        names = sorted(names)
        old = {name: sys.modules.pop(name) for name in names if name in sys.modules}
        for module in old.values():
            forget_bytecode(Path(str(module.__file__)))
        importlib.invalidate_caches()
        linecache.checkcache()
        failed: dict[str, BaseException] = {}
        for name in names:
            try:
                with slow_import_told(name):
                    importlib.import_module(name)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a module does while it loads
                failed[name] = error
                if name in old:
                    restore(name, old[name])
        return failed

    def _imported_by(self, name: str, file: Path) -> Iterator[str]:
        module = sys.modules.get(name)
        package = getattr(module, "__package__", None) or ""
        parents = name.split(".")[:-1]
        yield from (".".join(parents[:count]) for count in range(1, len(parents) + 1))
        for level, base, members in self._statements(file):
            if level:
                parts = package.split(".")
                start = ".".join(parts[: len(parts) - level + 1])
                base = f"{start}.{base}" if base else start
            parts = base.split(".")
            # Importing a.b.c runs a and a.b as well.
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
            yield from (f"{base}.{member}" for member in members)

    def _statements(self, file: Path) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
        """The import statements of a file: level, module, names. Those of its last good state while it is broken."""
        known = self._imports.get(file)
        try:
            status = file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if known is not None and known[0] == stamp:
                return known[1]
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            return known[1] if known is not None else ()
        found: list[tuple[int, str, tuple[str, ...]]] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found += [(0, alias.name, ()) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        self._imports[file] = (stamp, tuple(found))
        return self._imports[file][1]


def restore(name: str, module: ModuleType) -> None:
    """Have a module be the loaded one of its name again."""
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)


def forget(names: Iterable[str]) -> None:
    """Have modules not be loaded, because their files are gone."""
    for name in names:
        module = sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        if parent in sys.modules and getattr(sys.modules[parent], child, None) is module:
            with suppress(AttributeError):
                delattr(sys.modules[parent], child)


def put_back(before: Mapping[str, ModuleType]) -> None:
    """Restore those of `before` that are not loaded any more: an import that was given up had taken them away."""
    for name, module in before.items():
        if name not in sys.modules:
            restore(name, module)


def forget_bytecode(file: Path) -> None:
    """Remove what Python compiled a file to: it tells versions apart by whole seconds and sizes, which is too coarse here."""
    with suppress(OSError, NotImplementedError):
        Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)
