"""What does a compiled expression look like? The CEL library's serialized form, read into a small tree.

The library gives no access to its syntax tree, but it serializes programs as the public `cel.expr.CheckedExpr` message,
macros already expanded. This reads the few fields that the cost estimate and the narrowing of inputs need. It never
evaluates anything.

Source: google/api/expr syntax.proto and checked.proto. Read next: `kastra.cel.cost`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Const:
    """A literal; `value` is a Python scalar, bytes included."""

    value: Any


@dataclass(frozen=True, slots=True)
class Ident:
    """A variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, or `has(operand.field)` when `test` is set."""

    operand: "Node"
    field: str
    test: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator (`_+_`); a method has a target."""

    function: str
    target: "Node | None"
    args: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list literal, or a map literal as its keys and values in turn."""

    elements: "tuple[Node, ...]"
    length: int


@dataclass(frozen=True, slots=True)
class Comprehension:
    """What `all`, `map`, `filter`, ... and `cel.bind` expand to."""

    variables: tuple[str, ...]
    range: "Node"
    accumulator: str
    init: "Node"
    condition: "Node"
    step: "Node"
    result: "Node"


Node = Const | Ident | Select | Call | Sequence | Comprehension


def decode(serialized: bytes) -> Node:
    """The tree of `Expression.serialize()`.

    Raises:
        ValueError: the bytes are no such message.
    """
    message = _message(serialized)
    url = bytes(message.get(1, [b""])[0])
    if not url.endswith(b"CheckedExpr"):
        raise ValueError(f"not a checked expression: {url!r}")
    return _node(_one(_message(_one(message, 2)), 4))


def walk(node: Node) -> Iterator[Node]:
    """Every node of the tree, parents first."""
    stack: list[Node] = [node]
    while stack:
        node = stack.pop()
        yield node
        match node:
            case Select(operand):
                stack.append(operand)
            case Call(_, target, args):
                stack.extend(args)
                if target is not None:
                    stack.append(target)
            case Sequence(elements):
                stack.extend(elements)
            case Comprehension():
                stack.extend((node.range, node.init, node.condition, node.step, node.result))
            case _:
                pass


_Fields = dict[int, list[Any]]


def _message(data: bytes | memoryview) -> _Fields:
    """Protobuf wire format: by field number, the values in order."""
    view, position, end = memoryview(data), 0, len(data)
    fields: _Fields = {}
    while position < end:
        tag, position = _varint(view, position)
        wire = tag & 7
        value: Any
        if wire == 0:
            value, position = _varint(view, position)
        elif wire == 1:
            value, position = view[position : position + 8], position + 8
        elif wire == 2:
            length, position = _varint(view, position)
            value, position = view[position : position + length], position + length
        elif wire == 5:
            value, position = view[position : position + 4], position + 4
        else:
            raise ValueError(f"unknown wire type {wire}")
        if position > end:
            raise ValueError("the message is cut short")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(view) or shift > 63:
            raise ValueError("the message is cut short")
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7


def _one(fields: _Fields, number: int) -> memoryview:
    value: memoryview = fields[number][0] if number in fields else memoryview(b"")
    return value


def _text(fields: _Fields, number: int) -> str:
    return str(_one(fields, number), "utf-8")


def _node(data: memoryview) -> Node:
    fields = _message(data)
    if 4 in fields:
        return Ident(_text(_message(_one(fields, 4)), 1))
    if 5 in fields:
        select = _message(_one(fields, 5))
        return Select(_node(_one(select, 1)), _text(select, 2), bool(select.get(3, [0])[0]))
    if 6 in fields:
        call = _message(_one(fields, 6))
        target = _node(_one(call, 1)) if 1 in call else None
        return Call(_text(call, 2), target, tuple(_node(arg) for arg in call.get(3, ())))
    if 7 in fields:
        elements = _message(_one(fields, 7)).get(1, ())
        return Sequence(tuple(_node(element) for element in elements), len(elements))
    if 8 in fields:
        entries = [_message(entry) for entry in _message(_one(fields, 8)).get(2, ())]
        nodes = [_node(_one(entry, number)) for entry in entries for number in (3, 4) if number in entry]
        return Sequence(tuple(nodes), len(entries))
    if 9 in fields:
        loop = _message(_one(fields, 9))
        variables = tuple(_text(loop, number) for number in (1, 8) if number in loop)
        parts = [_node(_one(loop, number)) for number in (2, 4, 5, 6, 7)]
        return Comprehension(variables, parts[0], _text(loop, 3), *parts[1:])
    return Const(_constant(_message(_one(fields, 3))))


def _constant(fields: _Fields) -> Any:
    for number, raw in fields.items():
        value = raw[0]
        if number == 2:
            return bool(value)
        if number == 3:
            return value - (1 << 64) if value >> 63 else value
        if number == 4:
            return value
        if number == 5:
            return struct.unpack("<d", value)[0]
        if number == 6:
            return str(value, "utf-8")
        if number == 7:
            return bytes(value)
    return None
