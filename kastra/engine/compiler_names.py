"""What can be named where, and is what is named there? The part of the compiler that deals with names and expressions.

`Names` are the steps, outputs and variables that one scope and those around it offer. `Findings` collects what is wrong
while it compiles conditions, templates and inputs against them. Read next: `kastra.engine.compiler`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kastra.api.durations import parse_duration
from kastra.api.errors import INVALID, TYPE_INVALID, Cause
from kastra.cel import CelError, References, hyphen_hint

from .expressions import Condition, Template, step_causes, suggest
from .graph import Source

_RUN_INPUT = frozenset({"input", "user-input"})

_T = TypeVar("_T")


@dataclass(slots=True)
class Names:
    """What can be named in a scope, and what encloses it."""

    ids: dict[str, int]
    labels: dict[str, list[int]]
    variables: frozenset[str]
    parent: "Names | None" = None

    def visible_ids(self) -> set[str]:
        """Ids of this scope and of those around it."""
        return set(self.ids) | (self.parent.visible_ids() if self.parent else set())

    def visible_labels(self) -> set[str]:
        """Output names of this scope and of those around it."""
        return set(self.labels) | (self.parent.visible_labels() if self.parent else set())


class Findings:
    """Compiles what stands in a spec, and notes what is wrong with it."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []
        self.references: list[References | Source] = []
        """What everything compiled so far refers to, in order."""

    def report(self, reason: str, message: str, path: str) -> None:
        """Note a finding."""
        self.causes.append(Cause(reason, message, path))

    def invalid(self, message: str, path: str) -> None:
        """Note that a value is wrong."""
        self.report(INVALID, f"Invalid value: {message}", path)

    def attempt(self, path: str, make: Callable[[], _T]) -> _T | None:
        """What `make` makes, or None with its error noted."""
        try:
            return make()
        except (ValueError, TypeError, CelError) as error:
            self.invalid(str(error), path)
            return None

    def source(self, spec: Mapping[str, Any], path: str, names: Names) -> "tuple[Source, ...] | Template | None":
        """Where a step's input comes from; None for what precedes it."""
        if "with" in spec:
            return self.template(spec["with"], beside(path, "with"), names)
        sources = [self.one_source(name, f"{path}.from", names) for name in spec.get("from") or ()]
        found = tuple(source for source in sources if source is not None)
        self.references += found
        return found or None

    def one_source(self, name: str, path: str, names: Names) -> Source | None:
        """What one name in `input.from` means."""
        if name in _RUN_INPUT:
            return Source("input", name)
        scope: Names | None = names
        while scope is not None:
            by_id, by_label = scope.ids.get(name), scope.labels.get(name, [])
            if by_id is not None and any(index != by_id for index in by_label):
                self.invalid(f'"{name}" is the id of one step and the output name of another; rename one of them', path)
                return None
            if by_id is not None:
                return Source("step", name)
            if by_label:
                return Source("name", name)
            scope = scope.parent
        known = {*names.visible_ids(), *names.visible_labels(), *_RUN_INPUT}
        self.invalid(f'"{name}" is no step and no output name{suggest(name, known)}', path)
        return None

    def condition(self, text: Any, path: str, names: Names) -> Condition | None:
        """A bare expression, compiled."""
        if text is None:
            return None
        if isinstance(text, bool):
            text = "true" if text else "false"
        if not isinstance(text, str):
            self.report(TYPE_INVALID, "Invalid value: must be a CEL expression", path)
            return None
        if text.strip().startswith("${{"):
            self.invalid("an expression stands bare here, without ${{ }}", path)
            return None
        # The trap first: the library would only say that something is undeclared.
        hint = hyphen_hint(text, names.visible_ids())
        if hint:
            self.invalid(hint, path)
            return None
        condition = self.attempt(path, lambda: Condition(text, names.variables))
        if condition is not None:
            self.references.append(condition.references)
            self.causes += step_causes(condition.references, path, names.visible_ids())
        return condition

    def template(self, data: Any, path: str, names: Names) -> Template | None:
        """Data with expressions in it, compiled."""
        try:
            template = Template(data, names.variables, path)
        except CelError as error:
            where, error.path = error.path or path, ""
            self.invalid(hyphen_hint(error.expression, names.visible_ids()) or str(error), where)
            return None
        for text in template.texts:
            hint = hyphen_hint(text, names.visible_ids())
            if hint:
                self.invalid(hint, path)
                return None
        self.references.append(template.references)
        self.causes += step_causes(template.references, path, names.visible_ids())
        return template

    def seconds(self, value: Any, path: str) -> float | None:
        """A duration in seconds."""
        return None if value is None else self.attempt(path, lambda: parse_duration(value))


def beside(path: str, name: str) -> str:
    """The path of a neighbour: `spec.steps` and `initialStep` give `spec.initialStep`."""
    return f"{path.rpartition('.')[0]}.{name}"


def as_template(text: str) -> str:
    """An expression, bare or in braces, as a template."""
    return text if "${{" in text else f"${{{{ {text} }}}}"
