"""kill -9 at every record of a journal: the Runs end as they would have, and nothing that was completed is done again."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import forks
from tests.crash.forks import Case, Serve
from tests.crash.run_workload import WORKFLOWS

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    with forks.server("run_workload") as found:
        yield found


def check_numbers(case: Case) -> None:
    """Every journal is numbered without gaps, and begins and ends once; and there is one for each workflow."""
    case.check_numbers()
    assert sorted(case.rows("SELECT uid FROM runs")) == sorted(WORKFLOWS)


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory, server: Serve) -> tuple[dict[str, object], int]:
    """The outputs of a process that nothing happens to, and how many records it appends."""
    case = Case(tmp_path_factory.mktemp("unkilled"), server)
    assert case.run() == 0
    check_numbers(case)
    return case.outputs, int(case.rows("SELECT count(*) FROM journal")[0])


@pytest.mark.parametrize(
    "point", ["journal.before_append", "journal.after_append", "sql.before_commit", "sql.after_commit"]
)
def test_a_run_killed_at_any_record_ends_as_if_it_had_not_been(
    tmp_path: Path, point: str, server: Serve, unkilled: tuple[dict[str, object], int], crash_full: bool
) -> None:
    outputs, records = unkilled
    every = range(1, (records if point.startswith("journal") else 30) + 1)
    for at in every if crash_full else sorted(random.Random(point).sample(every, 2)):
        case = Case(tmp_path / f"{at}", server)
        assert case.run(f"{point}=kill@{at}") in (-signal.SIGKILL, 0)
        assert case.run() == 0
        assert case.outputs == outputs
        check_numbers(case)


def test_a_run_killed_again_while_it_is_taken_up_ends_as_if_it_had_not_been(
    tmp_path: Path, server: Serve, unkilled: tuple[dict[str, object], int], crash_full: bool
) -> None:
    outputs, records = unkilled
    luck = random.Random(2)
    for number in range(500 if crash_full else 2):
        case = Case(tmp_path / f"{number}", server)
        case.run(f"journal.{luck.choice(('before', 'after'))}_append=kill@{luck.randrange(1, records)}")
        for _ in range(luck.randrange(1, 4)):
            point = luck.choice(("pool.before_recovery", "journal.before_append", "journal.after_append"))
            case.run(f"{point}=kill@{1 if point.startswith('pool') else luck.randrange(1, 20)}")
        assert case.run() == 0
        assert case.outputs == outputs
        check_numbers(case)
