"""kill -9 while agents go on with a thread: each message is there once and in order, and what is erased is gone."""

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kastra.sql.driver import choose, open_reader
from tests.crash import forks
from tests.crash.forks import Job, Serve
from tests.crash.memory_workload import RUNS

MESSAGES = (
    "SELECT m.run, m.role, m.seq, m.text FROM messages m JOIN threads t ON t.id = m.thread "
    "WHERE t.uid = 'thread' ORDER BY m.seq"
)
POINTS = {
    "journal.before_append": 20,
    "journal.after_append": 20,
    "sql.before_commit": 14,
    "sql.after_commit": 14,
    "memory.before_erased": 1,
    "memory.after_erased": 1,
}
"""Where a process is killed, and how often it comes past at least."""

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    with forks.server("memory_workload") as found:
        yield found


def job(folder: Path, failpoints: str = "") -> Job:
    folder.mkdir(exist_ok=True)
    return Job.at(folder, failpoints)


def check(folder: Path) -> None:
    """Every Run has said what it says, once, in one piece, and all that was erased is gone."""
    reader = open_reader(folder / "k.db", choose(folder / "k.db"))
    try:
        messages: list[Any] = list(reader.query(MESSAGES))
        assert [seq for _, _, seq, _ in messages] == list(range(1, 4 * len(RUNS) + 1))
        said = [messages[at : at + 4] for at in range(0, len(messages), 4)]
        assert sorted(rows[0][0] for rows in said) == sorted(RUNS)
        for rows in said:
            (name,) = {row[0] for row in rows}
            assert [row[1] for row in rows] == ["user", "assistant", "tool", "assistant"]
            assert (rows[0][3], rows[3][3]) == (name, f"noted {name}")
        vectors = reader.query(
            "SELECT count(*) FROM embeddings e LEFT JOIN messages m ON m.id = e.message WHERE m.id IS NULL"
        )
        assert vectors[0][0] == 0, "a vector has outlived its message"
        assert reader.query("SELECT count(*) FROM embeddings")[0][0] == 2 * len(RUNS)
        values = reader.query("SELECT CAST(value AS TEXT) FROM kv WHERE key = 'working'")
        assert len(values) == 1
        assert values[0][0] in {f'"last: {name}"' for name in RUNS}
        assert reader.query("SELECT count(*) FROM threads WHERE uid = 'gone'")[0][0] == 0
        assert reader.query("SELECT count(*) FROM messages_fts WHERE messages_fts MATCH 'secret'")[0][0] == 0
    finally:
        reader.close()
    outputs = json.loads((folder / "outputs").read_text())
    assert outputs == {name: ["Succeeded", f"noted {name}"] for name in RUNS}


def test_nothing_happens_to_a_process_that_is_not_killed(tmp_path: Path, server: Serve) -> None:
    assert server(job(tmp_path)) == 0
    check(tmp_path)


@pytest.mark.parametrize("point", sorted(POINTS))
def test_messages_are_kept_once_wherever_the_process_is_killed(
    tmp_path: Path, point: str, server: Serve, crash_full: bool
) -> None:
    luck = random.Random(point)
    for at in range(1, POINTS[point] + 1) if crash_full else {luck.randint(1, POINTS[point]) for _ in range(1)}:
        folder = tmp_path / str(at)
        assert server(job(folder, f"{point}=kill@{at}")) == -signal.SIGKILL, "the process does not come past so often"
        assert server(job(folder)) == 0
        check(folder)


def test_messages_are_kept_once_when_processes_are_killed_one_after_the_other(
    tmp_path: Path, server: Serve, crash_full: bool
) -> None:
    luck = random.Random(5)
    for number in range(20 if crash_full else 1):
        folder = tmp_path / str(number)
        for _ in range(6 if crash_full else 3):
            point = luck.choice(sorted(POINTS))
            server(job(folder, f"{point}=kill@{luck.randint(1, POINTS[point])}"))
        assert server(job(folder)) == 0
        check(folder)
