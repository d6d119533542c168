"""Which rules about a change hold for certain where nothing has changed?

A rule that reads `oldSelf` counts also when an update leaves its part of the object as it was: a write to the status of
a Run would evaluate the long rule that its spec stays as it is. Of such a rule one can often tell beforehand that it holds then:
`self.a == oldSelf.a` does if there is an `a`, and so do `has(self.a) == has(oldSelf.a)`, `!has(self.a) || ...` and what `&&`
joins of them. Of any other nothing is said, and it is evaluated. Never looks at values, except whether they are there.

Read next: `kastra.schema.rules`, the user.
"""

from collections.abc import Iterable
from typing import Any

from kastra.cel.syntax import Call, Const, Ident, Node, Select

Path = tuple[str, ...]
"""Names of fields, from `self` on."""

_SIDES = ("self", "oldSelf")


def needed_to_hold(rule: Node) -> frozenset[Path] | None:
    """What must be there for a rule to hold where `self` and `oldSelf` are the same; None if nothing can be said."""
    match rule:
        case Const(True):
            return frozenset()
        case Call("_&&_", None, (left, right)):
            both = needed_to_hold(left), needed_to_hold(right)
            return None if both[0] is None or both[1] is None else both[0] | both[1]
        case Call("_||_", None, (left, right)):
            return _one_holds(left, right)
        case Call("_==_", None, (left, right)):
            return _needed(left) if _mirrored(left, right) else None
        case _:
            return None


def all_there(value: Any, paths: Iterable[Path]) -> bool:
    """Whether there is something at each of these paths."""
    return all(_there(value, path) for path in paths)


def _one_holds(left: Node, right: Node) -> frozenset[Path] | None:
    for guard, rest in ((left, right), (right, left)):
        match guard:
            case Call("!_", None, (Select(test=True) as has,)):
                tested, found = _path(has), needed_to_hold(rest)
                if tested is not None and found is not None:
                    # Where it isn't there the guard holds; `has` itself needs what it looks into.
                    return (found - {tested}) | _above(tested)
            case _:
                pass
    found = needed_to_hold(left)
    return needed_to_hold(right) if found is None else found


def _mirrored(left: Node, right: Node) -> bool:
    """Whether both read the same, one of the new value and one of the old."""
    match left, right:
        case Ident(one), Ident(other):
            return one in _SIDES and other in _SIDES
        case Select(one, field, test), Select(other, field_of_other, test_of_other):
            return field == field_of_other and test == test_of_other and _mirrored(one, other)
        case _:
            return False


def _needed(node: Node) -> frozenset[Path] | None:
    path = _path(node)
    if path is None:
        return None
    if isinstance(node, Select) and node.test:
        return _above(path)
    return frozenset((path,)) if path else frozenset()


def _path(node: Node) -> Path | None:
    names: list[str] = []
    while isinstance(node, Select):
        # Spelled otherwise than it is called in the object; rare, and not worth the look-up.
        if "__" in node.field:
            return None
        names.append(node.field)
        node = node.operand
    return tuple(reversed(names)) if isinstance(node, Ident) and node.name in _SIDES else None


def _above(path: Path) -> frozenset[Path]:
    return frozenset((path[:-1],)) if len(path) > 1 else frozenset()


def _there(value: Any, path: Path) -> bool:
    for name in path:
        if type(value) is not dict or name not in value:
            return False
        value = value[name]
    return True
