"""Strategic merge patch: a merge patch that knows which lists are keyed. For Kubernetes' own kinds only.

Lists in `MERGE_KEYS` merge item by item or, where the key is None, as sets of scalars; all others are replaced. Directives:
`$patch: replace|merge|delete` in a map or item, `$retainKeys`, `$deleteFromPrimitiveList/field` and `$setElementOrder/field`
beside a field. The inputs are never changed, and the result shares nothing with them.

Source: apimachinery's util/strategicpatch. Read next: `kastra.api.managedfields`, which does better for all kinds.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import orjson

from .errors import BadRequest, Invalid
from .strict import MAX_DEPTH
from .values import copy, deeper_than, equal

MERGE_KEYS: Mapping[tuple[str, ...], str | None] = {
    ("metadata", "ownerReferences"): "uid",
    ("metadata", "finalizers"): None,
    ("status", "conditions"): "type",
    ("secrets",): "name",
    ("imagePullSecrets",): "name",
}
"""By path, the field that tells the items of a list apart; None for lists of scalars."""

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"

_Path = tuple[str, ...]


def apply_strategic_merge_patch(obj: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    """An object of a built-in kind changed by a strategic merge patch.

    Raises:
        BadRequest: the patch or a directive in it is malformed, or it is nested too deeply.
        Invalid: an item of a keyed list lacks the key.
    """
    if not isinstance(patch, dict):
        raise BadRequest("a strategic merge patch must be an object")
    if deeper_than(patch, MAX_DEPTH):
        raise BadRequest(f"the patch is nested more than {MAX_DEPTH} levels deep")
    return _merge_map(obj, patch, ())


def _merge_map(old: Mapping[str, Any], patch: Mapping[str, Any], path: _Path) -> dict[str, Any]:
    directive = patch.get(_PATCH)
    if directive == "delete":
        return {}
    if directive not in (None, "merge", "replace"):
        raise BadRequest(f"{_say(path)}: unknown $patch directive {directive!r}; use replace, merge or delete")
    out: dict[str, Any] = {} if directive == "replace" else copy(dict(old))
    if _RETAIN in patch:
        retained = _list(patch[_RETAIN], path, _RETAIN)
        out = {key: value for key, value in out.items() if key in retained}
    for key, value in patch.items():
        if key.startswith(_DELETE):
            name = key.removeprefix(_DELETE)
            gone = _list(value, path, key)
            if isinstance(out.get(name), list):
                out[name] = [item for item in out[name] if not any(equal(item, other) for other in gone)]
    for key, value in patch.items():
        here = (*path, key)
        if key in (_PATCH, _RETAIN) or key.startswith((_DELETE, _ORDER)):
            continue
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict):
            before = out.get(key)
            out[key] = _merge_map(before if isinstance(before, dict) else {}, value, here)
        elif isinstance(value, list) and here in MERGE_KEYS:
            before = out.get(key)
            out[key] = _merge_list(before if isinstance(before, list) else [], value, here)
        else:
            out[key] = copy(value)
    for key, value in patch.items():
        name = key.removeprefix(_ORDER)
        if name != key and isinstance(out.get(name), list):
            live = old.get(name)
            order = _list(value, path, key)
            out[name] = _ordered(out[name], live if isinstance(live, list) else [], order, _identity((*path, name)))
    return out


def _merge_list(old: list[Any], patch: list[Any], path: _Path) -> list[Any]:
    key = MERGE_KEYS[path]
    if key is None:
        out: list[Any] = copy(old)
        for item in patch:
            if isinstance(item, dict | list):
                raise BadRequest(f"{_say(path)}: items must be scalars")
            if not any(equal(item, other) for other in out):
                out.append(item)
        return out
    for item in patch:
        if not isinstance(item, dict):
            raise BadRequest(f"{_say(path)}: items must be objects")
    if any(item.get(_PATCH) == "replace" for item in patch):
        return [_merge_map({}, item, path) for item in patch if set(item) != {_PATCH}]
    out = list(copy(old))
    for item in patch:
        if key not in item:
            raise Invalid(f"{_say(path)}: item does not contain declared merge key: {key}")
        at = next((i for i, o in enumerate(out) if isinstance(o, dict) and equal(o.get(key), item[key])), None)
        if item.get(_PATCH) == "delete":
            if at is not None:
                del out[at]
        elif at is None:
            out.append(_merge_map({}, item, path))
        else:
            out[at] = _merge_map(out[at], item, path)
    return out


def _identity(path: _Path) -> Callable[[Any], Hashable]:
    """What tells items of the list at `path` apart."""
    key = MERGE_KEYS.get(path)

    def identify(item: Any) -> Hashable:
        if key is not None and isinstance(item, dict):
            item = item.get(key)
        return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)

    return identify


def _ordered(merged: list[Any], live: list[Any], order: list[Any], identify: Callable[[Any], Hashable]) -> list[Any]:
    """`merged` in the order that the client asks for; items it doesn't know stay before those they preceded in `live`."""
    wanted = {identify(item): at for at, item in reversed(list(enumerate(order)))}
    before = {identify(item): at for at, item in reversed(list(enumerate(live)))}
    known = sorted((i for i in merged if identify(i) in wanted), key=lambda item: wanted[identify(item)])
    out: list[Any] = []
    rest = [item for item in merged if identify(item) not in wanted]
    last = len(live)
    for item in known:
        place = before.get(identify(item), -1)
        while rest and before.get(identify(rest[0]), last) < place:
            out.append(rest.pop(0))
        out.append(item)
    return out + rest


def _list(value: Any, path: _Path, directive: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest(f"{_say(path)}: {directive} must be a list")
    return value


def _say(path: _Path) -> str:
    return ".".join(path) or "the patch"
