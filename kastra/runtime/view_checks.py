"""Are the expressions and JSON Schemas inside a spec well formed? For the `validate` functions of kinds.

The answers are `Cause`s and never exceptions, since everything that is wrong with an object is reported at once. Nothing is
evaluated. A schema is checked for the mistakes people make, in microseconds; its whole grammar is checked where it is
compiled for use.

Source: JSON Schema 2020-12, sections 6 and 10. Read next: `kastra.cel`, `kastra.tool.schema`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kastra.api.errors import Cause
from kastra.cel import CelError, Template, environment, references

from .view_errors import invalid, join, of_type, unsupported

_JSON_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_SUBSCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_DEEPEST = 32


def expression_findings(expression: str, path: str, variables: Sequence[str] = ()) -> list[Cause]:
    """What is wrong with a CEL expression that stands at `path`, if anything.

    Args:
        expression: its text.
        path: where it stands.
        variables: the names it may use; none given means any.
    """
    names = variables or sorted(references(expression).roots)
    try:
        environment(*names).compile(expression)
    except CelError as error:
        return [invalid(expression, str(error), path)]
    return []


def template_findings(data: Any, path: str, variables: Sequence[str]) -> list[Cause]:
    """What is wrong with the first faulty `${{ }}` in JSON-like data that stands at `path`, if there is one."""
    if not _templated(data):
        return []
    try:
        Template.compile(data, environment(*variables), path)
    except CelError as error:
        return [invalid(error.expression, error.reason, error.path or path)]
    return []


def _templated(data: Any) -> bool:
    """Whether `data` holds an expression; most doesn't."""
    if isinstance(data, str):
        return "${{" in data
    values = data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ()
    return any(_templated(value) for value in values)


def schema_findings(schema: Any, path: str) -> list[Cause]:
    """What is obviously wrong with a JSON Schema that stands at `path`: misspelt types, keywords with values of no use."""
    return _schema_findings(schema, path, 0)


def _schema_findings(schema: Any, path: str, depth: int) -> list[Cause]:
    if isinstance(schema, bool):
        return []
    if not isinstance(schema, Mapping):
        return [of_type(schema, "object", path)]
    if depth > _DEEPEST:
        return [invalid("...", f"is nested more than {_DEEPEST} levels deep", path)]
    found = _keyword_findings(schema, path)
    for keyword in _SUBSCHEMAS:
        if keyword in schema:
            found += _schema_findings(schema[keyword], join(path, keyword), depth + 1)
    for keyword in _SCHEMA_MAPS:
        if keyword not in schema:
            continue
        children = schema[keyword]
        if not isinstance(children, Mapping):
            found.append(of_type(children, "object", join(path, keyword)))
            continue
        for name, child in children.items():
            found += _schema_findings(child, join(path, keyword, str(name)), depth + 1)
    for keyword in _SCHEMA_LISTS:
        if keyword not in schema:
            continue
        if not isinstance(schema[keyword], list):
            found.append(of_type(schema[keyword], "array", join(path, keyword)))
            continue
        for index, child in enumerate(schema[keyword]):
            found += _schema_findings(child, join(path, keyword, index), depth + 1)
    return found


def _keyword_findings(schema: Mapping[str, Any], path: str) -> list[Cause]:
    found: list[Cause] = []
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        found += [unsupported(name, _JSON_TYPES, join(path, "type")) for name in types if name not in _JSON_TYPES]
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        found.append(invalid(required, "must be a list of property names", join(path, "required")))
    if "enum" in schema and not isinstance(schema["enum"], list):
        found.append(of_type(schema["enum"], "array", join(path, "enum")))
    if "pattern" in schema and not isinstance(schema["pattern"], str):
        found.append(of_type(schema["pattern"], "string", join(path, "pattern")))
    for keyword in (*_NUMBERS, *_COUNTS):
        value = schema.get(keyword, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or (keyword in _COUNTS and value < 0):
            found.append(
                invalid(
                    value,
                    "must be a number of 0 or more" if keyword in _COUNTS else "must be a number",
                    join(path, keyword),
                )
            )
    return found
