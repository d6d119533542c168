"""Webhooks as the tests of Kubernetes register them: for the namespaces of one test, by labels that nothing else has."""

from typing import Any

from tests.support.webhook_server import WebhookServer

from .api import MERGE_PATCH, Answer, Api, Json

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations"
VALIDATING, MUTATING = CONFIGURATIONS.format("validating"), CONFIGURATIONS.format("mutating")
UNWANTED = {"webhook-e2e-test": "webhook-disallow"}
"""Data that no ConfigMap may have."""
START = {"mutation-start": "yes"}
"""Data to which a webhook adds."""


class Hooks:
    """The webhooks of one test.

    Args:
        name: of configurations, and the label by which webhooks know what concerns them.
    """

    def __init__(self, api: Api, server: WebhookServer, namespace: str, name: str) -> None:
        self._api = api
        self._server = server
        self._registered: list[str] = []
        self._namespaces: list[str] = []
        self._count = 0
        self.name = name
        self.markers = f"{name}-markers"
        """The namespace of requests that only show whether a configuration is in effect."""
        self.config_maps = f"/api/v1/namespaces/{namespace}/configmaps"

    def label(self, namespace: str) -> None:
        """Let webhooks concern a namespace."""
        self._api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {self.name: "true"}}}, MERGE_PATCH)

    def add_namespace(self, suffix: str, **labels: str) -> str:
        """Another namespace that concerns webhooks, and where its ConfigMaps are."""
        name = f"{self.name}-{suffix}"
        self._api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": {self.name: "true", **labels}}})
        self._namespaces.append(name)
        return f"/api/v1/namespaces/{name}/configmaps"

    def remove(self) -> None:
        """Remove all."""
        for path in self._registered:
            self._api.ask("DELETE", path)
        for name in (self.markers, *self._namespaces):
            self._api.ask("DELETE", f"/api/v1/namespaces/{name}")

    # ---- webhooks

    def webhook(self, name: str, path: str, rule: Json, **more: Any) -> Json:
        """One that is asked at a path about the namespaces of the test."""
        return {
            "name": f"{name}.k8s.io",
            "clientConfig": self._server.config(path),
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1", "v1beta1"],
            "namespaceSelector": self.selector,
            **more,
        }

    @property
    def selector(self) -> Json:
        """Selects what concerns the test."""
        return {"matchLabels": {self.name: "true"}}

    @property
    def url(self) -> str:
        """Of the server of webhooks, without a path."""
        return self._server.url

    def deny_config_maps(self) -> Json:
        """Not in namespaces that are labelled to be skipped."""
        skipped = {"key": "skip-webhook-admission", "operator": "NotIn", "values": ["yes"]}
        return self.webhook(
            "deny-unwanted-configmap-data",
            "/configmaps",
            rule("configmaps", "CREATE", "UPDATE", "DELETE"),
            namespaceSelector={**self.selector, "matchExpressions": [skipped]},
        )

    def mutate_config_maps(self, stage: int = 1, **more: Any) -> Json:
        """At their creation."""
        name = f"adding-configmap-data-stage-{stage}"
        return self.webhook(name, "/mutating-configmaps", rule("configmaps", "CREATE"), **more)

    def unreachable(self, name: str, **more: Any) -> Json:
        """One whose certificate nobody vouches for, so that no call succeeds."""
        config = {"url": f"{self.url}/configmaps"}
        return self.webhook(name, "", rule("configmaps", "CREATE"), clientConfig=config, **more)

    def _ready(self, kind: str) -> Json:
        return self.webhook(
            f"{kind}-is-webhook-configuration-ready",
            "/always-deny",
            rule("configmaps", "CREATE"),
            failurePolicy="Ignore",
            namespaceSelector={"matchLabels": {f"{self.name}-markers": "true"}},
            objectSelector=self.selector,
        )

    # ---- configurations

    def register(self, path: str, *webhooks: Json, name: str = "", labels: dict[str, str] | None = None) -> Json:
        """Create a configuration, see that it is in effect at once, and return it."""
        made = self.attempt(path, *webhooks, name=name, labels=labels)
        assert made.status == 201, made.body
        assert self.is_ready()
        found: Json = made.json
        return found

    def attempt(self, path: str, *webhooks: Json, name: str = "", labels: dict[str, str] | None = None) -> Answer:
        """Create a configuration, if it is accepted."""
        kind = "Validating" if path == VALIDATING else "Mutating"
        name = name or self.name
        configuration = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": name, "labels": labels or {}},
            "webhooks": [*webhooks, self._ready(kind.lower())],
        }
        self._registered.append(f"{path}/{name}")
        return self._api.ask("POST", path, configuration)

    def is_ready(self) -> bool:
        """Whether a configuration is in effect, which denies markers."""
        marker = {"metadata": {"name": self.fresh(), "labels": {self.name: "true"}}}
        answer = self._api.ask("POST", f"/api/v1/namespaces/{self.markers}/configmaps", marker)
        return answer.status == 400 and b"denied" in answer.body

    def fresh(self) -> str:
        """A name that was never used."""
        self._count += 1
        return f"{self.name}-{self._count}"

    # ---- what they do

    def allows_unwanted(self) -> bool:
        """Whether a ConfigMap with unwanted data can be created; if not, then since a webhook denies it."""
        name = self.fresh()
        answer = self._api.ask("POST", self.config_maps, config_map(name, UNWANTED))
        if answer.status == 201:
            self._api.delete(f"{self.config_maps}/{name}")
            return True
        assert b"denied" in answer.body, answer.body
        return False

    def mutates(self) -> bool:
        """Whether something is added to a ConfigMap."""
        name = self.fresh()
        made = self._api.create(self.config_maps, config_map(name, START))
        self._api.delete(f"{self.config_maps}/{name}")
        return "mutation-stage-1" in made["data"]


def config_map(name: str, data: dict[str, str]) -> Json:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def rule(resource: str, *operations: str, group: str = "", versions: tuple[str, ...] = ("v1",)) -> Json:
    """Which requests concern a webhook."""
    return {
        "operations": list(operations),
        "apiGroups": [group],
        "apiVersions": list(versions),
        "resources": [resource],
    }
