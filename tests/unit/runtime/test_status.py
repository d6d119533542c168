"""A pass over an object becomes the smallest patch of its status, or none."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kastra.api.object import Object
from kastra.runtime.status import StatusWriter, difference

from .memory import manifest

NOW = "2026-01-01T00:00:00Z"


def writer(**status: Any) -> StatusWriter:
    return StatusWriter(Object.of(manifest("Tool", "t", generation=3, status=status)), NOW)


def test_fields_are_attributes_in_snake_case() -> None:
    pass_ = writer(schemaHash="old", observedGeneration=3)
    pass_.fields.schema_hash = "new"
    pass_.fields.error_rate = 0.5
    assert pass_.fields.schema_hash == "new"
    assert pass_.fields.never_set is None
    assert pass_.patch() == {"schemaHash": "new", "errorRate": 0.5}


def test_what_is_as_it_was_is_not_in_the_patch() -> None:
    pass_ = writer(schemaHash="same", tools=[{"name": "a"}], observedGeneration=3)
    pass_.fields.schema_hash = "same"
    pass_.fields.tools = ({"name": "a"},)
    assert pass_.patch() == {}


def test_a_field_is_removed_by_none_or_del() -> None:
    pass_ = writer(a=1, b=2, observedGeneration=3)
    pass_.fields.a = None
    del pass_.fields.b
    del pass_.fields.c
    assert pass_.patch() == {"a": None, "b": None}


def test_a_mapping_is_replaced_as_a_whole_by_the_least_patch() -> None:
    pass_ = writer(usage={"day": 1, "night": 2, "old": 3}, observedGeneration=3)
    pass_.fields.usage = {"day": 1, "night": 5}
    assert pass_.patch() == {"usage": {"night": 5, "old": None}}


def test_true_is_not_one() -> None:
    pass_ = writer(value=1, observedGeneration=3)
    pass_.fields.value = True
    assert pass_.patch() == {"value": True}


def test_conditions_keep_the_time_of_their_last_transition() -> None:
    then = "2025-01-01T00:00:00Z"
    old = {
        "type": "Ready",
        "status": "True",
        "reason": "A",
        "message": "",
        "lastTransitionTime": then,
        "observedGeneration": 3,
    }
    pass_ = writer(conditions=[old], observedGeneration=3, phase="Running")
    pass_.condition("Ready", True, "A", "")
    assert pass_.patch() == {}
    pass_.condition("Ready", True, "B", "")
    assert pass_.patch()["conditions"][0]["lastTransitionTime"] == then
    pass_.condition("Ready", False, "C", "")
    patch = pass_.patch()
    assert patch["conditions"][0]["lastTransitionTime"] == NOW
    assert patch["phase"] == "Pending"


def test_phase_mirrors_ready_unless_the_pass_sets_it() -> None:
    phases = []
    for status, reason in ((True, "Ready"), (False, "NotFound"), (False, "ReconcileError"), (None, "Checking")):
        pass_ = writer()
        pass_.condition("Ready", status, reason, "")
        phases.append(pass_.patch()["phase"])
    assert phases == ["Running", "Pending", "Failed", "Pending"]
    own = writer()
    own.fields.phase = "Waiting"
    own.condition("Ready", True, "Ready", "")
    assert own.patch()["phase"] == "Waiting"


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
_objects = st.dictionaries(st.sampled_from("abc"), _json, max_size=3)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


def merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@given(old=_objects, new=_objects)
def test_the_patch_gives_the_named_fields_their_values_and_leaves_the_others(old: Any, new: Any) -> None:
    old = without_nulls(old)
    result = merged(old, difference(old, new))
    for key in old.keys() | new.keys():
        expected = without_nulls(new[key]) if key in new else old[key]
        assert result.get(key) == expected


@given(status=_objects)
def test_nothing_differs_from_itself(status: Any) -> None:
    status = without_nulls(status)
    assert difference(status, status) == {}
