"""Events in both of their APIs, ConfigMaps and Leases, by the typed Python client of Kubernetes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

SOME_TIME = datetime.fromtimestamp(1505828956, UTC)


def shown(obj: Any) -> dict[str, Any]:
    """An object without what the server alone says."""
    data: dict[str, Any] = obj.to_dict()
    data["metadata"] |= {"resource_version": None, "managed_fields": None}
    data["metadata"] = {key: value for key, value in data["metadata"].items() if value is not None}
    return data


# ---- Events of the core group


def core_event(namespace: str, name: str, label: str, message: str) -> client.CoreV1Event:
    return client.CoreV1Event(
        metadata=client.V1ObjectMeta(name=name, labels={label: "true"}),
        message=message,
        reason="Test",
        type="Normal",
        count=1,
        involved_object=client.V1ObjectReference(namespace=namespace),
    )


def is_listed(listed: Any, namespace: str, name: str) -> bool:
    return (namespace, name) in [(item.metadata.namespace, item.metadata.name) for item in listed.items]


@pytest.mark.conformance("[sig-instrumentation] Events should manage the lifecycle of an event [Conformance]")
def test_an_event_is_listed_patched_updated_and_deleted(typed: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(typed)
    selector = "testevent-constant=true"
    core.create_namespaced_event(
        namespace, core_event(namespace, "event-test", "testevent-constant", "This is a test event")
    )
    assert is_listed(core.list_event_for_all_namespaces(label_selector=selector), namespace, "event-test")

    core.patch_namespaced_event("event-test", namespace, {"message": "This is a test event - patched"})
    event = core.read_namespaced_event("event-test", namespace)
    assert event.message == "This is a test event - patched"

    event.series = client.CoreV1EventSeries(count=100, last_observed_time=SOME_TIME)
    event.metadata.resource_version = None
    event.metadata.managed_fields = None
    core.replace_namespaced_event("event-test", namespace, event)
    assert shown(core.read_namespaced_event("event-test", namespace)) == shown(event)

    core.delete_namespaced_event("event-test", namespace)
    assert not is_listed(core.list_event_for_all_namespaces(label_selector=selector), namespace, "event-test")


@pytest.mark.conformance("[sig-instrumentation] Events should delete a collection of events [Conformance]")
def test_events_are_deleted_by_a_label(typed: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(typed)
    names = ["test-event-1", "test-event-2", "test-event-3"]
    for name in names:
        core.create_namespaced_event(namespace, core_event(namespace, name, "testevent-set", f"This is {name}"))
    core.create_namespaced_event(namespace, core_event(namespace, "other", "other", "This stays"))
    selector = "testevent-set=true"
    assert len(core.list_namespaced_event(namespace, label_selector=selector).items) == len(names)
    core.delete_collection_namespaced_event(namespace, label_selector=selector)
    assert core.list_namespaced_event(namespace, label_selector=selector).items == []
    assert is_listed(core.list_namespaced_event(namespace), namespace, "other")


# ---- Events of events.k8s.io


def new_event(namespace: str, name: str, label: str) -> client.EventsV1Event:
    return client.EventsV1Event(
        metadata=client.V1ObjectMeta(name=name, labels={label: "true"}),
        regarding=client.V1ObjectReference(namespace=namespace),
        event_time=SOME_TIME,
        note=f"This is {name}",
        action="Do",
        reason="Test",
        type="Normal",
        reporting_controller="test-controller",
        reporting_instance="test-node",
    )


@pytest.mark.conformance(
    "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed "
    "[Conformance]"
)
def test_a_new_event_is_listed_selected_patched_updated_and_deleted(typed: client.ApiClient, namespace: str) -> None:
    core, events = client.CoreV1Api(typed), client.EventsV1Api(typed)
    selector = "testevent-constant=true"
    events.create_namespaced_event(namespace, new_event(namespace, "event-test", "testevent-constant"))
    assert is_listed(events.list_event_for_all_namespaces(label_selector=selector), namespace, "event-test")
    assert is_listed(events.list_namespaced_event(namespace, label_selector=selector), namespace, "event-test")

    by_source = core.list_namespaced_event(namespace, field_selector="source=test-controller")
    assert [item.metadata.name for item in by_source.items] == ["event-test"]
    by_controller = events.list_namespaced_event(namespace, field_selector="reportingController=test-controller")
    assert [item.metadata.name for item in by_controller.items] == ["event-test"]

    event = events.read_namespaced_event("event-test", namespace)
    events.patch_namespaced_event("event-test", namespace, {"note": "This is a test event - patched"})
    event.note = "This is a test event - patched"
    assert shown(events.read_namespaced_event("event-test", namespace)) == shown(event)

    event.series = client.EventsV1EventSeries(count=100, last_observed_time=SOME_TIME)
    event.metadata.resource_version = None
    event.metadata.managed_fields = None
    events.replace_namespaced_event("event-test", namespace, event)
    assert shown(events.read_namespaced_event("event-test", namespace)) == shown(event)

    events.delete_namespaced_event("event-test", namespace)
    assert not is_listed(events.list_event_for_all_namespaces(label_selector=selector), namespace, "event-test")
    assert not is_listed(events.list_namespaced_event(namespace, label_selector=selector), namespace, "event-test")


@pytest.mark.conformance("[sig-instrumentation] Events API should delete a collection of events [Conformance]")
def test_new_events_are_deleted_by_a_label(typed: client.ApiClient, namespace: str) -> None:
    events = client.EventsV1Api(typed)
    for name in ("test-event-1", "test-event-2", "test-event-3"):
        events.create_namespaced_event(namespace, new_event(namespace, name, "testevent-set"))
    selector = "testevent-set=true"
    assert len(events.list_namespaced_event(namespace, label_selector=selector).items) == 3
    events.delete_collection_namespaced_event(namespace, label_selector=selector)
    assert events.list_namespaced_event(namespace, label_selector=selector).items == []


# ---- ConfigMaps


@pytest.mark.conformance("[sig-node] ConfigMap should fail to create ConfigMap with empty key [Conformance]")
def test_a_config_map_with_an_empty_key_is_refused(typed: client.ApiClient, namespace: str) -> None:
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="configmap-test-emptykey"), data={"": "value-1"})
    with pytest.raises(ApiException) as refused:
        client.CoreV1Api(typed).create_namespaced_config_map(namespace, body)
    assert refused.value.status == 422


@pytest.mark.conformance("[sig-node] ConfigMap should run through a ConfigMap lifecycle [Conformance]")
def test_a_config_map_is_created_patched_found_and_deleted(
    typed: client.ApiClient, namespace: str, unique: Callable[[str], str]
) -> None:
    core, name = client.CoreV1Api(typed), unique("test-configmap")
    labels = {"test-configmap-static": "true"}
    metadata = client.V1ObjectMeta(name=name, labels=labels)
    core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=metadata, data={"valueName": "value"}))
    read = core.read_namespaced_config_map(name, namespace)
    assert (read.data, read.metadata.labels) == ({"valueName": "value"}, labels)

    patch = {"metadata": {"labels": {"test-configmap": "patched"}}, "data": {"valueName": "value1"}}
    core.patch_namespaced_config_map(name, namespace, patch)
    listed = core.list_config_map_for_all_namespaces(label_selector="test-configmap=patched").items
    (found,) = [item for item in listed if (item.metadata.namespace, item.metadata.name) == (namespace, name)]
    assert found.data == {"valueName": "value1"}
    assert found.metadata.labels == {**labels, "test-configmap": "patched"}

    selector = "test-configmap-static=true"
    core.delete_collection_namespaced_config_map(namespace, label_selector=selector)
    assert core.list_namespaced_config_map(namespace, label_selector=selector).items == []


# ---- Leases


def lease_spec(holder: str, seconds: int, acquired: int, renewed: int, transitions: int) -> client.V1LeaseSpec:
    first = datetime(1, 1, 1, tzinfo=UTC)
    return client.V1LeaseSpec(
        holder_identity=holder,
        lease_duration_seconds=seconds,
        acquire_time=first + timedelta(seconds=acquired),
        renew_time=first + timedelta(seconds=renewed),
        lease_transitions=transitions,
    )


@pytest.mark.conformance("[sig-node] Lease lease API should be available [Conformance]")
def test_leases_are_created_updated_patched_listed_and_deleted(typed: client.ApiClient, namespace: str) -> None:
    leases = client.CoordinationV1Api(typed)

    def read() -> dict[str, Any]:
        spec: dict[str, Any] = leases.read_namespaced_lease("lease", namespace).spec.to_dict()
        return spec

    first = lease_spec("holder", 30, 2, 5, 0)
    created = leases.create_namespaced_lease(
        namespace, client.V1Lease(metadata=client.V1ObjectMeta(name="lease"), spec=first)
    )
    assert read() == first.to_dict()

    created.spec = lease_spec("holder2", 30, 20, 50, 1)
    leases.replace_namespaced_lease("lease", namespace, created)
    assert read() == created.spec.to_dict()

    patched = lease_spec("holder3", 60, 50, 70, 2)
    leases.patch_namespaced_lease("lease", namespace, client.V1Lease(spec=patched))
    assert read() == patched.to_dict()

    labelled = client.V1ObjectMeta(name="lease2", labels={"deletecollection": "true"})
    leases.create_namespaced_lease(namespace, client.V1Lease(metadata=labelled, spec=first))
    assert len(leases.list_namespaced_lease(namespace).items) == 2
    leases.delete_collection_namespaced_lease(namespace, label_selector="deletecollection=true")
    assert [item.metadata.name for item in leases.list_namespaced_lease(namespace).items] == ["lease"]

    leases.delete_namespaced_lease("lease", namespace)
    with pytest.raises(ApiException) as missing:
        leases.read_namespaced_lease("lease", namespace)
    assert missing.value.status == 404
    assert leases.list_lease_for_all_namespaces().items is not None
