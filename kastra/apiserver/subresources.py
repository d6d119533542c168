"""What hangs below an object besides its status: the scale, and streams and actions that others plug in.

`scale` is a view of three fields as autoscaling/v1 Scale. Connect subresources (`runs/events`, `agents/generate`)
belong to the execution half, which this package doesn't know: the application registers a factory for each.

Source: autoscaling/v1, and rest.Connecter of the API server library. Read next: `kastra.apiserver.registry`.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kastra.api.errors import INVALID, TYPE_INVALID, Cause, Invalid, NotFound, invalid
from kastra.api.object import Object
from kastra.api.scheme import Resource, ScalePaths

from .call import User

SCALE_API_VERSION = "autoscaling/v1"


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """One use of a connect subresource.

    Args:
        object: the object below which it hangs.
        body: what was sent; None for reads.
        since: sequence number after which records are wanted; None for all.
    """

    object: Object
    user: User
    body: Mapping[str, Any] | None = None
    since: int | None = None


ConnectorFactory = Callable[[ConnectRequest], AsyncIterator[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class ConnectSubresource:
    """A registered subresource.

    Args:
        verb: what RBAC and discovery show: `get` for reads, `create` for actions.
        text: its records have a `text` each, which is all that clients are sent that don't ask for JSON alone.
    """

    name: str
    verb: Literal["get", "create"]
    factory: ConnectorFactory
    text: bool = False


class ConnectorRegistry:
    """Connect subresources by the plural of their kind: `agents.mastra.ai` has `generate`."""

    def __init__(self) -> None:
        self._by_resource: dict[str, dict[str, ConnectSubresource]] = {}

    def register(
        self,
        group_resource: str,
        name: str,
        factory: ConnectorFactory,
        *,
        verb: Literal["get", "create"] = "get",
        text: bool = False,
    ) -> None:
        """Serve `name` below every object of `group_resource` (`runs.mastra.ai`); replaces an earlier one."""
        self._by_resource.setdefault(group_resource, {})[name] = ConnectSubresource(name, verb, factory, text)

    def of(self, group_resource: str) -> list[ConnectSubresource]:
        """The subresources of a kind, for discovery."""
        return list(self._by_resource.get(group_resource, {}).values())

    def find(self, resource: Resource, name: str) -> ConnectSubresource:
        """One subresource. Raises NotFound with those that exist."""
        known = self._by_resource.get(resource.group_resource, {})
        found = known.get(name)
        if found is None:
            has = f"; it has {', '.join(sorted(known))}" if known else ""
            raise NotFound(
                f"{resource.group_resource} has no subresource {name!r}{has}",
                group=resource.group,
                kind=resource.plural,
            )
        return found


def scale_of(obj: Mapping[str, Any], paths: ScalePaths) -> dict[str, Any]:
    """The Scale of an object; absent numbers are 0, as in Kubernetes."""
    metadata = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: dict[str, Any] = {"replicas": _number(_read(obj, paths.status_replicas))}
    if paths.label_selector:
        selector = _read(obj, paths.label_selector)
        if isinstance(selector, str) and selector:
            status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": SCALE_API_VERSION,
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": _number(_read(obj, paths.spec_replicas))},
        "status": status,
    }


def set_scale(obj: dict[str, Any], scale: Mapping[str, Any], resource: Resource) -> None:
    """Write a Scale's `spec.replicas` (and its resourceVersion, if it has one) into the object.

    Raises:
        Invalid: the replicas are no whole number of 0 or more, or spec or metadata are no objects.
    """
    assert resource.scale is not None
    spec, metadata = (_map(obj, scale, name) for name in ("spec", "metadata"))
    replicas = spec.get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise _bad_scale(obj, Cause(TYPE_INVALID, "Invalid value: must be an integer", "spec.replicas"))
    if replicas < 0:
        why = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise _bad_scale(obj, Cause(INVALID, why, "spec.replicas"))
    *parents, last = _keys(resource.scale.spec_replicas)
    place = obj
    for key in parents:
        inner = place.get(key)
        # A copy on the way: the old object may share these parts.
        place[key] = dict(inner) if isinstance(inner, dict) else {}
        place = place[key]
    place[last] = replicas
    for name in ("resourceVersion", "uid"):
        if metadata.get(name):
            obj["metadata"][name] = metadata[name]


def _map(obj: Mapping[str, Any], scale: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = scale.get(name) or {}
    if not isinstance(value, Mapping):
        raise _bad_scale(obj, Cause(TYPE_INVALID, "Invalid value: must be an object", name))
    return value


def _bad_scale(obj: Mapping[str, Any], cause: Cause) -> Invalid:
    return invalid("Scale", "autoscaling", obj["metadata"].get("name", ""), [cause])


def _keys(path: str) -> list[str]:
    return path.lstrip(".").split(".")


def _read(obj: Mapping[str, Any], path: str) -> Any:
    value: Any = obj
    for key in _keys(path):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
