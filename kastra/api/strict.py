"""Reading JSON from strangers: nesting is bounded before anything is parsed, and duplicate keys can be found.

`decode` is what every JSON body and patch goes through. `find_duplicate_keys` costs ten times as much, because only the
standard library's parser shows duplicates; it is for requests that ask for strict or warning field validation.

Source: apiserver's strict decoding (`sigs.k8s.io/json`); the limit is ours. Read next: `kastra.api.patch`.
"""

import json
import re
from collections import Counter
from typing import Any

import orjson

from .errors import BadRequest

MAX_DEPTH = 64
"""Levels of dicts and lists in a document."""

# Possessive, and with an alternative for the end of the text, so that it takes linear time on any input.
_STRING = re.compile(rb'"(?>[^"\\]+|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_SPACED = re.compile(rb'"[ \t\r\n]+:')
_BRACKETS = bytes.maketrans(b"[]", b"{}")
_OTHERS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def decode(raw: bytes, limit: int = MAX_DEPTH) -> Any:
    """The value of a JSON text.

    Raises:
        BadRequest: it isn't JSON (NaN and Infinity are not), or it is nested more than `limit` levels.
    """
    check_depth(raw, limit)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"json parse error: {error}") from None


def check_depth(raw: bytes, limit: int = MAX_DEPTH) -> None:
    """Refuse a JSON text that is nested too deeply, without parsing it. Malformed text passes; the parser refuses that.

    Raises:
        BadRequest: it is nested more than `limit` levels.
    """
    if raw.count(b"{") + raw.count(b"[") <= limit:
        return
    # Only brackets are left, all of one kind: each round takes away the innermost pairs, so one level.
    nest = _STRING.sub(b"", raw).translate(_BRACKETS, _OTHERS)
    rest = nest
    for _ in range(limit):
        rest = rest.replace(b"{}", b"")
        if not rest:
            return
    # Too deep, or brackets that don't pair: only now look at each.
    depth = 0
    for bracket in nest:
        depth += 1 if bracket == 0x7B else -1
        if depth > limit:
            raise BadRequest(f"the document is nested more than {limit} levels deep")


class _Duplicates(dict[str, Any]):
    """An object whose text named some keys more than once."""

    repeated: tuple[str, ...] = ()


def surely_without_duplicates(raw: bytes, value: Any) -> bool:
    """Whether `raw`, which is the text of `value`, can have no duplicate keys; False if it takes a closer look.

    What most clients send is compact, so the value written again is the same text. Otherwise: each key of the text ends with
    `":`, unless there is white space between these. So if there is no such white space, a text that has no more of them than
    its value has keys has each key once.
    """
    return orjson.dumps(value) == raw or (_SPACED.search(raw) is None and raw.count(b'":') == _keys(value))


def _keys(value: Any) -> int:
    if value.__class__ is dict:
        return len(value) + sum(
            _keys(item) for item in value.values() if item.__class__ is dict or item.__class__ is list
        )
    if value.__class__ is list:
        return sum(_keys(item) for item in value if item.__class__ is dict or item.__class__ is list)
    return 0


def find_duplicate_keys(raw: bytes) -> list[str]:
    """The paths of keys that stand twice in one object, such as `spec.steps[0].agent`, in order of appearance.

    `raw` must be JSON that `decode` accepts. Inside a value that a later duplicate replaced nothing is found.

    Raises:
        BadRequest: it is not JSON.
    """
    seen = False

    def hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal seen
        parsed = dict(pairs)
        if len(parsed) == len(pairs):
            return parsed
        seen = True
        times = Counter(key for key, _ in pairs)
        marked = _Duplicates(parsed)
        marked.repeated = tuple(key for key, count in times.items() if count > 1)
        return marked

    def constant(name: str) -> Any:
        raise BadRequest(f"json parse error: {name} is not a JSON value")

    try:
        value = json.loads(raw, object_pairs_hook=hook, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"json parse error: {error}") from None
    found: list[str] = []
    if seen:
        _collect(value, "", found)
    return found


def _collect(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, dict):
        prefix = path + "." if path else ""
        if isinstance(value, _Duplicates):
            found.extend(prefix + key for key in value.repeated)
        for key, item in value.items():
            _collect(item, prefix + key, found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _collect(item, f"{path}[{index}]", found)
