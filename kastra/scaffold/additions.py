"""`kastra new`: a kind or an object added to the project that is there.

What is added runs at once: its models answer by rules, and a new kind has a controller and a test. Names are checked against
what the project and its store already have, so that a new kind never hides another one. Nothing that exists is changed.

Read next: `kastra.scaffold.generation`, which makes the view of a new kind.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kastra.api.scheme import Scheme
from kastra.manifest.decode import decode
from kastra.manifest.loader import load

from .generation import DEFINITIONS, PACKAGE, Definition, definitions_of, module_names, views_folder
from .literals import literal
from .naming import KindNames, object_name, snake
from .shapes import shape_of
from .source import module_source
from .templates import rendered, write

OBJECTS = {
    "tool": "Tool",
    "agent": "Agent",
    "workflow": "Workflow",
    "network": "Network",
    "model": "Model",
}
"""What `kastra new` makes besides kinds."""

_TRIED = {
    "tool": 'kastra run tool/{name} --input \'{{"text": "one two three"}}\'',
    "agent": "kastra run agent/{name} --input hello",
    "workflow": 'kastra run workflow/{name} --input \'{{"text": "hello"}}\'',
    "network": "kastra run network/{name} --input hello",
    "model": "kastra get models",
}


@dataclass(frozen=True, slots=True)
class Added:
    """What was added to a project.

    Args:
        files: what was written, relative to the project.
        commands: what to do next.
    """

    files: tuple[str, ...]
    commands: tuple[str, ...]


def add_object(project: Path, what: str, name: str) -> Added:
    """Add a manifest and, for a tool, its function and a test.

    Args:
        what: one of `OBJECTS`.

    Raises:
        ValueError: the name can't be used, or there is such an object already.
        FilesExist: files are in the way; nothing was written.
        OSError: the project can't be written to.
    """
    kind = OBJECTS[what]
    object_name(name)
    for manifest in load([project / "manifests"] if (project / "manifests").is_dir() else []).manifests:
        found = manifest.object
        if found["kind"] == kind and found["metadata"].get("name") == name:
            place = manifest.positions.find(("metadata", "name"))[0].key
            raise ValueError(
                f"{_shown(manifest.file, project)}:{place.line}: there is a {kind} {name} already; choose another name"
            )
    module = snake(name)
    values = {"name": name, "yaml_name": _in_yaml(name), "module": module}
    texts = rendered(f"new/{what}", values)
    write(project, texts)
    sources = f"-f {DEFINITIONS} -f manifests" if definitions_of(project) else "-f manifests"
    return Added(tuple(texts), (f"kastra apply {sources} --wait", _TRIED[what].format(name=name)))


def add_kind(
    project: Path,
    kind: str,
    group: str,
    *,
    plural: str = "",
    cluster: bool = False,
    scheme: Scheme,
    controllers: Sequence[str],
) -> Added:
    """Add a kind: definition, view, controller, example and test.

    Args:
        group: empty for that of the project's other kinds, if they have one in common.
        plural: empty for the regular English one.
        cluster: objects belong to no namespace.
        scheme: the kinds that the project's store knows.
        controllers: the project's folders of controllers; the new one goes into the first.

    Raises:
        ValueError: a name can't be used or is taken.
        FilesExist: files are in the way; nothing was written.
        OSError: the project can't be written to.
    """
    definitions = definitions_of(project)
    names = KindNames.derive(kind, group or _common_group(definitions), plural)
    _refuse_taken(names, definitions, scheme)
    views = views_folder(project, controllers)
    folder = views.rpartition("/")[0]
    example = f"my-{names.singular}"
    values = {
        "kind": names.kind,
        "group": names.group,
        "plural": names.plural,
        "singular": names.singular,
        "module": names.module,
        "example": example,
        "scope": "Cluster" if cluster else "Namespaced",
        "definition": names.definition,
        # What a cluster-scoped object owns has to be told its namespace.
        "metadata": '"metadata": {"name": name, "namespace": "default"},' if cluster else '"metadata": {"name": name},',
    }
    texts = {
        path.replace("controllers/", f"{folder}/", 1) if path.startswith("controllers/") else path: text
        for path, text in rendered("new/kind", values).items()
    }
    file = f"{DEFINITIONS}/{names.plural}.yaml"
    [document] = decode(texts[file].encode())
    new = Definition(file, document.value)
    module = module_names([*(one.group_kind for one in definitions), new.group_kind])[new.group_kind]
    if module != names.module:
        raise ValueError(
            f"{kind}: another group of this project has a kind {kind}, and their controllers would have the same file; "
            "choose another name"
        )
    texts[f"{views}/{module}.py"] = module_source(shape_of(new.object), file)
    if not (project / views / "__init__.py").exists():
        texts[f"{views}/__init__.py"] = PACKAGE
    write(project, dict(sorted(texts.items())))
    return Added(
        tuple(sorted(texts)),
        (f"kastra apply -f {DEFINITIONS} -f manifests --wait", f"kastra get {names.plural}", "python -m pytest"),
    )


def _common_group(definitions: Iterable[Definition]) -> str:
    groups = sorted({definition.group_kind[0] for definition in definitions})
    if len(groups) == 1:
        return groups[0]
    listed = f"; the project has {', '.join(groups)}" if groups else ""
    raise ValueError(f"--group is needed: a domain of your own, such as example.com{listed}")


def _refuse_taken(names: KindNames, definitions: Iterable[Definition], scheme: Scheme) -> None:
    wanted = {names.kind.lower(), names.plural}
    for definition in definitions:
        if definition.group_kind == (names.group, names.kind):
            raise ValueError(f"{definition.file}: defines {names.kind}.{names.group} already")
        taken = wanted & set(_names_of(definition.object))
        if taken:
            raise ValueError(
                f"{definition.file}: {definition.group_kind[1]}.{definition.group_kind[0]} is called "
                f"{literal(min(taken))}, too; commands could not tell the kinds apart. {_REMEDY}"
            )
    for resource in scheme:
        own = {resource.kind.lower(), resource.plural, resource.singular, *resource.short_names}
        if wanted & own and (resource.group, resource.kind) != (names.group, names.kind):
            called = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
            raise ValueError(
                f"there is a kind {called} that is called {literal(min(wanted & own))}, too; "
                f"commands could not tell the kinds apart. {_REMEDY}"
            )


_REMEDY = "Choose another name, or another plural with --plural"


def _names_of(definition: Mapping[str, Any]) -> list[str]:
    names = (definition.get("spec") or {}).get("names") or {}
    return [
        str(names.get("kind", "")).lower(),
        str(names.get("plural", "")),
        str(names.get("singular", "")),
        *map(str, names.get("shortNames") or ()),
    ]


def _in_yaml(name: str) -> str:
    """A name as it is written in YAML: quoted where it would be read as a number or a truth value."""
    [document] = decode(f"name: {name}".encode())
    return name if document.value["name"] == name and not document.warnings else f"'{name}'"


def _shown(file: str, project: Path) -> str:
    path = Path(file).resolve()
    return path.relative_to(project.resolve()).as_posix() if path.is_relative_to(project.resolve()) else file
