"""Which class reads which kind? The typed views of all kinds, by kind name.

A controller gets another kind's view from here by name, since controllers don't import each other. The classes themselves
are pydantic models in the kinds' own modules; this module knows them only by the protocol below, so that the runtime loads
without pydantic.

Read next: `kastra.runtime.view`, the base class, and `kastra.runtime.discovery`, which fills this.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from kastra.api.object import Object
from kastra.api.types import Reference


class TypedView(Protocol):
    """What the runtime needs of a view."""

    api_kind: ClassVar[str]
    api_group: ClassVar[str]
    api_version: ClassVar[str]

    @classmethod
    def of(cls, obj: Object | Mapping[str, Any]) -> Self:
        """The view of an object. Raises ValueError (pydantic's ValidationError) when it has no accepted shape."""
        ...


@runtime_checkable
class Referring(Protocol):
    """A view whose kind refers to other objects."""

    def references(self) -> Sequence[Reference]:
        """Every reference of the object, with its path as in the stored object."""
        ...


def references_of(view: TypedView) -> Sequence[Reference] | None:
    """Every reference of an object that was read; None if its kind has none (it isn't `Referring`)."""
    # What `isinstance` would find out for a protocol, which takes it longer than the reading of a small object.
    find: Callable[[TypedView], Sequence[Reference]] | None = getattr(type(view), "references", None)
    return list(find(view)) if find is not None else None


class Views:
    """Views by kind."""

    def __init__(self, views: Iterable[type[TypedView]] = ()) -> None:
        self._by_kind: dict[tuple[str, str], type[TypedView]] = {}
        for view in views:
            self.add(view)

    def add(self, view: type[TypedView]) -> None:
        """Register a view.

        Raises:
            ValueError: another class reads that kind.
        """
        known = self._by_kind.setdefault((view.api_group, view.api_kind), view)
        if known is not view:
            raise ValueError(
                f"{view.api_kind}.{view.api_group} has two views: {known.__module__}.{known.__qualname__} and "
                f"{view.__module__}.{view.__qualname__}; remove one or declare another kind"
            )

    def replace(self, view: type[TypedView]) -> None:
        """Have a kind read by another class from now on."""
        self._by_kind[(view.api_group, view.api_kind)] = view

    def __iter__(self) -> Iterator[type[TypedView]]:
        return iter(tuple(self._by_kind.values()))

    def find(self, kind: str, group: str | None = None) -> type[TypedView] | None:
        """The view of a kind: `Agent`, or `Agent.mastra.ai`, or with the group apart; None if there is none."""
        if group is None:
            kind, separator, qualifier = kind.partition(".")
            group = qualifier if separator else None
        if group is not None:
            return self._by_kind.get((group, kind))
        return next((view for (_, name), view in self._by_kind.items() if name == kind), None)

    def of(self, obj: Object) -> type[TypedView] | None:
        """The view that reads `obj`."""
        return self._by_kind.get((obj.api_version.rpartition("/")[0], obj.kind))

    def of_kind(self, view: type[TypedView]) -> type[TypedView] | None:
        """The view registered for the kind that `view` reads."""
        return self._by_kind.get((view.api_group, view.api_kind))

    def __getitem__(self, kind: str) -> type[TypedView]:
        view = self.find(kind)
        if view is None:
            known = ", ".join(sorted(name for _, name in self._by_kind)) or "none"
            raise KeyError(f"no view reads kind {kind!r}; there are: {known}")
        return view
