r"""jq to CEL, where the two mean the same.

    .a.b            prev.?a.?b.orValue(null)       a missing field is null in jq
    .n + ["x"]      (n == null ? [] : n) + ["x"]   null adds nothing
    .age < 18       (age == null || age < 18)      null is less than every number and text
    .a // "b"       (a != null && a != false) ? a : "b"
    "\(.a)!"         string(a) + "!"

Where jq and CEL differ in the result, the expression is refused. Where CEL fails and jq would go on, with a null in the
middle of a path or whole numbers added to fractions, it stays: a failure is seen. Read next:
`kastra.migrate.serverless.place`, which says what `.` and `$x` are.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .jq import NotExact, Term, parse

_MAX_CEL = 4_000
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CEL_WORDS = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
     "loop", "package", "namespace", "return", "var", "void", "while"}
)  # fmt: skip
_TEXTS = {"startswith": "startsWith", "endswith": "endsWith"}
_PLAIN_TEXTS = {"ascii_downcase": "lowerAscii", "ascii_upcase": "upperAscii"}
_EMPTY = {"list": "[]", "text": '""', "number": "0"}
_ABOUT = ("workflow", "task", "runtime", "secrets")
_ERROR_FIELDS = {"status": "details.?status", "detail": "details.?detail"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What an expression sees.

    Args:
        dot: CEL for `.`.
        nothing: whether `.` may be null: at the beginning of a Run without input.
        names: CEL for `$x`, by name.
        errors: names of those that are errors, whose fields have other places in Kastra.
        depth: how many lists are gone through around it.
    """

    dot: str = "prev"
    nothing: bool = True
    names: Mapping[str, str] = field(default_factory=dict)
    errors: frozenset[str] = frozenset()
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Cel:
    """A piece of CEL.

    Args:
        kind: bool, number, text, list, map, null, or any where only a run tells.
        literal: it is written out, so that CEL knows its type before it runs.
    """

    text: str
    kind: str = "any"
    literal: bool = False


def to_cel(expression: str, seen: Seen) -> str:
    """CEL for a jq expression.

    Raises:
        NotExact: there is none.
    """
    return _whole(_term(parse(expression), seen)).text


def to_condition(expression: str, seen: Seen) -> str:
    """CEL that is true where jq's result counts as true: neither false nor null. Raises NotExact."""
    return _truth(_term(parse(expression), seen))


def field_of(base: str, name: str) -> str:
    """CEL for a field of `base` that is null where it is absent."""
    return f"{base}{_selector(name)}.orValue(null)"


def quoted(text: str) -> str:
    """A text as CEL writes it."""
    # Templates end at }}, also within a text.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f").replace("}}", "}\\u007d")


def _whole(found: Cel) -> Cel:
    if len(found.text) > _MAX_CEL:
        raise NotExact(f"becomes longer than {_MAX_CEL:,} characters")
    return found


def _selector(name: str) -> str:
    plain = _IDENTIFIER.fullmatch(name) and name not in _CEL_WORDS
    return f".?{name}" if plain else f"[?{quoted(name)}]"


def _term(term: Term, seen: Seen) -> Cel:
    return _whole(_FORMS[term.kind](term, seen))


def _dot(term: Term, seen: Seen) -> Cel:
    return Cel(seen.dot)


def _var(term: Term, seen: Seen) -> Cel:
    name = str(term.value)
    if name in seen.names:
        return Cel(seen.names[name])
    raise NotExact(f"needs ${name}, which doesn't exist here")


def _literal(term: Term, seen: Seen) -> Cel:
    value = term.value
    if value is None:
        return Cel("null", "null", True)
    if isinstance(value, bool):
        return Cel("true" if value else "false", "bool", True)
    if abs(value) >= 2**63:
        raise NotExact("holds a number that is too large")
    return Cel(repr(value), "number", True)


def _text(term: Term, seen: Seen) -> Cel:
    parts = []
    for part in term.parts:
        if isinstance(part, Term):
            inner = _term(part, seen)
            if inner.kind in ("list", "map", "null"):
                raise NotExact("puts a list, an object or null into a text")
            parts.append(inner.text if inner.kind == "text" else f"string({inner.text})")
        elif part:
            parts.append(quoted(part))
    if not parts:
        return Cel('""', "text", True)
    return Cel(
        parts[0] if len(parts) == 1 else f"({' + '.join(parts)})", "text", all(isinstance(p, str) for p in term.parts)
    )


def _path(term: Term, seen: Seen) -> tuple[str, str]:
    """The base of a chain of fields and literal indices, and the selectors behind it."""
    if term.kind == "field" and not _is_fact(term):
        base, rest = _path(term.parts[0], seen)
        return base, rest + _selector(str(term.value))
    if term.kind == "index" and _index(term) is not None:
        base, rest = _path(term.parts[0], seen)
        return base, f"{rest}[?{_index(term)}]"
    if term.kind == "dot":
        return (f"optional.ofNonZeroValue({seen.dot})" if seen.nothing else seen.dot), ""
    if term.kind == "var" and term.value in seen.errors:
        return seen.names[str(term.value)], ""
    found = _term(term, seen)
    return (f"dyn({found.text})" if found.literal or found.kind != "any" else found.text), ""


def _is_fact(term: Term) -> bool:
    """Whether a field isn't one of data, but of the workflow or of an error."""
    base = term.parts[0]
    return base.kind == "var" and base.value in _ABOUT


def _index(term: Term) -> int | str | None:
    """A literal index from the beginning, or a literal key."""
    index = term.parts[1]
    if (
        index.kind == "literal"
        and isinstance(index.value, int)
        and not isinstance(index.value, bool)
        and index.value >= 0
    ):
        return int(index.value)
    if index.kind == "text" and len(index.parts) == 1 and isinstance(index.parts[0], str):
        return quoted(index.parts[0])
    return None


def _field(term: Term, seen: Seen) -> Cel:
    base = term.parts[0]
    if _is_fact(term):
        return _facts(str(base.value), str(term.value), seen)
    if base.kind == "field" and base.parts[0].kind == "var" and base.parts[0].value == "workflow":
        if (base.value, term.value) == ("startedAt", "iso8601"):
            return Cel("run.startedAt", "text")
        if base.value == "startedAt":
            raise NotExact(f"needs $workflow.startedAt.{term.value}")
    if base.kind == "var" and base.value in seen.errors:
        if term.value == "instance":
            raise NotExact("needs the place of an error (instance), which Kastra tells in details.step")
        place = _ERROR_FIELDS.get(str(term.value), str(term.value))
        return Cel(f"{seen.names[str(base.value)]}.?{place}.orValue(null)")
    start, rest = _path(term, seen)
    return Cel(f"{start}{rest}.orValue(null)")


def _facts(about: str, name: str, seen: Seen) -> Cel:
    if (about, name) == ("workflow", "input"):
        return Cel("input")
    if (about, name) == ("workflow", "id"):
        return Cel("run.uid", "text")
    if about == "secrets":
        raise NotExact("needs a secret, and secrets aren't in scope of expressions")
    raise NotExact(f"needs ${about}.{name}")


def _at(term: Term, seen: Seen) -> Cel:
    if _index(term) is not None:
        start, rest = _path(term, seen)
        return Cel(f"{start}{rest}.orValue(null)")
    base, index = _term(term.parts[0], seen), _term(term.parts[1], seen)
    if term.parts[1].kind == "minus" and index.kind == "number":
        list_ = f"({base.text} + [])"
        return Cel(f"{list_}[?size({list_}) {index.text.strip('()').replace('-', '- ', 1)}].orValue(null)")
    return Cel(f"{'dyn(' + base.text + ')' if base.literal else base.text}[?{index.text}].orValue(null)")


def _iterate(term: Term, seen: Seen) -> Cel:
    raise NotExact("gives several results (.[]), and an expression here has one; [.[] | ...] gives a list")


def _array(term: Term, seen: Seen) -> Cel:
    if len(term.parts) == 1:
        stages = _stages(term.parts[0])
        if stages[0].kind == "iterate":
            return _over(_list(stages[0].parts[0], seen), stages[1:], seen)
    items = [_term(part, seen) for part in term.parts]
    kinds = {item.kind for item in items}
    # CEL wants the items of a list that is written out to be of one type.
    texts = [f"dyn({item.text})" if len(kinds) > 1 and item.kind != "any" else item.text for item in items]
    return Cel(f"[{', '.join(texts)}]", "list", True)


def _stages(term: Term) -> list[Term]:
    if term.kind != "pipe":
        return [term]
    return [*_stages(term.parts[0]), *_stages(term.parts[1])]


def _list(term: Term, seen: Seen) -> str:
    """CEL for something that must be a list: an object would be gone through by its keys, not by its values."""
    found = _term(term, seen)
    return found.text if found.kind == "list" else f"({found.text} + [])"


def _over(items: str, stages: list[Term], seen: Seen) -> Cel:
    name = f"i{seen.depth}"
    inner = replace(seen, dot=name, nothing=False, depth=seen.depth + 1)
    for stage in stages:
        if stage.kind == "call" and stage.value == "select" and len(stage.parts) == 1:
            items = f"{items}.filter({name}, {_truth(_term(stage.parts[0], inner))})"
        else:
            items = f"{items}.map({name}, {_term(stage, inner).text})"
    return Cel(items, "list")


def _object(term: Term, seen: Seen) -> Cel:
    fields = []
    for key, value in term.parts:
        name = _term(key, seen)
        if name.kind != "text":
            raise NotExact("computes the name of a field from what may be no text")
        fields.append((name.text, _term(value, seen)))
    kinds = {value.kind for _, value in fields}
    texts = [f"{name}: {f'dyn({v.text})' if len(kinds) > 1 and v.kind != 'any' else v.text}" for name, v in fields]
    return Cel("{" + ", ".join(texts) + "}", "map", True)


def _minus(term: Term, seen: Seen) -> Cel:
    found = _number(_term(term.parts[0], seen), "-")
    return Cel(f"(-{found})", "number")


def _number(found: Cel, operator: str) -> str:
    if found.kind not in ("number", "any"):
        raise NotExact(f'uses "{operator}" on what is no number')
    return found.text


def _binary(term: Term, seen: Seen) -> Cel:
    operator = str(term.value)
    left, right = (_term(part, seen) for part in term.parts)
    if operator in ("and", "or"):
        return Cel(f"({_truth(left)} {'&&' if operator == 'and' else '||'} {_truth(right)})", "bool")
    if operator == "//":
        test = _truth(left)
        return Cel(f"({test} ? dyn({left.text}) : dyn({right.text}))")
    if operator in ("==", "!="):
        mixed = left.kind != right.kind and "any" not in (left.kind, right.kind)
        texts = [f"dyn({side.text})" if mixed else side.text for side in (left, right)]
        return Cel(f"({texts[0]} {operator} {texts[1]})", "bool")
    if operator in ("<", "<=", ">", ">="):
        return _ordered(operator, left, right)
    if operator == "+":
        return _sum(left, right)
    if operator == "/":
        raise NotExact('divides: "/" gives fractions in jq, and whole numbers of whole numbers in CEL')
    return Cel(f"({_number(left, operator)} {operator} {_number(right, operator)})", "number")


def _ordered(operator: str, left: Cel, right: Cel) -> Cel:
    plain = f"{left.text} {operator} {right.text}"
    if left.kind == right.kind:
        return Cel(f"({plain})", "bool")
    if "any" not in (left.kind, right.kind) or not {left.kind, right.kind} <= {"any", "number", "text"}:
        raise NotExact(f'compares values of different types ("{operator}")')
    open_ = left if left.kind == "any" else right
    # null is less than every number and every text.
    holds = (operator in ("<", "<=")) is (open_ is left)
    return Cel(f"({open_.text} == null || {plain})" if holds else f"({open_.text} != null && {plain})", "bool")


def _sum(left: Cel, right: Cel) -> Cel:
    if "map" in (left.kind, right.kind):
        raise NotExact('merges objects ("+")')
    known = next((side.kind for side in (left, right) if side.kind in _EMPTY), None)
    if known is None:
        either = f"{left.text} == null ? {right.text} : {right.text} == null ? {left.text} : {left.text} + {right.text}"
        return Cel(f"({either})")
    if {left.kind, right.kind} - {known, "any", "null"}:
        raise NotExact('adds values of different types ("+")')
    sides = []
    for side in (left, right):
        guarded = f"({side.text} == null ? dyn({_EMPTY[known]}) : {side.text})"
        sides.append(_EMPTY[known] if side.kind == "null" else guarded if side.kind == "any" else side.text)
    return Cel(f"({sides[0]} + {sides[1]})", known)


def _if(term: Term, seen: Seen) -> Cel:
    test, then, other = (_term(part, seen) for part in term.parts)
    kind = then.kind if then.kind == other.kind else "any"
    return Cel(f"({_truth(test)} ? dyn({then.text}) : dyn({other.text}))", kind)


def _pipe(term: Term, seen: Seen) -> Cel:
    first, second = term.parts
    found = _term(first, seen)
    # Both languages are without side effects, so what is piped may stand in every place that reads it.
    text = found.text if found.kind == "any" else f"dyn({found.text})"
    return _term(second, replace(seen, dot=text, nothing=found.kind == "any"))


def _truth(found: Cel) -> str:
    if found.kind == "bool":
        return found.text
    if found.kind == "any":
        return f"({found.text} != null && {found.text} != false)"
    return "false" if found.kind == "null" else "true"


def _call(term: Term, seen: Seen) -> Cel:
    name, arguments = str(term.value), term.parts
    here = Cel(seen.dot)
    if name == "not" and not arguments:
        return Cel(f"!{_truth(here)}", "bool")
    if name == "length" and not arguments:
        return Cel(f"({seen.dot} == null ? 0 : size({seen.dot}))", "number")
    if name == "tostring" and not arguments:
        return Cel(f"string({seen.dot})", "text")
    if name == "map" and len(arguments) == 1:
        return _over(_list(Term("dot"), seen), _stages(arguments[0]), seen)
    if name in ("any", "all") and len(arguments) == 1:
        item = f"i{seen.depth}"
        inner = replace(seen, dot=item, nothing=False, depth=seen.depth + 1)
        macro = "exists" if name == "any" else "all"
        return Cel(f"{_list(Term('dot'), seen)}.{macro}({item}, {_truth(_term(arguments[0], inner))})", "bool")
    if name in ("first", "last") and not arguments:
        index = Term("literal", 0) if name == "first" else Term("minus", parts=(Term("literal", 1),))
        return _at(Term("index", parts=(Term("dot"), index)), seen)
    if name == "has" and len(arguments) == 1:
        key = _term(arguments[0], seen)
        if key.kind == "text":
            return Cel(f"({key.text} in {seen.dot})", "bool")
    if name == "join" and len(arguments) == 1:
        between = _term(arguments[0], seen)
        if between.kind == "text":
            return Cel(f"{seen.dot}.join({between.text})", "text")
    if name in _TEXTS and len(arguments) == 1:
        part = _term(arguments[0], seen)
        if part.kind == "text":
            return Cel(f"{seen.dot}.{_TEXTS[name]}({part.text})", "bool")
    if name in _PLAIN_TEXTS and not arguments:
        return Cel(f"{seen.dot}.{_PLAIN_TEXTS[name]}()", "text")
    raise NotExact(f'calls "{name}", which has no exact counterpart')


_FORMS = {
    "dot": _dot, "var": _var, "literal": _literal, "text": _text, "field": _field, "index": _at, "iterate": _iterate,
    "array": _array, "object": _object, "minus": _minus, "binary": _binary, "if": _if, "pipe": _pipe, "call": _call,
}  # fmt: skip
