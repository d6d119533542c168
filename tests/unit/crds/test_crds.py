"""The CustomResourceDefinitions of the package are ones that a Kubernetes API server would take, and explain themselves."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import pytest
import yaml

from kastra.apiserver.crdvalidation import definition_causes
from kastra.schema import compile_schema, parse_structural

CRDS: dict[str, Mapping[str, Any]] = {
    entry.name.removesuffix(".yaml"): yaml.load(entry.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)  # noqa: TID251
    for entry in files("kastra.crds").iterdir()
    if entry.name.endswith(".yaml")
}
SHORT_NAMES = {
    "agents": "ag",
    "tools": "tl",
    "workflows": "wf",
    "networks": "net",
    "reconcilers": "rec",
    "systems": "sys",
    "models": "mdl",
    "modelproviders": "mp",
    "mcpservers": "mcp",
    "approvals": "apv",
    "runs": "run",
}
COLUMNS = {
    "agents": ["MODEL", "TOOLS", "RUNS", "READY", "AGE"],
    "tools": ["TYPE", "APPROVAL", "READY", "AGE"],
    "workflows": ["STEPS", "ACTIVE", "LAST-RUN", "READY", "AGE"],
    "networks": ["MEMBERS", "MODE", "READY", "AGE"],
    "reconcilers": ["FOR", "BODY", "OBJECTS", "FAILING", "READY", "AGE"],
    "systems": ["READY", "AGE"],
    "models": ["PROVIDER", "MODEL", "READY", "AGE"],
    "modelproviders": ["TYPE", "MODELS", "READY", "AGE"],
    "mcpservers": ["TRANSPORT", "TOOLS", "READY", "AGE"],
    "approvals": ["RUN", "TOOL", "DECISION", "BY", "AGE"],
    "runs": ["TARGET", "STATUS", "COST", "DURATION", "AGE"],
}
CLUSTER_WIDE = {"reconcilers"}
"""Kinds that are for all namespaces at once, and so in no list of everything in one."""

READY = '.status.conditions[?(@.type=="Ready")].status'


def version(plural: str) -> Mapping[str, Any]:
    (only,) = CRDS[plural]["spec"]["versions"]
    found: Mapping[str, Any] = only
    return found


def schema(plural: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = version(plural)["schema"]["openAPIV3Schema"]
    return found


def nodes(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}.*")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")


def test_every_kind_has_its_definition() -> None:
    assert CRDS.keys() >= SHORT_NAMES.keys()


@pytest.mark.parametrize("plural", CRDS)
def test_a_definition_breaks_no_rule_of_kubernetes(plural: str) -> None:
    assert definition_causes(CRDS[plural], None, lambda found: parse_structural(found)[1]) == []


@pytest.mark.parametrize("plural", CRDS)
def test_a_schema_compiles_with_its_rules(plural: str) -> None:
    assert compile_schema(schema(plural)).structural.type == "object"


@pytest.mark.parametrize("plural", CRDS)
def test_a_definition_is_named_after_its_plural_and_group(plural: str) -> None:
    crd = CRDS[plural]
    kind = crd["spec"]["names"]["kind"]
    assert crd["apiVersion"] == "apiextensions.k8s.io/v1"
    assert crd["metadata"]["name"] == f"{plural}.mastra.ai"
    assert crd["spec"]["group"] == "mastra.ai"
    assert crd["spec"]["scope"] == ("Cluster" if plural in CLUSTER_WIDE else "Namespaced")
    assert crd["spec"]["names"]["plural"] == plural
    assert crd["spec"]["names"]["singular"] == kind.lower()
    assert crd["spec"]["names"]["listKind"] == f"{kind}List"
    assert crd["spec"]["names"]["categories"] == (["kastra"] if plural in CLUSTER_WIDE else ["kastra", "all"])


@pytest.mark.parametrize(("plural", "short"), SHORT_NAMES.items())
def test_a_kind_has_its_short_name(plural: str, short: str) -> None:
    assert CRDS[plural]["spec"]["names"]["shortNames"] == [short]


@pytest.mark.parametrize("plural", CRDS)
def test_version_v1_is_served_and_stored_with_a_status_subresource(plural: str) -> None:
    found = version(plural)
    assert (found["name"], found["served"], found["storage"]) == ("v1", True, True)
    assert found["subresources"]["status"] == {}


@pytest.mark.parametrize(("plural", "names"), COLUMNS.items())
def test_the_columns_of_get_are_those_of_the_kind(plural: str, names: list[str]) -> None:
    columns = version(plural)["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == names
    ready = [column["jsonPath"] for column in columns if column["name"] == "READY"]
    assert ready in ([READY], [".status.ready"] if plural == "systems" else [])


@pytest.mark.parametrize("plural", CRDS)
def test_a_column_shows_a_field_that_the_schema_has(plural: str) -> None:
    known = {path for path, _ in nodes(schema(plural), "")}
    for column in version(plural)["additionalPrinterColumns"]:
        path = column["jsonPath"].partition("[?")[0].replace("[0]", "[]")
        assert path.startswith(".metadata.") or path in known, column


def test_only_agents_can_be_scaled_and_both_paths_lead_to_integers() -> None:
    assert [plural for plural in CRDS if "scale" in version(plural)["subresources"]] == ["agents"]
    known = dict(nodes(schema("agents"), ""))
    for path in version("agents")["subresources"]["scale"].values():
        assert known[path]["type"] == "integer"


@pytest.mark.parametrize("plural", CRDS)
def test_conditions_merge_by_their_type(plural: str) -> None:
    conditions = schema(plural)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert conditions["items"]["required"] == ["type", "status"]


@pytest.mark.parametrize("plural", CRDS)
def test_every_field_is_described(plural: str) -> None:
    silent = [
        path
        for part in ("spec", "status")
        for path, node in nodes(schema(plural)["properties"][part], part)
        if "description" not in node and not path.endswith(("[]", ".*"))
    ]
    assert silent == []


@pytest.mark.parametrize("plural", CRDS)
def test_no_field_has_a_stored_default_so_that_objects_stay_as_written(plural: str) -> None:
    assert [path for path, node in nodes(schema(plural), "") if "default" in node] == []


def run(**spec: Any) -> dict[str, Any]:
    target = {"kind": "Agent", "name": "a"}
    return {"apiVersion": "mastra.ai/v1", "kind": "Run", "metadata": {"name": "x"}, "spec": {"target": target, **spec}}


@pytest.mark.parametrize(
    "change",
    [
        {"target": {"kind": "Agent", "name": "b"}},
        {"durability": "none"},
        {"priority": 2},
        {"idempotencyKey": None},
        {"budget": {"maxTokens": 5}},
        {"timeout": "5m"},
    ],
)
def test_a_run_can_not_be_changed(change: dict[str, Any]) -> None:
    old = run(idempotencyKey="k", priority=1)
    new = run(
        **{key: value for key, value in {"idempotencyKey": "k", "priority": 1, **change}.items() if value is not None}
    )
    (cause,) = compile_schema(schema("runs")).admit(new, old).causes
    assert (cause.field, cause.reason) == ("spec", "FieldValueForbidden")
    assert "is immutable except desiredState" in cause.message


def test_a_run_can_be_suspended_and_cancelled() -> None:
    compiled = compile_schema(schema("runs"))
    assert compiled.admit(run(desiredState="Suspended", priority=1), run(priority=1)).causes == ()
    assert compiled.admit(run(desiredState="Cancelled"), run(desiredState="Suspended")).causes == ()


def test_an_agent_can_not_keep_more_replicas_than_it_may_have() -> None:
    agent = {
        "apiVersion": "mastra.ai/v1",
        "kind": "Agent",
        "metadata": {"name": "x"},
        "spec": {"scaling": {"minReplicas": 3, "maxReplicas": 2}},
    }
    (cause,) = compile_schema(schema("agents")).admit(agent).causes
    assert cause.field == "spec.scaling"
    assert "minReplicas must not exceed maxReplicas" in cause.message


def test_a_tool_with_two_bodies_is_refused_by_the_schema() -> None:
    spec = {"python": {"entrypoint": "a:b"}, "process": {"command": ["cat"]}}
    tool = {"apiVersion": "mastra.ai/v1", "kind": "Tool", "metadata": {"name": "x"}, "spec": spec}
    (cause,) = compile_schema(schema("tools")).admit(tool).causes
    assert "exactly one of python, http, mcp, process, builtin, agent and workflow" in cause.message


def test_a_secret_value_has_exactly_one_source() -> None:
    both = {"secretKeyRef": {"name": "s", "key": "k"}, "env": "KEY"}
    provider = {
        "apiVersion": "mastra.ai/v1",
        "kind": "ModelProvider",
        "metadata": {"name": "x"},
        "spec": {"type": "openai", "apiKeyFrom": both},
    }
    (cause,) = compile_schema(schema("modelproviders")).admit(provider).causes
    assert cause.field == "spec.apiKeyFrom"
