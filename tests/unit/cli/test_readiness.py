"""Conditions alone say whether an object is ready."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kastra.api.object import Object
from kastra.cli.readiness import age, is_ready, readiness, readiness_lines

NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def obj(*conditions: dict[str, Any], kind: str = "Agent", **status: Any) -> Object:
    metadata = {"name": "x", "namespace": "n", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return Object.of({"kind": kind, "metadata": metadata, "status": {"conditions": list(conditions), **status}})


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([{"type": "Ready", "status": "True", "reason": "Resolved"}], ("True", "Resolved", "")),
        ([{"type": "Ready", "status": "False", "reason": "NotFound", "message": "m"}], ("False", "NotFound", "m")),
        ([{"type": "Established", "status": "True", "reason": "Ok"}], ("True", "Ok", "")),
        ([{"type": "Accepted", "status": "True"}, {"type": "Succeeded", "status": "True"}], ("True", "Succeeded", "")),
        ([{"type": "Failed", "status": "True", "reason": "Timeout"}], ("False", "Timeout", "")),
        ([{"type": "Suspended", "status": "False"}, {"type": "Accepted", "status": "True"}], ("Unknown", "", "")),
    ],
)
def test_each_kind_has_its_own_condition(conditions: list[dict[str, Any]], expected: tuple[str, str, str]) -> None:
    assert readiness(obj(*conditions)) == expected


def test_a_condition_about_an_older_spec_proves_nothing() -> None:
    found = readiness(obj({"type": "Ready", "status": "True", "observedGeneration": 1}))
    assert found is not None
    assert (found.status, found.reason) == ("Unknown", "Outdated")


def test_kinds_without_conditions_are_fine_and_stay_out_of_the_table() -> None:
    assert readiness(obj()) is None
    assert is_ready(obj())
    assert readiness_lines([obj()], NOW) == []


def test_the_table_explains_what_is_not_ready() -> None:
    broken = obj({"type": "Ready", "status": "False", "reason": "NotFound", "message": "no Tool\nat all"})
    assert readiness_lines([broken], NOW) == [
        "NAMESPACE   KIND    NAME   READY   REASON     AGE",
        "n           Agent   x      False   NotFound   60s",
        "",
        "Agent x: no Tool...",
    ]


def test_an_age_that_can_not_be_told_says_so() -> None:
    assert age("yesterday", NOW) == "<unknown>"
