"""kill -9 at every record of a journal: the Runs end as they would have, and nothing that was completed is done again."""

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
from tests.crash.run_workload import WORKFLOWS, Job

ROOT = Path(__file__).parents[2]
COMPLETED = "SELECT r.uid || '/' || j.step_key FROM journal j JOIN runs r ON r.id = j.run WHERE j.type IN (4, 14, 16)"
Serve = Callable[[Job], int]
pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    """Runs a job in a process of its own; gives how it ended."""
    command = [sys.executable, "-m", "tests.crash.run_workload"]
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
        self._folder = folder
        self._serve = serve
        self._effects = folder / "effects"
        self._database = folder / "k.db"
        self._completed: set[str] = set()

    def run(self, failpoints: str = "") -> int:
        """One process; checks that it repeats nothing that was completed before it began."""
        before = len(self.effects)
        job = Job(str(self._database), str(self._effects), str(self._folder / "outputs"), failpoints)
        status = self._serve(job)
        repeated = self._completed & set(self.effects[before:])
        assert not repeated, f"done again although completed: {repeated}"
        rows = self.rows(COMPLETED)
        assert len(rows) == len(set(rows)), "a step completed twice"
        self._completed = set(rows)
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

    @property
    def outputs(self) -> dict[str, object]:
        """What the Runs gave."""
        found: dict[str, object] = json.loads((self._folder / "outputs").read_text())
        return found

    def check_numbers(self) -> None:
        """Every journal is numbered without gaps, and begins and ends once."""
        for uid in WORKFLOWS:
            of_run = f"FROM journal WHERE run = (SELECT id FROM runs WHERE uid = '{uid}')"
            numbers = [int(number) for number in self.rows(f"SELECT seq {of_run} ORDER BY seq")]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(self.rows(f"SELECT seq {of_run} AND type = 1")) == 1
            assert len(self.rows(f"SELECT seq {of_run} AND type IN (22, 23, 24)")) == 1


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory, server: Serve) -> tuple[dict[str, object], int]:
    """The outputs of a process that nothing happens to, and how many records it appends."""
    case = Case(tmp_path_factory.mktemp("unkilled"), server)
    assert case.run() == 0
    case.check_numbers()
    return case.outputs, int(case.rows("SELECT count(*) FROM journal")[0])


def make(folder: Path, name: str, server: Serve) -> Case:
    (folder / name).mkdir()
    return Case(folder / name, server)


@pytest.mark.parametrize(
    "point", ["journal.before_append", "journal.after_append", "sql.before_commit", "sql.after_commit"]
)
def test_a_run_killed_at_any_record_ends_as_if_it_had_not_been(
    tmp_path: Path, point: str, server: Serve, unkilled: tuple[dict[str, object], int], crash_full: bool
) -> None:
    outputs, records = unkilled
    every = range(1, (records if point.startswith("journal") else 30) + 1)
    for at in every if crash_full else sorted(random.Random(point).sample(every, 3)):
        case = make(tmp_path, f"{at}", server)
        assert case.run(f"{point}=kill@{at}") in (-signal.SIGKILL, 0)
        assert case.run() == 0
        assert case.outputs == outputs
        case.check_numbers()


def test_a_run_killed_again_while_it_is_taken_up_ends_as_if_it_had_not_been(
    tmp_path: Path, server: Serve, unkilled: tuple[dict[str, object], int], crash_full: bool
) -> None:
    outputs, records = unkilled
    luck = random.Random(2)
    for number in range(500 if crash_full else 4):
        case = make(tmp_path, f"{number}", server)
        case.run(f"journal.{luck.choice(('before', 'after'))}_append=kill@{luck.randrange(1, records)}")
        for _ in range(luck.randrange(1, 4)):
            point = luck.choice(("pool.before_recovery", "journal.before_append", "journal.after_append"))
            case.run(f"{point}=kill@{1 if point.startswith('pool') else luck.randrange(1, 20)}")
        assert case.run() == 0
        assert case.outputs == outputs
        case.check_numbers()
