"""kill -9 while Schedules and triggers start Runs: every moment and every accepted event has its Run, and only one."""

import json
import random
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.crash import forks
from tests.crash.forks import Serve
from tests.crash.trigger_workload import BEGIN, EVERY, Job

POINTS = (
    "schedule.before_create",
    "schedule.after_create",
    "trigger.before_create",
    "trigger.after_create",
    "mailroom.before_listener",
    "mailroom.after_listener",
    "mailroom.after_commit",
    "sql.before_commit",
    "sql.after_commit",
)
SECONDS = 12
"""That go by in one process."""
pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    with forks.server("trigger_workload") as found:
        yield found


def check(folder: Path, end: int, sent: tuple[str, ...]) -> None:
    """There is one Run for each moment between the beginning and second `end` and for each event, and no other."""
    found: dict[str, tuple[str, str | None]] = json.loads((folder / "runs").read_text())
    assert {phase for phase, _ in found.values()} == {"Succeeded"}
    moments = [BEGIN + timedelta(seconds=second) for second in range(EVERY, end + 1, EVERY)]
    expected = {f"tick-{moment:%Y%m%d-%H%M%S}" for moment in moments}
    assert {name for name in found if name.startswith("tick-")} == expected
    started = sorted(str(value) for name, (_, value) in found.items() if name.startswith("work-"))
    assert set((folder / "acknowledged").read_text().split()) <= set(started)
    assert started == sorted(set(sent) & set(started)), "an event has two Runs"


def test_every_moment_and_every_accepted_event_starts_one_run_whenever_the_process_is_killed(
    tmp_path: Path, server: Serve, crash_full: bool
) -> None:
    luck = random.Random(5)
    # Where each of three processes is killed, one after the other.
    every = [((point,),) * 3 for point in POINTS for _ in range(12)]
    sample = [(POINTS[0:3], POINTS[3:6], POINTS[6:9])]
    for number, points in enumerate(every if crash_full else sample):
        folder = tmp_path / str(number)
        folder.mkdir()
        at, killed = 0, 0
        for process, armed in enumerate(points):
            events = tuple(f"{process}-{index}" for index in range(3))
            failpoints = ";".join(f"{point}=kill@{luck.randrange(1, 4)}" for point in armed)
            ended = server(Job(str(folder), at, SECONDS, events, failpoints))
            assert ended in (-signal.SIGKILL, 0)
            killed += ended == -signal.SIGKILL
            # The next one begins some moments later, whenever this one died.
            at += SECONDS + luck.randrange(0, 2 * EVERY)
        assert killed, f"{points} were never passed"
        # Half of the senders whose event wasn't acknowledged try again.
        again = tuple(f"{process}-{index}" for process in range(3) for index in range(2))
        assert server(Job(str(folder), at, SECONDS, again)) == 0
        check(folder, at + SECONDS, tuple(f"{process}-{index}" for process in range(3) for index in range(3)))
