"""Writing objects of the config kinds and reading what their controllers say, for the tests of these controllers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.testing import ControlPlane

SCRIPTED: Mapping[str, Any] = {"provider": "scripted", "parameters": {"rules": [{"reply": "hello"}]}}
INLINE: Mapping[str, Any] = {"python": {"inline": "def look_up(word: str) -> str:\n    return word\n"}}


class Said(NamedTuple):
    """A condition."""

    status: str
    reason: str
    message: str = ""


def manifest(kind: str, name: str, spec: Mapping[str, Any], namespace: str = "default") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "mastra.ai/v1", "kind": kind, "metadata": metadata, "spec": dict(spec)}


def agent(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    if "model" not in spec and "modelRef" not in spec:
        spec["model"] = SCRIPTED
    return manifest("Agent", name, {"instructions": "Help.", **spec}, namespace)


def tool(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return manifest("Tool", name, spec or INLINE, namespace)


def secret(name: str, namespace: str = "default", **values: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def namespace(name: str, **annotations: str) -> dict[str, Any]:
    notes = {f"mastra.ai/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": notes}}


async def apply(env: ControlPlane, *objects: Mapping[str, Any]) -> None:
    """Apply and wait until controllers have nothing left to do."""
    await env.apply(*objects)
    await env.settle()


async def remove(env: ControlPlane, kind: str, name: str, namespace: str = "default") -> None:
    """Delete and wait."""
    await env.client.delete(ObjectRef(kind, name, namespace))
    await env.settle()


async def said(env: ControlPlane, kind: str, name: str, type_: str = "Ready", namespace: str = "default") -> Said:
    """A condition; empty if it isn't there."""
    condition = (await env.get(kind, name, namespace)).condition(type_) or {}
    return Said(condition.get("status", ""), condition.get("reason", ""), condition.get("message", ""))


async def ready(env: ControlPlane, kind: str, name: str, namespace: str = "default") -> tuple[str, str]:
    """Status and reason of Ready."""
    return (await said(env, kind, name, "Ready", namespace))[:2]


async def status(env: ControlPlane, kind: str, name: str, namespace: str = "default") -> Mapping[str, Any]:
    return (await env.get(kind, name, namespace)).status


def writes_of(env: ControlPlane, kind: str) -> Callable[[], int]:
    """A count that rises with every write of a kind that controllers have seen."""
    informer = env.manager.cache.informer(kind)
    return lambda: informer.position


async def the(env: ControlPlane, kind: str) -> list[Object]:
    """All objects of a kind, by name."""
    return sorted((await env.client.list(kind)).items, key=lambda obj: obj.name)
