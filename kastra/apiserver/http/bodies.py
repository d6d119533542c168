"""Request bodies: JSON, YAML and protobuf to plain objects, with what decoding found odd.

No content type means JSON, as many clients send it. An object without apiVersion and kind is of the kind that the URL names.
Duplicate keys are looked for only where the caller wants to know of them, because that costs ten times as much as parsing.

Source: apiserver/pkg/endpoints/handlers (create.go, patch.go). Read next: `kastra.api.strict`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from kastra.api.errors import BadRequest, Cause, UnsupportedMediaType, invalid
from kastra.api.scheme import Resource
from kastra.api.strict import decode, find_duplicate_keys, surely_without_duplicates
from kastra.apiserver.call import Call
from kastra.apiserver.registry import APPLY_PATCH
from kastra.client.interface import FieldValidation, PatchType, WriteOptions
from kastra.manifest.decode import DecodeError, DuplicateKey
from kastra.manifest.decode import decode as decode_yaml

from .message import Request
from .protobuf import CONTENT_TYPE as PROTOBUF
from .protobuf import decode_body

_JSON_TYPES = frozenset({"", "application/json", "*/*"})
_YAML = "application/yaml"
_VALIDATIONS: dict[str, FieldValidation] = {"": "Warn", "Strict": "Strict", "Warn": "Warn", "Ignore": "Ignore"}
_LONGEST_MANAGER = 128
# Clients write in the same few ways again and again.
_options = lru_cache(maxsize=256)(WriteOptions)


def unsupported(*accepted: str) -> UnsupportedMediaType:
    """415 with the types that are accepted."""
    return UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    )


def write_call(request: Request, options_kind: str, *, applying: bool = False) -> Call:
    """Who is calling, and how they want it done, from the query.

    Args:
        options_kind: under whose name mistakes are reported: `CreateOptions`, say.
        applying: server-side apply, for which the manager must be named.

    Raises:
        Invalid: a parameter has a value that doesn't exist.
    """
    query = request.query
    causes = []
    dry_run = query.get("dryRun", "")
    if dry_run not in {"", "All"}:
        causes.append(
            Cause("FieldValueNotSupported", f'Unsupported value: "{dry_run[:64]}": supported values: "All"', "dryRun")
        )
    asked = query.get("fieldValidation", "")
    validation = _VALIDATIONS.get(asked)
    if validation is None:
        why = f'Unsupported value: "{asked[:64]}": supported values: "", "Ignore", "Warn", "Strict"'
        causes.append(Cause("FieldValueNotSupported", why, "fieldValidation"))
        validation = "Warn"
    manager = query.get("fieldManager", "")
    if len(manager) > _LONGEST_MANAGER:
        causes.append(Cause("FieldValueTooLong", "Too long: may not be more than 128 bytes", "fieldManager"))
    elif not manager.isprintable():
        causes.append(
            Cause("FieldValueInvalid", "Invalid value: should only contain printable characters", "fieldManager")
        )
    if causes:
        raise invalid(options_kind, "meta.k8s.io", "", causes)
    if not manager and not applying:
        manager = request.header(b"user-agent").partition("/")[0][:_LONGEST_MANAGER]
        manager = manager if manager.isprintable() else ""
    call = Call(request.user, _options(dry_run == "All", manager, validation))
    request.warnings, request.annotations = call.warnings, call.annotations
    return call


async def read_object(request: Request, resource: Resource, call: Call, *, scale: bool = False) -> dict[str, Any]:
    """The object in a body; duplicate keys are noted in `call`.

    Raises:
        BadRequest: the body is empty, malformed or no object.
        UnsupportedMediaType: it is neither JSON nor YAML nor protobuf.
    """
    raw = await request.body()
    media_type = request.media_type
    if media_type in _JSON_TYPES:
        value: Any = _json(raw, call)
    elif media_type == _YAML:
        value = _yaml(raw)
    elif media_type == PROTOBUF:
        value = decode_body(raw)
    else:
        raise unsupported("application/json", _YAML, PROTOBUF)
    obj = _checked(value, resource)
    if not scale and not obj.get("apiVersion") and not obj.get("kind"):
        obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind
    return obj


async def read_patch(request: Request, resource: Resource, call: Call) -> tuple[Any, PatchType]:
    """The patch in a body, and of which type it is.

    Raises:
        BadRequest: it is malformed.
        UnsupportedMediaType: its type doesn't exist, or not for this resource.
    """
    try:
        patch_type = PatchType(request.media_type)
    except ValueError:
        raise _unsupported_patch(resource) from None
    if patch_type == PatchType.STRATEGIC and not resource.builtin:
        raise _unsupported_patch(resource)
    value = _json(await request.body(), call)
    if patch_type != PatchType.JSON and not isinstance(value, dict):
        raise BadRequest(f"the body of a {patch_type} request must be an object, not {_name(value)}")
    if patch_type == PatchType.JSON and not isinstance(value, list):
        raise BadRequest(f"the body of a {patch_type} request must be a list of operations, not {_name(value)}")
    return value, patch_type


async def read_applied(request: Request, resource: Resource, call: Call) -> dict[str, Any]:
    """The object in a server-side apply: YAML, which JSON is too. Raises BadRequest."""
    raw = await request.body()
    value = _json(raw, call) if raw.lstrip()[:1] == b"{" else _yaml(raw)
    obj = _checked(value, resource)
    for key, wanted in (("apiVersion", resource.api_version), ("kind", resource.kind)):
        if not obj.get(key):
            obj[key] = wanted
    return obj


async def read_options(request: Request) -> dict[str, Any]:
    """DeleteOptions: often nothing. Raises BadRequest, UnsupportedMediaType."""
    raw = await request.body()
    if not raw.strip():
        return {}
    media_type = request.media_type
    if media_type == PROTOBUF:
        value: Any = decode_body(raw, "DeleteOptions")
    elif media_type in _JSON_TYPES:
        value = decode(raw)
    elif media_type == _YAML:
        value = _yaml(raw)
    else:
        raise unsupported("application/json", _YAML, PROTOBUF)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"DeleteOptions must be an object, not {_name(value)}")
    if value.get("kind") not in (None, "", "DeleteOptions"):
        raise BadRequest(f"the body of a delete request must be DeleteOptions, not {str(value['kind'])[:64]}")
    return value


async def read_json(request: Request) -> dict[str, Any] | None:
    """The body of an action below an object; None without one. Raises BadRequest, UnsupportedMediaType."""
    raw = await request.body()
    if not raw.strip():
        return None
    if request.media_type not in _JSON_TYPES:
        raise unsupported("application/json")
    value = decode(raw)
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be an object, not {_name(value)}")
    return value


def patch_types(resource: Resource) -> Sequence[str]:
    """Content types of PATCH that a resource takes."""
    types = [str(PatchType.JSON), str(PatchType.MERGE)]
    if resource.builtin:
        types.append(str(PatchType.STRATEGIC))
    return [*types, APPLY_PATCH]


def _unsupported_patch(resource: Resource) -> UnsupportedMediaType:
    return unsupported(*patch_types(resource))


def _json(raw: bytes, call: Call) -> Any:
    if not raw:
        raise BadRequest("the body is empty; it must be a JSON document")
    value = decode(raw)
    if call.options.field_validation != "Ignore" and not surely_without_duplicates(raw, value):
        call.decoding_errors = [f'duplicate field "{path}"' for path in find_duplicate_keys(raw)]
    return value


def _yaml(raw: bytes) -> Any:
    try:
        documents = decode_yaml(raw)
    except DuplicateKey as error:
        # In the words of the YAML decoder of Kubernetes, which clients look for.
        why = f'yaml: line {error.line}: key "{error.key}" already set in map (first on line {error.first})'
        raise BadRequest(f"error decoding YAML: {why}") from None
    except DecodeError as error:
        raise BadRequest(f"yaml: line {error.line}: {error.message}") from None
    if len(documents) != 1:
        raise BadRequest(f"the body must be one document, not {len(documents)}")
    return documents[0].value


def _checked(value: Any, resource: Resource) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be an object of kind {resource.kind}, not {_name(value)}")
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key) or "", str):
            raise BadRequest(f"{key} must be a string, not {_name(value[key])}")
    if resource.builtin:
        return _without_nulls(value)
    return value


def _without_nulls(obj: dict[str, Any]) -> dict[str, Any]:
    """Typed clients send null for what isn't set."""
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in obj.items()
        if value is not None
    }


def _name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
