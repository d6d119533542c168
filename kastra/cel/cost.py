"""What may an expression cost? An upper bound, from the sizes of its inputs, before it runs.

The CEL library stops after 10,000 loop iterations but can't be stopped inside one: doubling a string thirty times takes a
line and all memory. So every program is bounded here first. The estimate walks the tree with sizes in place of values;
it is conservative, and needs no evaluation. Two sets of weights exist: nanoseconds-like ones for the run-time budget, and
Kubernetes' cost units for the rules of a CustomResourceDefinition.

A loop over a list of unknown shape is bounded by giving one element everything and all others nothing. That is exact for
costs that are linear in the element, and an upper bound for steeper ones.

Source: cel-go's checker/cost.go, Kubernetes' cel/library/cost.go. Read next: `kastra.cel.environment`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .syntax import Call, Comprehension, Const, Ident, Node, Select, Sequence

LOOP_DEPTH = 5
"""Loops within loops within ...: more are refused."""


class UndefinedField(Exception):
    """An expression reads a field that its type doesn't have; the argument is the field's name."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a value can be.

    Args:
        items: direct elements, if it is a list or a map.
        nodes: values in it, itself included.
        chars: characters in all its texts.
    """

    items: float
    nodes: float
    chars: float

    def field(self, name: str) -> "Size":
        """The size of a field, which here is bounded by the whole.

        Raises:
            UndefinedField: the type is known and has no such field.
        """
        return self

    def index(self) -> "Size":
        """The size of an element reached by index or key."""
        return self

    def each(self) -> "Size | None":
        """The size of every iterated element, or None when only the sum over all is known."""
        return None


ONE = Size(0, 1, 0)


@dataclass(frozen=True, slots=True)
class Weights:
    """What things cost, in one unit; and how many iterations a loop can have at most.

    Args:
        node: evaluating an operator, or visiting a value.
        read: comparing or searching a character.
        write: making a character of a new text.
        regex: matching a character.
        pattern: compiling a regular expression that isn't a constant.
        foreign: calling a function of ours.
        found: one match of `findAll`.
        copy: growing the result of `map` or `filter` by an item, per item it has: the library copies the list.
        iterations: of a loop, at most.
    """

    node: float
    read: float
    write: float
    regex: float
    pattern: float
    foreign: float
    found: float
    copy: float
    iterations: float


RUNTIME = Weights(
    node=1, read=0.01, write=0.5, regex=0.5, pattern=10_000, foreign=30, found=50, copy=0.15, iterations=10_000
)
"""One unit is about 0.1 microseconds."""
KUBERNETES = Weights(
    node=1, read=0.1, write=0.1, regex=0.1, pattern=1, foreign=1, found=1, copy=0, iterations=float("inf")
)
"""Kubernetes' own units, of which a rule may cost ten million."""

RUNTIME_BUDGET = 1_000_000.0
"""About 100 ms."""

_Cost = tuple[float, Size]
_Scope = Mapping[str, Size]


def measure(value: Any) -> Size:
    """The size of actual JSON-like data."""
    nodes = chars = items = 0
    stack = [value]
    while stack:
        value = stack.pop()
        nodes += 1
        if isinstance(value, (str, bytes)):
            chars += len(value)
        elif isinstance(value, Mapping):
            items = max(items, len(value))
            chars += sum(len(key) for key in value if isinstance(key, str))
            stack.extend(value.values())
        elif isinstance(value, (list, tuple)):
            items = max(items, len(value))
            stack.extend(value)
    return Size(items, nodes, chars)


def estimate(node: Node, scope: _Scope, weights: Weights) -> _Cost:
    """The most that evaluating may cost, and the most that the result may hold.

    Args:
        node: the expression.
        scope: its variables' sizes.
        weights: the unit.

    Raises:
        UndefinedField: a variable's type is known and lacks a field that is read.
        RecursionError: loops are nested more than `LOOP_DEPTH` deep.
    """
    return _Estimator(weights).visit(node, scope, 0)


def _sum(*sizes: Size) -> Size:
    return Size(sum(s.items for s in sizes), sum(s.nodes for s in sizes), sum(s.chars for s in sizes))


def _max(a: Size, b: Size) -> Size:
    return Size(max(a.items, b.items), max(a.nodes, b.nodes), max(a.chars, b.chars))


class _Estimator:
    __slots__ = ("_weights",)

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def visit(self, node: Node, scope: _Scope, depth: int) -> _Cost:
        weights = self._weights
        match node:
            case Const(value):
                return 0, Size(0, 1, len(value)) if isinstance(value, (str, bytes)) else ONE
            case Ident(name):
                # What macros keep count in costs nothing, as in Kubernetes.
                return 0 if name.startswith("@") else weights.node, scope.get(name, ONE)
            case Select(operand, field, test):
                cost, size = self.visit(operand, scope, depth)
                found = size.field(field)
                return cost + weights.node, ONE if test else found
            case Sequence(elements, length):
                costs = [self.visit(element, scope, depth) for element in elements]
                whole = _sum(*(size for _, size in costs))
                cost = sum(cost for cost, _ in costs) + weights.node
                return cost, Size(length, whole.nodes + 1, whole.chars)
            case Call(function, target, args):
                operands = (*((target,) if target is not None else ()), *args)
                parts = [self.visit(operand, scope, depth) for operand in operands]
                cost, size = self._call(function, operands, [size for _, size in parts])
                own = 0 if function in _FREE else weights.node
                return cost + sum(part for part, _ in parts) + own, size
            case Comprehension():
                return self._loop(node, scope, depth)

    def _call(self, function: str, operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
        rule = _FUNCTIONS.get(function)
        if rule is not None:
            return rule(self._weights, operands, sizes)
        # A function of ours or a member of an extension: linear in all it is given, and so is its result.
        whole = _sum(*sizes)
        weights = self._weights
        return weights.foreign + whole.nodes * weights.node * 4 + whole.chars * weights.write, whole

    def _loop(self, loop: Comprehension, scope: _Scope, depth: int) -> _Cost:
        cost, span = self.visit(loop.range, scope, depth)
        init_cost, init = self.visit(loop.init, scope, depth)
        cost += init_cost
        if isinstance(loop.range, Sequence) and not loop.range.elements:
            # cel.bind: no iteration, a variable.
            result, size = self.visit(loop.result, {**scope, loop.accumulator: init}, depth)
            return cost + result, size
        if depth >= LOOP_DEPTH:
            raise RecursionError
        count = min(span.items, self._weights.iterations)
        each = span.each()
        if each is not None:
            once, grown = self._step(loop, scope, each, init, depth)
            cost += count * once
            growth = Size(count * grown.items, count * grown.nodes, count * grown.chars)
        else:
            once, grown = self._step(loop, scope, Size(span.nodes, span.nodes, span.chars), init, depth)
            rest, least = self._step(loop, scope, ONE, init, depth)
            cost += once + count * rest
            growth = _sum(grown, Size(count * least.items, count * least.nodes, count * least.chars))
        if isinstance(loop.init, Sequence):
            cost += count * count * self._weights.copy
        total = ONE if isinstance(loop.init, Const) else _sum(init, growth)
        result, size = self.visit(loop.result, {**scope, loop.accumulator: total}, depth)
        return cost + result, size

    def _step(self, loop: Comprehension, scope: _Scope, element: Size, init: Size, depth: int) -> _Cost:
        inner = {**scope, **dict.fromkeys(loop.variables, element), loop.accumulator: init}
        condition, _ = self.visit(loop.condition, inner, depth + 1)
        step, size = self.visit(loop.step, inner, depth + 1)
        return condition + step, size


MATCHES = "_match_"
"""What `matches` is called once it is ours; see `kastra.cel.functions`."""
_FREE = frozenset({"_&&_", "_||_", "@not_strictly_false"})

_Rule = Callable[[Weights, tuple[Node, ...], list[Size]], _Cost]


def _cheap(_w: Weights, _operands: tuple[Node, ...], _sizes: list[Size]) -> _Cost:
    return 0, ONE


def _compare(w: Weights, operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    fixed = [size for operand, size in zip(operands, sizes, strict=True) if isinstance(operand, Const)]
    compared = fixed[0] if fixed else _sum(*sizes)
    return compared.nodes * w.node * 0.1 + compared.chars * w.read, ONE


def _contains(w: Weights, _operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    needle, haystack = sizes
    return haystack.items * w.node + needle.chars * w.read, ONE


def _add(w: Weights, _operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    whole = _sum(*sizes)
    return (whole.chars * w.read + whole.nodes * w.node * 0.1), whole


def _choose(_w: Weights, _operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    return 0, _max(sizes[1], sizes[2])


def _same(_w: Weights, _operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    return 0, sizes[-1]


def _either(_w: Weights, _operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    return 0, _max(sizes[0], sizes[-1])


def _index(_w: Weights, operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    key = operands[1]
    if isinstance(key, Const) and isinstance(key.value, str):
        return 0, sizes[0].field(key.value)
    return 0, sizes[0].index()


def _matches(w: Weights, operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    text, pattern = sizes[0], sizes[1]
    if w is KUBERNETES:
        return (1 + text.chars * w.regex) * max(1.0, pattern.chars * 0.25), ONE
    compiled = 0.0 if isinstance(operands[1], Const) else w.pattern + pattern.chars * 200
    return w.foreign + text.chars * w.regex + compiled, ONE


def _find(w: Weights, operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    cost, _ = _matches(w, operands, sizes)
    return cost, Size(0, 1, sizes[0].chars)


def _find_all(w: Weights, operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    cost, _ = _matches(w, operands, sizes)
    most = sizes[0].chars + 1
    return cost + most * w.found, Size(most, most + 1, sizes[0].chars)


def _scan(w: Weights, _operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    return _sum(*sizes).chars * w.read, ONE


def _rewrite(w: Weights, _operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    chars = sizes[0].chars * 2 + 40
    return chars * w.write * 0.1, Size(0, 1, chars)


def _replace(w: Weights, operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    old = operands[1].value if isinstance(operands[1], Const) else ""
    length = max(1, len(old)) if isinstance(old, str) else 1
    chars = sizes[0].chars * max(1.0, (sizes[2].chars + (0 if old else 1)) / length) + sizes[2].chars
    return chars * w.write, Size(0, 1, chars)


def _split(w: Weights, _operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    chars = sizes[0].chars
    return (chars + 1) * w.write, Size(chars + 1, chars + 2, chars)


def _join(w: Weights, _operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    separator = sizes[1].chars if len(sizes) > 1 else 0
    chars = sizes[0].chars + sizes[0].nodes * (separator + 1)
    return chars * w.write * 0.1, Size(0, 1, chars)


def _format(w: Weights, operands: tuple[Node, ...], sizes: list[Size]) -> _Cost:
    text = operands[0].value if isinstance(operands[0], Const) else None
    directives = text.count("%") if isinstance(text, str) else sizes[0].chars
    wide = 1100 if not isinstance(text, str) or "%." in text else 40
    chars = sizes[0].chars + directives * wide + sizes[1].chars * 2 + sizes[1].nodes * 40
    return chars * w.write, Size(0, 1, chars)


_FUNCTIONS: dict[str, _Rule] = {
    **dict.fromkeys(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"), _compare),
    **dict.fromkeys(("@in", "_in_"), _contains),
    **dict.fromkeys(("_[_]", "_[?_]", "_?._"), _index),
    **dict.fromkeys(("_&&_", "_||_", "!_", "@not_strictly_false", "__not_strictly_false__", "_-_", "_*_", "_/_", "_%_",
                     "-_", "type", "int", "uint", "double", "bool", "hasValue", "timestamp", "duration"), _cheap),
    **dict.fromkeys(("contains", "startsWith", "endsWith", "indexOf", "lastIndexOf", "size"), _scan),
    **dict.fromkeys(("lowerAscii", "upperAscii", "trim", "substring", "charAt", "reverse", "strings.quote", "string", "bytes",
                     "base64.encode", "base64.decode"), _rewrite),
    **dict.fromkeys(("dyn", "value", "of", "optional.of", "ofNonZeroValue", "optional.ofNonZeroValue"), _same),
    **dict.fromkeys(("or", "orValue"), _either),
    "_+_": _add,
    "_?_:_": _choose,
    **dict.fromkeys(("matches", MATCHES), _matches),
    "find": _find,
    "findAll": _find_all,
    "replace": _replace,
    "split": _split,
    "join": _join,
    "format": _format,
}  # fmt: skip
