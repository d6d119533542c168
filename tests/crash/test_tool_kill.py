"""kill -9 while an agent's tools act on Kastra itself: what they started, sent and kept is there once, and the Run ends as it would."""

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kastra.sql.driver import choose, open_reader
from tests.crash import forks
from tests.crash.forks import Job, Serve
from tests.crash.tool_workload import STARTED

POINTS = (
    "knowledge.before_put",
    "knowledge.after_put@2",
    "tool.before_run_created",
    "tool.after_run_created",
    "tool.before_emit",
    "tool.after_emit",
    "knowledge.after_put",
)
"""Where processes are killed, one after the other, over one store."""

ANYWHERE = ("journal.after_append", "journal.before_append", "sql.before_commit", "sql.after_commit")

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    with forks.server("tool_workload") as found:
        yield found


def job(folder: Path, failpoints: str = "") -> Job:
    folder.mkdir(exist_ok=True)
    return Job(*(str(folder / name) for name in ("k.db", "unused", "outcome")), failpoints)


def check(folder: Path) -> None:
    """Each tool has acted once."""
    outcome = json.loads((folder / "outcome").read_text())
    assert (outcome["phase"], outcome["error"]) == ("Succeeded", None)
    assert outcome["started"] == sorted(STARTED)
    ran, _, kept, *_, read = outcome["output"]["results"]
    assert (ran["output"], kept["kept"], read["value"]) == ({"done": True}, 2, {"a": 1, "b": 2})
    reader = open_reader(folder / "k.db", choose(folder / "k.db"))
    try:
        found = reader.query("SELECT source, name FROM documents ORDER BY source, name")
        files = [("0", f"docs/{number}.md") for number in range(3)]
        assert [tuple(row) for row in found] == [*files, ("entry", "1"), ("entry", "2")]
        passages, vectors, places = reader.query(
            "SELECT count(*), count(vec), count(DISTINCT document || '/' || seq) FROM passages"
        )[0]
        assert passages == vectors == places == 3 + 2 + 1
        assert (
            reader.query(
                "SELECT count(*) FROM passages p LEFT JOIN documents d ON d.id = p.document WHERE d.id IS NULL"
            )[0][0]
            == 0
        )
    finally:
        reader.close()


def test_what_tools_did_is_there_once_after_kills_at_every_point(tmp_path: Path, server: Serve) -> None:
    killed = [
        server(job(tmp_path, point.replace("@", "=kill@") if "@" in point else f"{point}=kill")) for point in POINTS
    ]
    assert killed.count(-signal.SIGKILL) == len(POINTS), killed
    assert server(job(tmp_path)) == 0
    check(tmp_path)


def test_what_tools_did_is_there_once_after_kills_anywhere(tmp_path: Path, server: Serve, crash_full: bool) -> None:
    luck = random.Random(7)
    for number in range(30 if crash_full else 1):
        folder = tmp_path / str(number)
        for _ in range(3):
            point = luck.choice(ANYWHERE)
            assert server(job(folder, f"{point}=kill@{luck.randint(1, 40)}")) in (0, -signal.SIGKILL)
        assert server(job(folder)) == 0
        check(folder)
