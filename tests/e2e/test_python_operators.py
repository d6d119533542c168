"""Python clients other than the official one, unchanged, over TLS with a token: kopf, kr8s, lightkube."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, utils
from lightkube import Client as Lightkube
from lightkube import KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource, load_in_cluster_generic_resources
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap

from kastra.manifest.decode import decode
from tests.docs.pages import ROOT, blocks_of

from .conftest import Server

# The clients leave connections to the garbage collector.
pytestmark = [
    pytest.mark.usefixtures("rubbish"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
OPERATOR = ROOT / "docs" / "examples" / "kopf"
WAIT = 40.0


def until(condition: Callable[[], Any], seconds: float = WAIT) -> Any:
    """The first true value of `condition`, asked again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def manifests(name: str) -> list[dict[str, Any]]:
    """The objects in a file of the example."""
    return [document.value for document in decode((OPERATOR / name).read_bytes())]


@pytest.fixture
def api(server: Server) -> Iterator[client.ApiClient]:
    made = config.new_client_from_config(str(server.kubeconfig))
    yield made
    made.rest_client.pool_manager.clear()


class Operator:
    """A kopf operator as a process of its own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.log = folder / "operator.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "PYTEST_"))}
        with self.log.open("a", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kopf", "run", "--namespace", "default", str(OPERATOR / "operator.py")],
                env={**kept, "KUBECONFIG": str(server.kubeconfig)}, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")


def test_a_kopf_operator_handles_creation_fields_timers_deletion_and_restarts(
    server: Server, api: client.ApiClient, tmp_path: Path
) -> None:
    [definition] = manifests("crd.yaml")
    client.ApiextensionsV1Api(api).create_custom_resource_definition(definition)
    greetings = client.CustomObjectsApi(api)
    core = client.CoreV1Api(api)
    place = ("example.com", "v1", "default", "greetings")

    def get() -> dict[str, Any]:
        found: dict[str, Any] = greetings.get_namespaced_custom_object(*place, "first")
        return found

    def text() -> str:
        return str(core.read_namespaced_config_map("first-text", "default").data["text"])

    operator = Operator(server, tmp_path)
    try:
        greetings.create_namespaced_custom_object(*place, *manifests("greeting.yaml"))
        until(lambda: get().get("status", {}).get("created") == {"length": 11})
        assert text() == "Hello, Ada!"
        assert get()["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
        until(lambda: get()["status"].get("ticked"))
        greetings.patch_namespaced_custom_object(*place, "first", {"spec": {"name": "Grace"}})
        until(lambda: text() == "Hello, Grace!")
        until(lambda: get()["status"].get("renamed/spec.name") == {"was": "Ada"})
        agent = {"apiVersion": "mastra.ai/v1", "kind": "Agent", "metadata": {"name": "watched"}, "spec": {}}
        client.CustomObjectsApi(api).create_namespaced_custom_object("mastra.ai", "v1", "default", "agents", agent)
        until(lambda: "agent default/watched: ADDED" in operator.said)
        operator.stop()
        greetings.patch_namespaced_custom_object(*place, "first", {"spec": {"name": "Joan"}})
        operator = Operator(server, tmp_path)
        until(lambda: text() == "Hello, Joan!")
        greetings.delete_namespaced_custom_object(*place, "first")
        until(lambda: not greetings.list_namespaced_custom_object(*place)["items"])
        assert core.read_namespaced_config_map("first-gone", "default").metadata.name == "first-gone"
        # The ConfigMap that the Greeting owned goes with it.
        until(
            lambda: (
                "first-text" not in [item.metadata.name for item in core.list_namespaced_config_map("default").items]
            )
        )
    finally:
        operator.stop()
    lines = [line for line in operator.said.splitlines() if "WARNING" in line or "ERROR" in line or "Traceback" in line]
    assert not lines, lines


def test_create_from_yaml(server: Server, api: client.ApiClient, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-yaml}\ndata: {a: b}\n")
    utils.create_from_yaml(api, str(file))
    assert client.CoreV1Api(api).read_namespaced_config_map("from-yaml", "default").data == {"a": "b"}


async def test_kr8s_creates_patches_watches_waits_and_deletes(server: Server) -> None:
    import kr8s
    from kr8s.asyncio.objects import ConfigMap as KrConfigMap
    from kr8s.asyncio.objects import new_class

    api = await kr8s.asyncio.api(kubeconfig=str(server.kubeconfig), namespace="default")
    version = await api.version()
    assert version["minor"] == "33"
    assert await api.whoami() == "kastra-admin"
    config_map = await KrConfigMap({"metadata": {"name": "kr", "namespace": "default"}, "data": {"a": "b"}}, api=api)
    await config_map.create()
    await config_map.patch({"data": {"c": "d"}})
    assert dict(config_map.data) == {"a": "b", "c": "d"}
    await config_map.label({"x": "y"})
    assert [item.name async for item in api.get("configmaps", label_selector="x=y")] == ["kr"]
    agent_class = new_class("Agent", version="mastra.ai/v1", namespaced=True)
    agent = await agent_class(
        {"metadata": {"name": "kr", "namespace": "default"}, "spec": {"instructions": "Hi."}}, api=api
    )
    await agent.create()
    while "status" not in agent.raw:
        await agent.refresh()
    await agent.wait("condition=Ready=False", timeout=10)
    assert [item.name async for item in api.get("agents.mastra.ai", "kr")] == ["kr"]

    async def first_change() -> str:
        async for kind, item in api.watch("configmaps", namespace="default"):
            if item.name == "kr" and item.raw["data"].get("e"):
                return str(kind)
        return ""

    watching = asyncio.create_task(first_change())
    await asyncio.sleep(0.2)
    await config_map.patch({"data": {"e": "f"}})
    assert await asyncio.wait_for(watching, 10) in ("MODIFIED", "ADDED")
    await config_map.delete()
    await agent.delete()
    assert not await config_map.exists()


def test_lightkube_knows_custom_kinds_and_applies_patches_watches_and_deletes(server: Server) -> None:
    lightkube = Lightkube(KubeConfig.from_file(str(server.kubeconfig)).get(), field_manager="lightkube-test")
    load_in_cluster_generic_resources(lightkube)
    agents = create_namespaced_resource("mastra.ai", "v1", "Agent", "agents")
    config_map = ConfigMap(metadata=ObjectMeta(name="light", namespace="default"), data={"a": "b"})
    assert lightkube.create(config_map).metadata.uid
    assert lightkube.patch(ConfigMap, "light", {"data": {"c": "d"}}).data == {"a": "b", "c": "d"}
    applied = lightkube.apply(
        agents(metadata=ObjectMeta(name="light"), spec={"instructions": "Hi."}), namespace="default"
    )
    assert applied.spec == {"instructions": "Hi."}
    assert "light" in [item.metadata.name for item in lightkube.list(agents, namespace="default")]
    for kind, item in lightkube.watch(ConfigMap, fields={"metadata.name": "light"}):
        assert (kind, item.metadata.name) == ("ADDED", "light")
        break
    lightkube.delete(ConfigMap, "light")
    lightkube.delete(agents, "light")
    with pytest.raises(ApiError, match="not found"):
        lightkube.get(ConfigMap, "light")


@pytest.mark.parametrize("number", range(3))
def test_the_scripts_on_the_page_of_python_clients_run(server: Server, tmp_path: Path, number: int) -> None:
    scripts = [block for block in blocks_of(ROOT / "docs" / "python-clients.md") if "served" in block.words]
    assert len(scripts) == 3
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", scripts[number].text],
        env={**os.environ, "KUBECONFIG": str(server.kubeconfig)}, cwd=tmp_path, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("package", ["kubernetes", "kopf", "kr8s", "lightkube"])
def test_the_table_of_compatibility_names_the_versions_that_are_run_here(package: str) -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text()
    table = page.partition("<!-- clients -->")[2].partition("<!-- end of clients -->")[0]
    [row] = [line for line in table.splitlines() if line.startswith(f"| {package} ")]
    assert (version(package) + ".").startswith(row.split("|")[2].strip() + ".")
