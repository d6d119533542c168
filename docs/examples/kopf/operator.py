"""A kopf operator for a kind of one's own: a Greeting gets a ConfigMap with its text, and its length into status."""

from typing import Any

import kopf
import kubernetes

GROUP = "example.com"


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Only warnings become Events."""
    settings.posting.level = 30


@kopf.on.create(GROUP, "v1", "greetings")
def created(spec: kopf.Spec, name: str, namespace: str, body: kopf.Body, **_: Any) -> dict[str, Any]:
    """Make the ConfigMap that the Greeting owns."""
    text = f"Hello, {spec['name']}!"
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-text"}, "data": {"text": text}}
    kopf.adopt(config, owner=body)
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, config)
    return {"length": len(text)}


@kopf.on.field(GROUP, "v1", "greetings", field="spec.name")
def renamed(old: Any, new: Any, name: str, namespace: str, **_: Any) -> dict[str, Any] | None:
    """Write the new text."""
    if old is None:
        return None  # it is being created
    patch = {"data": {"text": f"Hello, {new}!"}}
    kubernetes.client.CoreV1Api().patch_namespaced_config_map(f"{name}-text", namespace, patch)
    return {"was": old}


@kopf.timer(GROUP, "v1", "greetings", interval=1.0, initial_delay=0.5)
def ticked(patch: kopf.Patch, status: kopf.Status, **_: Any) -> None:
    """Note that the timer works."""
    if not status.get("ticked"):
        patch.status["ticked"] = True


@kopf.on.delete(GROUP, "v1", "greetings")
def deleted(name: str, namespace: str, **_: Any) -> None:
    """Leave a trace."""
    farewell = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-gone"}, "data": {}}
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, farewell)


@kopf.on.event("mastra.ai", "v1", "agents")
def seen(name: str, namespace: str, type: str, **_: Any) -> None:  # noqa: A002 - kopf's name
    """Tell what happens to Agents."""
    print(f"agent {namespace}/{name}: {type}", flush=True)
