"""What every Client does, in process or over HTTP, against a server that has Kubernetes' semantics.

Derive a class named `Test...` from `ClientContract` beside a fixture `client` that gives a client of an empty server.
"""

from typing import Any

import anyio
import pytest

from kastra.api.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Expired,
    Invalid,
    NotFound,
    StatusError,
    UnsupportedMediaType,
)
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.client.interface import Client, PatchType, WatchEvent, WriteOptions

GROUP = "example.com"
API_VERSION = f"{GROUP}/v1"

WIDGETS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"widgets.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wg"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "color": {"type": "string"},
                                    "size": {"type": "integer", "minimum": 0, "default": 1},
                                    "replicas": {"type": "integer"},
                                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                                    "parts": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name"],
                                        "items": {
                                            "type": "object",
                                            "required": ["name"],
                                            "properties": {"name": {"type": "string"}, "material": {"type": "string"}},
                                        },
                                    },
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "phase": {"type": "string"},
                                    "replicas": {"type": "integer"},
                                    "selector": {"type": "string"},
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}
"""A namespaced kind with status, scale, a default, a keyed list and a selectable field."""


def widget(name: str = "", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace} if name else {"generateName": "w-", "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": "Widget", "metadata": metadata, "spec": spec}


def at(name: str, namespace: str = "default") -> ObjectRef:
    return ObjectRef("widgets", name, namespace)


def namespace_object(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


async def collect(client: Client, count: int, **options: Any) -> list[WatchEvent]:
    """The next `count` events of a watch on widgets."""
    events: list[WatchEvent] = []
    with anyio.fail_after(5):
        async with client.watch("widgets", **options) as watch:
            async for event in watch:
                events.append(event)
                if len(events) == count:
                    break
    return events


class ClientContract:
    @pytest.fixture
    async def widgets(self, client: Client) -> Client:
        await client.create(WIDGETS)
        return client

    async def test_a_defined_kind_can_be_used_as_soon_as_its_definition_is_created(self, client: Client) -> None:
        await client.create(WIDGETS)
        made = await client.create(widget("a", color="red"))
        assert (made.kind, made.name, made.namespace, made.generation) == ("Widget", "a", "default", 1)
        assert made.uid
        assert made.resource_version.isdecimal()
        assert made.spec == {"color": "red", "size": 1}
        assert client.scheme.find("wg").plural == "widgets"

    async def test_get_returns_what_create_stored(self, widgets: Client) -> None:
        made = await widgets.create(widget("a"))
        assert await widgets.get(at("a")) == made

    async def test_objects_are_found_in_the_namespace_they_are_in(self, widgets: Client) -> None:
        await widgets.create(namespace_object("other"))
        await widgets.create(widget("a", "other"))
        with pytest.raises(NotFound, match=r'^widgets.example.com "a" not found$'):
            await widgets.get(at("a"))
        assert (await widgets.get(at("a", "other"))).namespace == "other"

    async def test_a_name_is_taken_once(self, widgets: Client) -> None:
        await widgets.create(widget("a"))
        with pytest.raises(AlreadyExists, match=r'^widgets.example.com "a" already exists$'):
            await widgets.create(widget("a"))

    async def test_generated_names_differ(self, widgets: Client) -> None:
        names = {(await widgets.create(widget())).name for _ in range(5)}
        assert len(names) == 5
        assert all(name.startswith("w-") and len(name) == 7 for name in names)

    async def test_an_invalid_object_is_refused_with_the_field_and_nothing_is_stored(self, widgets: Client) -> None:
        with pytest.raises(Invalid) as refused:
            await widgets.create(widget("a", size=-1))
        assert [cause.field for cause in refused.value.causes] == ["spec.size"]
        with pytest.raises(NotFound):
            await widgets.get(at("a"))

    async def test_update_replaces_the_object_and_starts_a_generation(self, widgets: Client) -> None:
        made = await widgets.create(widget("a", color="red"))
        changed = made.to_dict()
        changed["spec"] = {"color": "blue"}
        stored = await widgets.update(changed)
        assert stored.spec == {"color": "blue", "size": 1}
        assert stored.generation == 2
        assert int(stored.resource_version) > int(made.resource_version)

    async def test_update_of_an_old_version_conflicts(self, widgets: Client) -> None:
        made = await widgets.create(widget("a"))
        await widgets.patch(at("a"), {"spec": {"color": "red"}})
        stale = made.to_dict()
        stale["spec"]["color"] = "blue"
        with pytest.raises(Conflict, match="the object has been modified; please apply your changes"):
            await widgets.update(stale)

    async def test_a_write_that_changes_nothing_keeps_the_resource_version(self, widgets: Client) -> None:
        made = await widgets.create(widget("a", color="red"))
        assert await widgets.patch(at("a"), {"spec": {"color": "red"}}) == made
        assert await widgets.update(made.to_dict()) == made

    async def test_the_three_patches(self, widgets: Client) -> None:
        await widgets.create(widget("a", color="red", labels={"x": "1"}))
        merged = await widgets.patch(at("a"), {"spec": {"labels": {"x": None, "y": "2"}}})
        assert merged.spec["labels"] == {"y": "2"}
        operations = [{"op": "test", "path": "/spec/color", "value": "red"}, {"op": "remove", "path": "/spec/color"}]
        assert "color" not in (await widgets.patch(at("a"), operations, PatchType.JSON)).spec
        with pytest.raises(Invalid):
            await widgets.patch(at("a"), operations, PatchType.JSON)
        with pytest.raises(UnsupportedMediaType, match=r"application/merge-patch\+json"):
            await widgets.patch(at("a"), {"spec": {}}, PatchType.STRATEGIC)
        config = await widgets.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}
        )
        patched = await widgets.patch(config.ref, {"data": {"b": "2"}}, PatchType.STRATEGIC)
        assert patched.data["data"] == {"a": "1", "b": "2"}

    async def test_status_is_written_only_through_its_subresource(self, widgets: Client) -> None:
        made = await widgets.create(widget("a") | {"status": {"phase": "Made up"}})
        assert made.status == {}
        patched = await widgets.patch(
            at("a"), {"spec": {"color": "red"}, "status": {"phase": "Running"}}, subresource="status"
        )
        assert patched.status == {"phase": "Running"}
        assert "color" not in patched.spec
        assert patched.generation == 1
        ignored = await widgets.patch(at("a"), {"status": {"phase": "Failed"}})
        assert ignored.resource_version == patched.resource_version

    async def test_the_scale_is_a_view_of_the_object(self, widgets: Client) -> None:
        await widgets.create(widget("a", replicas=2))
        scaled = await widgets.patch(at("a"), {"spec": {"replicas": 5}}, subresource="scale")
        assert (scaled.kind, scaled.api_version, scaled.spec) == ("Scale", "autoscaling/v1", {"replicas": 5})
        assert (await widgets.get(at("a"))).spec["replicas"] == 5

    async def test_apply_creates_then_merges_then_prunes(self, widgets: Client) -> None:
        mine, yours = WriteOptions(field_manager="mine"), WriteOptions(field_manager="yours")
        await widgets.apply(widget("a", color="red", parts=[{"name": "wheel"}]), mine)
        await widgets.apply(widget("a", parts=[{"name": "door"}]), yours)
        merged = await widgets.apply(widget("a", color="red"), mine)
        assert merged.spec == {"color": "red", "size": 1, "parts": [{"name": "door"}]}

    async def test_apply_conflicts_with_other_managers_unless_forced(self, widgets: Client) -> None:
        await widgets.apply(widget("a", color="red"), WriteOptions(field_manager="mine"))
        yours = WriteOptions(field_manager="yours")
        with pytest.raises(
            Conflict, match=r'Apply failed with 1 conflict: conflict with "mine": .spec.color'
        ) as refused:
            await widgets.apply(widget("a", color="blue"), yours)
        assert [cause.reason for cause in refused.value.causes] == ["FieldManagerConflict"]
        assert (await widgets.apply(widget("a", color="blue"), yours, force=True)).spec["color"] == "blue"

    async def test_a_dry_run_checks_everything_and_stores_nothing(self, widgets: Client) -> None:
        dry = WriteOptions(dry_run=True)
        assert (await widgets.create(widget("a"), dry)).spec == {"size": 1}
        with pytest.raises(NotFound):
            await widgets.get(at("a"))
        made = await widgets.create(widget("a"))
        assert (await widgets.patch(at("a"), {"spec": {"color": "red"}}, PatchType.MERGE, dry)).spec["color"] == "red"
        assert await widgets.delete(at("a"), dry_run=True) is None
        assert await widgets.get(at("a")) == made
        with pytest.raises(Invalid):
            await widgets.create(widget("b", size=-1), dry)

    async def test_strict_validation_names_unknown_fields(self, widgets: Client) -> None:
        with pytest.raises(BadRequest, match=r'strict decoding error: unknown field "spec.bogus"'):
            await widgets.create(widget("a", bogus=1), WriteOptions(field_validation="Strict"))
        stored = await widgets.create(widget("a", bogus=1), WriteOptions(field_validation="Ignore"))
        assert "bogus" not in stored.spec

    async def test_delete_is_final_without_finalizers_and_waits_for_them_with(self, widgets: Client) -> None:
        await widgets.create(widget("a"))
        assert await widgets.delete(at("a")) is None
        held = widget("b")
        held["metadata"]["finalizers"] = ["example.com/hold"]
        await widgets.create(held)
        waiting = await widgets.delete(at("b"))
        assert waiting is not None
        assert waiting.deleting
        await widgets.patch(at("b"), {"metadata": {"finalizers": None}})
        for name in ("a", "b"):
            with pytest.raises(NotFound):
                await widgets.get(at(name))

    async def test_delete_honours_its_preconditions(self, widgets: Client) -> None:
        made = await widgets.create(widget("a"))
        with pytest.raises(Conflict):
            await widgets.delete(at("a"), uid="another")
        with pytest.raises(Conflict):
            await widgets.delete(at("a"), resource_version="1")
        assert await widgets.delete(at("a"), uid=made.uid, resource_version=made.resource_version) is None

    async def test_a_collection_is_deleted_by_selector(self, widgets: Client) -> None:
        for name, team in (("a", "x"), ("b", "y"), ("c", "x")):
            labelled = widget(name)
            labelled["metadata"]["labels"] = {"team": team}
            await widgets.create(labelled)
        gone = await widgets.delete_collection("widgets", "default", label_selector="team=x")
        assert sorted(obj.name for obj in gone) == ["a", "c"]
        assert [obj.name for obj in (await widgets.list("widgets")).items] == ["b"]

    async def test_lists_are_sorted_and_narrowed(self, widgets: Client) -> None:
        await widgets.create(namespace_object("other"))
        for name, namespace, color in (("b", "default", "red"), ("a", "other", "blue"), ("a", "default", "blue")):
            await widgets.create(widget(name, namespace, color=color))

        async def names(namespace: str | None = None, **options: Any) -> list[str]:
            listed = await widgets.list("widgets", namespace, **options)
            return [f"{obj.namespace}/{obj.name}" for obj in listed.items]

        assert await names() == ["default/a", "default/b", "other/a"]
        assert await names("other") == ["other/a"]
        assert await names(field_selector="spec.color=blue") == ["default/a", "other/a"]
        assert await names("default", field_selector="metadata.name!=a") == ["default/b"]
        with pytest.raises(BadRequest, match=r"^field label not supported: spec.size$"):
            await names(field_selector="spec.size=1")

    async def test_pages_show_one_state(self, widgets: Client) -> None:
        for name in "abcde":
            await widgets.create(widget(name))
        page = await widgets.list("widgets", limit=2)
        assert page.remaining == 3
        await widgets.create(widget("aa"))
        await widgets.delete(at("c"))
        seen = [*page.items]
        while page.continue_token:
            following = await widgets.list("widgets", limit=2, continue_token=page.continue_token)
            assert following.resource_version == page.resource_version
            page = following
            seen += page.items
        assert [obj.name for obj in seen] == ["a", "b", "c", "d", "e"]

    async def test_a_broken_continue_token_is_refused(self, widgets: Client) -> None:
        with pytest.raises((BadRequest, Expired)):
            await widgets.list("widgets", limit=1, continue_token="nonsense")

    async def test_a_watch_shows_what_is_there_and_what_happens_then(self, widgets: Client) -> None:
        await widgets.create(widget("a"))
        events: list[WatchEvent] = []
        with anyio.fail_after(5):
            async with widgets.watch("widgets", "default") as watch:
                stream = aiter(watch)
                events.append(await anext(stream))
                await widgets.patch(at("a"), {"spec": {"color": "red"}})
                await widgets.delete(at("a"))
                events += [await anext(stream), await anext(stream)]
        assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
        versions = [int(event.object.resource_version) for event in events]
        assert versions == sorted(set(versions))
        assert events[2].object.spec["color"] == "red"

    async def test_a_watch_resumes_after_a_list_without_gap(self, widgets: Client) -> None:
        await widgets.create(widget("a"))
        version = (await widgets.list("widgets")).resource_version
        await widgets.create(widget("b"))
        await widgets.patch(at("a"), {"spec": {"color": "red"}})
        events = await collect(widgets, 2, resource_version=version)
        assert [(event.type, event.object.name) for event in events] == [("ADDED", "b"), ("MODIFIED", "a")]

    async def test_entering_and_leaving_a_selector_looks_like_creation_and_deletion(self, widgets: Client) -> None:
        await widgets.create(widget("a"))
        version = (await widgets.list("widgets")).resource_version
        for label in ("x", "y"):
            await widgets.patch(at("a"), {"metadata": {"labels": {"team": label}}})
        events = await collect(widgets, 2, resource_version=version, label_selector="team=x")
        assert [event.type for event in events] == ["ADDED", "DELETED"]

    async def test_initial_events_end_with_a_bookmark_that_says_so(self, widgets: Client) -> None:
        await widgets.create(widget("a"))
        events = await collect(widgets, 2, send_initial_events=True, allow_bookmarks=True)
        assert [event.type for event in events] == ["ADDED", "BOOKMARK"]
        assert events[1].object.annotations == {"k8s.io/initial-events-end": "true"}
        assert int(events[1].object.resource_version) >= int(events[0].object.resource_version)

    async def test_a_watch_ends_when_its_time_is_over(self, widgets: Client) -> None:
        with anyio.fail_after(5):
            async with widgets.watch("widgets", timeout=0) as watch:
                assert [event async for event in watch] == []

    async def test_unknown_kinds_are_not_found(self, client: Client) -> None:
        with pytest.raises(NotFound, match='the server doesn\'t have a resource type "gadgets"'):
            await client.list("gadgets")
        with pytest.raises(NotFound, match=r'no matches for kind "Gadget" in version "example.com/v1"'):
            await client.create({"apiVersion": API_VERSION, "kind": "Gadget", "metadata": {"name": "x"}})

    async def test_what_is_handed_in_is_never_changed(self, widgets: Client) -> None:
        given = widget("a", bogus=1)
        before = Object.of(given)
        await widgets.create(given)
        assert Object.of(given) == before

    async def test_an_unknown_subresource_is_not_found(self, widgets: Client) -> None:
        await widgets.create(widget("a"))
        with pytest.raises(StatusError) as refused:
            async for _ in widgets.connect(at("a"), "nothing"):
                pass
        assert refused.value.code == 404
