"""`kastra run` executes a target and prints its output; `kastra logs` tells how it went."""

import json
from pathlib import Path
from typing import Any

import pytest

from kastra.cli.run import output_text, read_input
from kastra.engine.lines import EventLines

Kastra = Any
HERE = ("-n", "kitchen")


def test_a_workflow_runs_from_its_input_to_its_output(changeable: Kastra) -> None:
    ran = changeable("run", "workflow/dinner", "--input", '{"ingredients": ["leek", "egg"]}', *HERE)
    assert (ran.code, ran.stdout) == (0, "Try leek and egg omelette.\n")
    assert "created" in ran.stderr.splitlines()[0]
    assert "run completed" in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("form", "expected"),
    [("json", '[\n  {\n    "name": "egg omelette"\n  }\n]\n'), ("yaml", "- name: egg omelette\n")],
)
def test_a_tool_can_be_run_and_its_output_formatted(changeable: Kastra, form: str, expected: str) -> None:
    ran = changeable("run", "tool", "finder", "--input", '{"ingredients": ["egg"]}', "-o", form, "-q", *HERE)
    assert (ran.code, ran.stdout, ran.stderr) == (0, expected, "")


def test_a_run_that_fails_says_why_and_exits_1(changeable: Kastra) -> None:
    ran = changeable("run", "workflow/dinner", "--input", '{"ingredients": 3}', "--name", "bad", *HERE)
    assert (ran.code, ran.stdout) == (1, "")
    assert "error: run/bad failed: validation: the input doesn't match its schema: ingredients" in ran.stderr
    assert "kastra logs run/bad -n kitchen shows how it got there" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["workflow"], 2, "say what to run: KIND/NAME"),
        (["workflow/dinner", "--detach"], 1, "--detach needs a server"),
        (["workflow/dinner", "--async"], 1, "--detach needs a server"),
        (["workflow/dinner", "--input", "{broken"], 1, "error: --input is no JSON"),
        (["workflow/dinner", "--input", "@nowhere.json"], 1, "nowhere.json"),
        (["workflow/dinner", "--timeout", "soon"], 1, '"soon" is no duration'),
    ],
)
def test_wrong_use_is_refused_before_anything_is_opened(
    empty: Kastra, arguments: list[str], code: int, message: str
) -> None:
    ran = empty("run", *arguments)
    assert ran.code == code
    assert message in ran.stderr
    assert not (empty.folder / ".kastra").exists()


def test_a_target_that_is_not_there_or_not_runnable_is_refused(changeable: Kastra) -> None:
    absent = changeable("run", "workflow/nothing", *HERE)
    assert absent.code == 1
    assert absent.stderr == 'Error from server (NotFound): workflows.mastra.ai "nothing" not found\n'
    assert "a ConfigMap can't be run" in changeable("run", "cm/prices", *HERE).stderr


def test_input_is_json_where_it_is_json_and_text_otherwise(tmp_path: Path) -> None:
    assert read_input(None) is None
    assert read_input('{"a": 1}') == {"a": 1}
    assert read_input("What is for dinner?") == "What is for dinner?"
    assert read_input("42") == 42
    (tmp_path / "in.yaml").write_text("a: [1, 2]\n")
    (tmp_path / "in.txt").write_text("hello\n")
    (tmp_path / "in.json").write_text("hello")
    assert read_input(f"@{tmp_path}/in.yaml") == {"a": [1, 2]}
    assert read_input(f"@{tmp_path}/in.txt") == "hello"
    with pytest.raises(ValueError, match="json is no JSON"):
        read_input(f"@{tmp_path}/in.json")


def test_input_comes_from_standard_input_too(changeable: Kastra) -> None:
    ran = changeable("run", "tool/finder", "--input", "-", "-q", "-o", "yaml", *HERE, stdin='{"ingredients": ["rice"]}')
    assert ran.stdout == "- name: rice omelette\n"


def test_output_as_text_is_the_string_itself_or_json() -> None:
    assert output_text("hello\n", "text") == "hello\n"
    assert output_text({"a": 1}, "text") == '{\n  "a": 1\n}\n'
    assert output_text(None, "json") == "null\n"


def test_logs_tell_the_steps_of_a_run_that_has_ended(kitchen: Kastra) -> None:
    logs = kitchen("logs", "run/first", *HERE)
    assert logs.code == 0
    assert logs.lines[0].endswith("run started (Workflow)")
    assert any('call finder {"ingredients":["egg"]}' in line for line in logs.lines)
    assert logs.lines[-1].endswith("run completed")
    assert kitchen("logs", "first", *HERE).stdout == logs.stdout
    assert kitchen("logs", "run", "first", "-f", *HERE).stdout == logs.stdout


def test_logs_as_json_are_events_that_can_be_resumed(kitchen: Kastra) -> None:
    events = [json.loads(line) for line in kitchen("logs", "run/first", "-o", "json", *HERE).lines]
    assert events[0]["type"] == "run.started"
    after = kitchen("logs", "run/first", "-o", "json", "--since-seq", events[-2]["seq"], *HERE)
    assert [json.loads(line) for line in after.lines] == events[-1:]


def test_logs_of_a_run_that_has_not_started_end_at_once(changeable: Kastra) -> None:
    manifest = (
        "apiVersion: mastra.ai/v1\nkind: Run\nmetadata: {name: held, namespace: kitchen}\n"
        "spec: {target: {kind: Workflow, name: dinner}}\n"
    )
    assert changeable("apply", "-f", "-", stdin=manifest).code == 0
    logs = changeable("logs", "run/held", *HERE)
    assert (logs.code, logs.stdout) == (0, "")


def test_only_runs_have_logs(kitchen: Kastra) -> None:
    assert "a Agent has no log" in kitchen("logs", "agent/cook", *HERE).stderr
    assert 'runs.mastra.ai "nobody" not found' in kitchen("logs", "nobody", *HERE).stderr


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "run.started", "data": {"kind": "Workflow"}}, "run started (Workflow)"),
        ({"type": "run.waiting", "data": {"due": 1}}, "run waiting for a timer"),
        (
            {"type": "run.waiting", "key": "a", "data": {"kind": "Run", "namespace": "n", "name": "x"}},
            "a: waiting for Run n/x",
        ),
        ({"type": "run.suspended", "data": {"reason": "WaitingApproval"}}, "run suspended: WaitingApproval"),
        ({"type": "step.started", "key": "a", "attempt": 1, "data": {}}, "a: started"),
        ({"type": "step.started", "key": "a", "attempt": 3, "data": {}}, "a: started (attempt 3)"),
        ({"type": "step.completed", "key": "a", "data": {"output": {"x": 1}}}, 'a: completed: {"x":1}'),
        (
            {
                "type": "step.retrying",
                "key": "a",
                "attempt": 2,
                "data": {"error": {"type": "timeout", "title": "too slow"}},
            },
            "a: will be tried again: timeout: too slow (attempt 2)",
        ),
        ({"type": "model.turn", "key": "a", "data": {"output": {"text": "hi\nyou"}}}, "a: model: hi you"),
        ({"type": "model.turn", "data": {"output": {"toolCalls": [{"name": "f"}]}}}, "model model: asks for f"),
        ({"type": "router.decision", "key": "r", "data": {"next": "a"}}, 'r: decided: {"next":"a"}'),
        ({"type": "something.new", "key": "a", "data": {"b": 1}}, 'a: new {"b":1}'),
    ],
)
def test_every_event_has_a_line(event: dict[str, Any], expected: str) -> None:
    line = EventLines().line({"time": "2026-01-01T00:00:00.000Z", **event})
    assert line == f"  0.0s  {expected}"


def test_what_only_matters_afterwards_is_left_out_while_waiting() -> None:
    scheduled = {
        "type": "step.scheduled",
        "seq": 2,
        "time": "2026-01-01T00:00:00.000Z",
        "key": "a",
        "data": {"kind": "agent"},
    }
    assert EventLines().line(scheduled) is None
    assert EventLines(everything=True).line(scheduled) == "  0.0s  a: scheduled (agent)"


def test_times_are_counted_from_the_first_event_or_shown_as_they_are() -> None:
    lines = EventLines()
    lines.line({"type": "run.started", "time": "2026-01-01T00:00:00.000Z"})
    assert lines.line({"type": "run.completed", "time": "2026-01-01T00:00:02.340Z"}) == "  2.3s  run completed"
    shown = EventLines(timestamps=True).line({"type": "run.completed", "time": "2026-01-01T00:00:02.340Z"})
    assert shown == "2026-01-01T00:00:02.340Z  run completed"
