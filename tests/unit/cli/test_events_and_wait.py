"""`kastra events` tells what happened; `kastra wait` returns when it has."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kastra.api.object import Object
from kastra.cli.events import event_row
from kastra.cli.wait import parse_goal

Kastra = Any
HERE = ("-n", "kitchen")
NOW = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
EVENT = """\
apiVersion: v1
kind: Event
metadata: {name: cook.1, namespace: kitchen}
involvedObject: {apiVersion: mastra.ai/v1, kind: Agent, name: cook, namespace: kitchen}
type: Warning
reason: Burnt
message: The omelette is black
firstTimestamp: "2026-01-01T00:00:00Z"
lastTimestamp: "2026-01-01T00:05:00Z"
count: 3
"""


def test_events_can_be_narrowed_to_an_object_and_a_type(changeable: Kastra) -> None:
    changeable("apply", "-f", "-", stdin=EVENT)
    found = changeable("events", "--for", "agent/cook", "--types", "Warning", *HERE)
    assert found.lines[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert found.lines[1].endswith("Warning   Burnt    Agent/cook   The omelette is black")
    assert "Burnt" not in changeable("events", "--types", "Normal", *HERE).stdout
    assert changeable("events", "--for", "agent/waiter", "--types=Warning", "-o", "name", *HERE).stdout == ""
    assert changeable("events", "-A", "--for", "agent/cook").lines[0].startswith("NAMESPACE")


def test_no_events_is_said(kitchen: Kastra) -> None:
    found = kitchen("events")
    assert (found.code, found.stderr) == (0, "No events found in default namespace.\n")
    assert kitchen("events", "--types", "Odd").code == 2


def test_repeated_events_say_how_often_and_since_when() -> None:
    event = {
        "type": "Normal",
        "reason": "Ready",
        "message": "it is\nso",
        "count": 3,
        "involvedObject": {"kind": "Agent", "name": "x"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:09:30Z",
    }
    assert event_row(event, NOW) == ("30s (x3 over 10m)", "Normal", "Ready", "Agent/x", "it is...")


def agent(conditions: list[dict[str, Any]], **status: Any) -> Object:
    return Object.of({"metadata": {"name": "x", "generation": 2}, "status": {"conditions": conditions, **status}})


@pytest.mark.parametrize(
    ("goal", "satisfied"),
    [
        ("condition=Ready", True),
        ("condition=ready=true", True),
        ("condition=Ready=False", False),
        ("condition=Old", False),
        ("condition=Absent", False),
        ("jsonpath={.status.phase}=Running", True),
        ("jsonpath={.status.phase}=Failed", False),
        ("jsonpath={.status.phase}", True),
        ("jsonpath={.status.absent}", False),
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', True),
        ("jsonpath=.status.phase=Running", True),
    ],
)
def test_goals(goal: str, satisfied: bool) -> None:
    obj = agent(
        [
            {"type": "Ready", "status": "True", "observedGeneration": 2},
            {"type": "Old", "status": "True", "observedGeneration": 1},
        ],
        phase="Running",
    )
    assert parse_goal(goal).satisfied(obj) is satisfied


@pytest.mark.parametrize("goal", ["ready", "condition=", "delete=x", "jsonpath="])
def test_an_unknown_goal_is_refused(goal: str) -> None:
    with pytest.raises(ValueError, match="unrecognized condition"):
        parse_goal(goal)


def test_a_condition_that_holds_is_met_at_once(kitchen: Kastra) -> None:
    waited = kitchen("wait", "--for=condition=Ready", "agent/cook", "tool/finder", *HERE)
    assert waited.code == 0
    assert sorted(waited.lines) == ["agent.mastra.ai/cook condition met", "tool.mastra.ai/finder condition met"]
    assert kitchen("wait", "--for=condition=Succeeded", "run/first", "--timeout=0", *HERE).code == 0


def test_a_condition_that_does_not_come_times_out_and_says_that_nobody_works_on_it(kitchen: Kastra) -> None:
    waited = kitchen("wait", "--for=condition=Ready", "agents", "--all", "--timeout=50ms", *HERE)
    assert waited.code == 1
    assert waited.lines == ["agent.mastra.ai/cook condition met"]
    assert "error: timed out waiting for the condition on agents/waiter\n" in waited.stderr
    assert "start 'kastra watch'" in waited.stderr


def test_waiting_for_absence_and_presence(kitchen: Kastra) -> None:
    assert kitchen("wait", "--for=delete", "agent/nobody", *HERE).code == 0
    assert kitchen("wait", "--for=delete", "agent/cook", "--timeout=50ms", *HERE).code == 1
    assert kitchen("wait", "--for=create", "agent/cook", *HERE).lines == ["agent.mastra.ai/cook condition met"]
    assert kitchen("wait", "--for=create", "agent/nobody", "--timeout=50ms", *HERE).code == 1


def test_waiting_for_what_is_not_there_is_an_error(kitchen: Kastra) -> None:
    waited = kitchen("wait", "--for=condition=Ready", "agent/nobody", *HERE)
    assert waited.code == 1
    assert 'agents.mastra.ai "nobody" not found' in waited.stderr
    none = kitchen("wait", "--for=condition=Ready", "agents", "-l", "team=none", *HERE)
    assert none.stderr == "error: no matching resources found\n"


@pytest.mark.parametrize("arguments", [[], ["agents"], ["agent/x", "-f", "kitchen.yaml"]])
def test_wrong_use_of_wait_is_refused(kitchen: Kastra, arguments: list[str]) -> None:
    assert kitchen("wait", "--for=condition=Ready", *arguments).code == 2
