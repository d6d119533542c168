"""A view reads what is there: conditions as they stand, and a status that nobody has written yet as an empty one."""

import pytest

from kastra.api.object import Object
from kastra.runtime import Fields, View


class BoxStatus(Fields):
    items: int = 0


class Box(View, kind="Box", group="example.com"):
    status: BoxStatus


class Plain(View, kind="Plain", group="example.com"):
    """Reads no status."""


READY = {"type": "Ready", "status": "True", "reason": "Ready", "message": "3 items", "observedGeneration": 2}


def box(**status: object) -> Object:
    return Object.of({"metadata": {"name": "b"}, "status": status})


@pytest.mark.parametrize("view", [Box, Plain])
def test_a_condition_is_found_by_its_type(view: type[View]) -> None:
    ready = view.of(box(conditions=[READY])).condition("Ready")
    assert ready is not None
    assert (ready.is_true, ready.reason, ready.message, ready.observed_generation) == (True, "Ready", "3 items", 2)


@pytest.mark.parametrize("view", [Box, Plain])
def test_a_condition_that_is_not_there_is_none(view: type[View]) -> None:
    assert view.of(box(conditions=[READY])).condition("Degraded") is None
    assert view.of(box()).condition("Ready") is None


def test_a_status_that_nobody_has_written_yet_is_empty() -> None:
    assert Box.of({"metadata": {"name": "b"}}).status == BoxStatus(items=0)


def test_a_false_condition_does_not_hold() -> None:
    ready = Box.of(box(conditions=[{**READY, "status": "False"}])).condition("Ready")
    assert ready is not None
    assert not ready.is_true
