"""A CustomResourceDefinition is a kind from the moment it is answered until its last object is gone."""

import copy
from typing import Any

import pytest

from kastra.api.errors import AlreadyExists, BadRequest, Invalid, MethodNotAllowed, NotFound
from kastra.api.meta import ObjectRef
from kastra.apiserver.admission import Attributes, Operation
from kastra.apiserver.bootstrap import start
from kastra.apiserver.loopback import LoopbackClient
from kastra.client.interface import WriteOptions
from tests.contract.client import WIDGETS, at, widget

CRD = ObjectRef("crd", "widgets.example.com")


def definition(
    plural: str = "widgets", kind: str = "Widget", group: str = "example.com", **spec: Any
) -> dict[str, Any]:
    made = copy.deepcopy(WIDGETS)
    made["metadata"]["name"] = f"{plural}.{group}"
    made["spec"] |= {"group": group, "names": {"plural": plural, "kind": kind}} | spec
    return made


def properties(made: dict[str, Any], version: int = 0) -> dict[str, Any]:
    return made["spec"]["versions"][version]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


async def test_what_follows_from_the_kind_is_filled_in(client) -> None:
    made = await client.create(definition())
    names = {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"}
    assert made.spec["names"] == names
    assert made.spec["conversion"] == {"strategy": "None"}
    assert made.status["acceptedNames"] == names
    assert made.status["storedVersions"] == ["v1"]
    assert made.is_condition_true("NamesAccepted")
    assert made.is_condition_true("Established")


async def test_the_resource_has_everything_the_definition_says(client) -> None:
    await client.create(
        definition(names={"plural": "widgets", "kind": "Widget", "shortNames": ["wg"], "categories": ["all"]})
    )
    resource = client.scheme.find("wg")
    assert (resource.kind, resource.list_kind, resource.namespaced, resource.has_status) == (
        "Widget",
        "WidgetList",
        True,
        True,
    )
    assert resource.categories == ("all",)
    assert resource.scale is not None
    assert resource.selectable_fields == ("spec.color",)
    assert [column.name for column in resource.columns] == ["Age"]


def columns(*columns: dict[str, Any]) -> dict[str, Any]:
    return {"versions": [definition()["spec"]["versions"][0] | {"additionalPrinterColumns": list(columns)}]}


def conversion(**webhook: Any) -> dict[str, Any]:
    config = {"clientConfig": {"url": "https://example.com"}, "conversionReviewVersions": ["v1"], **webhook}
    return {"conversion": {"strategy": "Webhook", "webhook": {k: v for k, v in config.items() if v is not None}}}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"group": "plain"}, "spec.group"),
        ({"scope": "Galaxy"}, "spec.scope"),
        ({"versions": []}, "spec.versions"),
        ({"conversion": {"strategy": "Magic"}}, "spec.conversion.strategy"),
        ({"conversion": {"strategy": "Webhook"}}, "spec.conversion.webhook"),
        ({"conversion": {"strategy": "None", "webhook": {}}}, "spec.conversion.webhook"),
        (conversion(clientConfig=None), "spec.conversion.webhook.clientConfig"),
        (conversion(conversionReviewVersions=["v1beta1"]), "spec.conversion.webhook.conversionReviewVersions"),
        (conversion(clientConfig={"url": "http://a"}), "spec.conversion.webhook.clientConfig.url"),
        (
            columns({"name": "A", "type": "string", "jsonPath": "["}),
            "spec.versions[0].additionalPrinterColumns[0].jsonPath",
        ),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields"),
        ({"versions": [{"name": "v1", "served": True, "storage": True}]}, "spec.versions[0].schema.openAPIV3Schema"),
        ({"names": {"plural": "widgets", "kind": "Widget", "listKind": "Widget"}}, "spec.names.listKind"),
        ({"names": {"plural": "gadgets", "kind": "Widget"}}, "metadata.name"),
    ],
)
async def test_a_malformed_definition_is_refused_by_field(client, spec: dict[str, Any], field: str) -> None:
    wrong = definition()
    wrong["spec"] |= spec
    with pytest.raises(Invalid) as refused:
        await client.create(wrong)
    assert field in {cause.field for cause in refused.value.causes}
    assert [resource for resource in client.scheme if resource.kind == "Widget"] == []


async def test_a_schema_that_is_not_structural_is_refused_with_its_place(client) -> None:
    wrong = definition()
    properties(wrong)["color"] = {"description": "no type"}
    with pytest.raises(Invalid) as refused:
        await client.create(wrong)
    (cause,) = refused.value.causes
    assert cause.field == "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[color].type"
    assert cause.message == "Required value: must not be empty for specified object fields"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (
            {"additionalPrinterColumns": [{"name": "X", "type": "text", "jsonPath": ".x"}]},
            "additionalPrinterColumns[0].type",
        ),
        (
            {"additionalPrinterColumns": [{"name": "X", "type": "string", "jsonPath": "x"}]},
            "additionalPrinterColumns[0].jsonPath",
        ),
        ({"selectableFields": [{"jsonPath": "spec.x"}]}, "selectableFields[0].jsonPath"),
        ({"deprecationWarning": "old"}, "deprecationWarning"),
        (
            {"subresources": {"scale": {"specReplicasPath": ".x", "statusReplicasPath": ".status.x"}}},
            "subresources.scale.specReplicasPath",
        ),
    ],
)
async def test_a_malformed_version_is_refused_by_field(client, change: dict[str, Any], field: str) -> None:
    wrong = definition()
    wrong["spec"]["versions"][0] |= change
    with pytest.raises(Invalid) as refused:
        await client.create(wrong)
    assert {cause.field for cause in refused.value.causes} == {f"spec.versions[0].{field}"}


async def test_unknown_fields_of_a_definition_are_found(client) -> None:
    odd = definition()
    odd["spec"]["versions"][0]["bogus"] = 1
    with pytest.raises(BadRequest, match=r'unknown field "spec.versions\[0\].bogus"'):
        await client.create(odd, WriteOptions(field_validation="Strict"))


async def test_a_changed_schema_holds_at_once_and_starts_a_generation(client) -> None:
    made = (await client.create(definition())).to_dict()
    await client.create(widget("a"))
    properties(made)["color"]["enum"] = ["red"]
    changed = await client.update(made)
    assert changed.generation == 2
    with pytest.raises(Invalid, match=r'spec.color: Unsupported value: "blue": supported values: "red"'):
        await client.create(widget("b", color="blue"))
    assert (await client.patch(at("a"), {"spec": {"color": "red"}})).spec["color"] == "red"


async def test_new_defaults_are_seen_in_old_objects_without_a_write(plane, client) -> None:
    made = (await client.create(definition())).to_dict()
    old = await client.create(widget("a"))
    properties(made)["color"]["default"] = "green"
    await client.update(made)
    read = await client.get(at("a"))
    assert read.spec["color"] == "green"
    assert read.resource_version == old.resource_version
    assert (await client.list("widgets")).items[0].spec["color"] == "green"
    assert [obj.name for obj in (await client.list("widgets", field_selector="spec.color=green")).items] == ["a"]
    async with client.watch("widgets") as watch:
        assert (await anext(aiter(watch))).object.spec["color"] == "green"


async def test_fields_that_left_the_schema_are_dropped_at_the_next_write(client) -> None:
    made = (await client.create(definition())).to_dict()
    await client.create(widget("a", color="red"))
    del properties(made)["color"]
    del made["spec"]["versions"][0]["selectableFields"]
    await client.update(made)
    assert (await client.patch(at("a"), {"spec": {"size": 2}})).spec == {"size": 2}


async def test_a_dry_run_serves_nothing(client) -> None:
    await client.create(definition(), WriteOptions(dry_run=True))
    with pytest.raises(NotFound):
        client.scheme.find("widgets")


async def test_group_kind_and_scope_are_for_good(client) -> None:
    made = await client.create(definition())
    for path, value in (
        ("scope", "Cluster"),
        ("names", {**made.spec["names"], "kind": "Gadget", "listKind": "GadgetList"}),
    ):
        changed = made.to_dict()
        changed["spec"][path] = value
        with pytest.raises(Invalid, match="field is immutable"):
            await client.update(changed)


async def test_names_that_clash_in_a_group_are_not_served_until_they_are_free(client) -> None:
    await client.create(definition())
    second = await client.create(definition("gizmos", "Widget"))
    assert second.condition("NamesAccepted")["reason"] == "SingularConflict"
    assert second.condition("NamesAccepted")["message"] == '"widget" is already in use'
    assert second.condition("Established")["status"] == "False"
    with pytest.raises(NotFound):
        client.scheme.find("gizmos")
    assert await client.create(definition("widgets", "Widget", "other.example.com"))
    await client.delete(CRD)
    assert client.scheme.find("gizmos").kind == "Widget"
    assert (await client.get(ObjectRef("crd", "gizmos.example.com"))).is_condition_true("Established")


async def test_a_status_write_can_not_take_a_kind_away(client) -> None:
    made = (await client.create(definition())).to_dict()
    made["status"]["conditions"] = []
    await client.update(made, subresource="status")
    assert await client.create(widget("a"))


async def test_deleting_a_definition_deletes_its_objects_first(client) -> None:
    await client.create(definition())
    for name in "abc":
        await client.create(widget(name))
    version = (await client.list("crd")).resource_version
    async with client.watch("widgets", resource_version=version) as events:
        assert await client.delete(CRD) is None
        stream = aiter(events)
        gone = [await anext(stream) for _ in range(3)]
    assert [event.type for event in gone] == ["DELETED"] * 3
    with pytest.raises(NotFound):
        await client.get(CRD)
    with pytest.raises(NotFound, match="doesn't have a resource type"):
        await client.list("widgets")


async def test_a_definition_waits_for_objects_that_finalizers_hold(client) -> None:
    await client.create(definition())
    held = widget("a")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(held)
    await client.create(widget("b"))
    waiting = await client.delete(CRD)
    assert waiting.finalizers == ["customresourcecleanup.apiextensions.k8s.io"]
    assert waiting.is_condition_true("Terminating")
    assert [obj.name for obj in (await client.list("widgets")).items] == ["a"]
    with pytest.raises(MethodNotAllowed, match="create not allowed while custom resource definition is terminating"):
        await client.create(widget("c"))
    await client.patch(at("a"), {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await client.get(CRD)


async def test_a_definition_can_be_created_again_after_it_went(client) -> None:
    await client.create(definition())
    await client.delete(CRD)
    await client.create(definition())
    assert await client.create(widget("a"))


async def test_definitions_and_half_done_deletions_survive_a_restart(plane, client) -> None:
    await client.create(definition())
    await client.create(definition("gadgets", "Gadget"))
    held = widget("a")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(held)
    await client.delete(CRD)
    again = LoopbackClient((await start(plane.store, plane.clock)).registry)
    assert again.scheme.find("gadgets").kind == "Gadget"
    await again.patch(at("a"), {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await again.get(CRD)


def two_versions(storage: str) -> dict[str, Any]:
    made = definition()
    first = made["spec"]["versions"][0]
    second = copy.deepcopy(first) | {"name": "v2", "deprecated": True}
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["flavor"] = {
        "type": "string",
        "default": "plain",
    }
    made["spec"]["versions"] = [first, second]
    for version in made["spec"]["versions"]:
        version["storage"] = version["name"] == storage
    return made


async def test_an_object_is_served_in_every_version(client) -> None:
    await client.create(two_versions("v1"))
    await client.create(widget("a", color="red"))
    newer = ObjectRef("widgets.v2.example.com", "a", "default")
    read = await client.get(newer)
    assert (read.api_version, read.spec) == ("example.com/v2", {"color": "red", "size": 1, "flavor": "plain"})
    assert (await client.get(at("a"))).api_version == "example.com/v1"
    async with client.watch("widgets.v2.example.com") as watch:
        assert (await anext(aiter(watch))).object.api_version == "example.com/v2"
    changed = await client.patch(newer, {"spec": {"color": "blue"}})
    assert changed.api_version == "example.com/v2"
    assert (await client.get(at("a"))).spec["color"] == "blue"


async def test_using_a_deprecated_version_draws_a_warning(plane, client) -> None:
    await client.create(two_versions("v1"))
    await client.create(widget("a") | {"apiVersion": "example.com/v2"})
    assert plane.warnings == ["example.com/v2 Widget is deprecated"]


async def test_the_stored_versions_are_remembered_until_somebody_migrates(client) -> None:
    await client.create(two_versions("v1"))
    moved = await client.get(CRD)
    changed = moved.to_dict() | {"spec": {**moved.spec, "versions": two_versions("v2")["spec"]["versions"]}}
    stored = await client.update(changed)
    assert stored.status["storedVersions"] == ["v1", "v2"]
    changed = stored.to_dict()
    changed["spec"]["versions"] = changed["spec"]["versions"][1:]
    with pytest.raises(Invalid, match=r'status.storedVersions\[0\]: Invalid value: "v1": must appear in spec.versions'):
        await client.update(changed)


async def test_a_version_that_is_no_longer_served_is_gone(client) -> None:
    made = (await client.create(two_versions("v1"))).to_dict()
    made["spec"]["versions"][1]["served"] = False
    await client.update(made)
    with pytest.raises(NotFound):
        await client.get(ObjectRef("widgets.v2.example.com", "a", "default"))


class TestEnsure:
    async def test_missing_definitions_are_created(self, plane, client) -> None:
        await plane.server.definitions.ensure([definition(), definition("gadgets", "Gadget")])
        assert [obj.name for obj in (await client.list("crd")).items] == ["gadgets.example.com", "widgets.example.com"]

    async def test_equal_ones_are_left_alone(self, plane) -> None:
        await plane.server.definitions.ensure([definition()])
        before = plane.store.revision
        await plane.server.definitions.ensure([definition()])
        assert plane.store.revision == before

    async def test_changed_ones_are_brought_to_the_new_spec(self, plane, client) -> None:
        await plane.server.definitions.ensure([definition()])
        newer = definition()
        properties(newer)["color"]["default"] = "green"
        newer["metadata"]["labels"] = {"x": "y"}
        await plane.server.definitions.ensure([newer])
        assert (await client.create(widget("a"))).spec["color"] == "green"
        assert (await client.get(CRD)).labels == {"x": "y"}

    async def test_a_mistake_in_one_is_told(self, plane) -> None:
        wrong = definition()
        wrong["spec"]["scope"] = "Galaxy"
        with pytest.raises(Invalid, match=r"spec\.scope"):
            await plane.server.definitions.ensure([wrong])


async def test_the_name_is_taken_once(client) -> None:
    await client.create(definition())
    with pytest.raises(AlreadyExists):
        await client.create(definition())


async def test_what_is_created_while_its_definition_goes_does_not_stay(plane, client) -> None:
    await client.create(definition())

    async def delete_definition(attributes: Attributes) -> None:
        if attributes.operation is Operation.CREATE:
            await client.delete(CRD)

    plane.server.registry.admission.validating.append(delete_definition)
    await client.create(widget("late"))
    assert plane.store.list("widgets.example.com").entries == []
    plane.server.registry.admission.validating.clear()
    await client.create(definition())
    assert (await client.list("widgets")).items == []
