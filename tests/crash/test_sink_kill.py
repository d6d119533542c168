"""kill -9 between an event's emission and its delivery: every event reaches the sink, in its Run's order, with one id."""

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import forks
from tests.crash.forks import Serve
from tests.crash.sink_workload import EVENTS, Job

POINTS = (
    "waiting.after_emit",
    "mailroom.after_listener",
    "outbox.after_post",
    "outbox.after_send",
    "mailroom.after_commit",
    "mailroom.before_listener",
    "outbox.before_post",
    "outbox.before_send",
    "outbox.after_note",
)
"""Where processes are killed; the first few in the sample."""
pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    with forks.server("sink_workload") as found:
        yield found


def test_every_emitted_event_is_delivered_in_order_whenever_the_process_is_killed(
    tmp_path: Path, server: Serve, crash_full: bool
) -> None:
    """One store, and one process after the other that is killed, each somewhere else."""
    luck = random.Random(7)
    for number in range(10 if crash_full else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        points = POINTS if crash_full else POINTS[:4]
        for point in points:
            runs = tuple(f"{point.replace('.', '-').replace('_', '-')}-{index}" for index in range(3))
            assert server(Job(str(folder), runs, f"{point}=kill@{luck.randrange(1, 4)}")) == -signal.SIGKILL, point
        assert server(Job(str(folder), ())) == 0
        uids: list[str] = json.loads((folder / "runs").read_text())
        got = [json.loads(line) for line in (folder / "received").read_text().splitlines()]
        first = list(dict.fromkeys(got))
        assert sorted(first) == sorted(f"{uid}/tell{n}" for uid in uids for n in range(EVENTS))
        for uid in uids:
            own = [name for name in first if name.startswith(uid)]
            assert own == [f"{uid}/tell{n}" for n in range(EVENTS)]
        # Only what was on its way at a kill can come twice: as many as the sink may be sent at the same time.
        assert len(got) - len(first) <= 8 * len(points)
