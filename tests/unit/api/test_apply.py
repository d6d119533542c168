"""Server-side apply: what merging, owning, conflicting and giving up fields lead to."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kastra.api.errors import Cause, Conflict
from kastra.api.fieldset import fields_of, paths
from kastra.api.managedfields import LAST_APPLIED, ApplyResult, apply, track_update
from kastra.api.topology import BUILTIN, root_of

V1 = "mastra.ai/v1"
STEP = {"kind": "struct", "fields": {"id": None, "agent": None, "input": {"kind": "deduced"}}, "additional": None}
TOPOLOGY = {
    "kind": "struct",
    "fields": {
        "spec": {
            "kind": "struct",
            "fields": {
                "a": None,
                "b": None,
                "model": {"kind": "struct", "fields": {"name": None, "provider": None}, "additional": None},
                "steps": {"kind": "map-list", "keys": ["id"], "items": STEP},
                "tags": {"kind": "set"},
                "args": {"kind": "atomic"},
                "env": {"kind": "struct", "fields": {}, "additional": {"kind": "atomic"}},
                "free": {"kind": "deduced"},
            },
            "additional": None,
        },
        "status": {"kind": "deduced"},
    },
    "additional": None,
}
T1, T2, T3 = ("2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z", "2025-01-03T00:00:00Z")


def obj(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": V1, "kind": "Thing", "metadata": {"name": "x", "namespace": "d"}, "spec": spec}


def run(
    live: dict | None, applied: dict, manager: str = "me", *, force: bool = False, now: str = T1, **more: Any
) -> ApplyResult:
    before = copy.deepcopy((live, applied))
    try:
        return apply(
            live, applied, manager=manager, force=force, now=now, topology=TOPOLOGY, **{"api_version": V1, **more}
        )  # fmt: skip
    finally:
        assert (live, applied) == before, "apply changed its input"


def store(result: ApplyResult) -> dict[str, Any]:
    """What the registry adds."""
    found = copy.deepcopy(result.object)
    found["metadata"].update(uid="u", resourceVersion="1", creationTimestamp=T1, generation=1)
    return found


def create(manager: str = "me", **spec: Any) -> dict[str, Any]:
    return store(run(None, obj(**spec), manager))


def update(live: dict, manager: str, now: str = T2, **spec: Any) -> dict[str, Any]:
    """A PUT that sets `spec` over the live one; None removes."""
    new = copy.deepcopy(live)
    for key, value in spec.items():
        if value is None:
            new["spec"].pop(key, None)
        else:
            new["spec"][key] = value
    new["metadata"]["managedFields"] = track_update(
        live, new, manager=manager, topology=TOPOLOGY, now=now, api_version=V1
    )  # fmt: skip
    return new


def owned(found: dict, manager: str) -> set[str]:
    return {
        path
        for entry in found["metadata"].get("managedFields", [])
        if entry["manager"] == manager
        for path in paths(entry["fieldsV1"])
    }


def conflict(live: dict, applied: dict, manager: str = "me", **more: Any) -> Conflict:
    with pytest.raises(Conflict) as caught:
        run(live, applied, manager, **more)
    return caught.value


def test_the_first_apply_creates_the_object_and_owns_exactly_what_it_names() -> None:
    applied = obj(a=1, model={"name": "n"}, env={"K": "v"})
    applied["metadata"]["labels"] = {"l": "1"}
    applied["status"] = {"phase": "ignored"}
    result = run(None, applied)
    assert result.changed
    assert "status" not in result.object
    assert result.object["metadata"]["managedFields"] == [
        {
            "manager": "me", "operation": "Apply", "apiVersion": V1, "time": T1, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {"f:l": {}}},
                         "f:spec": {"f:a": {}, "f:model": {"f:name": {}}, "f:env": {"f:K": {}}}},
        }
    ]  # fmt: skip


def test_applying_the_same_again_changes_nothing_not_even_the_time() -> None:
    live = create(a=1, steps=[{"id": "s", "agent": "x"}], tags=["t"])
    result = run(live, obj(a=1, steps=[{"id": "s", "agent": "x"}], tags=["t"]), now=T2)
    assert not result.changed
    assert result.object is live


def test_a_default_that_nobody_applied_does_not_stand_in_the_way_of_a_no_op() -> None:
    live = create(a=1, steps=[{"id": "s"}])
    live["spec"]["b"] = "default"
    live["spec"]["steps"][0]["agent"] = "default"
    assert not run(live, obj(a=1, steps=[{"id": "s"}]), now=T2).changed


def test_a_changed_value_moves_the_time_and_keeps_identity_and_status() -> None:
    live = create(a=1)
    live["status"] = {"phase": "Ready"}
    result = run(live, obj(a=2), now=T2)
    assert result.changed
    assert result.object["spec"] == {"a": 2}
    assert result.object["status"] == {"phase": "Ready"}
    assert result.object["metadata"]["uid"] == "u"
    assert result.object["metadata"]["managedFields"][0]["time"] == T2


def test_the_result_shares_nothing_with_the_live_object() -> None:
    live = create(a=1, free={"x": {"y": 1}})
    result = run(live, obj(a=2, free={"x": {"y": 1}}))
    result.object["spec"]["free"]["x"]["y"] = 9
    result.object["metadata"]["name"] = "other"
    assert live["spec"]["free"]["x"]["y"] == 1
    assert live["metadata"]["name"] == "x"


def test_two_managers_share_an_equal_value_and_own_their_own_fields() -> None:
    live = store(run(create(a=1), obj(a=1, b=2), "you", now=T2))
    assert owned(live, "me") == {".spec.a"}
    assert owned(live, "you") == {".spec.a", ".spec.b"}


def test_a_different_value_for_an_owned_field_is_a_conflict() -> None:
    error = conflict(create("M", a=1), obj(a=2))
    assert error.message == 'Apply failed with 1 conflict: conflict with "M": .spec.a'
    assert error.causes == (Cause("FieldManagerConflict", 'conflict with "M"', ".spec.a"),)
    assert error.status()["reason"] == "Conflict"


def test_a_conflict_with_an_updater_says_in_which_version_it_wrote() -> None:
    live = update(create(b=1), "M", a=1)
    error = conflict(live, obj(a=2, b=1))
    assert error.message == 'Apply failed with 1 conflict: conflict with "M" using mastra.ai/v1: .spec.a'
    assert error.causes == (Cause("FieldManagerConflict", 'conflict with "M" using mastra.ai/v1', ".spec.a"),)


def test_several_conflicts_are_listed_by_manager() -> None:
    live = store(run(create("M", a=1, env={"K": "1"}), obj(b=1), "N"))
    error = conflict(live, obj(a=2, b=2, env={"K": "2"}))
    assert error.message == (
        'Apply failed with 3 conflicts: conflicts with "M":\n- .spec.a\n- .spec.env.K\nconflicts with "N":\n- .spec.b'
    )
    assert len(error.causes) == 3


def test_the_same_name_as_applier_and_updater_are_two_managers() -> None:
    live = update(create("me", a=1), "me", b=1)
    assert conflict(live, obj(a=1, b=2)).causes[0].message == 'conflict with "me" using mastra.ai/v1'


def test_force_takes_the_field_and_its_ownership() -> None:
    live = store(run(create("M", a=1, b=1), obj(a=2), force=True, now=T2))
    assert live["spec"] == {"a": 2, "b": 1}
    assert owned(live, "me") == {".spec.a"}
    assert owned(live, "M") == {".spec.b"}
    alone = store(run(create("M", a=1), obj(a=2), force=True))
    assert [entry["manager"] for entry in alone["metadata"]["managedFields"]] == ["me"]


def test_true_and_one_are_different_values() -> None:
    assert conflict(create("M", a=1), obj(a=True)).causes[0].field == ".spec.a"
    assert run(create(a=1), obj(a=True)).object["spec"] == {"a": True}


def test_a_dropped_field_goes_when_nobody_else_owns_it() -> None:
    live = create(a=1, b=2, model={"name": "n", "provider": "p"})
    live = store(run(live, obj(a=1, model={"name": "n"}), now=T2))
    assert live["spec"] == {"a": 1, "model": {"name": "n"}}
    assert owned(live, "me") == {".spec.a", ".spec.model.name"}


def test_a_dropped_field_stays_when_an_applier_or_updater_owns_it_too() -> None:
    live = store(run(create(a=1, b=2), obj(b=2), "you"))
    assert run(live, obj(a=1)).object["spec"] == {"a": 1, "b": 2}
    live = update(update(create(a=1, b=2), "you", b=3), "you", b=2)
    assert owned(live, "me") == {".spec.a"}
    assert run(live, obj(a=1)).object["spec"] == {"a": 1, "b": 2}


def test_a_dropped_map_takes_its_defaults_with_it_but_not_what_others_own() -> None:
    live = create(a=1, model={"name": "n"})
    live["spec"]["model"]["provider"] = "default"
    assert run(live, obj(a=1)).object["spec"] == {"a": 1}
    live = store(run(create(a=1, model={"name": "n"}), obj(model={"provider": "p"}), "you"))
    assert run(live, obj(a=1)).object["spec"] == {"a": 1, "model": {"provider": "p"}}


def test_applying_nothing_any_more_gives_up_everything() -> None:
    live = create(a=1, b=1)
    result = run(live, {"apiVersion": V1, "kind": "Thing", "metadata": {"name": "x"}})
    assert "spec" not in result.object
    assert "managedFields" not in result.object["metadata"]


def test_items_of_a_keyed_list_merge_and_each_manager_owns_its_own() -> None:
    live = create(steps=[{"id": "one", "agent": "x"}])
    live = store(run(live, obj(steps=[{"id": "two", "agent": "y"}]), "you"))
    assert [step["id"] for step in live["spec"]["steps"]] == ["one", "two"]
    live = store(run(live, obj(steps=[{"id": "one", "input": {"q": 1}}]), "third"))
    assert live["spec"]["steps"][0] == {"id": "one", "agent": "x", "input": {"q": 1}}
    assert conflict(live, obj(steps=[{"id": "two", "agent": "z"}])).causes[0].field == '.spec.steps[id="two"].agent'


def test_dropping_an_item_removes_the_whole_item_with_its_defaults() -> None:
    live = create(steps=[{"id": "one", "agent": "x"}, {"id": "two", "agent": "y"}])
    live["spec"]["steps"][1]["retry"] = {"limit": 3}
    assert run(live, obj(steps=[{"id": "one", "agent": "x"}])).object["spec"]["steps"] == [{"id": "one", "agent": "x"}]


def test_dropping_an_item_removes_it_even_if_an_updater_changed_something_inside() -> None:
    live = create(steps=[{"id": "one", "agent": "x"}, {"id": "two", "agent": "y"}])
    live = update(live, "scaler", steps=[{"id": "one", "agent": "x"}, {"id": "two", "agent": "y", "input": {"n": 1}}])
    result = run(live, obj(steps=[{"id": "one", "agent": "x"}]))
    assert result.object["spec"]["steps"] == [{"id": "one", "agent": "x"}]
    assert owned(result.object, "scaler") == set()


def test_a_dropped_item_that_another_applier_names_keeps_what_that_one_owns() -> None:
    live = create(steps=[{"id": "one", "agent": "x"}])
    live = store(run(live, obj(steps=[{"id": "one", "input": {"q": 1}}]), "you"))
    assert run(live, obj(a=1)).object["spec"]["steps"] == [{"id": "one", "input": {"q": 1}}]


def test_the_order_of_a_keyed_list_follows_the_applier() -> None:
    live = create(steps=[{"id": "a"}, {"id": "b"}])
    result = run(live, obj(steps=[{"id": "b"}, {"id": "a"}]), now=T2)
    assert result.changed
    assert [step["id"] for step in result.object["spec"]["steps"]] == ["b", "a"]
    assert owned(result.object, "me") == owned(live, "me")


def test_sets_hold_the_values_of_all_managers() -> None:
    live = store(run(create(tags=["a", "b"]), obj(tags=["b", "c"]), "you"))
    assert live["spec"]["tags"] == ["a", "b", "c"]
    live = store(run(live, obj(tags=["a"])))
    assert live["spec"]["tags"] == ["a", "b", "c"]
    live = store(run(live, obj(tags=["c"]), "you"))
    assert live["spec"]["tags"] == ["a", "c"]


def test_atomic_lists_are_replaced_whole_and_conflict_whole() -> None:
    live = create(args=[1, 2])
    assert conflict(live, obj(args=[1, 2, 3]), "you").causes[0].field == ".spec.args"
    live = store(run(live, obj(args=[3]), "you", force=True))
    assert live["spec"]["args"] == [3]
    assert owned(live, "me") == set()


def test_deduced_maps_merge_by_key_and_their_lists_are_atomic() -> None:
    live = create(free={"x": {"p": 1}, "l": [1]})
    live = store(run(live, obj(free={"x": {"q": 2}}), "you"))
    assert live["spec"]["free"] == {"x": {"p": 1, "q": 2}, "l": [1]}
    assert conflict(live, obj(free={"l": [1, 2]}), "you").causes[0].field == ".spec.free.l"


def test_an_empty_map_is_applied_and_kept() -> None:
    live = create(a=1, model={})
    assert live["spec"]["model"] == {}
    assert not run(live, obj(a=1, model={})).changed
    assert run(live, obj(a=1)).object["spec"] == {"a": 1}


def test_a_value_that_changes_its_shape_takes_ownership_of_what_was_inside() -> None:
    live = create("M", free={"x": {"p": 1}})
    result = run(live, obj(free={"x": 3}), force=True)
    assert result.object["spec"]["free"] == {"x": 3}
    assert owned(result.object, "M") == set()
    back = run(store(result), obj(free={"x": {"p": 1}}))
    assert owned(back.object, "me") == {".spec.free.x", ".spec.free.x.p"}


def test_items_that_can_not_be_told_apart_replace_the_list_for_validation_to_refuse() -> None:
    twice = [{"id": "a", "agent": "x"}, {"id": "a", "agent": "y"}]
    assert run(create(steps=[{"id": "b"}]), obj(steps=twice)).object["spec"]["steps"] == twice


def test_finalizers_labels_and_owners_merge_by_metadatas_own_rules() -> None:
    first, second = obj(), obj()
    first["metadata"] |= {"labels": {"a": "1"}, "finalizers": ["f"], "ownerReferences": [{"uid": "1", "name": "o"}]}
    second["metadata"] |= {"labels": {"b": "2"}, "finalizers": ["g"], "ownerReferences": [{"uid": "2", "name": "p"}]}
    metadata = run(store(run(None, first)), second, "you").object["metadata"]
    assert metadata["labels"] == {"a": "1", "b": "2"}
    assert metadata["finalizers"] == ["f", "g"]
    assert [owner["uid"] for owner in metadata["ownerReferences"]] == ["1", "2"]


def test_identity_and_server_set_metadata_are_never_owned_nor_taken_from_the_applied_object() -> None:
    applied = obj(a=1)
    applied["metadata"] |= {"uid": "forged", "resourceVersion": "9", "generation": 7, "creationTimestamp": None}
    live = create(a=1)
    assert not run(live, applied).changed
    assert run(live, {**applied, "spec": {"a": 2}}).object["metadata"]["uid"] == "u"


def test_status_is_applied_and_owned_through_its_subresource_only() -> None:
    live = create(a=1)
    wanted = {**obj(a=9), "status": {"phase": "Ready", "n": 1}}
    live = store(run(live, wanted, "ctrl", subresource="status", now=T2))
    assert live["spec"] == {"a": 1}
    assert live["status"] == {"phase": "Ready", "n": 1}
    entry = live["metadata"]["managedFields"][1]
    assert (entry["manager"], entry["subresource"]) == ("ctrl", "status")
    assert owned(live, "ctrl") == {".status.phase", ".status.n"}
    assert not run(live, wanted, "ctrl", subresource="status", now=T3).changed
    error = conflict(live, {"metadata": {"name": "x"}, "status": {"n": 2}}, subresource="status")
    assert error.causes[0].message == 'conflict with "ctrl" with subresource "status"'


def test_a_kind_without_the_subresource_has_an_ordinary_status() -> None:
    result = run(None, {**obj(), "status": {"phase": "x"}}, has_status=False)
    assert result.object["status"] == {"phase": "x"}
    assert ".status.phase" in owned(result.object, "me")


def test_an_applier_has_one_entry_whatever_version_it_applies() -> None:
    live = store(run(create(a=1), {**obj(a=1, b=1), "apiVersion": "mastra.ai/v2"}, api_version="mastra.ai/v2", now=T2))
    assert [entry["apiVersion"] for entry in live["metadata"]["managedFields"]] == ["mastra.ai/v2"]
    assert live["apiVersion"] == "mastra.ai/v2"


def test_config_maps_own_their_data_key_by_key() -> None:
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}}
    result = apply(
        None, applied, manager="me", force=False, topology=BUILTIN["ConfigMap"], now=T1, api_version="v1"
    )  # fmt: skip
    assert result.object["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {"f:k": {}}}


def client_side_applied(last: dict) -> dict[str, Any]:
    """An object that `kubectl apply` made: an Update entry and the annotation."""
    new = obj(a=1, b=2)
    new["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(last)}
    new["metadata"]["managedFields"] = track_update(
        None, new, manager="kubectl-client-side-apply", topology=TOPOLOGY, now=T1, api_version=V1
    )  # fmt: skip
    return new


def test_kubectl_takes_over_what_its_client_side_apply_set() -> None:
    live = client_side_applied(obj(a=1))
    assert run(live, obj(a=5), "kubectl").object["spec"] == {"a": 5, "b": 2}
    assert conflict(live, obj(a=5), "other").causes[0].field == ".spec.a"
    assert [c.field for c in conflict(live, obj(a=5, b=5), "kubectl").causes] == [".spec.b"]
    changed_since = client_side_applied(obj(a=7))
    assert conflict(changed_since, obj(a=5), "kubectl").causes[0].field == ".spec.a"


_specs = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(0, 1),
        "b": st.booleans(),
        "model": st.dictionaries(st.sampled_from(["name", "provider", "z"]), st.integers(0, 1), max_size=2),
        "steps": st.lists(
            st.fixed_dictionaries({"id": st.sampled_from("pqr")}, optional={"agent": st.integers(0, 1)}),
            max_size=3, unique_by=lambda step: step["id"],
        ),
        "tags": st.lists(st.sampled_from("xyz"), max_size=3, unique=True),
        "args": st.lists(st.integers(0, 1), max_size=2),
        "free": st.dictionaries(st.sampled_from("uv"), st.integers(0, 1) | st.just({}), max_size=2),
    },
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["m1", "m2", "m3"]), _specs, st.booleans()), min_size=1, max_size=6))
def test_laws_of_applying(calls: list[tuple[str, dict, bool]]) -> None:
    live = None
    for manager, spec, force in calls:
        applied = obj(**spec)
        try:
            live = store(run(live, applied, manager, force=force))
        except Conflict as error:
            assert not force
            assert error.causes
            continue
        # What one applies is there, again applied it changes nothing, and every owned field exists.
        assert not run(live, applied, manager, now=T2).changed
        there = set(paths(fields_of(live, root_of(TOPOLOGY), containers=True)))
        assert {path for e in live["metadata"].get("managedFields", []) for path in paths(e["fieldsV1"])} <= there


@settings(max_examples=100, deadline=None)
@given(_specs, _specs)
def test_a_lone_applier_always_gets_exactly_what_it_applied(first: dict, second: dict) -> None:
    live = store(run(None, obj(**first)))
    found = run(live, obj(**second)).object
    assert found.get("spec", {}) == second
