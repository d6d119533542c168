"""Single lines: what `kastra watch` prints of a reconcile, and what a failure looks like."""

import json

import pytest

from kastra.api.errors import InternalError, NotFound
from kastra.cli.failure import report
from kastra.cli.watch import OutcomeLines
from kastra.sql.owner import Holder, Owned

OUTCOME = {
    "controller": "agent",
    "kind": "Agent.mastra.ai",
    "namespace": "kitchen",
    "name": "cook",
    "trigger": "Tool/finder",
    "outcome": "error",
    "duration": 0.0123,
    "requeueAfter": 1.5,
    "message": "no\nluck",
}


def test_a_reconcile_tells_object_reason_outcome_duration_and_next_look() -> None:
    headers, line = OutcomeLines().lines(OUTCOME)
    assert headers.split() == ["TIME", "OBJECT", "WHY", "OUTCOME", "TOOK", "NEXT", "MESSAGE"]
    assert line.split()[1:] == ["Agent/kitchen/cook", "Tool/finder", "error", "12.3ms", "in", "1.5s", "no..."]
    assert line.index("Agent/") == headers.index("OBJECT")


def test_headers_come_once_and_success_needs_no_message() -> None:
    lines = OutcomeLines()
    lines.lines(OUTCOME)
    done = {**OUTCOME, "outcome": "success", "duration": 2.0, "requeueAfter": None, "message": ""}
    [line] = lines.lines(done)
    assert line.split()[1:] == ["Agent/kitchen/cook", "Tool/finder", "success", "2.00s"]


def test_as_json_an_outcome_is_one_line_with_its_time() -> None:
    [line] = OutcomeLines(json=True).lines(OUTCOME)
    assert {**OUTCOME, "time": json.loads(line)["time"]} == json.loads(line)


def test_outcomes_are_colored_only_when_asked_to() -> None:
    assert "\x1b[31merror\x1b[0m" in OutcomeLines(color=True).lines(OUTCOME)[-1]
    assert "\x1b" not in OutcomeLines().lines(OUTCOME)[-1]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NotFound('agents "x" not found'), 'Error from server (NotFound): agents "x" not found\n'),
        (InternalError("it broke"), "Error from server: it broke\n"),
        (ValueError("a bad value"), "error: a bad value\n"),
        (Owned("/x/kastra.db", Holder(7, "kastra watch")), "error: /x/kastra.db is in use by kastra watch (pid 7): "),
        (ExceptionGroup("two", [ValueError("one"), ValueError("two")]), "error: one\nerror: two\n"),
    ],
)
def test_a_failure_is_a_line_and_exit_code_1(
    error: BaseException, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == 1
    assert capsys.readouterr().err.startswith(text)


def test_a_defect_asks_to_be_reported_and_shows_its_traceback_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report(ZeroDivisionError("division by zero"))
    told = capsys.readouterr().err
    assert told.startswith("error: ZeroDivisionError: division by zero\nThis is a defect of Kastra's.")
    monkeypatch.setenv("KASTRA_DEBUG", "1")
    try:
        raise ZeroDivisionError("again")
    except ZeroDivisionError as error:
        report(error)
    assert "Traceback (most recent call last)" in capsys.readouterr().err
