"""What the registry sets, keeps and refuses when objects are created and changed."""

import re
from typing import Any

import anyio
import pytest

from kastra.api.errors import (
    BadRequest,
    Conflict,
    Invalid,
    NotFound,
    RequestEntityTooLarge,
    StatusError,
)
from kastra.api.meta import ObjectRef
from kastra.apiserver.call import Call
from kastra.client.interface import PatchType, WriteOptions
from kastra.store.interface import Key
from tests.contract.client import WIDGETS, at, widget


@pytest.fixture(autouse=True)
async def widgets(client) -> None:
    await client.create(WIDGETS)


def with_metadata(name: str, /, **metadata: Any) -> dict[str, Any]:
    obj = widget(name)
    obj["metadata"] |= metadata
    return obj


async def test_system_fields_are_the_servers(plane, client) -> None:
    made = await client.create(
        with_metadata("a", uid="mine", generation=7, selfLink="/x", deletionTimestamp="2020-01-01T00:00:00Z")
        | {"status": {"phase": "x"}}
    )
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made.uid)
    assert made.metadata["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert made.generation == 1
    assert made.metadata.keys().isdisjoint({"selfLink", "deletionTimestamp"})
    assert made.status == {}


async def test_core_kinds_without_generation_have_none(client) -> None:
    made = await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    assert "generation" not in made.metadata


async def test_a_new_object_may_not_carry_a_resource_version(client) -> None:
    with pytest.raises(BadRequest, match="resourceVersion should not be set on objects to be created"):
        await client.create(with_metadata("a", resourceVersion="5"))


async def test_a_new_object_needs_a_name(client) -> None:
    with pytest.raises(Invalid) as refused:
        await client.create({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {}})
    assert [tuple(cause) for cause in refused.value.causes] == [
        ("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")
    ]


async def test_long_prefixes_are_cut_so_that_names_fit(client) -> None:
    made = await client.create(
        {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"generateName": "x" * 100}}
    )
    assert re.fullmatch(r"x{58}[bcdfghjklmnpqrstvwxz2456789]{5}", made.name)


@pytest.mark.parametrize(
    ("metadata", "field", "text"),
    [
        ({"name": "Upper"}, "metadata.name", "a lowercase RFC 1123 subdomain"),
        ({"labels": {"bad key": "x"}}, "metadata.labels", "name part must consist of"),
        ({"labels": {"ok": "bad value"}}, "metadata.labels", "a valid label must be"),
        ({"annotations": {"/x": "y"}}, "metadata.annotations", "prefix part must be non-empty"),
        ({"annotations": {"big": "x" * 262_144}}, "metadata.annotations", "may not be more than 262144 bytes"),
        ({"finalizers": ["such/thing!"]}, "metadata.finalizers", "name part must consist of"),
        (
            {"finalizers": ["orphan", "foregroundDeletion"]},
            "metadata.finalizers",
            "finalizers orphan and foregroundDeletion cannot be both set",
        ),
        (
            {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}]},
            "metadata.ownerReferences[0].uid",
            "uid must not be empty",
        ),
        (
            {
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "X", "name": name, "uid": name, "controller": True} for name in "ab"
                ]
            },
            "metadata.ownerReferences",
            "Only one reference can have Controller set to true",
        ),
    ],
)
async def test_malformed_metadata_is_refused_by_field(client, metadata: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        await client.create(with_metadata("a", **metadata))
    causes = refused.value.causes
    assert {cause.field for cause in causes} == {field}
    assert text in causes[0].message


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (
            {"labels": {"a": 1}},
            "cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        ({"labels": ["a"]}, "cannot unmarshal array into Go struct field ObjectMeta.metadata.labels"),
        ({"finalizers": "x"}, "cannot unmarshal string into Go struct field ObjectMeta.metadata.finalizers"),
        ({"name": 5}, "cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string"),
    ],
)
async def test_metadata_of_a_wrong_type_is_a_bad_request(client, metadata: dict[str, Any], text: str) -> None:
    with pytest.raises(BadRequest, match=text):
        await client.create(with_metadata("a", **metadata))


async def test_all_faults_are_told_at_once(client) -> None:
    wrong = widget("Upper", size=-1)
    with pytest.raises(Invalid) as refused:
        await client.create(wrong)
    assert [cause.field for cause in refused.value.causes] == ["metadata.name", "spec.size"]
    assert str(refused.value).startswith(
        'Widget.example.com "Upper" is invalid: [metadata.name: Invalid value: "Upper"'
    )


async def test_unknown_fields_of_metadata_count_as_unknown(plane, client) -> None:
    owner = {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "extra": 1}
    odd = with_metadata("a", clusterName="x", ownerReferences=[owner])
    made = await client.create(odd)
    assert plane.warnings == [
        'unknown field "metadata.clusterName"',
        'unknown field "metadata.ownerReferences[0].extra"',
    ]
    assert "clusterName" not in made.metadata
    assert "extra" not in made.owner_references[0]
    with pytest.raises(BadRequest, match=r'unknown field "metadata.clusterName", unknown field'):
        await client.create(odd, WriteOptions(field_validation="Strict"))


async def test_a_finalizer_without_a_domain_draws_a_warning(plane, client) -> None:
    await client.create(with_metadata("a", finalizers=["hold"]))
    assert len(plane.warnings) == 1
    assert "prefer a domain-qualified finalizer name" in plane.warnings[0]


async def test_nulls_in_metadata_mean_absent(client) -> None:
    made = await client.create(with_metadata("a", creationTimestamp=None, labels=None))
    assert made.metadata["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert made.labels == {}


async def test_objects_beyond_the_size_limit_are_refused(client) -> None:
    with pytest.raises(RequestEntityTooLarge, match="the limit is 1572864"):
        await client.create(widget("a", color="x" * 1_600_000))


async def test_only_changes_outside_metadata_and_status_start_a_generation(client) -> None:
    await client.create(widget("a"))
    generations = [
        (await client.patch(at("a"), patch, subresource=subresource)).generation
        for patch, subresource in (
            ({"metadata": {"labels": {"x": "y"}}}, ""),
            ({"status": {"phase": "Running"}}, "status"),
            ({"spec": {"color": "red"}}, ""),
            ({"spec": {"size": 1}}, ""),
        )
    ]
    assert generations == [1, 1, 2, 2]


async def test_a_change_from_one_to_true_is_a_change(client) -> None:
    loose = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition = {**WIDGETS, "metadata": {"name": "gadgets.example.com"}}
    definition["spec"] = {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "gadgets", "kind": "Gadget"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": loose}}],
    }
    await client.create(definition)
    await client.create({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}, "x": 1})
    changed = await client.patch(ObjectRef("gadgets", "g", "default"), {"x": True})
    assert changed.data["x"] is True
    assert changed.generation == 2


async def test_replacing_a_custom_resource_needs_its_resource_version(client) -> None:
    await client.create(widget("a"))
    with pytest.raises(Invalid, match=r"metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"):
        await client.update(widget("a"))


async def test_replacing_most_core_objects_does_not(client) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}}
    made = await client.create(config)
    replaced = await client.update(config | {"data": {"x": "2"}})
    assert (replaced.uid, replaced.data["data"]) == (made.uid, {"x": "2"})


async def test_replacing_what_is_not_there_is_not_found(client) -> None:
    with pytest.raises(NotFound, match=r'widgets.example.com "a" not found'):
        await client.update(with_metadata("a", resourceVersion="1"))


async def test_replacing_another_object_of_that_name_conflicts(client) -> None:
    made = await client.create(widget("a"))
    other = made.to_dict()
    other["metadata"]["uid"] = "another"
    with pytest.raises(Conflict, match="Precondition failed: UID in precondition: another, UID in object meta"):
        await client.update(other)


async def test_what_the_server_set_can_not_be_changed(client) -> None:
    made = (await client.create(widget("a"))).to_dict()
    made["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    with pytest.raises(Invalid, match=r"metadata.creationTimestamp: .*field is immutable"):
        await client.update(made)
    kept = await client.patch(at("a"), {"metadata": {"generation": 9, "uid": None, "creationTimestamp": None}})
    assert (kept.uid, kept.generation) == (made["metadata"]["uid"], 1)


async def test_a_patch_can_not_rename(client) -> None:
    await client.create(widget("a"))
    with pytest.raises(BadRequest, match=r"the name of the object \(b\) does not match the name on the URL \(a\)"):
        await client.patch(at("a"), {"metadata": {"name": "b"}})
    with pytest.raises(BadRequest, match=r"expected example.com/v1, Kind=Widget"):
        await client.patch(at("a"), {"kind": "Gadget"})


async def test_a_patch_with_a_resource_version_is_a_compare_and_swap(client) -> None:
    made = await client.create(widget("a"))
    first = {"metadata": {"resourceVersion": made.resource_version}, "spec": {"color": "red"}}
    await client.patch(at("a"), first)
    with pytest.raises(
        Conflict, match=r'Operation cannot be fulfilled on widgets.example.com "a": the object has been'
    ):
        await client.patch(at("a"), first)


async def test_patches_without_one_are_all_applied_however_they_race(client) -> None:
    await client.create(widget("a"))
    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(client.patch, at("a"), {"spec": {"labels": {f"k{number}": "x"}}})
    stored = await client.get(at("a"))
    assert len(stored.spec["labels"]) == 30
    assert stored.generation == 31


async def test_one_of_many_racing_creates_wins(client) -> None:
    outcomes: list[str] = []

    async def create(number: int) -> None:
        try:
            await client.create(widget("a", size=number))
        except StatusError as error:
            outcomes.append(error.reason)
        else:
            outcomes.append("created")

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(create, number)
    assert sorted(outcomes) == ["AlreadyExists"] * 4 + ["created"]


@pytest.mark.parametrize("patch", [[], "x", [{"spec": {}}]])
async def test_a_merge_patch_that_is_no_object_is_a_bad_request(client, patch: Any) -> None:
    await client.create(widget("a"))
    with pytest.raises(BadRequest):
        await client.patch(at("a"), patch, PatchType.MERGE)


async def test_patching_what_is_not_there_is_not_found(client) -> None:
    with pytest.raises(NotFound):
        await client.patch(at("a"), {})


async def test_a_status_write_takes_nothing_but_the_status(client) -> None:
    made = await client.create(widget("a"))
    changed = made.to_dict()
    changed["metadata"]["labels"] = {"x": "y"}
    changed["spec"]["color"] = "red"
    changed["status"] = {"phase": "Running"}
    stored = await client.update(changed, subresource="status")
    assert (stored.labels, stored.spec, stored.status) == ({}, {"size": 1}, {"phase": "Running"})


async def test_the_scale_is_refused_when_negative_or_no_number(client) -> None:
    await client.create(widget("a"))
    for replicas in (-1, "two", True):
        with pytest.raises(Invalid, match=r"spec\.replicas"):
            await client.patch(at("a"), {"spec": {"replicas": replicas}}, subresource="scale")


async def test_the_scale_shows_status_and_selector(client) -> None:
    await client.create(widget("a"))
    await client.patch(at("a"), {"status": {"replicas": 3, "selector": "app=a"}}, subresource="status")
    scale = await client.get(at("a"), subresource="scale")
    assert scale.spec == {"replicas": 0}
    assert scale.status == {"replicas": 3, "selector": "app=a"}
    assert scale.uid == (await client.get(at("a"))).uid


async def test_a_scale_with_an_old_resource_version_conflicts(client) -> None:
    await client.create(widget("a", replicas=1))
    scale = (await client.get(at("a"), subresource="scale")).to_dict()
    patch = {"metadata": {"resourceVersion": scale["metadata"]["resourceVersion"]}, "spec": {"replicas": 2}}
    await client.patch(at("a"), patch, subresource="scale")
    with pytest.raises(Conflict):
        await client.patch(at("a"), patch, subresource="scale")


async def test_kinds_without_a_subresource_do_not_have_it(client) -> None:
    await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    for subresource in ("status", "scale", "finalize"):
        with pytest.raises(NotFound, match=f"configmaps has no subresource '{subresource}'"):
            await client.patch(ObjectRef("cm", "a", "default"), {}, subresource=subresource)


async def test_specs_of_config_kinds_are_kept_by_generation(plane, client) -> None:
    definition = {**WIDGETS, "metadata": {"name": "tools.mastra.ai"}}
    definition["spec"] = {**WIDGETS["spec"], "group": "mastra.ai", "names": {"plural": "tools", "kind": "Tool"}}
    await client.create(definition)
    made = await client.create({"apiVersion": "mastra.ai/v1", "kind": "Tool", "metadata": {"name": "t"}, "spec": {}})
    await client.patch(made.ref, {"spec": {"color": "red"}})
    await client.patch(made.ref, {"status": {"phase": "x"}}, subresource="status")
    history = await plane.store.history(made.uid)
    assert [(spec.generation, spec.spec) for spec in history] == [(1, b'{"size":1}'), (2, b'{"color":"red","size":1}')]
    other = await client.create(widget("a"))
    assert await plane.store.history(other.uid) == []


async def test_labels_and_owners_are_told_to_the_store(plane, client) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u-1"}
    await client.create(with_metadata("a", labels={"x": "y"}, ownerReferences=[owner]))
    entry = plane.store.get(Key("widgets.example.com", "default", "a"))
    assert (entry.labels, entry.owners) == ({"x": "y"}, ("u-1",))


async def test_duplicate_fields_count_as_unknown_ones(plane, client) -> None:
    registry = plane.server.registry
    call = Call(decoding_errors=['duplicate field "spec.color"'])
    await registry.create(registry.scheme.find("widgets"), "default", widget("a", bogus=1), call)
    assert call.warnings == ['duplicate field "spec.color"', 'unknown field "spec.bogus"']


async def test_removing_the_last_label_leaves_no_empty_map(client) -> None:
    made = await client.create(widget("a"))
    labelled = await client.patch(at("a"), {"metadata": {"labels": {"x": "y"}}})
    assert "labels" not in (await client.patch(at("a"), {"metadata": {"labels": {"x": None}}})).metadata
    assert labelled.resource_version != made.resource_version
    unchanged = await client.patch(at("a"), {"metadata": {"labels": {"z": None}, "finalizers": []}})
    assert int(unchanged.resource_version) == int(labelled.resource_version) + 1


async def test_times_may_be_given_back_in_another_form_of_rfc_3339(client) -> None:
    made = await client.create(widget("a"))
    given = made.data | {"metadata": dict(made.metadata)}
    given["metadata"]["creationTimestamp"] = made.metadata["creationTimestamp"].replace("Z", "+00:00")
    assert (await client.update(given)).resource_version == made.resource_version
    given["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00+00:00"
    with pytest.raises(Invalid, match=r"metadata\.creationTimestamp"):
        await client.update(given)
