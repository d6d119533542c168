"""kill -9 while steps of a workflow, and an agent that they call, go on with threads: each message is there once and in order."""

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kastra.sql.driver import choose, open_reader
from tests.crash import forks
from tests.crash.forks import Serve
from tests.crash.test_memory_kill import job

MESSAGES = (
    "SELECT t.uid, m.member, m.role, m.text FROM messages m JOIN threads t ON t.id = m.thread ORDER BY t.uid, m.seq"
)
POINTS = {"journal.before_append": 12, "journal.after_append": 12, "sql.before_commit": 10, "sql.after_commit": 10}
"""Where a process is killed, and how often it comes past at least."""

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    with forks.server("thread_workload") as found:
        yield found


def check(folder: Path) -> None:
    """Both threads hold what was said in them, once."""
    reader = open_reader(folder / "k.db", choose(folder / "k.db"))
    try:
        found = [tuple(row) for row in reader.query(MESSAGES)]
    finally:
        reader.close()
    above = [[("uid-t", "boss", role) for role in ("user", "assistant", "tool", "assistant")] for _ in range(2)]
    assert [row[:3] for row in found if row[0] == "uid-t"] == [row for rows in above for row in rows]
    assert [row[3] for row in found if row[0] == "uid-t" and row[2] == "user"] == ["one", "two"]
    assert [row for row in found if row[0] == "uid-t.a"] == [
        ("uid-t.a", "a", role, text)
        for name in ("one", "two")
        for role, text in (("user", name), ("assistant", f"heard {name}"))
    ]
    assert json.loads((folder / "outputs").read_text()) == ["Succeeded", "heard two"]


@pytest.mark.parametrize("point", sorted(POINTS))
def test_messages_below_a_run_are_kept_once_wherever_the_process_is_killed(
    tmp_path: Path, point: str, server: Serve, crash_full: bool
) -> None:
    luck = random.Random(point)
    for at in range(1, POINTS[point] + 1) if crash_full else sorted(luck.sample(range(1, POINTS[point] + 1), 2)):
        folder = tmp_path / str(at)
        assert server(job(folder, f"{point}=kill@{at}")) == -signal.SIGKILL, "the process does not come past so often"
        assert server(job(folder)) == 0
        check(folder)
