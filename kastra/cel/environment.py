"""The facade of CEL: `environment("input", "steps").compile(text).evaluate({...})`.

Expressions here can neither loop for ever nor grow without bound: their length and nesting are limited, the most they may
cost is estimated before they run, and the library stops after 10,000 iterations. `matches` is RE2. There is no clock, no
randomness, no input or output in them. All failures are `CelError`.

The library holds the interpreter's lock while it evaluates, which the budget of about 100 ms bounds. It is imported with
the first compilation, so that importing this costs nothing.

Source: cel.dev, the CEL specification. Read next: `kastra.cel.template`.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .cost import MATCHES, RUNTIME, RUNTIME_BUDGET, Size, estimate, measure
from .errors import CelError
from .references import References, hyphen_hint, position, references, tokens
from .syntax import Call, Comprehension, Const, Ident, Node, Select, decode, walk
from .values import to_json, to_plain

if TYPE_CHECKING:
    from cel_expr_python import cel

    from .functions import Function

MAX_LENGTH = 16_384
"""Characters of an expression."""
MAX_NODES = 2_000
"""Nodes of its tree after macros are expanded."""
_OPTIONAL = "the result is an optional value; end it with .orValue(...) or .value()"
_WITH_PATTERN = frozenset({MATCHES, "find", "findAll"})
_LARGEST = 4_194_304
_PLACE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*?)(?=\n \||\nERROR: |\Z)", re.DOTALL)
_NOT_FOUND = re.compile(r'Key not found in map : "?(.*?)"?$')


class Bindings:
    """Values for variables, converted once and used by several programs of the same environment."""

    __slots__ = ("_activation", "_sizes", "values")

    def __init__(self, values: Mapping[str, Any], activation: Any) -> None:
        self.values = values
        self._activation = activation
        self._sizes: dict[str, Size] = {}

    @property
    def activation(self) -> Any:
        """The library's own object."""
        return self._activation

    def size(self, name: str) -> Size:
        """How large the value of a variable is."""
        if name not in self._sizes:
            self._sizes[name] = measure(self.values.get(name))
        return self._sizes[name]


class Program:
    """A compiled expression. Immutable; may be evaluated any number of times, from any thread.

    `evaluate` gives JSON-like data: dict, list, str, int, float, bool or None.
    """

    __slots__ = ("_expression", "_members", "_safe", "result_type", "text", "tree", "variables")

    def __init__(self, text: str, expression: "cel.Expression", tree: Node, names: frozenset[str]) -> None:
        self.text = text
        self.tree = tree
        self._expression = expression
        self.result_type: str = expression.return_type().name().lower()
        self._members = _narrow(tree, names)
        self.variables: frozenset[str] = frozenset(self._members)
        self._safe = _safe_size(text, tree, self.variables)

    def __repr__(self) -> str:
        return f"Program({self.text!r})"

    def members(self, variable: str) -> frozenset[str] | None:
        """The members that are all it reads of a variable; None if it may read any."""
        return self._members.get(variable, frozenset())

    def references(self) -> References:
        """The variables that it uses, and the members of each, with their places."""
        return references(self.text)

    def evaluate(self, bindings: Mapping[str, Any] | Bindings) -> Any:
        """The value with these variables.

        Args:
            bindings: by name; more than the program uses does no harm and costs nothing.

        Raises:
            CelError: it failed (a missing key, a division by zero, mixed types), would cost too much, or its value has no
                JSON form.
        """
        if isinstance(bindings, Bindings):
            if self._safe < _LARGEST:
                self._afford({name: bindings.size(name) for name in self.variables})
            return self._result(self._run(activation=bindings.activation))
        data = self._select(bindings)
        if self._safe < _LARGEST:
            self._afford({name: measure(value) for name, value in data.items()})
        value = self._run(data=data)
        if _type(value) == "ERROR" and "Non-CEL value type" in self._error(value):
            value = self._run(data=self._convert(data))
        return self._result(value)

    def test(self, bindings: Mapping[str, Any] | Bindings) -> bool:
        """The value of a condition.

        Raises:
            CelError: as for `evaluate`, and when the value isn't true or false.
        """
        value = self.evaluate(bindings)
        if value is True or value is False:
            return value
        raise CelError(f"a condition must be true or false, this is {_kind(value)}", self.text)

    def _select(self, bindings: Mapping[str, Any]) -> dict[str, Any]:
        """Of the bindings what is used: converting `steps` whole for one of its members would cost more than the rest."""
        data: dict[str, Any] = {}
        for name, members in self._members.items():
            if name not in bindings:
                continue
            value = bindings[name]
            if members is not None and isinstance(value, dict) and len(value) > len(members):
                value = {member: value[member] for member in members if member in value}
            data[name] = value
        return data

    def _convert(self, data: dict[str, Any]) -> dict[str, Any]:
        try:
            return {name: to_plain(value) for name, value in data.items()}
        except (TypeError, RecursionError) as error:
            raise CelError(str(error), self.text) from None

    def _afford(self, sizes: Mapping[str, Size]) -> None:
        if sum(size.nodes + size.chars for size in sizes.values()) <= self._safe:
            return
        cost, size = estimate(self.tree, sizes, RUNTIME)
        if cost + 2 * size.nodes > RUNTIME_BUDGET:
            times = (cost + 2 * size.nodes) / RUNTIME_BUDGET
            raise CelError(
                f"call cost exceeds limit: with values this large it may cost {times:.1f} times what an expression may; "
                "loop over fewer items, or not within a loop",
                self.text,
                "budget",
            )

    def _run(self, **arguments: Any) -> Any:
        try:
            return self._expression.eval(**arguments)
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            message = str(error)
            if "Iteration budget exceeded" in message:
                raise CelError("its loops run more than 10000 times", self.text, "budget") from None
            if "construction from null" in message:
                message = "a text in its input is no valid Unicode"
            raise CelError(_clean(message), self.text) from None

    def _result(self, value: Any) -> Any:
        kind = _type(value)
        try:
            if kind == "ERROR":
                raise CelError(self._explain(str(value.value())), self.text)
            return to_json(value.plain_value())
        except (TypeError, SystemError):
            raise CelError(
                "the result is an optional value; end it with .orValue(...) or .value()", self.text
            ) from None
        except (ValueError, RuntimeError, RecursionError) as error:
            raise CelError(str(error), self.text) from None

    def _error(self, value: Any) -> str:
        """The message of an error value. Optional values, too, have the library's error type, and no Python form."""
        try:
            return str(value.value())
        except TypeError:
            raise CelError(_OPTIONAL, self.text) from None

    def _explain(self, message: str) -> str:
        message = _clean(message)
        hint = hyphen_hint(self.text) if message.startswith("no such key") else ""
        return f"{message}; {hint}" if hint else message


class Environment:
    """The variables that expressions may use. Take it from `environment()`, which keeps one per set of names."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)
        self._names = frozenset(variables)
        self._env: cel.Env | None = None
        # An instance's own cache: programs of one environment don't run in another.
        self._compiled = lru_cache(maxsize=2048)(self._compile)

    def compile(self, text: str) -> Program:
        """The program of an expression; the same text gives the same program.

        Raises:
            CelError: it isn't CEL, uses unknown names, is too long, or no input could keep it within the budget.
        """
        if not isinstance(text, str):
            raise CelError(f"an expression is text, this is {_kind(text)}", stage="compile")
        return self._compiled(text)

    def bind(self, values: Mapping[str, Any]) -> Bindings:
        """Values to evaluate several programs of this environment with: dicts, lists and scalars, nothing else."""
        known = {name: value for name, value in values.items() if name in self._names}
        return Bindings(known, self._library().Activation(known))

    def _library(self) -> "cel.Env":
        if self._env is None:
            self._env = _new_env(self.variables)
        return self._env

    def _compile(self, text: str) -> Program:
        if len(text) > MAX_LENGTH:
            raise CelError(
                f"the expression has {len(text)} characters, at most {MAX_LENGTH} are allowed", stage="compile"
            )
        if not text.strip():
            raise CelError("the expression is empty", text, "compile", 1, 1)
        try:
            expression = self._library().compile(_with_our_matches(text))
            tree = decode(expression.serialize())
            nodes = sum(1 for _ in walk(tree))
        except RecursionError:
            raise CelError("the expression is nested too deeply", text, "compile") from None
        except (RuntimeError, ValueError, TypeError) as error:
            raise self._refusal(text, str(error)) from None
        if nodes > MAX_NODES:
            raise CelError(f"the expression has {nodes} parts, at most {MAX_NODES} are allowed", text, "compile")
        _keep_patterns(text, tree)
        return Program(text, expression, tree, self._names)

    def _refusal(self, text: str, message: str) -> CelError:
        found = _PLACE.search(message)
        if found is None:
            if "recursion" in message:
                message = "the expression is nested too deeply (more than 32 levels)"
            return CelError(_clean(message), text, "compile")
        line, column, reason = int(found[1]), int(found[2]), found[3].replace(" (in container '')", "")
        reason = re.sub(r" expecting \{.*\}", "", reason).replace("<EOF>", "the end").replace(MATCHES, "matches")
        if "recursion depth" in reason:
            return CelError("the expression is nested too deeply (more than 32 levels)", text, "compile")
        undeclared = re.match(r"undeclared reference to '([^']*)'", reason)
        if undeclared is not None:
            hint = hyphen_hint(text)
            if hint and undeclared[1].partition(".")[0] in hint:
                start = text.find(hint.partition(" is a subtraction")[0])
                line, column = position(text, max(start, 0))
                return CelError(hint, text, "compile", line, column)
            reason += f"; there are {', '.join(sorted(self._names))}" if self._names else "; there are no variables"
        return CelError(reason, text, "compile", max(line, 0), max(column, 0))


@cache
def environment(*variables: str) -> Environment:
    """The environment of these variables, all of dynamic type; `name:int` declares one with a type.

    Types: dyn, bool, int, uint, double, string, bytes, list, map, timestamp, duration, optional.
    """
    pairs = (variable.partition(":") for variable in variables)
    return Environment({name: type_ or "dyn" for name, _, type_ in pairs})


@cache
def _types() -> dict[str, Any]:
    from cel_expr_python import cel

    types = cel.Type
    return {
        "dyn": types.DYN,
        "bool": types.BOOL,
        "int": types.INT,
        "uint": types.UINT,
        "double": types.DOUBLE,
        "string": types.STRING,
        "bytes": types.BYTES,
        "list": types.List(types.DYN),
        "map": types.Map(types.DYN, types.DYN),
        "timestamp": types.TIMESTAMP,
        "duration": types.DURATION,
    }


def _new_env(variables: Mapping[str, str]) -> "cel.Env":
    from cel_expr_python import cel

    extensions, functions = _standard()
    types = _types()
    if "authorizer" in variables:
        from .authorizer import FUNCTIONS

        functions = [*functions, *_declared(FUNCTIONS)]
    return cel.NewEnv(
        variables={name: types[type_] for name, type_ in variables.items()}, extensions=extensions, functions=functions
    )


@cache
def _standard() -> tuple[list[Any], list[Any]]:
    """The extensions and functions of every environment."""
    from cel_expr_python.ext.ext_bindings import ExtBindings
    from cel_expr_python.ext.ext_encoders import ExtEncoders
    from cel_expr_python.ext.ext_math import ExtMath
    from cel_expr_python.ext.ext_optional import ExtOptional
    from cel_expr_python.ext.ext_strings import ExtStrings

    from .functions import FUNCTIONS

    extensions = [ExtStrings(), ExtMath(), ExtOptional(), ExtBindings(), ExtEncoders()]
    return extensions, _declared(FUNCTIONS)


def _declared(functions: Iterable["Function"]) -> list[Any]:
    from cel_expr_python import cel

    types = _types()
    overloads: dict[str, list[Any]] = {}
    for function in functions:
        overload = cel.Overload(
            f"kubernetes_{function.name}_{'_'.join(function.parameters)}_{function.member}",
            return_type=types[function.result],
            parameters=[types[name] for name in function.parameters],
            is_member=function.member,
            impl=function.call,
        )
        overloads.setdefault(function.name, []).append(overload)
    return [cel.FunctionDecl(name, found) for name, found in overloads.items()]


def _with_our_matches(text: str) -> str:
    """`matches(` under the name of our own function, which is as long, so that positions stay."""
    if "matches" not in text:
        return text
    found = tokens(text)
    parts, end = [], 0
    for token, following in pairwise(found):
        if token.text == "matches" and following.text == "(":
            parts += [text[end : token.start], MATCHES]
            end = token.start + len(MATCHES)
    return "".join(parts) + text[end:]


def _keep_patterns(text: str, tree: Node) -> None:
    """Compile the constant patterns now, and refuse those that are wrong."""
    from .functions import keep_pattern

    for node in walk(tree):
        if isinstance(node, Call) and node.function in _WITH_PATTERN:
            pattern = node.args[0 if node.target is not None else -1]
            if isinstance(pattern, Const) and isinstance(pattern.value, str):
                try:
                    keep_pattern(pattern.value)
                except ValueError as error:
                    raise CelError(str(error), text, "compile") from None


def _narrow(tree: Node, names: frozenset[str]) -> dict[str, frozenset[str] | None]:
    """By variable used, the members that are all it needs of it, or None if it may need any."""
    members: dict[str, set[str] | None] = {}
    literal: dict[int, str] = {}
    for node in walk(tree):
        match node:
            case Select(Ident() as root, field):
                literal[id(root)] = field
            case Call("_[_]" | "_[?_]" | "_?._", None, (Ident() as root, Const(str() as field))):
                literal[id(root)] = field
            case Call("@in", None, (Const(str() as field), Ident() as root)):
                literal[id(root)] = field
            case Ident(name):
                found = members.setdefault(name, set())
                field_or_none = literal.get(id(node))
                if field_or_none is None:
                    members[name] = None
                elif found is not None:
                    found.add(field_or_none)
            case Comprehension(variables=bound):
                # A loop variable of the same name hides the outer one; reading more than needed is always right.
                for name in bound:
                    members[name] = None
            case _:
                pass
    return {name: None if found is None else frozenset(found) for name, found in members.items() if name in names}


def _safe_size(text: str, tree: Node, variables: frozenset[str]) -> int:
    """Inputs up to how large (nodes and characters together) need no estimate of their own.

    Raises:
        CelError: not even the smallest input is affordable, or loops are nested too deeply.
    """

    def affordable(size: int) -> bool:
        cost, result = estimate(tree, dict.fromkeys(variables, Size(size, size, size)), RUNTIME)
        return cost + 2 * result.nodes <= RUNTIME_BUDGET

    try:
        if affordable(_LARGEST):
            return _LARGEST
        if not affordable(1):
            raise CelError("it would cost too much whatever its input; build smaller values", text, "budget")
        low, high = 0, _LARGEST.bit_length() - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if affordable(1 << middle) else (low, middle)
    except RecursionError:
        raise CelError("its loops are nested too deeply", text, "compile") from None
    return 1 << low


def _type(value: Any) -> str:
    name: str = value.type().name()
    return name


def _clean(message: str) -> str:
    """A message of the library in Kubernetes' words, without its internal codes."""
    message = re.sub(r"^[A-Z_]+: ", "", message).replace(MATCHES, "matches")
    message = re.sub(r" \[[A-Z_]+\]$", "", message).strip()
    missing = _NOT_FOUND.search(message)
    if missing:
        return f"no such key: {missing[1]}"
    if message == "divide by zero":
        return "division by zero"
    if message.startswith("No value with name"):
        return re.sub(r'No value with name "(.*)" found in Activation', r"the variable \1 has no value here", message)
    if message.startswith("No matching overloads found"):
        return "no such overload" + message.removeprefix("No matching overloads found ").replace(" : ", ": ", 1)
    if message.startswith("Index error: index="):
        return re.sub(r"Index error: index=(-?\d+) size=(\d+)", r"index out of bounds: \1 of \2", message)
    if message.startswith("Applying SELECT to non-message"):
        return "a field is read of a value that has no fields"
    return message


def _kind(value: Any) -> str:
    names = {bool: "a bool", int: "an int", float: "a double", str: "a string", list: "a list", dict: "a map"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")
