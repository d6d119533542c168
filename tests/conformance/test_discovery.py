"""Discovery: what a client finds out about a server before it asks for anything."""

import base64
import hashlib
import re
from collections.abc import Callable
from email.message import Message
from typing import Any

import pytest

from .api import Api, Json
from .conftest import Define
from .definitions import ALLOW_ALL

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
CLIENT_GO = f"{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
"""What client-go asks for."""

LEGACY = [("", "v1", "namespaces")]
RESOURCES = [
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
    ("coordination.k8s.io", "v1", "leases"),
    ("events.k8s.io", "v1", "events"),
    ("rbac.authorization.k8s.io", "v1", "clusterroles"),
    ("mastra.ai", "v1", "agents"),
    ("mastra.ai", "v1", "runs"),
]
"""One of each group that is served."""


def definition(unique: Callable[[str], str]) -> Json:
    group = f"{unique('group')}.example.com"
    names = {"plural": "testcrds", "singular": "testcrd", "kind": "testcrd", "listKind": "testcrdList"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": ALLOW_ALL}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"testcrds.{group}"},
        "spec": {"group": group, "versions": [version], "names": names, "scope": "Namespaced"},
    }


def found(document: Any) -> set[tuple[str, str, str]]:
    """Group, version and resource of everything in an aggregated document."""
    return {
        (group["metadata"].get("name", ""), version["version"], resource["resource"])
        for group in document["items"]
        for version in group["versions"]
        for resource in version["resources"]
    }


def groups_and_resources(api: Api) -> tuple[set[tuple[str, str]], set[tuple[str, str, str]]]:
    """Versions of groups and their resources, by two requests, as client-go's discovery client has them."""
    versions, resources = set(), set()
    for path in ("/api", "/apis"):
        answer = api.ask("GET", path, accept=CLIENT_GO)
        assert answer.status == 200
        head = Message()
        head["Content-Type"] = answer.headers["content-type"]
        # Without these client-go takes the answer for a list of groups, and asks each for its resources.
        assert dict(head.get_params() or ()) == {
            "application/json": "",
            "g": "apidiscovery.k8s.io",
            "v": "v2",
            "as": "APIGroupDiscoveryList",
        }
        assert (answer.json["kind"], answer.json["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
        for group in answer.json["items"]:
            for version in group["versions"]:
                assert version["freshness"] == "Current"
                versions.add((group["metadata"].get("name", ""), version["version"]))
        resources |= found(answer.json)
    return versions, resources


@pytest.mark.conformance(
    "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface [Conformance]"
)
def test_two_requests_tell_a_client_of_all_groups_and_resources(api: Api) -> None:
    versions, resources = groups_and_resources(api)
    assert {*LEGACY, *RESOURCES} <= resources
    assert {(group, version) for group, version, _ in (*LEGACY, *RESOURCES)} <= versions


@pytest.mark.conformance(
    "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs [Conformance]"
)
def test_two_requests_tell_a_client_of_a_new_kind(api: Api, define: Define, unique: Callable[[str], str]) -> None:
    made = define(definition(unique))
    assert (made["spec"]["group"], "v1", "testcrds") in groups_and_resources(api)[1]


@pytest.mark.conformance(
    "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers [Conformance]"
)
def test_the_aggregated_documents_have_all_resources(api: Api) -> None:
    assert set(RESOURCES) <= found(api.get("/apis", accept=AGGREGATED))
    assert set(LEGACY) <= found(api.get("/api", accept=AGGREGATED))


@pytest.mark.conformance(
    "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs [Conformance]"
)
def test_a_new_kind_is_in_the_aggregated_document(api: Api, define: Define, unique: Callable[[str], str]) -> None:
    made = define(definition(unique))
    assert (made["spec"]["group"], "v1", "testcrds") in found(api.get("/apis", accept=AGGREGATED))


@pytest.mark.conformance(
    "[sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup [Conformance]"
)
@pytest.mark.parametrize(("group", "version", "resource"), [*LEGACY, *RESOURCES])
def test_each_group_lists_its_resources(api: Api, group: str, version: str, resource: str) -> None:
    listed = api.get(f"/apis/{group}/{version}" if group else f"/api/{version}")
    assert listed["kind"] == "APIResourceList"
    assert listed["groupVersion"] == (f"{group}/{version}" if group else version)
    assert resource in [row["name"] for row in listed["resources"]]


@pytest.mark.conformance(
    "[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup [Conformance]"
)
def test_each_group_prefers_a_version_that_it_has(api: Api) -> None:
    groups = api.get("/apis/")["groups"]
    assert {group for group, _, _ in RESOURCES} <= {group["name"] for group in groups}
    for listed in groups:
        if not listed["name"].endswith(".example.com"):
            group = api.get(f"/apis/{listed['name']}/")
            assert group["versions"]
            assert group["preferredVersion"] in group["versions"]
            assert group["preferredVersion"] == listed["preferredVersion"]


@pytest.mark.conformance("[sig-api-machinery] server version should find the server version [Conformance]")
def test_major_and_minor_version_are_integers(api: Api) -> None:
    version = api.get("/version")
    assert re.fullmatch("[1-9]", version["major"])
    assert re.fullmatch("[0-9]+", version["minor"])


@pytest.mark.conformance(
    "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not "
    "implement metadata [Conformance]"
)
def test_what_has_no_metadata_is_no_table(api: Api) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}},
    }
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    answer = api.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, accept=accept)
    assert answer.status == 406
    assert (answer.json["kind"], answer.json["code"]) == ("Status", 406)


@pytest.mark.conformance("[sig-api-machinery] Discovery should accurately determine present and missing resources")
def test_what_is_not_there_is_not_discovered(api: Api) -> None:
    def has(path: str, resource: str) -> bool:
        return api.exists(path) and resource in [row["name"] for row in api.get(path)["resources"]]

    assert has("/api/v1", "namespaces")
    assert has("/apis/mastra.ai/v1", "agents")
    assert not has("/apis/mastra.ai/v1", "please-dont-ever-create-this")
    assert not has("/apis/not-these-apps/v1", "agents")


@pytest.mark.conformance("[sig-api-machinery] Discovery Custom resource should have storage version hash")
def test_a_custom_kind_tells_the_hash_of_how_it_is_stored(
    api: Api, define: Define, unique: Callable[[str], str]
) -> None:
    spec = define(definition(unique))["spec"]
    (row,) = api.get(f"/apis/{spec['group']}/v1")["resources"]
    digest = hashlib.sha256(f"{spec['group']}/v1/{spec['names']['kind']}".encode()).digest()
    assert row["storageVersionHash"] == base64.b64encode(digest[:8]).decode()
