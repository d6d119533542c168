"""Which resource does a path mean? `/apis/GROUP/VERSION/namespaces/NS/PLURAL/NAME/SUBRESOURCE`, split and looked up.

There is no table of patterns: what is served changes while the process runs, and splitting is faster. The lookup is made
anew whenever the scheme has changed. Never looks at whether an object exists.

Source: apiserver/pkg/endpoints/request/requestinfo.go. Read next: `kastra.apiserver.http.resources`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kastra.api.scheme import Resource, Scheme


class Route(NamedTuple):
    """What a path below `/api` or `/apis` means; empty `name` for a collection."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Router:
    """Finds the resource of a path."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._generation = -1
        self._versions: Mapping[tuple[str, str], Mapping[str, Resource]] = {}

    def versions(self) -> Mapping[tuple[str, str], Mapping[str, Resource]]:
        """The resources by plural, by (group, version)."""
        if self._generation != self._scheme.generation:
            found: dict[tuple[str, str], dict[str, Resource]] = {}
            for resource in self._scheme:
                found.setdefault((resource.group, resource.version), {})[resource.plural] = resource
            self._versions, self._generation = found, self._scheme.generation
        return self._versions

    def find(self, segments: Sequence[str]) -> Route | None:
        """The meaning of a path that begins with `api` or `apis`; None if it has none."""
        if segments[0] == "api":
            group, version, rest = "", segments[1], segments[2:]
        else:
            group, version, rest = segments[1], segments[2], segments[3:]
        resources = self.versions().get((group, version))
        if resources is None or not rest:
            return None
        if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] in resources:
            # Otherwise the third part is a subresource of the namespace itself.
            resource = resources[rest[2]]
            return _route(resource, rest[1], rest[3:]) if resource.namespaced else None
        found = resources.get(rest[0])
        if found is None:
            return None
        if found.namespaced and len(rest) > 1:
            return None  # an object of a namespaced kind without its namespace
        return _route(found, "", rest[1:])


def _route(resource: Resource, namespace: str, rest: Sequence[str]) -> Route:
    name = rest[0] if rest else ""
    return Route(resource, namespace, name, "/".join(rest[1:]))
