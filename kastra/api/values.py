"""JSON values as Python holds them: how to copy, compare and measure them.

Python's own `==` says that `1 == True`, and `copy.deepcopy` is slow because it expects anything; API objects are only dicts,
lists, strings, numbers, booleans and None. Nothing here looks at what a value means.

Read next: `kastra.api.patch`, which changes values.
"""

from typing import Any


def copy(value: Any) -> Any:
    """`value` with every dict and list new, so that changing the result changes nothing else."""
    kind = type(value)
    if kind is dict:
        # Most values are scalars: a call for each would double the time.
        return {k: copy(v) if type(v) is dict or type(v) is list else v for k, v in value.items()}
    if kind is list:
        return [copy(v) if type(v) is dict or type(v) is list else v for v in value]
    return value


def equal(a: Any, b: Any) -> bool:
    """Whether `a` and `b` are the same JSON value: like `==`, except that true is not 1. The order of keys is no difference."""
    return a is b or (a == b and _same_booleans(a, b))


def _same_booleans(a: Any, b: Any) -> bool:
    # Only called for equal values, so shapes agree.
    if a is b:
        return True
    kind = type(a)
    if kind is dict:
        for key, value in a.items():
            inner = type(value)
            if inner is not str and not _same_booleans(value, b[key]):
                return False
        return True
    if kind is list:
        return all(_same_booleans(x, y) for x, y in zip(a, b, strict=True))
    return (kind is bool) == (type(b) is bool)


def deeper_than(value: Any, limit: int) -> bool:
    """Whether dicts and lists are nested in `value` more than `limit` levels; a scalar has none. Looks no deeper than that."""
    level = [value] if type(value) is dict or type(value) is list else []
    while level and limit > 0:
        limit -= 1
        # A whole level at a time: a call for each value would take several times as long.
        below: list[Any] = []
        for container in level:
            inner = container.values() if type(container) is dict else container
            below += [item for item in inner if type(item) is dict or type(item) is list]
        level = below
    return bool(level)
