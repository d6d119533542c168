"""What do expressions in a workflow see, and what do they answer?

Variables: `input` (of the Run), `prev` (output of the step before), `steps.<id>.{output,status,error,attempts}`, `state`,
`run.{name,uid,startedAt,attempt,now}` (times as RFC 3339 text), and where they make sense `iteration`, `error`,
`lastError`, `output`, `value` and the names that a forEach or a catch gives. A program is handed only the variables it
names, because turning data into CEL values costs more than evaluating.

A missing path is an error of type `expression`, which no retry can help. There is no clock and no randomness: `run.now` is
the time at which the step was scheduled, so a recovered Run evaluates to the same.

Source: CEL (github.com/google/cel-spec). Read next: `kastra.cel`, the facade over the library.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Protocol

from kastra import cel
from kastra.api.errors import INVALID, Cause
from kastra.cel import CelError, References, environment

from .step import StepError

VARIABLES = frozenset({"input", "prev", "steps", "state", "run", "lastError"})
"""What every expression sees."""


class Variables(Protocol):
    """Where expressions get the values of their variables from."""

    def activation(self, wanted: References) -> Mapping[str, Any]:
        """The variables that `wanted` names, as plain data; unknown ones are left out."""
        ...


class Condition:
    """A bare CEL expression, compiled.

    Args:
        text: the expression.
        variables: names that it may use.

    Raises:
        CelError: it isn't CEL, or uses other names.
    """

    __slots__ = ("_program", "references", "text")

    def __init__(self, text: str, variables: Iterable[str]) -> None:
        self.text = text
        self._program = environment(*sorted(variables)).compile(text)
        self.references = self._program.references()

    def evaluate(self, variables: Variables) -> Any:
        """Its value as plain data.

        Raises:
            StepError: it failed (type `expression`).
        """
        try:
            return self._program.evaluate(variables.activation(self.references))
        except CelError as error:
            raise StepError("expression", f"{self.text}: {error}", retryable=False) from None

    def holds(self, variables: Variables) -> bool:
        """Whether it is true.

        Raises:
            StepError: it failed, or is neither true nor false.
        """
        try:
            return self._program.test(variables.activation(self.references))
        except CelError as error:
            raise StepError("expression", f"{self.text}: {error}", retryable=False) from None


class Template:
    """Data in which texts may hold `${{ cel }}`, compiled.

    Args:
        data: JSON-like.
        variables: names that its expressions may use.
        path: of the field that holds it.

    Raises:
        CelError: an expression in it isn't CEL, or uses other names.
    """

    __slots__ = ("_template", "references")

    def __init__(self, data: Any, variables: Iterable[str], path: str) -> None:
        self._template = cel.Template.compile(data, environment(*sorted(variables)), path)
        self.references = self._template.references()

    @property
    def texts(self) -> tuple[str, ...]:
        """Its expressions."""
        return tuple(program.text for program in self._template.programs)

    def evaluate(self, variables: Variables) -> Any:
        """The data with every expression replaced by its value.

        Raises:
            StepError: an expression failed (type `expression`).
        """
        try:
            return self._template.evaluate(variables.activation(self.references))
        except CelError as error:
            raise StepError("expression", str(error), retryable=False) from None


def suggest(value: Any, known: Collection[str]) -> str:
    """`; did you mean "x"?` with the closest of the known words, or nothing."""
    matches = get_close_matches(value, list(known), n=1, cutoff=0.6) if isinstance(value, str) else []
    return f'; did you mean "{matches[0]}"?' if matches else ""


def step_causes(found: References, path: str, ids: Collection[str]) -> Iterator[Cause]:
    """What is wrong with the steps that an expression names.

    Args:
        found: its references.
        path: the field that holds it.
        ids: of the steps it may see.
    """
    for member in found.members.get("steps", ()):
        if member.name not in ids:
            message = f'Invalid value: there is no step "{member.name}" here{suggest(member.name, ids)}'
            yield Cause(INVALID, message, path)
