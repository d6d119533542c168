"""One `kastra serve` for all cases that a process runs, a namespace for each, and kinds that go when the test is over."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from tests.e2e.conftest import KUBECTLS, Kubectl, Server, start_server, stop_server
from tests.support.webhook_server import WebhookServer, webhook_server

from .answers import answers
from .api import CRDS, Api, Json
from .hooks import Hooks

_NUMBERS = itertools.count(1)
Define = Callable[[Json], Any]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("conformance")
    # Webhooks are on this machine, which is called only if the operator says so.
    (folder / "kastra.toml").write_text('allow_private_hosts = ["127.0.0.1"]\n', encoding="utf-8")
    running = start_server(folder)
    try:
        yield running
    finally:
        code = stop_server(running)
    assert code == 0
    defects = [line for line in running.log.read_text(encoding="utf-8").splitlines() if '"level":"error"' in line]
    assert not defects


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    made = Api(str(server.kubeconfig))
    yield made
    made.close()


@pytest.fixture
def typed(server: Server) -> Iterator[client.ApiClient]:
    """The Python client of Kubernetes."""
    made = config.new_client_from_config(str(server.kubeconfig))
    yield made
    made.rest_client.pool_manager.clear()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"e2e-{next(_NUMBERS)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    api.ask("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def unique() -> Callable[[str], str]:
    """A name that nothing else has."""
    return lambda prefix: f"{prefix}{next(_NUMBERS)}"


@pytest.fixture
def define(api: Api) -> Iterator[Define]:
    """Create a CustomResourceDefinition, and delete it in the end."""
    names: list[str] = []

    def create(definition: Json) -> Any:
        made = api.create(CRDS, definition)
        names.append(definition["metadata"]["name"])
        for version in definition["spec"]["versions"]:
            if version["served"]:
                path = f"/apis/{definition['spec']['group']}/{version['name']}"
                assert definition["spec"]["names"]["plural"] in [row["name"] for row in api.get(path)["resources"]]
        return made

    yield create
    for name in names:
        api.ask("DELETE", f"{CRDS}/{name}")


@pytest.fixture
def kubectl(server: Server, namespace: str, tmp_path: Path) -> Kubectl:
    """The newest kubectl of this machine, in the namespace of the test."""
    if not KUBECTLS:
        pytest.skip("no numbered kubectl (kubectl.1.33) on this machine")
    return Kubectl(list(KUBECTLS.values())[-1], tmp_path, server, namespace)


@pytest.fixture(scope="session")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebhookServer]:
    """A server that answers reviews of admission and of conversion as the one of Kubernetes' tests does."""
    with webhook_server(tmp_path_factory.mktemp("webhook")) as running:
        running.at = answers(running)
        yield running


@pytest.fixture
def hooks(api: Api, webhook: WebhookServer, namespace: str, unique: Callable[[str], str]) -> Iterator[Hooks]:
    """Webhooks that concern the namespace of the test alone, until it is over."""
    made = Hooks(api, webhook, namespace, unique("webhook"))
    made.label(namespace)
    api.create("/api/v1/namespaces", {"metadata": {"name": made.markers, "labels": {f"{made.name}-markers": "true"}}})
    yield made
    made.remove()
