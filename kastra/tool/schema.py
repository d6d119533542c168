"""Does a value satisfy a JSON Schema (2020-12)? For arguments and results of tools and for structured output.

Three things differ from the `jsonschema` library as it comes, because schemas are written by whoever writes a manifest or runs an
MCP server: patterns run on RE2, which can't be made to hang, a `$ref` that leads out of the schema is refused, never fetched, and
references that multiply the work are counted before it begins.
`jsonschema` is imported when the first schema is compiled.

Source: JSON Schema 2020-12. Read next: `kastra.tool.declared`.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from .schema_cost import NO_COST, REFERENCES, cost_of

MAX_CAUSES = 5
"""Violations reported at most; one is usually enough to see what is meant."""


class JsonSchema:
    """A compiled schema.

    Args:
        schema: the JSON Schema.
        where: the field that holds it, for messages.

    Raises:
        ValueError: it is no schema, has a pattern that RE2 doesn't take, refers to another document, or refers to itself so often
            that checking anything would take for ever.
    """

    def __init__(self, schema: Mapping[str, Any], where: str = "schema") -> None:
        import jsonschema

        self.schema = schema
        self._where = where
        check_patterns(schema, where)
        validator = _validator_class()
        try:
            validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise ValueError(f"{where}{_path(error.absolute_path)}: {error.message[:300]}") from None
        except RecursionError:
            raise ValueError(f"{where}: nested too deeply") from None
        # Only references can make of a small schema much work.
        self._cost = cost_of(schema, where) if any(name in REFERENCES for name in _named(schema)) else NO_COST
        self._validator = validator(schema, registry=_registry())

    def problems(self, value: Any) -> list[str]:
        """What is wrong with `value`, as `path: message`; empty if nothing is."""
        from referencing.exceptions import Unresolvable

        if self._cost.too_much(value):
            return ["the schema refers to itself in too many ways for a value as deep as this"]
        try:
            errors = list(islice(self._validator.iter_errors(value), MAX_CAUSES))
        except Unresolvable as error:
            return [f"the schema refers to {str(error.ref)[:100]!r}, which is not in it"]
        except RecursionError:
            return ["the value or the schema is nested without end"]
        return [f"{_path(error.absolute_path).lstrip('.') or 'value'}: {error.message[:300]}" for error in errors]


def schema_problems(schema: Mapping[str, Any], value: Any) -> list[str]:
    """What is wrong with `value`, as far as a part of a schema can tell: nothing if it refers to another part, or is no schema."""
    if any(keyword == "$ref" for keyword in _named(schema)):
        return []
    try:
        return JsonSchema(schema).problems(value)
    except ValueError:
        return []


def check_patterns(schema: Mapping[str, Any], where: str) -> None:
    """The part of compiling a schema that costs microseconds instead of milliseconds.

    Raises:
        ValueError: it has a pattern that RE2 doesn't take, or keywords that can't be used together.
    """
    keywords = set()
    for keyword, patterns in _keywords(schema):
        keywords.add(keyword)
        for pattern in patterns:
            _compiled(pattern, where)
    if {"patternProperties", "unevaluatedProperties"} <= keywords:
        raise ValueError(f"{where}: patternProperties and unevaluatedProperties can't be used in one schema")


def _path(parts: Any) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _named(schema: Any) -> Iterator[str]:
    """Every key of a schema, at any depth."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, Mapping):
            yield from node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _keywords(schema: Any) -> Iterator[tuple[str, list[str]]]:
    """The keywords that concern patterns, each with the patterns it holds, wherever they stand."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, Mapping):
            if isinstance(node.get("pattern"), str):
                yield "pattern", [node["pattern"]]
            if isinstance(node.get("patternProperties"), Mapping):
                yield "patternProperties", [key for key in node["patternProperties"] if isinstance(key, str)]
            if "unevaluatedProperties" in node:
                yield "unevaluatedProperties", []
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


@cache
def _quiet() -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    return options


def _compiled(pattern: str, where: str = "schema") -> Any:
    import re2

    try:
        return re2.compile(pattern, _quiet())
    except re2.error as error:
        reason = error.args[0] if error.args else "not understood"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"{where}: pattern {pattern[:100]!r} is not RE2: {text[:200]}") from None


@cache
def _registry() -> Any:
    import referencing.jsonschema

    # Empty: the library's own default would fetch what it doesn't know.
    return referencing.jsonschema.EMPTY_REGISTRY


@cache
def _validator_class() -> Any:
    import jsonschema
    from jsonschema import validators

    def matches(pattern: str, text: str) -> bool:
        return _compiled(pattern).search(text) is not None

    def pattern_(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
        if validator.is_type(instance, "string") and not matches(pattern, instance):
            yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")

    def pattern_properties(validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[Any]:
        if validator.is_type(instance, "object"):
            for pattern, subschema in patterns.items():
                for key, value in instance.items():
                    if matches(pattern, key):
                        yield from validator.descend(value, subschema, path=key, schema_path=pattern)

    def additional_properties(validator: Any, subschema: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not validator.is_type(instance, "object"):
            return
        known, patterns = schema.get("properties", {}), list(schema.get("patternProperties", {}))
        extra = [k for k in instance if k not in known and not any(matches(pattern, k) for pattern in patterns)]
        if validator.is_type(subschema, "object"):
            for key in extra:
                yield from validator.descend(instance[key], subschema, path=key)
        elif subschema is False and extra:
            names = ", ".join(repr(key) for key in extra[:5])
            yield jsonschema.ValidationError(f"{names} {'is' if len(extra) == 1 else 'are'} not allowed here")

    extend: Any = validators.extend
    return extend(
        jsonschema.Draft202012Validator,
        {
            "pattern": pattern_,
            "patternProperties": pattern_properties,
            "additionalProperties": additional_properties,
        },
    )
