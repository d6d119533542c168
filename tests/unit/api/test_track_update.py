"""Writes other than apply: which fields they take, and what clients may do to managedFields themselves."""

import copy
from typing import Any

import pytest

from kastra.api.fieldset import paths
from kastra.api.managedfields import ANCIENT_CHANGES, MAX_UPDATE_MANAGERS, apply, decode, track_update

V1 = "mastra.ai/v1"
TOPOLOGY = {
    "kind": "struct",
    "fields": {
        "spec": {
            "kind": "struct",
            "fields": {
                "a": None,
                "b": None,
                "model": {"kind": "struct", "fields": {"name": None}, "additional": None},
                "steps": {"kind": "map-list", "keys": ["id"], "items": {"kind": "deduced"}},
                "args": {"kind": "atomic"},
            },
            "additional": None,
        },
    },
    "additional": None,
}
T1, T2, T3 = ("2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z", "2025-01-03T00:00:00Z")


def obj(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": V1,
        "kind": "Thing",
        "metadata": {"name": "x", "uid": "u", "resourceVersion": "1"},
        "spec": spec,
    }


def track(old: dict | None, new: dict, manager: str = "me", now: str = T1, **more: Any) -> list[dict]:
    before = copy.deepcopy((old, new))
    found = track_update(old, new, manager=manager, topology=TOPOLOGY, now=now, **{"api_version": V1, **more})
    assert (old, new) == before, "track_update changed its input"
    return found


def write(old: dict | None, new: dict, manager: str = "me", now: str = T1, **more: Any) -> dict[str, Any]:
    new = copy.deepcopy(new)
    if old is not None and "managedFields" not in new["metadata"]:
        new["metadata"]["managedFields"] = old["metadata"].get("managedFields", [])
    new["metadata"]["managedFields"] = track(old, new, manager, now, **more)
    return new


def owned(found: dict, manager: str) -> set[str]:
    entries = [e for e in found["metadata"]["managedFields"] if e["manager"] == manager]
    return {path for entry in entries for path in paths(entry["fieldsV1"])}


def names(found: dict) -> list[str]:
    return [entry["manager"] for entry in found["metadata"]["managedFields"]]


def test_a_create_owns_everything_it_wrote_containers_included() -> None:
    new = obj(a=1, model={"name": "n"}, steps=[{"id": "s"}], args=[{"x": 1}])
    new["status"] = {"phase": "ignored"}
    assert track(None, new) == [
        {
            "manager": "me", "operation": "Update", "apiVersion": V1, "time": T1, "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:spec": {
                    ".": {},
                    "f:a": {},
                    "f:model": {".": {}, "f:name": {}},
                    "f:steps": {".": {}, 'k:{"id":"s"}': {".": {}, "f:id": {}}},
                    "f:args": {},
                }
            },
        }
    ]  # fmt: skip


def test_an_update_takes_the_fields_it_changed_from_their_owners() -> None:
    live = write(None, obj(a=1, b=1), "first")
    live = write(live, obj(a=2, b=1), "second", T2)
    assert owned(live, "second") == {".spec.a"}
    assert owned(live, "first") == {".spec", ".spec.b"}
    assert [e["time"] for e in live["metadata"]["managedFields"]] == [T1, T2]


def test_an_update_that_changes_nothing_moves_no_time() -> None:
    live = write(None, obj(a=1))
    assert track(live, live, "me", T2) == live["metadata"]["managedFields"]
    assert track(live, live, "other", T2) == live["metadata"]["managedFields"]


def test_a_removed_field_leaves_all_sets_and_empty_entries_go() -> None:
    live = write(None, obj(a=1, model={"name": "n"}), "first")
    live = write(live, obj(a=1, model={"name": "m"}), "second", T2)
    live = write(live, obj(a=1), "third", T3)
    assert names(live) == ["first"]
    assert owned(live, "first") == {".spec", ".spec.a"}


def test_the_same_manager_adds_to_its_entry_unless_version_or_subresource_differ() -> None:
    live = write(None, obj(a=1))
    live = write(live, obj(a=1, b=1), now=T2)
    assert names(live) == ["me"]
    assert owned(live, "me") == {".spec", ".spec.a", ".spec.b"}
    live = write(live, obj(a=1, b=2), now=T3, api_version="mastra.ai/v2")
    assert [e["apiVersion"] for e in live["metadata"]["managedFields"]] == [V1, "mastra.ai/v2"]


def test_status_is_tracked_through_its_subresource_alone() -> None:
    live = write(None, obj(a=1))
    ready = {"conditions": [{"type": "Ready"}]}
    found = track(live, {**live, "spec": {"a": 5}, "status": ready}, "ctrl", T2, subresource="status")
    assert [(e["manager"], e.get("subresource")) for e in found] == [("me", None), ("ctrl", "status")]
    assert set(paths(found[1]["fieldsV1"])) == {".status", ".status.conditions"}
    assert track(live, {**live, "status": ready}, "ctrl", T2) == live["metadata"]["managedFields"]


def test_an_updater_takes_a_field_from_an_applier_which_then_conflicts() -> None:
    live = apply(
        None, obj(a=1, b=1), manager="applier", force=False, topology=TOPOLOGY, now=T1, api_version=V1
    ).object  # fmt: skip
    live = write(live, obj(a=2, b=1), "editor", T2)
    assert owned(live, "applier") == {".spec.b"}
    assert [(e["manager"], e["operation"]) for e in live["metadata"]["managedFields"]] == [
        ("applier", "Apply"), ("editor", "Update"),
    ]  # fmt: skip


def test_entries_are_sorted_by_operation_time_and_name() -> None:
    live = write(None, obj(a=1), "z", T2)
    live = write(live, obj(a=1, b=1), "y", T1)
    live = write(live, obj(a=1, b=1, args=[]), "x", T2)
    assert names(live) == ["y", "x", "z"]


def test_many_updaters_are_joined_oldest_first() -> None:
    live = write(None, obj())
    for i in range(MAX_UPDATE_MANAGERS + 3):
        live = write(live, obj(**live["spec"], **{f"f{i:02}": i}), f"m{i:02}", f"2025-01-01T00:00:{i:02}Z")
    assert len(names(live)) == MAX_UPDATE_MANAGERS
    assert names(live)[0] == ANCIENT_CHANGES
    assert {".spec.f00", ".spec.f01", ".spec.f02"} <= owned(live, ANCIENT_CHANGES)
    assert names(live)[-1] == f"m{MAX_UPDATE_MANAGERS + 2}"


def entry(manager: str = "migrated", **change: Any) -> dict[str, Any]:
    made = {
        "manager": manager, "operation": "Apply", "apiVersion": V1, "time": T1, "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:a": {}}},
    }  # fmt: skip
    return {key: value for key, value in {**made, **change}.items() if value is not None}


def test_entries_that_a_client_writes_are_honoured() -> None:
    live = write(None, obj(a=1))
    edited = copy.deepcopy(live)
    edited["metadata"]["managedFields"] = [entry()]
    assert track(live, edited, "kubectl", T2) == [entry()]
    edited["spec"]["b"] = 1
    assert [e["manager"] for e in track(live, edited, "kubectl", T2)] == ["migrated", "kubectl"]


def test_client_entries_are_made_canonical() -> None:
    sent = entry(fieldsV1={"f:spec": {"f:steps": {'k:{"b": 1,"a":"x"}': {".": {}}}}})
    assert decode([sent])[0]["fieldsV1"] == {"f:spec": {"f:steps": {'k:{"a":"x","b":1}': {}}}}
    assert decode([entry(fieldsV1=None)]) == []
    assert decode([entry(time=T1), entry(time=T2)]) == [entry(time=T2)]


@pytest.mark.parametrize("sent", [[], None, 5, {"a": 1}])
def test_a_client_that_sends_no_entries_changes_none(sent: Any) -> None:
    live = write(None, obj(a=1))
    edited = copy.deepcopy(live)
    edited["metadata"]["managedFields"] = sent
    assert track(live, edited, "kubectl", T2) == live["metadata"]["managedFields"]


def test_a_single_empty_entry_resets_them_all_and_then_the_change_is_tracked() -> None:
    live = write(None, obj(a=1))
    edited = copy.deepcopy(live)
    edited["metadata"]["managedFields"] = [{}]
    assert track(live, edited, "kubectl", T2) == []
    edited["spec"]["b"] = 1
    (only,) = track(live, edited, "kubectl", T2)
    assert only["fieldsV1"] == {"f:spec": {"f:b": {}}}


@pytest.mark.parametrize(
    "bad",
    [
        entry(operation="Eat"), entry(apiVersion=None), entry(fieldsType="FieldsV2"), entry(fieldsType=None),
        entry(fieldsV1={"x": {}}), entry(fieldsV1=[]), entry(manager=3), "x", {"manager": "m"},
    ],
)  # fmt: skip
def test_entries_that_can_not_be_read_leave_the_live_ones(bad: Any) -> None:
    live = write(None, obj(a=1))
    edited = copy.deepcopy(live)
    edited["metadata"]["managedFields"] = [bad]
    assert track(live, edited, "kubectl", T2) == live["metadata"]["managedFields"]


def test_a_subresource_can_not_change_entries() -> None:
    live = write(None, obj(a=1))
    edited = copy.deepcopy(live)
    edited["metadata"]["managedFields"] = [{}]
    assert track(live, edited, "ctrl", T2, subresource="status") == live["metadata"]["managedFields"]
