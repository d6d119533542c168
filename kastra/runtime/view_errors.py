"""What is wrong with an object, field by field: pydantic's errors and a kind's own findings as `Cause`s.

The constructors carry the names and texts of Kubernetes' `field.Error` (`Required value`, `Unsupported value: ...`), since
kubectl prints them and the command line turns their paths into file positions. Values are quoted only when they are
scalars, so that a whole mapping, which may hold a credential, never lands in a message.

Source: apimachinery/pkg/util/validation/field. Read next: `kastra.runtime.view_types`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from kastra.api.errors import DUPLICATE, FORBIDDEN, INVALID, NOT_SUPPORTED, REQUIRED, TYPE_INVALID, Cause
from kastra.api.names import closest
from kastra.schema.causes import show, type_name


def join(path: str, *parts: str | int) -> str:
    """A field path: names joined by dots, indices and keys that are no names in brackets."""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.replace("_", "a").replace("-", "a").isalnum():
            path += f".{part}" if path else part
        else:
            path += f"[{part}]"
    return path


def required(field: str, detail: str = "") -> Cause:
    """A value must be given."""
    return Cause(REQUIRED, f"Required value: {detail}" if detail else "Required value", field)


def invalid(value: Any, detail: str, field: str) -> Cause:
    """A value is wrong for the reason in `detail`."""
    return Cause(INVALID, f"Invalid value: {_quote(value)}: {detail}", field)


def forbidden(detail: str, field: str) -> Cause:
    """A value may not be given here."""
    return Cause(FORBIDDEN, f"Forbidden: {detail}", field)


def duplicate(value: Any, field: str) -> Cause:
    """A value that must be unique occurs twice."""
    return Cause(DUPLICATE, f"Duplicate value: {_quote(value)}", field)


def unsupported(value: Any, supported: Sequence[str], field: str) -> Cause:
    """A value is not one of a closed set."""
    listed = ", ".join(show(word) for word in supported)
    return Cause(NOT_SUPPORTED, f"Unsupported value: {_quote(value)}: supported values: {listed}", field)


def of_type(value: Any, wanted: str, field: str) -> Cause:
    """A value has another JSON type than `wanted`."""
    found = type_name(value)
    return Cause(TYPE_INVALID, f'Invalid value: "{found}": {field} in body must be of type {wanted}: "{found}"', field)


def unknown_field(key: str, known: Iterable[str], field: str) -> Cause:
    """A field that the enclosing object doesn't have. The schema of such an object is open, so the near miss is named here."""
    near = closest(key, known)
    return Cause(INVALID, 'unknown field "\0"' + (f'; did you mean "{near}"?' if near else ""), field)


def shape_error(cause: Cause) -> PydanticCustomError:
    """What a view's validator raises for a finding at or below the node being validated.

    Args:
        cause: the finding; its `field` is relative to that node, empty for the node itself.
    """
    context = {"reason": cause.reason, "detail": cause.message, "at": cause.field}
    return PydanticCustomError("shape", "{detail}", context)


def causes(error: ValidationError, path: str = "") -> list[Cause]:
    """Every finding of a view that could not be built, with paths as in the object.

    Args:
        error: what `View.of` raised.
        path: of the part that was validated, where that was not the whole object.
    """
    found: list[Cause] = []
    for detail in error.errors(include_url=False):
        inner = detail.get("ctx", {}).get("error")
        if isinstance(inner, ValidationError):
            # A validator read a part by itself: its findings lie below the place where it ran.
            found += causes(inner, join(path, *detail["loc"]))
        else:
            found.append(_cause(detail, path))
    return found


def _cause(detail: Any, path: str) -> Cause:
    field, kind, value, context = join(path, *detail["loc"]), detail["type"], detail.get("input"), detail.get("ctx", {})
    if kind == "shape":
        at = context["at"]
        field += at if at.startswith("[") or not at else f".{at}"
        return Cause(context["reason"], context["detail"].replace("\0", field), field)
    if kind == "missing":
        return required(field)
    if kind == "literal_error":
        return unsupported(value, _words(context["expected"]), field)
    if kind.endswith(("_type", "_parsing")) or kind == "int_from_float":
        return of_type(value, _TYPES.get(kind.partition("_")[0], "object"), field)
    if kind == "value_error":
        return invalid(value, str(context["error"]), field)
    message = str(detail["msg"])
    return invalid(value, message.removeprefix("Input ").replace("should", "must"), field)


_TYPES = {
    "string": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
    "model": "object",
    "mapping": "object",
}


def _words(expected: str) -> list[str]:
    """Pydantic's `'a', 'b' or 'c'` as a list."""
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]


def _quote(value: Any) -> str:
    return show(type_name(value) if isinstance(value, dict | list | tuple) else value)
