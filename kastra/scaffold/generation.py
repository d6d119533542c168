"""`kastra generate`: which module belongs to which definition, and is each what it should be?

The definitions of a project are the CustomResourceDefinitions in its folder `crds/`; the view of each is a module of its own
in the folder `views` of the project's first folder of controllers, where discovery finds it and controllers import it as
`from .views.glossary import Glossary`. Only whole files are generated, and only files that were generated are ever changed
or removed, so that what people write is safe. A kind whose view is written by hand gets none.

Read next: `kastra.scaffold.shapes`; `kastra.runtime.discovery`, which loads the modules.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kastra.api.meta import GROUP
from kastra.manifest.decode import DecodeError, decode
from kastra.manifest.loader import load
from kastra.manifest.problem import render

from .naming import snake
from .shapes import shape_of
from .source import is_generated, module_source, source_of

DEFINITIONS = "crds"
VIEWS = "views"
_CONTROLLERS = "controllers"
_SUFFIXES = (".yaml", ".yml", ".json")
PACKAGE = '"""Typed views of the kinds in `crds/`; `kastra generate` writes a module per kind."""\n'
"""The text of the package of generated views."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A CustomResourceDefinition of a project.

    Args:
        file: where it stands, relative to the project if it is in there, with `/`.
        object: parsed.
    """

    file: str
    object: Mapping[str, Any]

    @property
    def group_kind(self) -> tuple[str, str]:
        """The group and kind that it defines."""
        spec = self.object.get("spec") or {}
        return str(spec.get("group", "")), str((spec.get("names") or {}).get("kind", ""))


@dataclass(frozen=True, slots=True)
class Plan:
    """What `kastra generate` has to do.

    Args:
        texts: every module that there should be, by path relative to the project.
        stale: those that are missing or have another text.
        orphans: generated modules whose definition is gone.
    """

    project: Path
    texts: Mapping[str, str]
    stale: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    missing: frozenset[str] = field(default_factory=frozenset)
    """Those of `stale` that aren't there at all."""
    by_hand: Mapping[str, str] = field(default_factory=dict)
    """Kinds whose view is written by hand, as `Glossary.example.com`, and where that is."""

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return not self.stale and not self.orphans

    def apply(self) -> None:
        """Write and remove files. Raises OSError."""
        for path in self.stale:
            target = self.project / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.texts[path], encoding="utf-8", newline="\n")
        for path in self.orphans:
            (self.project / path).unlink()


def definitions_of(project: Path, files: Sequence[str] = ()) -> list[Definition]:
    """The definitions in `files`, or in the project's folder `crds`, by file.

    Args:
        files: files, folders and globs, as the user named them.

    Raises:
        ValueError: a file isn't a manifest, or there is no definition; the message names the place.
    """
    folder = project / DEFINITIONS
    # An empty folder is what a new project has, and no mistake.
    there = any(file.suffix in _SUFFIXES for file in folder.rglob("*")) if folder.is_dir() else False
    loaded = load(files or ([folder] if there else []))
    if loaded.errors:
        raise ValueError("\n".join(render(problem) for problem in loaded.errors))
    found = [
        Definition(_relative(Path(manifest.file), project), manifest.object)
        for manifest in loaded.manifests
        if manifest.object.get("kind") == "CustomResourceDefinition"
    ]
    if files and not found:
        raise ValueError(f"{', '.join(files)}: there is no CustomResourceDefinition in there")
    return sorted(found, key=lambda definition: (definition.file, definition.group_kind))


def plan(project: Path, controllers: Sequence[str], files: Sequence[str] = ()) -> Plan:
    """What there should be and what is there.

    Args:
        controllers: the project's folders of controllers; views go into the first.
        files: make only the views of the definitions in these.

    Raises:
        ValueError: a definition can't be read, or a file that was written by hand stands in the place of a module.
    """
    folder = views_folder(project, controllers)
    everything = definitions_of(project)
    chosen = definitions_of(project, files) if files else everything
    known = {definition.group_kind: definition for definition in [*everything, *chosen]}
    names = module_names(known)
    by_hand = views_by_hand(project, controllers)
    texts = {f"{folder}/{names[one.group_kind]}.py": _module(one) for one in chosen if one.group_kind not in by_hand}
    if texts and not (project / folder / "__init__.py").exists():
        texts[f"{folder}/__init__.py"] = PACKAGE
    stale, missing = [], set()
    for path, text in sorted(texts.items()):
        target = project / path
        if not target.exists():
            stale.append(path)
            missing.add(path)
            continue
        there = target.read_text(encoding="utf-8")
        if not is_generated(there):
            raise ValueError(f"{path}: was not written by kastra generate, which would overwrite it; move or rename it")
        if there != text:
            stale.append(path)
    return Plan(
        project,
        texts,
        tuple(stale),
        tuple(_orphans(project, folder, texts)) if not files else (),
        frozenset(missing),
        {
            f"{one.group_kind[1]}.{one.group_kind[0]}": by_hand[one.group_kind]
            for one in chosen
            if one.group_kind in by_hand
        },
    )


def views_by_hand(project: Path, controllers: Sequence[str]) -> dict[tuple[str, str], str]:
    """The kinds that hand-written modules declare a view of, and where (`controllers/glossary.py:12`).

    The modules are read and not loaded, since they may import views that are yet to be generated. One that isn't Python is
    passed over; loading it says why.
    """
    found: dict[tuple[str, str], str] = {}
    for file in sorted(path for name in controllers for path in (project / name).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if is_generated(text) or "kind" not in text:
            continue
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]:
            given = _constants(node)
            if given.get("kind"):
                found[given.get("group", GROUP), given["kind"]] = f"{_relative(file, project)}:{node.lineno}"
    return found


def _constants(node: ast.ClassDef) -> dict[str, str]:
    """The texts among a class's keyword arguments."""
    return {
        keyword.arg: keyword.value.value
        for keyword in node.keywords
        if keyword.arg and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)
    }


def views_folder(project: Path, controllers: Sequence[str]) -> str:
    """The folder of generated views, relative to the project.

    Raises:
        ValueError: the project has no folder of controllers, or it is elsewhere.
    """
    if not controllers:
        raise ValueError("the setting `controllers` names no folder; views are generated in the first one")
    folder = (project / controllers[0]).resolve()
    if not folder.is_relative_to(project.resolve()):
        raise ValueError(
            f"the folder of controllers, {folder}, isn't in the project {project}; generate the views there"
        )
    return f"{folder.relative_to(project.resolve()).as_posix()}/{VIEWS}"


def module_names(group_kinds: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The module of each kind: its name in snake_case, followed by the group where two kinds are called the same."""
    kinds = sorted(set(group_kinds))
    count = Counter(snake(kind) for _, kind in kinds)
    return {
        (group, kind): snake(kind) if count[snake(kind)] == 1 else f"{snake(kind)}_{snake(group)}"
        for group, kind in kinds
    }


def module_texts(definitions: Mapping[str, str]) -> dict[str, str]:
    """The views of a project that is about to be written: text by path, for definitions given likewise.

    Raises:
        ValueError: one isn't a CustomResourceDefinition with a schema.
    """
    found: list[Definition] = []
    for file, text in definitions.items():
        try:
            found += [Definition(file, document.value) for document in decode(text.encode())]
        except DecodeError as error:
            raise ValueError(f"{file}: {error}") from error
    names = module_names(definition.group_kind for definition in found)
    folder = f"{_CONTROLLERS}/{VIEWS}"
    texts = {f"{folder}/{names[definition.group_kind]}.py": _module(definition) for definition in found}
    return {f"{folder}/__init__.py": PACKAGE, **texts} if texts else {}


def _module(definition: Definition) -> str:
    try:
        return module_source(shape_of(definition.object), definition.file)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # A definition that the API server would refuse, too.
        raise ValueError(
            f"{definition.file}: {error if isinstance(error, ValueError) else f'is not a CustomResourceDefinition ({error!r})'}"
            "; kastra validate says more"
        ) from error


def _orphans(project: Path, folder: str, texts: Mapping[str, str]) -> list[str]:
    found = []
    for file in sorted((project / folder).glob("*.py")):
        path = f"{folder}/{file.name}"
        if path in texts:
            continue
        text = file.read_text(encoding="utf-8")
        # One made from a definition outside of the project's own folder is not judged here.
        if is_generated(text) and (
            source_of(text).startswith(f"{DEFINITIONS}/") or not (project / source_of(text)).exists()
        ):
            found.append(path)
    return found


def _relative(file: Path, project: Path) -> str:
    path = file.resolve()
    root = project.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
