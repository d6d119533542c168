"""kill -9 while a guarded agent answers: no completed call is repeated, what was redacted is in no record of it, a skill that was
read counts as it was then, and the answer is scored once."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import forks
from tests.crash.forks import Case, Serve

EXPECTED = "I am [EMAIL]: ask [EMAIL] and [EMAIL], "
POINTS = [(point, number) for point in ("journal.before_append", "journal.after_append") for number in range(1, 20, 2)]

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    with forks.server("agent_workload") as found:
        yield found


def check(case: Case) -> None:
    """It answered as it should, and what is personal is nowhere."""
    assert case.outputs.startswith(EXPECTED)
    written = case.table("SELECT type, step_key, CAST(body AS TEXT) FROM journal ORDER BY seq")
    outcomes = [(kind, key) for kind, key, _ in written if kind in (4, 14, 16)]
    assert len(outcomes) == len(set(outcomes)), "a completed call was repeated"
    assert {(4, "skills"), (4, "scores")} <= set(outcomes)
    [read] = [body for kind, key, body in written if kind == 16 and key == "turn[0]/tool[1]"]
    assert case.outputs.removeprefix(EXPECTED) in read, "a skill was read again after its reading had been recorded"
    decided = [key for _, key, _ in written if (key or "").endswith("/guard")]
    assert sorted(decided) == ["turn[0]/guard", "turn[1]/guard"]
    # The question itself is in the first record as it was asked, and a tool's result as it was given.
    answers = [body for kind, _, body in written if kind == 14]
    assert answers
    assert not any("@example.org" in body for body in answers)
    assert len(set(case.effects)) == 1


def test_a_guarded_answer_survives_a_kill_at_any_record(tmp_path: Path, server: Serve, crash_full: bool) -> None:
    for point, number in POINTS if crash_full else random.Random(4).sample(POINTS, 3):
        case = Case(tmp_path / f"{point}-{number}", server)
        assert case.run(f"{point}=kill@{number}") in (-signal.SIGKILL, 0)
        assert case.run() == 0
        check(case)
