"""kill -9 while Runs wait: no event, signal, answer or decision is lost or taken twice, and the Runs end as they would have."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import forks
from tests.crash.forks import Case, Serve
from tests.crash.wait_workload import WORKFLOWS

# A Run and what it received, by the event inside the record.
RECEIVED = (
    "SELECT r.uid || ' ' || json_extract(CAST(j.body AS TEXT), '$.event.id') FROM journal j "
    "JOIN runs r ON r.id = j.run WHERE j.type = 11"
)
POINTS = {
    "mailroom.before_commit": 4,
    "mailroom.after_commit": 4,
    "mailroom.before_listener": 4,
    "mailroom.after_listener": 2,
    "waiting.before_received": 6,
    "waiting.after_received": 6,
    "waiting.before_emit": 1,
    "waiting.after_emit": 1,
    "holds.before_answer": 1,
    "holds.after_answer": 1,
    "approvals.before_create": 2,
    "approvals.after_create": 2,
    "approvals.before_decision": 2,
    "approvals.after_decision": 2,
}
"""Where a process is killed, and how often it comes past at least."""

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    with forks.server("wait_workload") as found:
        yield found


class WaitCase(Case):
    """A case in which Runs wait."""

    def check(self) -> dict[str, object]:
        """Everything came, and once; gives the outputs of the Runs."""
        assert sorted(self.rows(RECEIVED)) == [
            "events e1", "events e2", "events e3", "filtered e2", "signal s1", "told emit/tell",
        ]  # fmt: skip
        assert {line for line in self.effects if line.startswith("listened/")} == {
            f"listened/{name}" for name in ("e1", "e2", "e3", "emit/tell")
        }
        assert self.rows("SELECT count(*) FROM inbox WHERE type = 'default/told'") == [1]
        assert self.rows("SELECT count(*) FROM journal WHERE type IN (22, 23, 24)") == [len(WORKFLOWS)]
        return self.outputs


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory, server: Serve) -> dict[str, object]:
    """The outputs of a process that nothing happens to."""
    case = WaitCase(tmp_path_factory.mktemp("unkilled"), server)
    assert case.run() == 0
    outputs = case.check()
    assert all(phase == "Succeeded" for phase, _ in outputs.values())  # type: ignore[misc]
    return outputs


@pytest.mark.parametrize("point", sorted(POINTS))
def test_what_is_waited_for_comes_once_wherever_the_process_is_killed(
    tmp_path: Path, point: str, server: Serve, unkilled: dict[str, object], crash_full: bool
) -> None:
    for at in range(1, POINTS[point] + 1) if crash_full else [random.Random(point).randint(1, POINTS[point])]:
        case = WaitCase(tmp_path / str(at), server)
        assert case.run(f"{point}=kill@{at}") == -signal.SIGKILL, "the process does not come past the point so often"
        assert case.run() == 0
        assert case.check() == unkilled


def test_what_is_waited_for_comes_once_when_processes_are_killed_one_after_the_other(
    tmp_path: Path, server: Serve, unkilled: dict[str, object], crash_full: bool
) -> None:
    luck = random.Random(3)
    points = [*POINTS, "journal.before_append", "journal.after_append", "sql.after_commit"]
    for number in range(200 if crash_full else 2):
        case = WaitCase(tmp_path / str(number), server)
        for _ in range(luck.randint(2, 6)):
            case.run(f"{luck.choice(points)}=kill@{luck.randint(1, 12)}")
        assert case.run() == 0
        assert case.check() == unkilled
