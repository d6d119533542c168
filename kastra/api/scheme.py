"""Which kinds there are, and how each is addressed: the RESTMapping of this server.

One `Resource` per kind and served version; the `Scheme` finds it by kind, plural, singular, short name, with or without a
group. Built-in kinds are registered at start, custom ones when their CustomResourceDefinition is established, so the
scheme changes while the process runs; look things up when needed instead of keeping a Resource for long.

Source: apimachinery's meta.RESTMapper. Read next: `kastra.apiserver.crds`, which registers custom kinds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import NotFound
from .meta import join_api_version


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """A column of `get` output; `priority` above 0 shows only with `-o wide`."""

    name: str
    type: str
    json_path: str
    description: str = ""
    format: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the scale subresource finds its three values in an object."""

    spec_replicas: str
    status_replicas: str
    label_selector: str = ""


VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
"""Of a kind that nothing is special about."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind in one served version.

    Args:
        storage_version: the version in which objects of this kind are stored.
        has_status: whether status is a subresource, written only through it.
        has_generation: whether metadata.generation is kept (not for ConfigMap, Secret, Lease, Event).
        subresources: names beyond `status` and `scale`, such as `generate`.
        selectable_fields: JSONPaths (without the leading dot: `spec.model.provider`) usable in field selectors.
        schema: openAPIV3Schema of this version as JSON; None where the kind is free-form.
        builtin: True for kinds that no CustomResourceDefinition defines.
        verbs: what can be done with objects of the kind, sorted.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    list_kind: str
    namespaced: bool
    storage_version: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_status: bool = False
    has_generation: bool = True
    scale: ScalePaths | None = None
    subresources: tuple[str, ...] = ()
    columns: tuple[PrinterColumn, ...] = ()
    selectable_fields: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    builtin: bool = False
    verbs: tuple[str, ...] = VERBS

    @property
    def api_version(self) -> str:
        """`group/version` as it stands in manifests."""
        return join_api_version(self.group, self.version)

    @property
    def group_resource(self) -> str:
        """`agents.mastra.ai`; just the plural in the core group. The store's key for the kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Scheme:
    """All resources of a server; lookups take the first match in the order of registration."""

    def __init__(self) -> None:
        self._by_kind: dict[tuple[str, str, str], Resource] = {}
        self._by_name: dict[str, list[Resource]] = {}
        self.generation = 0
        """Rises at every change; caches of derived things key on it."""

    def register(self, resource: Resource) -> None:
        """Add a resource, or replace the one of the same group, version and kind."""
        self._by_kind[(resource.group, resource.version, resource.kind)] = resource
        self._rebuild()

    def unregister(self, group: str, kind: str, version: str | None = None) -> None:
        """Remove one version of a kind, or all; nothing happens when there is none."""
        for key in [k for k in self._by_kind if k[0] == group and k[2] == kind and version in (None, k[1])]:
            del self._by_kind[key]
        self._rebuild()

    def _rebuild(self) -> None:
        names: dict[str, list[Resource]] = {}
        for resource in self._by_kind.values():
            for name in dict.fromkeys(
                (resource.plural, resource.singular, resource.kind.lower(), *resource.short_names)
            ):
                names.setdefault(name, []).append(resource)
        self._by_name = names
        self.generation += 1

    def __iter__(self) -> Iterator[Resource]:
        return iter(tuple(self._by_kind.values()))

    def for_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource of a manifest's apiVersion and kind."""
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))

    def for_group_resource(self, group_resource: str) -> Resource | None:
        """The resource stored under `agents.mastra.ai`, in its storage version if that is served."""
        plural, _, group = group_resource.partition(".")
        candidates = [r for r in self._by_name.get(plural, ()) if r.group == group and r.plural == plural]
        for resource in candidates:
            if resource.version == resource.storage_version:
                return resource
        return candidates[0] if candidates else None

    def find(self, name: str) -> Resource:
        """The resource that a user means by `name`, in the way kubectl reads it.

        Args:
            name: kind, plural, singular or short name, case-insensitive; optionally followed by `.group` or
                `.version.group` (`agents.mastra.ai`, `Agent.v1.mastra.ai`).

        Raises:
            NotFound: there is none; the message is kubectl's.
        """
        head, _, rest = name.partition(".")
        candidates = self._by_name.get(head.lower(), ())
        if not rest:
            if candidates:
                return candidates[0]
        else:
            for resource in candidates:
                if rest in (resource.group, f"{resource.version}.{resource.group}"):
                    return resource
        raise NotFound(f'the server doesn\'t have a resource type "{name}"', name=name)

    def names(self) -> list[str]:
        """Every name `find` understands without a group, for suggestions."""
        return sorted(self._by_name)
