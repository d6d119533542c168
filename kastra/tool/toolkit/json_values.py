"""Group `json`: JSON values.

Queries are CEL, whose cost is bounded before it runs; JMESPath, which can double its input as often as an expression says so, isn't
offered. Patches are applied one operation at a time, for the same reason.

Source: RFC 6901 (pointers), RFC 6902 (patches), RFC 7386 (merge patches). Read next: `kastra.tool.toolkit.bounds`.
"""

from typing import Annotated, Any

from kastra.cel import CelError, environment
from kastra.tool.interface import ToolError
from kastra.tool.schema import JsonSchema
from kastra.tool.toolkit.bounds import bounded, clip, parse_json, write_json
from kastra.tool.toolkit.builtin import Builtin, missing, unfit

MAX_OPERATIONS = 200
_MAX_CHANGES = 1_000

Value = Annotated[Any, "A JSON value."]


def parse(text: str) -> Any:
    """Read a JSON text as a value; says where it is wrong."""
    return parse_json(text)


def format_value(value: Value, indent: Annotated[bool, "Over several lines."] = True) -> str:
    """Write a value as JSON text."""
    return clip(write_json(value, indent=indent))


def get(value: Value, pointer: Annotated[str, "JSON Pointer, such as /items/0/name; empty for the whole."]) -> Any:
    """Take one part out of a value, by JSON Pointer."""
    found = value
    if pointer and not pointer.startswith("/"):
        raise unfit("pointer: must begin with a slash, such as /items/0")
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and len(key) < 10 and int(key) < len(found):
            found = found[int(key)]
        else:
            known = f"it has {', '.join(list(found)[:20])}" if isinstance(found, dict) else _kind(found)
            raise missing(f"pointer {pointer[:200]}: there is no {key[:100]!r}; {known}")
    return found


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"this is a list of {len(value)}"
    return f"this is a {type(value).__name__}"


def query(
    value: Value,
    expression: Annotated[str, "CEL over `value`, such as value.items.filter(i, i.price < 5).map(i, i.name)."],
) -> Any:
    """Query a value with a CEL expression: select, filter, map, compute."""
    bounded(value)
    try:
        return bounded(environment("value").compile(expression).evaluate({"value": value}), "result")
    except CelError as error:
        raise ToolError(str(error), type="expression", retryable=False) from None


def patch(
    value: Value,
    operations: Annotated[list[dict[str, Any]], "JSON Patch: [{op, path, value | from}], as in RFC 6902."],
) -> Any:
    """Change a value by a JSON Patch (RFC 6902); all operations or none."""
    import jsonpatch
    from jsonpointer import JsonPointerException

    if len(operations) > MAX_OPERATIONS:
        raise unfit(f"operations: at most {MAX_OPERATIONS}")
    bounded(value)
    result = value
    for index, operation in enumerate(operations):
        try:
            result = jsonpatch.JsonPatch([operation]).apply(result, in_place=False)
        except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, KeyError, RecursionError) as error:
            raise unfit(f"operations[{index}]: {str(error)[:300]}") from None
        if operation.get("op") in ("copy", "add", "replace"):
            bounded(result, f"operations[{index}]: the result")
    return result


def merge(value: Value, changes: Annotated[Any, "Merge patch: null removes a field, as in RFC 7386."]) -> Any:
    """Merge changes into a value (RFC 7386); null removes a field."""
    bounded(value)
    return _merged(value, bounded(changes, "changes"))


def _merged(value: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    result = dict(value) if isinstance(value, dict) else {}
    for key, change in changes.items():
        if change is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), change)
    return result


def diff(before: Value, after: Value) -> dict[str, Any]:
    """Tell what differs between two values, as a list of changed paths with old and new value."""
    bounded(before, "before")
    bounded(after, "after")
    changes: list[dict[str, Any]] = []
    _compare(before, after, "", changes)
    result: dict[str, Any] = {"equal": not changes, "changes": changes[:_MAX_CHANGES]}
    if len(changes) > _MAX_CHANGES:
        result["truncated"] = f"the first {_MAX_CHANGES:,} of {len(changes):,} changes"
    return result


def _compare(before: Any, after: Any, path: str, changes: list[dict[str, Any]]) -> None:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                changes.append({"op": "remove", "path": inner, "old": before[key]})
            elif key not in before:
                changes.append({"op": "add", "path": inner, "new": after[key]})
            else:
                _compare(before[key], after[key], inner, changes)
    elif isinstance(before, list) and isinstance(after, list):
        for index, (old, new) in enumerate(zip(before, after, strict=False)):
            _compare(old, new, f"{path}/{index}", changes)
        changes += [{"op": "remove", "path": f"{path}/{i}", "old": before[i]} for i in range(len(after), len(before))]
        changes += [{"op": "add", "path": f"{path}/{i}", "new": after[i]} for i in range(len(before), len(after))]
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        changes.append({"op": "replace", "path": path, "old": before, "new": after})


def validate(value: Value, schema: Annotated[dict[str, Any], "JSON Schema (2020-12)."]) -> dict[str, Any]:
    """Check a value by a JSON Schema; tells what is wrong, with paths."""
    bounded(value)
    try:
        problems = JsonSchema(bounded(schema, "schema"), "schema").problems(value)
    except ValueError as error:
        raise unfit(str(error)) from None
    return {"valid": not problems, "problems": problems}


TOOLS = (
    Builtin("json.parse", parse),
    Builtin("json.format", format_value),
    Builtin("json.get", get),
    Builtin("json.query", query),
    Builtin("json.patch", patch),
    Builtin("json.merge", merge),
    Builtin("json.diff", diff),
    Builtin("json.validate", validate),
)
