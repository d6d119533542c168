"""Can what a step gives be what the Tool, Agent or Workflow that it calls takes? For values that are known beforehand.

A `with` is looked into value by value: what is written out is held against the schema, what is one expression that names a place in
an output or in the Run's input is compared by its schema, anything else may be right. Part of the compiler; what is called may
change without the workflow, so that is its controller's question and not admission's. Read next:
`kastra.engine.compiler_schemas`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from kastra.api.errors import INVALID, Cause
from kastra.cel.references import tokens, unquote

Schema = Mapping[str, Any]
Problems = Callable[[Schema, Any], list[str]]
"""What is wrong with a value by a schema, as `path: message`."""
Fits = Callable[[str, Schema], Iterator[str]]
"""From an expression and the schema of where its value goes to what is wrong with that."""

_EXPRESSION = "${{"


class Called(NamedTuple):
    """What a step calls: `who` for people, and the schemas of what it takes and gives, None where anything may be."""

    who: str
    input: Schema | None = None
    output: Schema | None = None


def value_causes(value: Any, wanted: Schema, path: str, who: str, problems: Problems, fits: Fits) -> Iterator[Cause]:
    """What keeps a value of a manifest, which may hold expressions, from being one of a schema.

    Args:
        path: of the value.
        who: takes it.
        problems: of a value without expressions.
        fits: of a value that is one expression.
    """
    if isinstance(value, str) and _EXPRESSION in value:
        inner = _only_expression(value)
        if inner is not None:
            for problem in fits(inner, wanted):
                yield Cause(INVALID, f"Invalid value: {problem}", path)
        elif not _takes_text(wanted):
            yield Cause(INVALID, f"Invalid value: {who} takes no text here", path)
        return
    if _is_known(value):
        for problem in problems(wanted, value)[:1]:
            where, _, message = problem.partition(": ")
            place = f"{path}.{where}" if where and where != "value" else path
            yield Cause(INVALID, f"Invalid value: {who} doesn't take that: {message}", place)
        return
    properties = wanted.get("properties")
    if isinstance(value, Mapping) and isinstance(properties, Mapping):
        for name, item in value.items():
            if isinstance(properties.get(name), Mapping):
                yield from value_causes(item, properties[name], f"{path}.{name}", who, problems, fits)


def _only_expression(text: str) -> str | None:
    """The expression that a text consists of; None if there is more to it."""
    stripped = text.strip()
    inner = stripped.removeprefix(_EXPRESSION).removesuffix("}}")
    whole = stripped.startswith(_EXPRESSION) and stripped.endswith("}}") and _EXPRESSION not in inner
    return inner.strip() if whole else None


def _takes_text(schema: Schema) -> bool:
    found = schema.get("type")
    return found is None or found == "string" or (isinstance(found, list) and "string" in found)


def _is_known(value: Any) -> bool:
    if isinstance(value, str):
        return _EXPRESSION not in value
    if isinstance(value, Mapping):
        return all(_is_known(item) for item in value.values())
    return all(_is_known(item) for item in value) if isinstance(value, list) else True


def path_of(expression: str) -> list[str] | None:
    """The names of `a.b["c"].d`, outermost first; None if the expression is anything else than such a path."""
    parts = tokens(expression)
    if not parts or parts[0].kind != "name":
        return None
    names, index = [parts[0].text], 1
    while index < len(parts):
        rest = [part.text for part in parts[index : index + 3]]
        if rest[0] == "." and len(rest) > 1 and parts[index + 1].kind == "name":
            names.append(rest[1])
            index += 2
        elif rest[0] == "[" and len(rest) == 3 and parts[index + 1].kind == "string" and rest[2] == "]":
            names.append(unquote(rest[1]))
            index += 3
        else:
            return None
    return names
