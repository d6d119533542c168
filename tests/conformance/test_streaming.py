"""Lists as streams, watches in the form that was negotiated, and Tables."""

from typing import Any

import pytest

from .api import Api, Json

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
STREAM = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


@pytest.fixture
def secrets(api: Api, namespace: str) -> list[Json]:
    """Five of them."""
    path = f"/api/v1/namespaces/{namespace}/secrets"
    labels = {"watchlist": "true"}
    return [api.create(path, {"metadata": {"name": f"secret-{n}", "labels": labels}}) for n in range(1, 6)]


@pytest.mark.conformance(
    "[sig-api-machinery] API Streaming (aka. WatchList) should be requested by informers when WatchListClient is enabled"
)
def test_a_list_is_streamed_and_goes_on_as_a_watch(api: Api, namespace: str, secrets: list[Json]) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    with api.watch(path, labelSelector="watchlist=true", **STREAM) as watched:
        assert [watched.expect("ADDED") for _ in secrets] == secrets
        end = watched.expect("BOOKMARK")
        assert end["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(end["metadata"]["resourceVersion"]) >= int(secrets[-1]["metadata"]["resourceVersion"])
        changed = api.change(f"{path}/secret-1", lambda secret: secret.update(stringData={"foo": "bar"}))
        watched.expect("MODIFIED", changed)


@pytest.mark.conformance(
    "[sig-api-machinery] API Streaming (aka. WatchList) doesn't support receiving resources as Tables"
)
def test_a_list_is_not_streamed_as_tables(api: Api, namespace: str, secrets: list[Json]) -> None:
    answer = api.ask("GET", f"/api/v1/namespaces/{namespace}/secrets", accept=TABLE, watch="true", **STREAM)
    assert (answer.status, answer.json["code"]) == (406, 406)


@pytest.mark.conformance(
    "[sig-api-machinery] API Streaming (aka. WatchList) falls backs to supported content type when when receiving resources "
    "as Tables was requested"
)
def test_a_list_is_streamed_as_objects_where_these_are_taken_too(api: Api, namespace: str, secrets: list[Json]) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    accept = f"{TABLE},application/json"
    with api.watch(path, accept, labelSelector="watchlist=true", **STREAM) as watched:
        assert [watched.expect("ADDED") for _ in secrets] == secrets
        watched.expect("BOOKMARK")


def watch_and_report_errors(api: Api, namespace: str, accept: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    before = api.get(path)["metadata"]["resourceVersion"]
    made = api.create(path, {"metadata": {"name": "e2e-client-go-test-negotiation"}})
    selector = "metadata.name=e2e-client-go-test-negotiation"
    with api.watch(path, accept, resourceVersion=before, fieldSelector=selector) as watched:
        watched.expect("ADDED", made)


@pytest.mark.conformance(
    '[sig-api-machinery] client-go should negotiate watch and report errors with accept "application/json"'
)
def test_a_watch_takes_json(api: Api, namespace: str) -> None:
    watch_and_report_errors(api, namespace, "application/json")


@pytest.mark.conformance(
    "[sig-api-machinery] client-go should negotiate watch and report errors with accept "
    '"application/vnd.kubernetes.protobuf,application/json"'
)
def test_a_watch_takes_json_after_protobuf(api: Api, namespace: str) -> None:
    watch_and_report_errors(api, namespace, "application/vnd.kubernetes.protobuf,application/json")


@pytest.mark.conformance(
    "[sig-api-machinery] client-go should negotiate watch and report errors with accept "
    '"application/json,application/vnd.kubernetes.protobuf"'
)
def test_a_watch_takes_json_before_protobuf(api: Api, namespace: str) -> None:
    watch_and_report_errors(api, namespace, "application/json,application/vnd.kubernetes.protobuf")


# ---- Tables


def check_table(table: Any) -> list[Any]:
    """The first cells of a table, which has a head and as many cells in each row."""
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert table["columnDefinitions"][0]["name"] == "Name"
    assert len(table["columnDefinitions"]) >= 2
    assert {len(row["cells"]) for row in table["rows"]} == {len(table["columnDefinitions"])}
    return [row["cells"][0] for row in table["rows"]]


@pytest.mark.conformance("[sig-api-machinery] Servers with support for Table transformation should return pod details")
def test_an_object_as_a_table(api: Api, namespace: str) -> None:
    path = f"/apis/mastra.ai/v1/namespaces/{namespace}/agents"
    spec = {"description": "Waits.", "instructions": "You wait."}
    api.create(path, {"apiVersion": "mastra.ai/v1", "kind": "Agent", "metadata": {"name": "pod-1"}, "spec": spec})
    assert check_table(api.get(f"{path}/pod-1", accept=TABLE)) == ["pod-1"]


@pytest.mark.conformance(
    "[sig-api-machinery] Servers with support for Table transformation should return chunks of table results for list calls"
)
def test_a_list_in_chunks_as_tables(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for number in range(20):
        api.create(path, {"metadata": {"name": f"template-{number:04}"}})
    first = api.get(path, accept=TABLE, limit=2)
    assert first["metadata"]["resourceVersion"]
    assert check_table(first) == ["template-0000", "template-0001"]
    rest = api.get(path, accept=TABLE, **{"continue": first["metadata"]["continue"]})
    assert check_table(rest)[0] == "template-0002"


@pytest.mark.conformance(
    "[sig-api-machinery] Servers with support for Table transformation should return generic metadata details across all "
    "namespaces for nodes"
)
def test_a_list_of_what_is_in_no_namespace_as_a_table(api: Api, namespace: str) -> None:
    table = api.get("/api/v1/namespaces", accept=TABLE)
    assert table["metadata"]["resourceVersion"]
    assert namespace in check_table(table)
