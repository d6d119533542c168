"""Which objects does a label or field selector mean? Parsed once, then matched against many.

Label selectors have two forms with one result: the text of `-l` and query parameters (`a=b,tier in (x, y),!old`), and the
metav1 LabelSelector of manifests (`matchLabels`, `matchExpressions`). Field selectors know equality only. Selectors are
immutable and know nothing of storage; how a field is found in an object is the caller's business.

Source: apimachinery's pkg/labels, pkg/fields and metav1.LabelSelector; the messages are theirs. Read next:
`kastra.api.jsonpath`, which finds the fields.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import BadRequest
from .meta import is_dns_subdomain

MAX_LENGTH = 32 * 1024
"""Characters of a selector's text; longer ones are refused before they are parsed."""
MAX_REQUIREMENTS = 1000

_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_OPERATORS = "in, notin, =, ==, !=, gt, lt"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on labels.

    Args:
        key: the label.
        operator: `in`, `notin`, `exists`, `!`, `gt` or `lt`; equality is `in` or `notin` with one value.
        values: what it is compared with, sorted; empty for `exists` and `!`.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it. An absent label fulfils `notin`, as in Kubernetes."""
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        try:
            have, bound = int(value or ""), int(self.values[0])
        except ValueError:
            return False
        return have > bound if self.operator == "gt" else have < bound

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return "!" + self.key
            case "gt" | "lt":
                return f"{self.key}{'>' if self.operator == 'gt' else '<'}{self.values[0]}"
            case _ if len(self.values) == 1:
                return f"{self.key}{'=' if self.operator == 'in' else '!='}{self.values[0]}"
        return f"{self.key} {self.operator} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All of its requirements must be fulfilled; without any, everything matches.

    Args:
        requirements: in the order of the keys.
        nothing: True for the selector that matches no object (an absent metav1 LabelSelector).
    """

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether an object with these labels is meant."""
        if self.nothing:
            return False
        labels = labels or {}
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def everything(self) -> bool:
        """Whether it restricts nothing."""
        return not self.requirements and not self.nothing

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


def parse_label_selector(text: str) -> LabelSelector:
    """The selector written as `text`; an empty text selects everything.

    Raises:
        BadRequest: it isn't one, or it is too long.
    """
    _check_length(text)
    if not text.strip():
        return EVERYTHING
    return _selector(_Parser(text).requirements())


def label_selector_of(selector: Mapping[str, Any] | None) -> LabelSelector:
    """The selector that a metav1 LabelSelector means: None selects nothing, `{}` everything.

    Raises:
        BadRequest: an operator is unknown, or keys and values break the rules for labels.
    """
    if selector is None:
        return NOTHING
    found = [Requirement(key, "in", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    operators = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
    for expression in selector.get("matchExpressions") or ():
        operator = operators.get(expression.get("operator", ""))
        if operator is None:
            raise BadRequest(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        values = tuple(sorted(set(expression.get("values") or ())))
        found.append(Requirement(expression.get("key", ""), operator, values))
    return _selector(found)


def _selector(found: Iterable[Requirement]) -> LabelSelector:
    requirements = tuple(sorted(found, key=lambda r: r.key))
    if len(requirements) > MAX_REQUIREMENTS:
        raise BadRequest(f"selector has {len(requirements)} requirements; at most {MAX_REQUIREMENTS} are allowed")
    for requirement in requirements:
        _check_requirement(requirement)
    return LabelSelector(requirements)


def _check_requirement(requirement: Requirement) -> None:
    key, values = requirement.key, requirement.values
    if problems := label_key_problems(key):
        raise BadRequest(f'key: Invalid value: "{key}": {"; ".join(problems)}')
    if requirement.operator in ("in", "notin") and not values:
        raise BadRequest("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    if requirement.operator in ("exists", "!") and values:
        raise BadRequest("values: Invalid value: values set must be empty for exists and does not exist")
    if requirement.operator in ("gt", "lt") and not re.fullmatch(r"[+-]?\d{1,18}", values[0]):
        raise BadRequest(
            f"values[0]: Invalid value: \"{values[0]}\": for 'Gt', 'Lt' operators, the value must be an integer"
        )
    for index, value in enumerate(values):
        if problem := label_value_problem(value):
            raise BadRequest(f'values[{index}][{key}]: Invalid value: "{value}": {problem}')


def label_key_problems(key: str) -> list[str]:
    """What is wrong with a label's or annotation's key, in Kubernetes' words; empty when it is fine."""
    prefix, slash, name = key.rpartition("/")
    problems = []
    if slash and not prefix:
        problems.append("prefix part must be non-empty")
    elif slash and not is_dns_subdomain(prefix):
        problems.append(
            "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'example.com')"
        )
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > 63:
        problems.append("name part must be no more than 63 characters")
    if not _NAME.fullmatch(name):
        problems.append(f"name part {_NAME_RULE}")
    return problems


def label_value_problem(value: Any) -> str:
    """What is wrong with a label's value, in Kubernetes' words; empty when it is fine."""
    if not isinstance(value, str):
        return "must be a string"
    if len(value) > 63:
        return "must be no more than 63 characters"
    return _VALUE_RULE if value and not _NAME.fullmatch(value) else ""


def _check_length(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise BadRequest(f"selector is {len(text)} characters long; at most {MAX_LENGTH} are allowed")


_TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_SYMBOLS = frozenset(("==", "!=", "=", "!", "(", ")", ",", "<", ">"))


class _Parser:
    """Recursive descent over the tokens of a label selector; the grammar and messages are those of labels.Parse."""

    def __init__(self, text: str) -> None:
        self._tokens = [match[1] for match in _TOKEN.finditer(text)]
        self._at = 0

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def requirements(self) -> Iterable[Requirement]:
        if self._peek() in _SYMBOLS and self._peek() != "!":
            raise BadRequest(f"found '{self._peek()}', expected: !, identifier, or 'end of string'")
        while True:
            yield self._requirement()
            separator = self._next()
            if not separator:
                return
            if separator != ",":
                raise BadRequest(f"found '{separator}', expected: ',' or 'end of string'")
            if not self._peek() or (self._peek() in _SYMBOLS and self._peek() != "!"):
                raise BadRequest(f"found '{self._peek()}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        absent = self._peek() == "!"
        if absent:
            self._next()
        key = self._next()
        if not key or key in _SYMBOLS:
            raise _unparsable(f"found '{key}', expected: identifier")
        if absent:
            return Requirement(key, "!")
        if self._peek() in ("", ","):
            return Requirement(key, "exists")
        operator = self._next()
        match operator:
            case "in" | "notin":
                return Requirement(key, operator, self._values())
            case "=" | "==" | "!=":
                value = "" if self._peek() in ("", ",") else self._next()
                if value in _SYMBOLS:
                    raise _unparsable(f"found '{value}', expected: identifier")
                return Requirement(key, "notin" if operator == "!=" else "in", (value,))
            case ">" | "<":
                return Requirement(key, "gt" if operator == ">" else "lt", (self._next(),))
        raise _unparsable(f"found '{operator}', expected: {_OPERATORS}")

    def _values(self) -> tuple[str, ...]:
        if (opening := self._next()) != "(":
            raise _unparsable(f"found '{opening}' expected: '('")
        values: set[str] = set()
        value = ""
        while True:
            found = self._next()
            if found in (",", ")"):
                # Nothing between commas is the empty value, as in Kubernetes.
                values.add(value)
                value = ""
                if found == ")":
                    return tuple(sorted(values))
            elif not found or found in _SYMBOLS or value:
                raise _unparsable(f"found '{found}', expected: ',', ')' or identifier")
            else:
                value = found


def _unparsable(why: str) -> BadRequest:
    return BadRequest(f"unable to parse requirement: {why}")


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """`field` must have `value`, or with `equal` False must not have it."""

    field: str
    value: str
    equal: bool = True


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All of its requirements must be fulfilled; without any, everything matches."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, get_field: Callable[[str], str]) -> bool:
        """Whether an object is meant whose field of a given name `get_field` tells; absent fields are empty."""
        return all((get_field(r.field) == r.value) is r.equal for r in self.requirements)

    @property
    def everything(self) -> bool:
        """Whether it restricts nothing."""
        return not self.requirements

    def required(self, field: str) -> str | None:
        """The value that `field` must have if an object is to match; None when any will do. Good for direct look-ups."""
        return next((r.value for r in self.requirements if r.field == field and r.equal), None)

    def check(self, supported: Iterable[str]) -> None:
        """Refuse fields that can't be selected by; `metadata.name` and `metadata.namespace` always can.

        Raises:
            BadRequest: with the message kubectl expects.
        """
        known = {"metadata.name", "metadata.namespace", *supported}
        for requirement in self.requirements:
            if requirement.field not in known:
                raise BadRequest(f"field label not supported: {requirement.field}")


_TERM = re.compile(r"(?:[^\\,]|\\.?)+", re.DOTALL)
_FIELD = re.compile(r"((?:[^\\=!]|\\.|!(?!=))*)(==|!=|=)(.*)", re.DOTALL)
_VALUE = re.compile(r"(?:[^\\=]|\\[\\,=])*", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse_field_selector(text: str) -> FieldSelector:
    r"""The selector written as `text`: `a.b=x,c!=y`; `\`, `,` and `=` in a value are escaped with a backslash.

    Raises:
        BadRequest: it isn't one, or it is too long.
    """
    _check_length(text)
    found = []
    for term in _TERM.findall(text):
        match = _FIELD.fullmatch(term)
        if match is None or not match[1].strip() or not _VALUE.fullmatch(match[3]):
            raise BadRequest(f"invalid selector: '{text}'; can't understand '{term}'")
        found.append(FieldRequirement(match[1].strip(), _ESCAPE.sub(r"\1", match[3]), match[2] != "!="))
    if len(found) > MAX_REQUIREMENTS:
        raise BadRequest(f"selector has {len(found)} requirements; at most {MAX_REQUIREMENTS} are allowed")
    return FieldSelector(tuple(found))


def field_text(value: Any) -> str:
    """A field's value as field selectors compare it: true is `true`, an absent one is empty."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
