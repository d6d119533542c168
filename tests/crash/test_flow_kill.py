"""kill -9 while Runs are concluded, undone, repeated, remembered, limited: they end as they would have, and repeat nothing."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from kastra.sql.driver import choose, open_reader
from tests.crash.flow_workload import REPEATED, WORKFLOWS
from tests.crash.run_workload import Job

ROOT = Path(__file__).parents[2]
COMPLETED = "SELECT r.uid || '/' || j.step_key FROM journal j JOIN runs r ON r.id = j.run WHERE j.type IN (4, 14, 16)"
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

Serve = Callable[[Job], int]
pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    """Runs a job in a process of its own; gives how it ended."""
    command = [sys.executable, "-m", "tests.crash.flow_workload"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def run(job: Job) -> int:
            child.stdin.write(json.dumps(asdict(job)) + "\n")
            child.stdin.flush()
            return int(child.stdout.readline())

        yield run
        child.stdin.close()


class Case:
    """A database, the effects on the world, and the processes that work on them one after the other."""

    def __init__(self, folder: Path, serve: Serve) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._serve = serve
        self._effects = folder / "effects"
        self._database = folder / "k.db"
        self._completed: set[str] = set()

    def run(self, failpoints: str = "") -> int:
        """One process; checks that it repeats nothing that was completed before, and spends nothing unreserved."""
        before = len(self.effects)
        job = Job(str(self._database), str(self._effects), str(self._folder / "outputs"), failpoints)
        status = self._serve(job)
        repeated = self._completed & set(self.effects[before:])
        assert not repeated, f"done again although completed: {repeated}"
        rows = self.rows(COMPLETED)
        assert len(rows) == len(set(rows)), "a step completed twice"
        self._completed = set(rows)
        spent = sum(effect.startswith("budget/") for effect in self.effects)
        reserved = self.rows(RESERVED)
        assert spent <= (int(reserved[0]) if reserved else 0), "a call was made that nothing had been reserved for"
        return status

    def rows(self, sql: str) -> list[str]:
        """The first column of a query."""
        if not self._database.exists():
            return []
        reader = open_reader(self._database, choose(self._database))
        try:
            tables = reader.query("SELECT 1 FROM sqlite_master WHERE name = 'journal'")
            return [row[0] for row in reader.query(sql)] if tables else []
        finally:
            reader.close()

    @property
    def effects(self) -> list[str]:
        """Idempotency keys of the effects on the world, in order."""
        return self._effects.read_text().split() if self._effects.exists() else []

    def check(self, expected: dict[str, object]) -> None:
        """Every Run ended as it would have, once; what was undone was undone in order."""
        assert json.loads((self._folder / "outputs").read_text()) == expected
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
    case = Case(folder, server)
    assert case.run() == 0
    found: dict[str, object] = json.loads((folder / "outputs").read_text())
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
    for at in every if crash_full else sorted(random.Random(point).sample(every, min(2, len(every)))):
        case = Case(tmp_path / f"{at}", server)
        assert case.run(f"{point}=kill@{at}") == -signal.SIGKILL
        assert case.run() == 0
        case.check(expected)


def test_a_process_killed_at_any_record_and_again_while_it_recovers_loses_and_repeats_nothing(
    tmp_path: Path, server: Serve, expected: dict[str, object], crash_full: bool
) -> None:
    luck = random.Random(6)
    for number in range(300 if crash_full else 6):
        case = Case(tmp_path / f"{number}", server)
        for _ in range(luck.randrange(1, 4)):
            case.run(f"journal.{luck.choice(('before', 'after'))}_append=kill@{luck.randrange(1, 120)}")
        assert case.run() == 0
        case.check(expected)
