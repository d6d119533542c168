"""Does what a step gives fit what the next one takes? Compares the schemas that a workflow itself declares.

Only what can't be right is reported: a property that a declared output doesn't have, a required one that a `with` doesn't
give, types that exclude each other. A schema that names its properties and says nothing of `additionalProperties` is taken at
its word; with `additionalProperties: true`, or with combinations (`anyOf`, `$ref`, ...), everything may be there.

Other objects' schemas (of tools, agents, child workflows) may change without the workflow, so they are compared only when they are
given (`called`), by the controller. Source: type checking between steps as in Mastra's `.then()`. Read next:
`kastra.engine.compiler`, `kastra.engine.compiler_called`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kastra.api.errors import INVALID, Cause
from kastra.cel import References

from .compiler_called import Called, Problems, path_of, value_causes
from .compiler_checks import successors
from .expressions import Condition, Template, suggest
from .graph import Flow, Graph, Scope, Source, Step, nested

Schema = Mapping[str, Any]

_OPEN = ("$ref", "anyOf", "oneOf", "allOf", "not", "if", "patternProperties", "dependentSchemas")
_GUARDS = ("has(", ".?", "[?")
_OWN = "the schema of the input"


def _no_problems(schema: Schema, value: Any) -> list[str]:
    return []


@dataclass(frozen=True, slots=True)
class _Place:
    """A scope and those around it, innermost first; and what is known of what its steps call, by their paths."""

    scopes: tuple[Scope, ...]
    input_schema: Schema | None
    called: Mapping[str, Called]
    problems: Problems

    def within(self, scope: Scope) -> "_Place":
        """The place inside a step."""
        return _Place((scope, *self.scopes), self.input_schema, self.called, self.problems)

    def given(self, step: Step | None) -> Schema | None:
        """The schema of what a step gives; None if there is none, or it reshapes what it gives."""
        if step is None or step.output_as is not None or step.catches:
            return None
        if step.output_schema is not None:
            return step.output_schema
        called = self.called.get(step.path)
        return called.output if called is not None else None

    def step(self, step_id: str) -> Step | None:
        """The step that an id means here."""
        for scope in self.scopes:
            if step_id in scope.index:
                return scope.steps[scope.index[step_id]]
        return None


def schema_causes(
    graph: Graph, called: Mapping[str, Called] | None = None, problems: Problems = _no_problems
) -> list[Cause]:
    """Every mismatch between the schemas of a workflow's steps, with its field.

    Args:
        called: what steps call, by their paths; nothing for what is unknown.
        problems: says what is wrong with a value by a schema.
    """
    place = _Place((graph.scope,), graph.input_schema, called or {}, problems)
    found = list(_scope_causes(place))
    if graph.finally_ is not None:
        found += _scope_causes(_Place((graph.finally_, graph.scope), graph.input_schema, called or {}, problems))
    return found


def _scope_causes(place: _Place) -> Iterator[Cause]:
    for step in place.scopes[0].steps:
        yield from _expression_causes(step, place)
        if step.input_schema is not None:
            yield from _input_causes(step, step.input_schema, place, _OWN, f"{step.path}.input.schema")
        called = place.called.get(step.path)
        if called is not None and called.input is not None:
            yield from _input_causes(step, called.input, place, called.who, f"{step.path}.{step.kind}")
            yield from _known_causes(step, called, called.input, place)
        for inner in nested(step):
            yield from _scope_causes(place.within(inner))


# --- expressions -------------------------------------------------------------------------------------------------------


def _programs(step: Step) -> Iterator[tuple[str, Sequence[str], References]]:
    """(field, texts, references) of a step's own expressions."""
    conditions = (("when", step.when), ("dependsOn", step.condition), ("retry.when", step.retry_when))
    for field, program in conditions:
        if program is not None:
            yield field, (program.text,), program.references
    templates = [("input.prompt", step.prompt), ("output.as", step.output_as), ("output.export", step.export)]
    templates.append(("idempotencyKey", step.idempotency_key))
    if isinstance(step.input, Template):
        templates.append(("with" if "with" in step.spec else "input.with", step.input))
    if isinstance(step.body, Template):
        templates.append((step.kind, step.body))
    for name, template in templates:
        if template is not None:
            yield name, template.texts, template.references
    items = getattr(step.body, "items", None)
    if isinstance(items, Condition):
        yield "forEach.items", (items.text,), items.references


def _expression_causes(step: Step, place: _Place) -> Iterator[Cause]:
    for field, texts, references in _programs(step):
        if any(guard in text for text in texts for guard in _GUARDS):
            # What it asks first is whether something is there.
            continue
        for member in references.members.get("input", ()):
            if place.input_schema is not None and not member.tested:
                yield from _path_causes(
                    place.input_schema, (member.name, *member.path), "input", f"{step.path}.{field}"
                )
        for member in references.members.get("steps", ()):
            producer = place.step(member.name)
            schema = place.given(producer)
            if schema is not None and member.path[:1] == ("output",):
                name = f"steps.{member.name}.output"
                yield from _path_causes(schema, member.path[1:], name, f"{step.path}.{field}")


def _path_causes(schema: Schema, names: Sequence[str], start: str, path: str) -> Iterator[Cause]:
    where = start
    for name in names:
        types = _types(schema)
        if types and not types & {"object", "array"} and not any(word in schema for word in _OPEN):
            yield Cause(INVALID, f'Invalid value: {where} is of type {_listed(types)}, which has no "{name}"', path)
            return
        known = _properties(schema)
        if known is None:
            return
        if name not in known:
            message = f'Invalid value: the schema of {where} has no property "{name}"{suggest(name, known)}'
            yield Cause(INVALID, message, path)
            return
        inner = known[name]
        if not isinstance(inner, Mapping):
            return
        schema, where = inner, f"{where}.{name}"


def _properties(schema: Schema) -> Mapping[str, Any] | None:
    """The properties that an object can have; None if that can't be told."""
    known = schema.get("properties")
    if not isinstance(known, Mapping) or any(word in schema for word in _OPEN):
        return None
    return None if schema.get("additionalProperties", False) is not False else known


# --- inputs ------------------------------------------------------------------------------------------------------------


def _input_causes(step: Step, wanted: Schema, place: _Place, who: str, path: str) -> Iterator[Cause]:
    """What keeps the input of a step from being what `who` wants, at `path` where nothing more exact can be said."""
    if isinstance(step.input, Template):
        given = (step.spec.get("input") or {}).get("with")
        if step.prompt is None and isinstance(given, Mapping):
            yield from _with_causes(given, wanted, step.path, who)
        return
    if step.prompt is not None:
        return
    for name, schema in _sources(step, place):
        for problem in _mismatches(schema, wanted, name, who):
            yield Cause(INVALID, f"Invalid value: {problem}", path)


def _known_causes(step: Step, called: Called, wanted: Schema, place: _Place) -> Iterator[Cause]:
    """What of a step's `with` can't be what it calls takes, value by value."""
    given = (step.spec.get("input") or {}).get("with")
    properties = wanted.get("properties")
    if not isinstance(step.input, Template) or step.prompt is not None or not isinstance(given, Mapping):
        return

    def fits(expression: str, schema: Schema) -> Iterator[str]:
        found = _schema_at(expression, place)
        return iter(()) if found is None else _mismatches(found, schema, expression, called.who)

    for name, value in given.items():
        schema = properties.get(name) if isinstance(properties, Mapping) else None
        if isinstance(schema, Mapping):
            yield from value_causes(value, schema, f"{step.path}.with.{name}", called.who, place.problems, fits)


def _schema_at(expression: str, place: _Place) -> Schema | None:
    """The schema of what an expression names, if it is a place in a step's output or in the Run's input."""
    names = path_of(expression) or [""]
    schema: Any = None
    if names[0] == "input":
        schema, names = place.input_schema, names[1:]
    elif names[0] == "steps" and len(names) > 2 and names[2] == "output":
        schema, names = place.given(place.step(names[1])), names[3:]
    for name in names:
        known = _properties(schema) if isinstance(schema, Mapping) else None
        schema = known.get(name) if known is not None else None
    return schema if isinstance(schema, Mapping) else None


def _with_causes(given: Mapping[str, Any], wanted: Schema, path: str, who: str) -> Iterator[Cause]:
    for name in wanted.get("required") or ():
        if name not in given:
            message = f'Invalid value: {who} requires "{name}", which with does not give'
            yield Cause(INVALID, message, f"{path}.with")
    known = _properties(wanted)
    if known is not None and wanted.get("additionalProperties") is False:
        for name in given:
            if name not in known:
                message = f'Invalid value: {who} has no property "{name}"{suggest(name, known)}'
                yield Cause(INVALID, message, f"{path}.with.{name}")


def _sources(step: Step, place: _Place) -> Iterator[tuple[str, Schema]]:
    """(name, schema) of everything that the input of a step may be."""
    scope = place.scopes[0]
    if isinstance(step.input, tuple):
        if len(step.input) != 1:
            return
        yield from _source(step.input[0], place)
        return
    before: list[Step] = []
    if scope.flow is Flow.DAG and len(step.depends) == 1:
        before = [scope.steps[step.depends[0]]]
    elif scope.flow is Flow.SEQUENCE:
        before = [other for other in scope.steps if step.index in successors(other)]
    for other in before:
        schema = place.given(other)
        # A step that may be skipped hands on what came before it.
        if schema is not None and other.when is None and not other.continue_on_error:
            yield f"steps.{other.id}.output", schema
    begins = step.index == scope.initial if scope.flow is Flow.SEQUENCE else not step.depends and step.condition is None
    if begins and len(place.scopes) == 1 and place.input_schema is not None:
        yield "the Run's input", place.input_schema


def _source(source: Source, place: _Place) -> Iterator[tuple[str, Schema]]:
    if source.kind == "input":
        if place.input_schema is not None:
            yield "the Run's input", place.input_schema
        return
    if source.kind == "step":
        found = [place.step(source.name)]
    else:
        scope = next((scope for scope in place.scopes if source.name in scope.names), None)
        found = [scope.steps[index] for index in scope.names[source.name]] if scope is not None else []
    for step in found:
        schema = place.given(step)
        if schema is not None:
            yield f"{source.name}" if source.kind == "name" else f"steps.{source.name}.output", schema


def _mismatches(given: Schema, wanted: Schema, name: str, who: str) -> Iterator[str]:
    """What keeps a value of one schema from being one of the other."""
    if any(word in schema for schema in (given, wanted) for word in _OPEN):
        return
    ours, theirs = _types(given), _types(wanted)
    if ours and theirs and not ours & theirs:
        yield f"{name} is of type {_listed(ours)}, and {who} asks for {_listed(theirs)}"
        return
    known = _properties(given)
    if known is None:
        return
    for required in wanted.get("required") or ():
        if required not in known:
            yield f'{who} requires "{required}", which the schema of {name} does not have'
    for property_, schema in (wanted.get("properties") or {}).items():
        mine = known.get(property_)
        if isinstance(mine, Mapping) and isinstance(schema, Mapping):
            yield from _mismatches(mine, schema, f"{name}.{property_}", who)


def _types(schema: Schema) -> frozenset[str]:
    """The JSON types that a schema allows; empty for all. An integer is a number, too."""
    found = schema.get("type")
    named = {found} if isinstance(found, str) else set(found) if isinstance(found, list) else set()
    return frozenset(named | ({"integer"} if "number" in named else set()))


def _listed(types: frozenset[str]) -> str:
    return " or ".join(sorted(types - ({"integer"} if "number" in types else set())))
