"""Tables have Kubernetes' shape, typed cells, and ages in Kubernetes' words."""

from datetime import UTC, datetime, timedelta

import pytest

from kastra.api.object import Object
from kastra.api.scheme import PrinterColumn
from kastra.api.table import human_duration, table

S, M, H, D, Y = 1, 60, 3600, 86400, 365 * 86400
MS = 0.001
NOW = datetime(2025, 6, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1s"), (70, "70s"), (190, "3m10s"), (70 * M, "70m"), (47 * H, "47h"), (49 * H, "2d1h"), ((8 * 24 + 2) * H, "8d"),
        (367 * 24 * H, "367d"), ((365 * 2 * 24 + 25) * H, "2y1d"), ((365 * 8 * 24 + 2) * H, "8y"),
        # boundaries
        (-2, "<invalid>"), (-2 + MS, "0s"), (0, "0s"), (S - MS, "0s"), (2 * M - MS, "119s"), (2 * M, "2m"), (2 * M + S, "2m1s"),
        (10 * M - MS, "9m59s"), (10 * M, "10m"), (10 * M + S, "10m"), (3 * H - MS, "179m"), (3 * H, "3h"), (3 * H + M, "3h1m"),
        (8 * H - MS, "7h59m"), (8 * H, "8h"), (8 * H + 59 * M, "8h"), (2 * D - MS, "47h"), (2 * D, "2d"), (2 * D + H, "2d1h"),
        (8 * D - MS, "7d23h"), (8 * D, "8d"), (8 * D + 23 * H, "8d"), (2 * Y - MS, "729d"), (2 * Y, "2y"), (2 * Y + 23 * H, "2y"),
        (2 * Y + D - MS, "2y"), (2 * Y + D, "2y1d"), (3 * Y, "3y"), (4 * Y + D, "4y1d"), (8 * Y - MS, "7y364d"), (8 * Y, "8y"),
        (8 * Y + 364 * D, "8y"), (9 * Y, "9y"),
    ],
)  # fmt: skip
def test_durations_read_as_in_kubernetes(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def agent(name: str, **spec: object) -> dict:
    created = (NOW - timedelta(days=2, hours=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "mastra.ai/v1",
        "kind": "Agent",
        "metadata": {"name": name, "namespace": "d", "creationTimestamp": created, "labels": {"a": "b"}},
        "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def test_a_kind_without_columns_shows_name_and_age() -> None:
    found = table([agent("x")], (), now=NOW, resource_version="7")
    assert [c["name"] for c in found["columnDefinitions"]] == ["Name", "Age"]
    assert found["columnDefinitions"][0]["format"] == "name"
    assert found["rows"][0]["cells"] == ["x", "2d3h"]
    assert found["metadata"] == {"resourceVersion": "7"}
    assert (found["kind"], found["apiVersion"]) == ("Table", "meta.k8s.io/v1")


@pytest.mark.parametrize(
    ("type_", "value", "cell"),
    [
        ("string", "x", "x"), ("string", 3, "3"), ("string", True, "true"), ("string", ["b", {"a": 1}], '["b",{"a":1}]'),
        ("string", None, None), ("integer", 3, 3), ("integer", 3.9, 3), ("integer", "3", None), ("integer", True, None),
        ("number", 1.5, 1.5), ("number", "x", None), ("boolean", True, True), ("boolean", "true", None),
        ("date", "2025-06-01T11:59:00Z", "60s"), ("date", "2025-06-01T13:00:00+01:00", "0s"), ("date", "soon", "<invalid>"),
        ("date", 5, None), ("date", "2025-06-01T13:00:00Z", "<invalid>"),
    ],
)  # fmt: skip
def test_cells_keep_their_type_and_what_does_not_fit_is_blank(type_: str, value: object, cell: object) -> None:
    column = PrinterColumn("C", type_, ".spec.c")
    row = table([agent("x", c=value)], [column], now=NOW)["rows"][0]
    assert row["cells"] == ["x", cell]
    assert type(row["cells"][1]) is type(cell)


def test_columns_find_conditions_and_absent_fields_are_null() -> None:
    columns = [
        PrinterColumn("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', priority=1),
        PrinterColumn("Model", "string", ".spec.model.name"),
    ]
    found = table([Object.of(agent("x")), {"metadata": {"name": "bare"}}], columns, now=NOW)
    assert [row["cells"] for row in found["rows"]] == [["x", "True", None], ["bare", None, None]]
    assert [c["priority"] for c in found["columnDefinitions"]] == [0, 1, 0]


def test_rows_carry_what_was_asked_for_of_their_object() -> None:
    one = agent("x")
    assert table([one], (), now=NOW)["rows"][0]["object"] == {
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": one["metadata"],
    }  # fmt: skip
    assert table([one], (), now=NOW, include_object="Object")["rows"][0]["object"] == one
    assert "object" not in table([one], (), now=NOW, include_object="None")["rows"][0]


def test_pages_and_watches_say_what_they_must() -> None:
    found = table([], (), now=NOW, continue_token="t", remaining=0, with_definitions=False)
    assert found["metadata"] == {"resourceVersion": "", "continue": "t", "remainingItemCount": 0}
    assert found["columnDefinitions"] == []


def test_a_column_whose_path_can_not_be_read_is_empty() -> None:
    found = table([{"metadata": {"name": "x"}}], [PrinterColumn("C", "string", ".spec[")], now=NOW)
    assert found["rows"][0]["cells"] == ["x", None]
