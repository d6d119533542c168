"""A custom kind whose versions a webhook converts: objects are read, listed, selected and watched in either."""

from collections.abc import Callable, Iterable

import pytest

from tests.support.webhook_server import WebhookServer

from .api import CRDS, Api, Json, Watch
from .conftest import Define
from .definitions import collection, instance, random_definition

Unique = Callable[[str], str]
TEXT = {"type": "string"}


def versions(storage: str, *, selectable: bool = False) -> list[Json]:
    """v1 has `hostPort`, v2 has `host` and `port`."""
    made = []
    for name, fields in (("v1", ("hostPort",)), ("v2", ("host", "port"))):
        schema = {"type": "object", "properties": dict.fromkeys(fields, TEXT)}
        version = {"name": name, "served": True, "storage": name == storage, "schema": {"openAPIV3Schema": schema}}
        chosen = {"selectableFields": [{"jsonPath": f".{field}"} for field in fields]} if selectable else {}
        made.append({**version, **chosen})
    return made


@pytest.fixture
def converted(api: Api, namespace: str, webhook: WebhookServer, unique: Unique, define: Define) -> Callable[..., Json]:
    """Define a kind that the webhook converts, and see that it does."""

    def create(*, selectable: bool = False) -> Json:
        definition = random_definition(unique, "Namespaced")
        config = {"clientConfig": webhook.config("/crdconvert"), "conversionReviewVersions": ["v1", "v1beta1"]}
        definition["spec"] |= {
            "versions": versions("v1", selectable=selectable),
            "conversion": {"strategy": "Webhook", "webhook": config},
        }
        define(definition)
        path = collection(definition, namespace, "v2")
        api.create(path, instance(definition, "ready", "v2"))
        api.delete(f"{path}/ready")
        return definition

    return create


def fields(obj: Json) -> Json:
    return {key: value for key, value in obj.items() if key not in ("kind", "metadata")}


def shown(definition: Json, version: str) -> Json:
    """What an object shows that was created with `hostPort: localhost:8080`."""
    data = {"hostPort": "localhost:8080"} if version == "v1" else {"host": "localhost", "port": "8080"}
    return {"apiVersion": f"{definition['spec']['group']}/{version}", **data}


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2 [Conformance]"
)
def test_what_is_created_in_one_version_is_read_in_the_other(
    api: Api, namespace: str, converted: Callable[..., Json]
) -> None:
    definition = converted()
    made = instance(definition, "cr-instance-1", "v1") | {"hostPort": "localhost:8080"}
    api.create(collection(definition, namespace, "v1"), made)
    read = api.get(f"{collection(definition, namespace, 'v2')}/cr-instance-1")
    assert fields(read) == shown(definition, "v2")


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs [Conformance]"
)
def test_a_list_of_objects_stored_in_different_versions_shows_one(
    api: Api, namespace: str, converted: Callable[..., Json]
) -> None:
    definition = converted()
    path = collection(definition, namespace, "v1")
    data = {"hostPort": "localhost:8080"}
    api.create(path, instance(definition, "cr-instance-1", "v1") | data)
    api.change(f"{CRDS}/{definition['metadata']['name']}", lambda found: found["spec"].update(versions=versions("v2")))
    api.create(path, instance(definition, "cr-instance-2", "v1") | data)
    for version in ("v1", "v2"):
        items = api.get(collection(definition, namespace, version))["items"]
        assert {item["metadata"]["name"] for item in items} == {"cr-instance-1", "cr-instance-2"}
        assert [fields(item) for item in items] == [shown(definition, version)] * 2


def expect(watch: Watch, event: str, names: Iterable[str]) -> None:
    """The next events of a watch, in whichever order."""
    wanted = set(names)
    assert {watch.expect(event)["metadata"]["name"] for _ in wanted} == wanted


@pytest.mark.conformance(
    "[sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector [Conformance]"
)
def test_objects_are_selected_by_fields_of_the_version_that_is_asked(
    api: Api, namespace: str, converted: Callable[..., Json], unique: Unique
) -> None:
    """An informer is a list, and a watch from there."""
    definition = converted(selectable=True)
    v1, v2 = (collection(definition, namespace, version) for version in ("v1", "v2"))

    def names(path: str, selector: str) -> set[str]:
        return {item["metadata"]["name"] for item in api.get(path, fieldSelector=selector)["items"]}

    def watched(path: str, selector: str) -> Watch:
        return api.watch(path, fieldSelector=selector)

    def informed(path: str, selector: str) -> Watch:
        listed = api.get(path, fieldSelector=selector)
        assert listed["items"] == []
        version = listed["metadata"]["resourceVersion"]
        return api.watch(path, fieldSelector=selector, resourceVersion=version, allowWatchBookmarks="true")

    host, host_port = "host=host1", "host=host1,port=80"
    of_host = [watched(v2, host), informed(v2, host)]
    of_port = [watched(v2, host_port), watched(v1, "hostPort=host1:80"), informed(v2, host_port)]
    try:
        made = [unique("selectable-field-cr") for _ in range(3)]
        objects: list[Json] = [{"host": "host1", "port": "80"}, {"host": "host1", "port": "8080"}, {"host": "host2"}]
        for name, data in zip(made, objects, strict=True):
            api.create(v2, instance(definition, name, "v2") | data)
        assert names(v2, host) == {made[0], made[1]}
        assert names(v2, host_port) == {made[0]}
        assert names(v1, "hostPort=host1:80") == {made[0]}
        assert names(v1, "hostPort=host1:8080") == {made[1]}
        for watch in of_host:
            expect(watch, "ADDED", made[:2])
        for watch in of_port:
            expect(watch, "ADDED", made[:1])

        api.delete(v2, {"gracePeriodSeconds": 0}, fieldSelector=host_port)
        api.change(f"{v2}/{made[1]}", lambda obj: obj.update(host="host2"))
        assert names(v2, host) == set()
        assert names(v2, host_port) == set()
        for watch in of_host:
            expect(watch, "DELETED", made[:2])
        for watch in of_port:
            expect(watch, "DELETED", made[:1])
    finally:
        for watch in (*of_host, *of_port):
            watch.close()
