"""PATCH bodies: JSON merge patch (RFC 7386) and JSON patch (RFC 6902), with limits.

Both return a new value and never change their inputs, also not on error. A JSON patch's shares nothing with them; a merge
patch's has the parts of the object that the patch doesn't name as they are, so that nobody need compare what can't differ. A patch that is
malformed is BadRequest; one that is fine and can't be applied to this object (a failed `test`, a path that isn't there) is
Invalid. Neither validates the result: admission does.

RFC 6902 is the `jsonpatch` library's, fed one operation at a time so that copies can be bounded. Read next:
`kastra.api.strategic`, the third kind of patch.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from .errors import BadRequest, Invalid, RequestEntityTooLarge
from .strict import MAX_DEPTH
from .values import copy, deeper_than, equal

MAX_OPERATIONS = 10_000
"""Operations in a JSON patch, as in Kubernetes."""
MAX_COPIED_BYTES = 3 * 1024 * 1024
"""JSON that the `copy` operations of one patch may add, as in Kubernetes; copies of copies double otherwise."""

_NEEDS = {
    "add": ("value",), "remove": (), "replace": ("value",), "move": ("from",), "copy": ("from",), "test": ("value",)
}  # fmt: skip


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` changed as the merge patch says: maps merge, null deletes, all else replaces (RFC 7386).

    What the patch doesn't name is shared with `target`; nothing is shared with `patch`.
    """
    if not isinstance(patch, dict):
        return copy(patch)
    out: dict[str, Any] = {**target} if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict):
            out[key] = merge_patch(out.get(key), value)
        else:
            out[key] = copy(value) if isinstance(value, list) else value
    return out


def apply_merge_patch(obj: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    """An object changed by a merge patch; it shares with `obj` what the patch doesn't name.

    Raises:
        BadRequest: the patch isn't a map, or it is nested too deeply.
    """
    if not isinstance(patch, dict):
        raise BadRequest(f"a merge patch must be an object, not {_name(patch)}")
    _check_depth(patch)
    merged: dict[str, Any] = merge_patch(obj, patch)
    return merged


def create_merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest merge patch that makes `new` of `old`; empty when they are equal.

    A null in `new` can't be expressed and counts as absent.
    """
    patch: dict[str, Any] = {}
    for key, value in old.items():
        wanted = new.get(key)
        if wanted is None:
            patch[key] = None
        elif isinstance(value, dict) and isinstance(wanted, dict):
            if inner := create_merge_patch(value, wanted):
                patch[key] = inner
        elif not equal(value, wanted):
            patch[key] = merge_patch(None, wanted)
    for key, value in new.items():
        if key not in old and value is not None:
            patch[key] = merge_patch(None, value)
    return patch


def apply_json_patch(obj: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    """An object changed by a JSON patch; all of its operations, or none.

    Raises:
        BadRequest: the patch isn't a list of operations, or is nested too deeply.
        RequestEntityTooLarge: it has too many operations.
        Invalid: an operation can't be applied, or the result isn't an object or too large.
    """
    operations = _operations(patch)
    # Imported here: the library costs 10 ms, and most processes never see a JSON patch.
    import jsonpatch
    import jsonpointer

    document: Any = copy(obj)
    copied = 0
    for index, operation in enumerate(operations):
        try:
            step = jsonpatch.JsonPatch([operation])
            if operation["op"] == "copy":
                copied += len(orjson.dumps(jsonpointer.resolve_pointer(document, operation["from"])))
                if copied > MAX_COPIED_BYTES:
                    raise Invalid(f"the copy operations of this patch add more than {MAX_COPIED_BYTES} bytes")
            document = step.apply(document, in_place=True)
        except jsonpatch.JsonPatchTestFailed:
            raise Invalid(f"{_say(index, operation)}: the value there is not the one to test for") from None
        except jsonpointer.JsonPointerException:
            # Its message quotes the document, which may hold secrets.
            raise Invalid(f"{_say(index, operation)}: there is nothing at this path") from None
        except jsonpatch.JsonPatchException as error:
            raise Invalid(f"{_say(index, operation)}: {error}") from None
        except (TypeError, RecursionError):
            # Wrong types in the middle of a path, and nesting beyond what can be walked or encoded.
            raise Invalid(f"{_say(index, operation)}: the path doesn't lead to a value that can be changed") from None
    if not isinstance(document, dict):
        raise Invalid(f"the patch makes the object {_name(document)}")
    if deeper_than(document, MAX_DEPTH):
        raise Invalid(f"the patch makes an object that is nested more than {MAX_DEPTH} levels deep")
    return document


def _operations(patch: Any) -> list[dict[str, Any]]:
    if not isinstance(patch, list):
        raise BadRequest(f"a JSON patch must be a list of operations, not {_name(patch)}")
    if len(patch) > MAX_OPERATIONS:
        raise RequestEntityTooLarge(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}"
        )
    for index, operation in enumerate(patch):
        where = f"JSON patch operation {index}"
        if not isinstance(operation, dict):
            raise BadRequest(f"{where} must be an object, not {_name(operation)}")
        needs = _NEEDS.get(operation["op"]) if isinstance(operation.get("op"), str) else None
        if needs is None:
            raise BadRequest(f"{where}: op must be one of {', '.join(_NEEDS)}")
        for member in ("path", *needs):
            if member not in operation:
                raise BadRequest(f'{where} ({operation["op"]}): "{member}" is missing')
        for member in ("path", *(needs if "from" in needs else ())):
            if not _is_pointer(operation[member]):
                raise BadRequest(
                    f'{where} ({operation["op"]}): "{member}" must be a JSON pointer such as /spec/replicas'
                )
    _check_depth(patch, MAX_DEPTH + 2)
    return patch


def _is_pointer(text: Any) -> bool:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        return False
    return "~" not in text.replace("~0", "").replace("~1", "")


def _check_depth(patch: Any, limit: int = MAX_DEPTH) -> None:
    if deeper_than(patch, limit):
        raise BadRequest(f"the patch is nested more than {MAX_DEPTH} levels deep")


def _say(index: int, operation: Mapping[str, Any]) -> str:
    return f"JSON patch operation {index} ({operation['op']} {operation['path'] or 'the whole object'})"


def _name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
