"""Do views that are written by hand agree with their definitions?

Generated views can't differ. Those that people write in `controllers/` can: a field that the definition doesn't have is never
set, a field of another type makes objects unreadable that the server accepted. Both are found here by comparing pydantic's
fields with the schema, without any object. A field that a validator of its own reads (`BeforeValidator`, a model validator
before) accepts shapes that can't be seen, so only its being there is checked. A view need not have every field.

Loads the project's controllers, as every command that runs them does. Read next: `kastra.scaffold.shapes`.
"""

import ast
import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, BeforeValidator, PlainValidator, WrapValidator
from pydantic.fields import FieldInfo

from kastra.api.names import closest
from kastra.runtime.discovery import discover

from .generation import definitions_of
from .shapes import stored_version
from .source import is_generated

_OWN = ("metadata", "apiVersion", "kind")
_SCALARS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int, float),
    "number": (float,),
    "boolean": (bool,),
    "array": (list, tuple, set, frozenset, Sequence),
    "object": (dict, Mapping),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A field that doesn't agree with the definition.

    Args:
        file: relative to the project.
        line: of the field, or of the class.
        name: `GlossarySpec.terms`.
        path: `spec.terms`.
    """

    file: str
    line: int
    name: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.name}: {self.path}: {self.message}"


def findings(project: Path, controllers: Sequence[str], files: Sequence[str] = ()) -> list[Finding]:
    """Where hand-written views of the project's kinds differ from their definitions, by file and line.

    Args:
        controllers: the project's folders of controllers.
        files: look only at the kinds that are defined in these.

    Raises:
        ValueError: a definition can't be read.
        DiscoveryError: a module of the project doesn't load.
    """
    definitions = {one.group_kind: one for one in definitions_of(project, files)}
    found: list[Finding] = []
    for view in discover([project / folder for folder in controllers], packages=[]).views:
        definition = definitions.get((view.api_group, view.api_kind))
        if definition is None or is_generated(_source(view)[1]):
            continue
        assert issubclass(view, BaseModel)
        schema = stored_version(definition.object)["schema"]["openAPIV3Schema"]
        found += (_finding(project, definition.file, *one) for one in _fields(schema, view, "", root=True))
    return sorted(set(found), key=lambda one: (one.file, one.line, one.path))


_Raw = tuple[type[BaseModel], str, str, str]
"""The class, its field, the path in the object, what is wrong. `%` stands for the definition's file."""


def _fields(node: Mapping[str, Any], model: type[BaseModel], path: str, *, root: bool = False) -> Iterator[_Raw]:
    properties: Mapping[str, Any] = node.get("properties") or {}
    reshaped = _is_reshaped(model)
    for name, field in model.model_fields.items():
        keys = [key for key in _keys(name, field) if key not in _OWN or not root]
        if not keys:
            continue
        known = [key for key in keys if key in properties]
        at = f"{path}.{keys[0]}" if path else keys[0]
        if not known:
            if not node.get("x-kubernetes-preserve-unknown-fields") and not reshaped:
                near = closest(keys[0], properties)
                hint = f'; did you mean "{near}"?' if near else ""
                yield model, name, at, f"%s has no such field{hint}"
            continue
        child = properties[known[0]]
        required = known[0] in (node.get("required") or ()) or "default" in child
        if field.is_required() and not required and not reshaped and not (root and known[0] == "status"):
            yield model, name, at, "is required in the view and optional in %s: an object without it can't be read"
        if not _is_opaque(field.metadata):
            yield from _types(child, field.annotation, model, name, at)


def _types(node: Mapping[str, Any], annotation: Any, model: type[BaseModel], name: str, at: str) -> Iterator[_Raw]:
    members, opaque = _members(annotation)
    if opaque or not members or Any in members or object in members:
        return
    if node.get("nullable") and type(None) not in members:
        yield model, name, at, "may be null by %s, which the view doesn't read"
    if "enum" in node:
        yield from _words(node["enum"], members, model, name, at)
        return
    kinds = ("integer", "string") if node.get("x-kubernetes-int-or-string") else (node.get("type"),)
    for kind in kinds:
        if kind is None:
            continue
        fitting = [member for member in members if _fits(str(kind), member)]
        if not fitting:
            yield model, name, at, f"is of type {kind} in %s, and {_shown(annotation)} in the view"
            continue
        for member in fitting:
            yield from _inside(node, member, model, name, at)


def _inside(node: Mapping[str, Any], member: Any, model: type[BaseModel], name: str, at: str) -> Iterator[_Raw]:
    if isinstance(member, type) and issubclass(member, BaseModel):
        if node.get("properties"):
            yield from _fields(node, member, at)
        return
    arguments = get_args(member)
    items, values = node.get("items"), node.get("additionalProperties")
    if node.get("type") == "array" and isinstance(items, Mapping) and arguments:
        yield from _types(items, arguments[0], model, name, f"{at}[]")
    elif node.get("type") == "object" and len(arguments) == 2:
        if isinstance(values, Mapping):
            yield from _types(values, arguments[1], model, name, f"{at}.*")
        for key, child in (node.get("properties") or {}).items():
            yield from _types(child, arguments[1], model, name, f"{at}.{key}")


def _words(words: Sequence[Any], members: Sequence[Any], model: type[BaseModel], name: str, at: str) -> Iterator[_Raw]:
    read: list[Any] = []
    for member in members:
        if get_origin(member) is Literal:
            read += get_args(member)
        elif isinstance(member, type) and issubclass(member, Enum):
            read += [item.value for item in member]
        elif isinstance(member, type):
            read += [word for word in words if isinstance(word, member)]
    missing = [repr(word) for word in words if word not in read]
    if missing:
        yield model, name, at, f"may be {', '.join(missing)} by %s, which the view doesn't read"


def _members(annotation: Any) -> tuple[list[Any], bool]:
    """The types of a union, without Annotated; and whether a validator reads the value before."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        members, opaque = _members(inner)
        return members, opaque or _is_opaque(metadata)
    if get_origin(annotation) in (Union, types.UnionType):
        found, hidden = [], False
        for argument in get_args(annotation):
            members, opaque = _members(argument)
            found += members
            hidden = hidden or opaque
        return found, hidden
    return [annotation], False


def _fits(kind: str, member: Any) -> bool:
    """Whether a value of a JSON type can be read by a Python type."""
    if isinstance(member, type) and issubclass(member, BaseModel):
        return kind == "object" or _is_reshaped(member)
    if get_origin(member) is Literal:
        return any(isinstance(word, _SCALARS.get(kind, ())) for word in get_args(member))
    plain = get_origin(member) or member
    if plain in (str, int, float, bool, list, tuple, set, frozenset, dict, Sequence, Mapping, type(None)):
        return plain in _SCALARS.get(kind, ())
    # Dates, paths, enumerations and other people's types: pydantic decides.
    return True


def _is_opaque(metadata: Sequence[Any]) -> bool:
    return any(isinstance(item, BeforeValidator | PlainValidator | WrapValidator) for item in metadata)


def _is_reshaped(model: type[BaseModel]) -> bool:
    """Whether a class rewrites what it is given before it reads the fields."""
    decorators = model.__pydantic_decorators__.model_validators.values()
    return any(decorator.info.mode in ("before", "wrap") for decorator in decorators)


def _keys(name: str, field: FieldInfo) -> list[str]:
    alias = field.validation_alias or field.alias or name
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [str(choice.path[0]) if isinstance(choice, AliasPath) else str(choice) for choice in choices]


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


def _finding(project: Path, definition: str, model: type[BaseModel], name: str, path: str, message: str) -> Finding:
    owner = next((base for base in model.__mro__ if name in vars(base).get("__annotations__", {})), model)
    file, text = _source(owner)
    shown = Path(file).resolve()
    relative = shown.relative_to(project.resolve()).as_posix() if shown.is_relative_to(project.resolve()) else file
    return Finding(
        relative,
        _line(text, owner.__qualname__, name),
        f"{model.__name__}.{name}",
        path,
        message.replace("%s", definition),
    )


def _source(cls: type[Any]) -> tuple[str, str]:
    file = inspect.getsourcefile(cls) or ""
    return file, Path(file).read_text(encoding="utf-8") if file else ""


def _line(text: str, qualname: str, name: str) -> int:
    """The line of a field in a class, or of the class where it has none of its own."""
    nodes: list[ast.stmt] = ast.parse(text).body
    found: ast.ClassDef | None = None
    for part in qualname.split("."):
        found = next((node for node in nodes if isinstance(node, ast.ClassDef) and node.name == part), None)
        if found is None:
            return 1
        nodes = found.body
    assert found is not None
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            return node.lineno
    return found.lineno
