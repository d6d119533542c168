"""A schema as classes and annotations: what a typed view of a kind consists of.

`shape_of` walks the `openAPIV3Schema` of one version and gives classes in the order in which Python must read them. It
decides names and types and writes no Python. One node of a schema becomes:

    object with properties          a class; with x-kubernetes-preserve-unknown-fields it keeps what it doesn't name
    object without                  dict[str, X] by additionalProperties, else dict[str, Any]
    array                           list[X]; also of `x-kubernetes-list-type: map`, whose keys are named in the docstring
    enum                            Literal[...]
    x-kubernetes-int-or-string      int | str
    no type, embedded resource      Any, dict[str, Any]
    nullable, or absent without a default    ... | None

Lists and maps that are absent read as empty. In a status nothing is required, since a status that nobody has written yet
reads as an empty one. Source: structural schemas of Kubernetes. Read next: `kastra.scaffold.source`.
"""

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .literals import literal
from .naming import pascal, snake

RESERVED = frozenset(
    (
        # Names that the annotations use.
        *("bool", "dict", "float", "int", "list", "str"),
        # What pydantic's BaseModel and the base classes of views define.
        *("api_group", "api_kind", "api_version", "condition", "construct", "copy", "dict", "from_orm", "json"),
        *("model_computed_fields", "model_config", "model_construct", "model_copy", "model_dump", "model_dump_json"),
        *("model_extra", "model_fields", "model_fields_set", "model_json_schema", "model_parametrized_name"),
        *("model_post_init", "model_rebuild", "model_validate", "model_validate_json", "model_validate_strings"),
        *("of", "parse_file", "parse_obj", "parse_raw", "plain", "references", "schema", "schema_json"),
        *("update_forward_refs", "validate"),
    )
)
"""What a field may not be called in Python; it gets an underscore behind and an alias."""

_CLASSES = frozenset(("Any", "Condition", "ConfigDict", "False", "Field", "Fields", "Literal", "None", "True", "View"))
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}
_PYTHON_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
NOTHING = object()
"""There is no default; None would be one."""


@dataclass(frozen=True, slots=True)
class FieldShape:
    """One field of a class.

    Args:
        name: in Python.
        key: in YAML.
        annotation: its type.
        alias: whether the key doesn't follow from the name.
        default: JSON-like, or `NOTHING`.
        factory: what makes the value of an absent field: `list`, `dict` or a class; empty if there is a default or if the
            field is required.
        validated: the default has to be read by the annotation, as a class or a list of them.
    """

    name: str
    key: str
    annotation: str
    description: str = ""
    alias: bool = False
    default: Any = NOTHING
    factory: str = ""
    validated: bool = False

    @property
    def required(self) -> bool:
        """Whether reading an object without it fails."""
        return self.default is NOTHING and not self.factory


@dataclass(frozen=True, slots=True)
class ClassShape:
    """One class; the last of a module is the view."""

    name: str
    description: str
    fields: tuple[FieldShape, ...]
    is_open: bool = False
    """Whether it keeps fields that the schema doesn't name."""


@dataclass(frozen=True, slots=True)
class AliasShape:
    """A set of words with a name of its own: `AgentSpecMode = Literal[...]`."""

    name: str
    words: tuple[Any, ...]


@dataclass(slots=True)
class KindShape:
    """Everything in the module of a view.

    Args:
        group, version, kind: of the definition.
        parts: in the order in which Python must read them; the view is the last.
    """

    group: str
    version: str
    kind: str
    parts: list[ClassShape | AliasShape] = field(default_factory=list)

    @property
    def view(self) -> ClassShape:
        """The class of the whole object."""
        last = self.parts[-1]
        assert isinstance(last, ClassShape)
        return last


def stored_version(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """The version of a definition in which objects are stored, which is the one that controllers read.

    Raises:
        ValueError: it has none, or that one has no schema.
    """
    name = (definition.get("metadata") or {}).get("name", "")
    versions = (definition.get("spec") or {}).get("versions") or []
    for version in versions:
        if isinstance(version, Mapping) and version.get("storage"):
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            if not isinstance(schema, Mapping):
                raise ValueError(
                    f"CustomResourceDefinition {name}: version {version.get('name')} has no openAPIV3Schema"
                )
            return version
    raise ValueError(f"CustomResourceDefinition {name}: spec.versions: none has `storage: true`")


def shape_of(definition: Mapping[str, Any]) -> KindShape:
    """The classes that read objects of a CustomResourceDefinition, by its stored version.

    Raises:
        ValueError: there is no schema.
    """
    version = stored_version(definition)
    spec = definition["spec"]
    schema: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]
    shape = KindShape(str(spec["group"]), str(version["name"]), str(spec["names"]["kind"]))
    return _Walk(shape).kind(schema)


def python_name(key: str, taken: Sequence[str] = ()) -> str:
    """What the field of a key is called in Python: snake_case, no word of Python or pydantic, and not among `taken`."""
    name = snake(key) if words_only(key) else snake(re.sub(r"[^A-Za-z0-9]+", "_", key))
    if name in RESERVED or keyword.iskeyword(name):
        name += "_"
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


def words_only(key: str) -> bool:
    """Whether a key consists of letters and digits, as Kubernetes' field names do."""
    return _PYTHON_NAME.fullmatch(key) is not None


def camel(name: str) -> str:
    """The key that a field of a view has in YAML unless it names another: pydantic's `to_camel`."""
    from pydantic.alias_generators import to_camel

    return to_camel(name)


def is_condition_list(key: str, node: Mapping[str, Any]) -> bool:
    """Whether this is the list of conditions that every Kubernetes status has, for which there is a class already."""
    keys = node.get("x-kubernetes-list-map-keys")
    return key == "conditions" and node.get("type") == "array" and keys == ["type"]


class _Walk:
    def __init__(self, shape: KindShape) -> None:
        self._shape = shape
        self._names: set[str] = {*_CLASSES}
        self._root = ""
        self._root = self._claim(pascal(shape.kind), "View")

    def kind(self, schema: Mapping[str, Any]) -> KindShape:
        required = [name for name in schema.get("required") or () if name != "status"]
        properties = {
            name: node
            for name, node in (schema.get("properties") or {}).items()
            if name not in ("apiVersion", "kind", "metadata")
        }
        fields = self._fields(properties, required, self._root)
        description = str(schema.get("description") or f"A {self._shape.kind}, read.")
        opened = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        self._shape.parts.append(ClassShape(self._root, description, fields, opened))
        return self._shape

    def _fields(
        self, properties: Mapping[str, Any], required: Sequence[str], owner: str, *, status: bool = False
    ) -> tuple[FieldShape, ...]:
        found: list[FieldShape] = []
        for key, node in properties.items():
            name = python_name(key, [field.name for field in found] + (["metadata"] if owner == self._root else []))
            is_status = owner == self._root and key == "status"
            found.append(self._field(key, name, node, owner, required=key in required and not status, status=is_status))
        # What must be given comes first, as people read it; pydantic doesn't mind.
        return tuple(sorted(found, key=lambda field: not field.required))

    def _field(
        self, key: str, name: str, node: Mapping[str, Any], owner: str, *, required: bool, status: bool
    ) -> FieldShape:
        where = f"{owner}{pascal(key)}"
        annotation = "list[Condition]" if is_condition_list(key, node) else self._annotation(node, where, status=status)
        default = node.get("default", NOTHING)
        nullable = bool(node.get("nullable")) and annotation != "Any"
        factory, validated = "", False
        if default is NOTHING and not required:
            base = annotation.partition("[")[0]
            made = self._class(annotation)
            if base in ("list", "dict") and not nullable:
                factory = base
            elif status and made is not None:
                factory = annotation
            else:
                default, nullable = None, nullable or annotation != "Any"
        elif default is None:
            nullable = nullable or annotation != "Any"
        elif default is not NOTHING:
            validated = isinstance(default, dict | list) or annotation in self._class_names()
            if default in ([], {}) and (annotation.startswith(("list[", "dict[")) or self._class(annotation)):
                factory, default, validated = annotation.partition("[")[0], NOTHING, False
        return FieldShape(
            name,
            key,
            f"{annotation} | None" if nullable else annotation,
            _described(node),
            alias=camel(name) != key,
            default=default,
            factory=factory,
            validated=validated,
        )

    def _annotation(self, node: Mapping[str, Any], where: str, *, status: bool = False) -> str:
        """The type that reads a node; classes and sets of words that it needs are added to the module."""
        if node.get("x-kubernetes-int-or-string"):
            return "int | str"
        words = node.get("enum")
        if words and all(word is None or isinstance(word, str | int | bool) for word in words):
            return self._words(tuple(dict.fromkeys(words)), where)
        kind = node.get("type")
        if kind == "array":
            items = node.get("items")
            return f"list[{self._inner(items, f'{where}Item') if isinstance(items, Mapping) else 'Any'}]"
        if kind == "object":
            return self._object(node, where, status=status)
        return _SCALARS.get(str(kind), "Any")

    def _inner(self, node: Mapping[str, Any], where: str) -> str:
        found = self._annotation(node, where)
        return f"{found} | None" if node.get("nullable") and found != "Any" else found

    def _object(self, node: Mapping[str, Any], where: str, *, status: bool) -> str:
        opened = bool(node.get("x-kubernetes-preserve-unknown-fields"))
        values = node.get("additionalProperties")
        properties = node.get("properties")
        if node.get("x-kubernetes-embedded-resource") or not properties:
            return f"dict[str, {self._inner(values, f'{where}Value') if isinstance(values, Mapping) else 'Any'}]"
        name = self._claim(where)
        fields = self._fields(properties, node.get("required") or (), name, status=status)
        description = _described(node) or f"The fields of {name}."
        self._shape.parts.append(ClassShape(name, description, fields, opened))
        return name

    def _words(self, words: tuple[Any, ...], where: str) -> str:
        if len(words) <= _INLINE_WORDS and sum(len(repr(word)) + 2 for word in words) <= _INLINE_LENGTH:
            return f"Literal[{', '.join(map(literal, words))}]"
        name = self._claim(where)
        self._shape.parts.append(AliasShape(name, words))
        return name

    def _class(self, annotation: str) -> ClassShape | None:
        found = [part for part in self._shape.parts if isinstance(part, ClassShape) and part.name == annotation]
        return found[0] if found and not any(field.required for field in found[0].fields) else None

    def _class_names(self) -> set[str]:
        return {part.name for part in self._shape.parts if isinstance(part, ClassShape)}

    def _claim(self, name: str, suffix: str = "") -> str:
        name = self._shortened(name)
        candidate = f"{name}{suffix}" if name in self._names and suffix else name
        number = 2
        while candidate in self._names:
            candidate, number = f"{name}{number}", number + 1
        self._names.add(candidate)
        return candidate

    def _shortened(self, name: str) -> str:
        """A long path by its end: `PodSpecAffinity...NodeSelectorTermsItem` as `PodNodeSelectorTermsItem`."""
        if len(name) <= _LONGEST_CLASS:
            return name
        tail: list[str] = []
        for word in reversed(_CAMEL_WORD.findall(name)):
            if len(self._root) + len(word) + sum(map(len, tail)) > _LONGEST_CLASS - _NUMBER:
                break
            tail.insert(0, word)
        return f"{self._root}{''.join(tail)}" if tail else name


_CAMEL_WORD = re.compile(r"[A-Z][a-z0-9]*|[a-z0-9]+")
_LONGEST_CLASS = 48
_NUMBER = 3
_INLINE_WORDS = 6
_INLINE_LENGTH = 48


def _described(node: Mapping[str, Any]) -> str:
    text = " ".join(str(node.get("description") or "").split())
    keys = node.get("x-kubernetes-list-map-keys")
    if node.get("type") == "array" and keys and "per " not in text:
        text = f"{text} One per {' and '.join(map(str, keys))}.".strip()
    return text
