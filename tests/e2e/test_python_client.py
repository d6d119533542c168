"""The Python client `kubernetes`, unchanged, over TLS with a token: typed, custom objects, dynamic, watch."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

from .conftest import Server

GROUP, VERSION, NAMESPACE, PLURAL = "mastra.ai", "v1", "default", "agents"


def agent(name: str, instructions: str = "You cook.") -> dict[str, Any]:
    return {
        "apiVersion": "mastra.ai/v1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {"instructions": instructions},
    }


@pytest.fixture
def api(server: Server) -> Iterator[client.ApiClient]:
    made = config.new_client_from_config(str(server.kubeconfig))
    yield made
    made.rest_client.pool_manager.clear()


def test_typed_objects_are_created_patched_listed_and_deleted(api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="typed", labels={"a": "b"}), data={"k": "v"})
    assert core.create_namespaced_config_map(NAMESPACE, body).metadata.uid
    assert core.patch_namespaced_config_map("typed", NAMESPACE, {"data": {"x": "y"}}).data == {"k": "v", "x": "y"}
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector="a=b", limit=10)
    assert [item.metadata.name for item in listed.items] == ["typed"]
    core.delete_namespaced_config_map("typed", NAMESPACE)
    with pytest.raises(ApiException) as refused:
        core.read_namespaced_config_map("typed", NAMESPACE)
    assert refused.value.status == 404


def test_the_version_and_the_groups_can_be_read(api: client.ApiClient) -> None:
    assert client.VersionApi(api).get_code().minor == "33"
    assert "mastra.ai" in [group.name for group in client.ApisApi(api).get_api_versions().groups]
    assert "configmaps" in [resource.name for resource in client.CoreV1Api(api).get_api_resources().resources]


def test_custom_objects_are_created_patched_replaced_and_deleted(api: client.ApiClient) -> None:
    custom = client.CustomObjectsApi(api)
    made = custom.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, agent("custom"))
    patch = {"metadata": {"labels": {"x": "y"}}}
    patched = custom.patch_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, "custom", patch)
    assert patched["metadata"]["labels"] == {"x": "y"}
    with pytest.raises(ApiException) as conflict:
        custom.replace_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, "custom", made)
    assert conflict.value.status == 409
    gone = custom.delete_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, "custom")
    assert gone["details"]["uid"] == made["metadata"]["uid"]


def test_a_watch_sees_changes_and_ends_after_its_time(api: client.ApiClient) -> None:
    custom = client.CustomObjectsApi(api)
    custom.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, agent("seen"))
    seen: list[tuple[str, str]] = []
    for event in watch.Watch().stream(
        custom.list_namespaced_custom_object, GROUP, VERSION, NAMESPACE, PLURAL, timeout_seconds=2
    ):
        if event["object"]["metadata"]["name"] == "seen":
            seen.append((event["type"], event["object"]["spec"]["instructions"]))
        if len(seen) == 1:
            change = {"spec": {"instructions": "You bake."}}
            threading.Thread(
                target=custom.patch_namespaced_custom_object,
                args=(GROUP, VERSION, NAMESPACE, PLURAL, "seen", change),
            ).start()
            seen.append(("asked", ""))
    assert seen[0] == ("ADDED", "You cook.")
    assert ("MODIFIED", "You bake.") in seen


def test_the_dynamic_client_applies(api: client.ApiClient) -> None:
    agents = dynamic.DynamicClient(api).resources.get(api_version="mastra.ai/v1", kind="Agent")
    applied = agents.server_side_apply(body=agent("applied"), namespace=NAMESPACE, field_manager="tests")
    assert applied.spec.instructions == "You cook."
    assert applied.metadata.managedFields[0].manager == "tests"
    assert [item.metadata.name for item in agents.get(namespace=NAMESPACE).items if item.metadata.name == "applied"]


def test_a_wrong_token_is_refused(server: Server) -> None:
    settings = client.Configuration()
    config.load_kube_config(str(server.kubeconfig), client_configuration=settings)
    settings.api_key = {"authorization": "Bearer wrong"}
    settings.refresh_api_key_hook = None
    with client.ApiClient(settings) as stranger, pytest.raises(ApiException) as refused:
        client.CoreV1Api(stranger).list_namespace()
    assert refused.value.status == 401
