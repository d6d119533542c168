"""What the webhooks of Kubernetes' tests answer: `test/images/agnhost/webhook` and `crd-conversion-webhook`, in Python."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from tests.support.webhook_server import Answer, WebhookServer, patch

from .api import Json

DELAY = 2.0
"""Seconds that the slow webhook takes."""
SLOW = "/always-allow-delay"
_STAGES = ("mutation-start", "mutation-stage-1", "mutation-stage-2")


def answers(server: WebhookServer) -> dict[str, Answer]:
    """By path. Agents stand for Pods, their tools for containers."""

    def delay(request: Mapping[str, Any]) -> Json:
        server.released.wait(DELAY)
        return {"allowed": True, "status": {"message": "this webhook allows all requests"}}

    def agents(request: Mapping[str, Any]) -> Json | None:
        if request["object"]["metadata"].get("labels", {}).get("webhook-e2e-test") == "wait-forever":
            return server.hang(request)
        return admit_agent(request)

    return {
        "/agents": agents,
        "/configmaps": lambda request: admit_data(
            request, "the configmap", "the configmap contains unwanted key and value"
        ),
        "/custom-resource": lambda request: admit_data(
            request, "the custom resource", "the custom resource contains unwanted data"
        ),
        "/crd": admit_crd,
        "/mutating-configmaps": mutate_data,
        "/mutating-custom-resource": mutate_data,
        "/add-label": add_label,
        "/always-deny": lambda request: _refused(message="this webhook denies all requests"),
        SLOW: delay,
        "/crdconvert": convert,
    }


def admit_agent(request: Mapping[str, Any]) -> Json:
    """None with a certain label or tool."""
    obj = request["object"]
    message = ""
    if obj["metadata"].get("labels", {}).get("webhook-e2e-test") == "webhook-disallow":
        message += "the agent contains unwanted label; "
    if any("webhook-disallow" in tool for tool in obj["spec"].get("tools", ())):
        message += "the agent contains unwanted tool name; "
    return _refused(message=message.strip()) if message else {"allowed": True}


def admit_data(request: Mapping[str, Any], what: str, unwanted: str) -> Json:
    """What has certain data can't be created, updated or deleted."""
    deleted = request["operation"] == "DELETE"
    value = (request["oldObject" if deleted else "object"].get("data") or {}).get("webhook-e2e-test")
    if value == "webhook-disallow" and not deleted:
        return _refused(reason=unwanted)
    if value == "webhook-nondeletable" and deleted:
        return _refused(reason=f"{what} cannot be deleted because it contains unwanted key and value")
    return {"allowed": True}


def admit_crd(request: Mapping[str, Any]) -> Json:
    """None with a certain label."""
    if request["object"]["metadata"].get("labels", {}).get("webhook-e2e-test") == "webhook-disallow":
        return _refused(message="the crd contains unwanted label")
    return {"allowed": True}


def mutate_data(request: Mapping[str, Any]) -> Json:
    """Add the stage after the last that there is."""
    data = request["object"].get("data") or {}
    for before, stage in reversed(list(pairwise(_STAGES))):
        if data.get(before) == "yes":
            return patch({"op": "add", "path": f"/data/{stage}", "value": "yes"})
    return {"allowed": True}


def add_label(request: Mapping[str, Any]) -> Json:
    """Add a label."""
    labels = request["object"]["metadata"].get("labels") or {}
    return patch({"op": "add", "path": "/metadata/labels", "value": {**labels, "added-label": "yes"}})


def convert(request: Mapping[str, Any]) -> Json:
    """Between `hostPort` of v1 and `host` and `port` of v2."""
    version = request["desiredAPIVersion"]
    converted = []
    for obj in request["objects"]:
        if obj["apiVersion"] == version:
            message = f"conversion from a version to itself should not call the webhook: {version}"
            return {"result": {"status": "Failure", "message": message}}
        kept = {key: value for key, value in obj.items() if key not in ("hostPort", "host", "port")}
        if "hostPort" in obj:
            kept["host"], kept["port"] = obj["hostPort"].split(":")
        elif "host" in obj or "port" in obj:
            kept["hostPort"] = f"{obj.get('host', '')}:{obj.get('port', '')}"
        converted.append(kept | {"apiVersion": version})
    return {"result": {"status": "Success"}, "convertedObjects": converted}


def _refused(**status: str) -> Json:
    return {"allowed": False, "status": {"metadata": {}, **status}}
