"""What the typed view of a kind owes to its CustomResourceDefinition, whatever the kind.

`mismatches` compares the two field by field: names, types, required fields, enumerations. `specs` generates specs from the
definition; `lost` says which of their values a view's normal form no longer has. Nodes that a definition leaves open,
because they accept several shapes, are filled from `OPEN` where a shape is known for them and left out otherwise.
"""

import types
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kastra.runtime.view_types import Renamed

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=12)
DURATIONS = st.sampled_from(["30s", "1h30m", "250ms", "7d", "PT1H", 0, 5, 3600])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
REFS = NAMES | st.fixed_dictionaries({"name": NAMES}, optional={"namespace": NAMES})
MODELS = st.sampled_from(
    [
        "openai/gpt-4o",
        {"provider": "openai", "model": "gpt-4o", "temperature": 0.5},
        {"provider": "scripted", "parameters": {"rules": [{"reply": "hello"}]}},
    ]
)
OPEN: Mapping[str, st.SearchStrategy[Any]] = {
    "instructions": TEXTS | st.lists(TEXTS, max_size=2),
    "model": MODELS,
    "modelRef": REFS,
    "providerRef": REFS,
    "serverRef": REFS,
    "toolRef": REFS,
    "threadRef": REFS,
    "budgetRef": REFS,
    "agent": REFS,
    "workflow": REFS,
    "fallbacks[]": MODELS | st.fixed_dictionaries({"modelRef": REFS}),
    "tools": st.lists(NAMES | st.fixed_dictionaries({"name": NAMES, "toolRef": REFS}), max_size=3)
    | st.dictionaries(NAMES, NAMES, max_size=2),
    "knowledge[]": REFS,
    "skills[]": st.sampled_from(
        [
            "skills/review",
            {"file": "./skills"},
            {"configMap": "review"},
            {"configMap": {"name": "review", "items": [{"key": "a", "path": "b/c.md"}]}},
        ]
    ),
    "agents[]": NAMES | st.fixed_dictionaries({"name": NAMES, "ref": REFS}),
    "memory": st.booleans() | st.fixed_dictionaries({"lastMessages": st.integers(0, 9)}),
    "retry": st.integers(0, 5) | st.fixed_dictionaries({"limit": st.integers(0, 5), "initialInterval": DURATIONS}),
    "headers": st.dictionaries(NAMES, TEXTS, max_size=2),
    "input": JSON,
    "body": JSON,
    "mode": st.sampled_from([False, "off", "record", "replay"]),
}
"""Accepted shapes of open nodes by field; `name[]` is an item of a list."""
RULES: Mapping[str, Callable[[dict[str, Any]], bool]] = {
    "approvers": lambda who: bool(
        not who.get("users") or who.get("groups") or who.get("count", 1) <= len(set(who["users"]))
    ),
}
"""What a view asks of several fields of an object together, by field."""


@cache
def definition(plural: str) -> Mapping[str, Any]:
    """A CustomResourceDefinition from the package."""
    text = files("kastra.crds").joinpath(f"{plural}.yaml").read_text(encoding="utf-8")
    found: Mapping[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)  # noqa: TID251 - our own file
    return found


def definitions() -> list[str]:
    """The plurals of all definitions in the package."""
    names = (entry.name for entry in files("kastra.crds").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def spec_schema(plural: str) -> Mapping[str, Any]:
    """The schema of `spec`."""
    schema: Mapping[str, Any] = definition(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec: Mapping[str, Any] = schema["properties"]["spec"]
    return spec


def mismatches(schema: Mapping[str, Any], model: Any, path: str) -> Iterator[str]:
    """Every difference between a schema node and the type that reads it."""
    if "enum" in schema:
        allowed = sorted(_literals(model))
        if isinstance(model, type) or allowed != sorted(schema["enum"]):
            # A field that is another name of one with fewer words is checked through that one.
            yield f"{path}: the schema has {sorted(schema['enum'])}, the view {allowed or model}"
        return
    if is_open(schema):
        return
    expected = schema["type"]
    if expected == "object" and "properties" in schema:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            yield f"{path}: the schema has an object, the view {model}"
        else:
            yield from _object_mismatches(schema, model, path)
    elif expected == "array":
        if get_origin(model) is not list:
            yield f"{path}: the schema has a list, the view {model}"
        else:
            yield from mismatches(schema["items"], _plain(get_args(model)[0]), f"{path}[]")
    else:
        wanted = {"object": dict, "string": str, "integer": int, "number": float, "boolean": bool}[expected]
        if (get_origin(model) or model) not in (wanted, Any):
            yield f"{path}: the schema has {expected}, the view {model}"


def _object_mismatches(schema: Mapping[str, Any], model: type[BaseModel], path: str) -> Iterator[str]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    other = dict(model.also) if issubclass(model, Renamed) else {}
    accepted = fields.keys() | other.keys()
    for name in sorted(schema["properties"].keys() ^ accepted):
        yield f"{path}.{name}: only in {'the view' if name in accepted else 'the schema'}"
    for name, child in schema["properties"].items():
        if name in fields:
            if (name in schema.get("required", ())) != fields[name].is_required():
                yield f"{path}.{name}: required in one only"
            yield from mismatches(child, _type(fields[name]), f"{path}.{name}")


def is_open(schema: Mapping[str, Any]) -> bool:
    """Whether a node accepts several types."""
    return "type" not in schema


def _type(field: FieldInfo) -> Any:
    return _plain(field.annotation)


def _plain(annotation: Any) -> Any:
    """Without Optional and Annotated."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            rest = [arg for arg in get_args(annotation) if arg is not type(None)]
            if len(rest) != 1:
                return annotation
            annotation = rest[0]
        else:
            return annotation


def _literals(annotation: Any) -> list[Any]:
    return list(get_args(annotation)) if get_origin(annotation) is Literal else []


def specs(schema: Mapping[str, Any], without: frozenset[str] = frozenset()) -> st.SearchStrategy[dict[str, Any]]:
    """Specs that the schema accepts; top-level fields in `without` are left out."""
    shown = {name: child for name, child in schema["properties"].items() if name not in without}
    required = [name for name in schema.get("required", ()) if name not in without]
    return _objects({**schema, "properties": shown, "required": required})


def _objects(schema: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    known = {name: found for name, child in schema["properties"].items() if (found := _values(child, name)) is not None}
    required = {name: known[name] for name in schema.get("required", ())}
    if "maxProperties" in schema:
        return st.sampled_from(sorted(known)).flatmap(lambda name: st.fixed_dictionaries({name: known[name]}))
    optional = {name: found for name, found in known.items() if name not in required}
    chosen = st.sets(st.sampled_from(sorted(optional)), max_size=4) if optional else st.just(set[str]())
    return chosen.flatmap(lambda names: st.fixed_dictionaries({**required, **{n: optional[n] for n in sorted(names)}}))


def _values(schema: Mapping[str, Any], name: str) -> st.SearchStrategy[Any] | None:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return DURATIONS
    match schema.get("type"):
        case None:
            return OPEN.get(name)
        case "object" if "properties" in schema:
            return _objects(schema).filter(RULES[name]) if name in RULES else _objects(schema)
        case "object":
            child = _values(schema.get("additionalProperties", {}), name)
            return st.dictionaries(NAMES, JSON if child is None else child, max_size=2)
        case "array":
            items = _values(schema["items"], f"{name}[]")
            return None if items is None else st.lists(items, min_size=schema.get("minItems", 0), max_size=2)
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"].removesuffix("$") + r"\Z", fullmatch=False).filter(
                lambda t: len(t) < 40
            )
        case "string":
            return NAMES if schema.get("minLength") else TEXTS
        case "integer":
            return st.integers(schema.get("minimum", -5), 500)
        case "number":
            return st.floats(schema.get("minimum", -5), 500, allow_nan=False)
        case "boolean":
            return st.booleans()
        case other:
            raise AssertionError(f"{name}: unknown type {other}")


def lost(schema: Mapping[str, Any], given: Any, plain: Any, path: str = "spec") -> Iterator[str]:
    """Where a value that the schema types is no longer the same in the normal form."""
    if is_open(schema):
        return
    if schema["type"] == "object" and "properties" in schema:
        for name, value in given.items():
            if name in plain:
                yield from lost(schema["properties"][name], value, plain[name], f"{path}.{name}")
            elif not is_open(schema["properties"][name]):
                yield f"{path}.{name}: is gone"
    elif schema["type"] == "array":
        for index, value in enumerate(given):
            yield from lost(schema["items"], value, plain[index], f"{path}[{index}]")
    elif given != plain:
        yield f"{path}: {given!r} became {plain!r}"
