"""kill -9 while Runs are concluded, undone, repeated, remembered, limited: they end as they would have, and repeat nothing."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import forks
from tests.crash.flow_workload import REPEATED, WORKFLOWS
from tests.crash.forks import Case, Serve

# Calls of the Run with a budget that were reserved before they were made.
RESERVED = "SELECT count(*) FROM journal j JOIN runs r ON r.id = j.run WHERE r.uid = 'budget' AND j.type = 40"
POINTS = {
    "conclusion.before_outcome": 5,
    "conclusion.after_outcome": 5,
    "conclusion.before_end": 5,
    "compensation.before_step": 7,
    "compensation.after_step": 7,
    "budget.before_reservation": 4,
    "budget.after_reservation": 4,
    "memo.before_store": 2,
    "rerun.before_begin": 1,
}
"""Where a process is killed, and how often it comes past at least."""

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    with forks.server("flow_workload") as found:
        yield found


class FlowCase(Case):
    """A case whose budget is watched too."""

    def run(self, failpoints: str = "") -> int:
        """One process; checks also that nothing was spent that had not been reserved."""
        status = super().run(failpoints)
        spent = sum(effect.startswith("budget/") for effect in self.effects)
        reserved = self.rows(RESERVED)
        assert spent <= (int(reserved[0]) if reserved else 0), "a call was made that nothing had been reserved for"
        return status

    def check(self, expected: dict[str, object]) -> None:
        """Every Run ended as it would have, once; what was undone was undone in order."""
        assert self.outputs == expected
        for uid in (*WORKFLOWS, REPEATED):
            of_run = f"FROM journal WHERE run = (SELECT id FROM runs WHERE uid = '{uid}')"
            numbers = [int(number) for number in self.rows(f"SELECT seq {of_run} ORDER BY seq")]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(self.rows(f"SELECT seq {of_run} AND type IN (22, 23, 24)")) == 1
            assert len(self.rows(f"SELECT seq {of_run} AND type = 20")) == (uid in ("undo", "at-once"))
        completed = "SELECT step_key FROM journal WHERE run = (SELECT id FROM runs WHERE uid = 'undo') AND type = 4 ORDER BY seq"
        keys = self.rows(completed)
        done = [key for key in keys if "/compensate/" not in key and key[0] in "aef" and key not in ("each", "fan")]
        done = [key for key in done if not key.startswith("finally")]
        undone = [key.removesuffix("/compensate/second") for key in keys if key.endswith("/compensate/second")]
        assert undone == done[::-1]
        assert [key for key in keys if key.startswith("finally/")] == ["finally/clean", "finally/report"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, server: Serve) -> dict[str, object]:
    """How the Runs end in a process that nothing happens to."""
    folder = tmp_path_factory.mktemp("unkilled")
    case = FlowCase(folder, server)
    assert case.run() == 0
    found = case.outputs
    case.check(found)
    return found


def test_runs_end_as_they_should(expected: dict[str, object]) -> None:
    assert expected["finally"] == ["Succeeded", {"n": 2}, ""]
    assert expected["undo"] == ["Failed", None, "Compensated"]
    assert expected["limited-2"] == ["Succeeded", {"n": 2}, ""]
    assert expected[REPEATED] == ["Succeeded", {"n": 4}, ""]


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_there_loses_and_repeats_nothing(
    tmp_path: Path, point: str, server: Serve, expected: dict[str, object], crash_full: bool
) -> None:
    every = range(1, POINTS[point] + 1)
    for at in every if crash_full else sorted([random.Random(point).choice(every)]):
        case = FlowCase(tmp_path / f"{at}", server)
        assert case.run(f"{point}=kill@{at}") == -signal.SIGKILL
        assert case.run() == 0
        case.check(expected)


def test_a_process_killed_at_any_record_and_again_while_it_recovers_loses_and_repeats_nothing(
    tmp_path: Path, server: Serve, expected: dict[str, object], crash_full: bool
) -> None:
    luck = random.Random(6)
    for number in range(300 if crash_full else 2):
        case = FlowCase(tmp_path / f"{number}", server)
        for _ in range(luck.randrange(1, 4)):
            case.run(f"journal.{luck.choice(('before', 'after'))}_append=kill@{luck.randrange(1, 120)}")
        assert case.run() == 0
        case.check(expected)
