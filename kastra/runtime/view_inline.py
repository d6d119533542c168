"""Specs that stand inside another object's spec: a System's children, a Network's inline members.

Controllers don't import each other, so the kind of an inline spec is found by name among the views that are declared. The
spec of a kind that has no view here passes unread; it is checked when it becomes an object of its own.

Read next: `kastra.runtime.view_types`.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from kastra.api.errors import Cause
from kastra.api.meta import GROUP
from kastra.api.types import Reference

from .view import View
from .view_errors import causes, shape_error, unknown_field
from .view_types import Renamed

_BUILT_IN = "kastra.controllers"


def view_of_kind(kind: str, group: str = GROUP) -> type[View] | None:
    """The declared view of a kind; None when no loaded module declares one.

    Where several do, that of the built-in controllers counts: what else is loaded in a process doesn't change how manifests are read.
    """
    declared = [view for view in _subclasses(View) if view.api_kind == kind and view.api_group == group]
    built_in = (view for view in declared if view.__module__.startswith(f"{_BUILT_IN}."))
    return next(built_in, declared[0] if declared else None)


def _subclasses(view: type[View]) -> Iterator[type[View]]:
    for subclass in view.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def normalised(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The plain form of an inline spec, for a validator whose node holds it under `spec`.

    Raises:
        pydantic.ValidationError: it has none of its accepted shapes.
        pydantic_core.PydanticCustomError: it has a field that its kind doesn't know.
    """
    view = view_of_kind(kind)
    if view is None:
        return dict(spec)
    unknown = _unknown_fields(view, spec)
    if unknown:
        raise shape_error(unknown[0])
    plain: dict[str, Any] = _spec_of(view.model_validate({"spec": spec})).plain()
    return plain


def findings(kind: str, spec: Mapping[str, Any], path: str) -> list[Cause]:
    """Everything that is wrong with an inline spec that stands at `path`."""
    view = view_of_kind(kind)
    if view is None:
        return []
    found = [_moved(cause, path) for cause in _unknown_fields(view, spec)]
    try:
        read = view.model_validate({"spec": spec})
    except ValidationError as error:
        return found + [_moved(cause, path) for cause in causes(error)]
    validate = cast("Callable[[View], list[Cause]] | None", getattr(sys.modules[view.__module__], "validate", None))
    return found + ([_moved(cause, path) for cause in validate(read)] if validate else [])


def references(kind: str, spec: Mapping[str, Any], path: str) -> list[Reference]:
    """What an inline spec that stands at `path` refers to."""
    view = view_of_kind(kind)
    if view is None:
        return []
    listed = cast(
        "Callable[[], list[Reference]] | None", getattr(view.model_validate({"spec": spec}), "references", None)
    )
    return [
        Reference(path + r.path.removeprefix("spec"), r.kind, r.name, r.namespace, r.optional)
        for r in (listed() if listed else ())
    ]


def _moved(cause: Cause, path: str) -> Cause:
    field = path + cause.field.removeprefix("spec")
    message = cause.message.replace("\0", field).replace(f" {cause.field} in body", f" {field} in body")
    return Cause(cause.reason, message, field)


def _spec_of(view: View) -> Any:
    return view.spec  # type: ignore[attr-defined] # every view of a kind declares it


def _unknown_fields(view: type[View], spec: Mapping[str, Any]) -> list[Cause]:
    annotation = view.model_fields["spec"].annotation
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return []
    known = [field.alias or name for name, field in annotation.model_fields.items()]
    if issubclass(annotation, Renamed):
        known += annotation.also
    return [unknown_field(key, known, f"spec.{key}") for key in spec if key not in known]
