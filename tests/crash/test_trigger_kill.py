"""kill -9 while Schedules and triggers start Runs: every moment and every accepted event has its Run, and only one."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pytest

from tests.crash.trigger_workload import BEGIN, EVERY, Job

ROOT = Path(__file__).parents[2]
Serve = Callable[[Job], int]
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
    """Runs a job in a process of its own; gives how it ended."""
    command = [sys.executable, "-m", "tests.crash.trigger_workload"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def run(job: Job) -> int:
            child.stdin.write(json.dumps(asdict(job)) + "\n")
            child.stdin.flush()
            return int(child.stdout.readline())

        yield run
        child.stdin.close()


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


@pytest.mark.parametrize("point", POINTS)
def test_every_moment_and_every_accepted_event_starts_one_run_whenever_the_process_is_killed(
    tmp_path: Path, point: str, server: Serve, crash_full: bool
) -> None:
    luck = random.Random(point)
    for number in range(12 if crash_full else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        at, killed = 0, 0
        for process in range(3):
            events = tuple(f"{process}-{index}" for index in range(3))
            ended = server(Job(str(folder), at, SECONDS, events, f"{point}=kill@{luck.randrange(1, 4)}"))
            assert ended in (-signal.SIGKILL, 0)
            killed += ended == -signal.SIGKILL
            # The next one begins some moments later, whenever this one died.
            at += SECONDS + luck.randrange(0, 2 * EVERY)
        assert killed, f"{point} was never passed"
        # Half of the senders whose event wasn't acknowledged try again.
        again = tuple(f"{process}-{index}" for process in range(3) for index in range(2))
        assert server(Job(str(folder), at, SECONDS, again)) == 0
        check(folder, at + SECONDS, tuple(f"{process}-{index}" for process in range(3) for index in range(3)))
