"""kill -9 at every commit of a LangGraph graph: it ends as it would have, and no node whose result is kept runs again."""

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import forks
from tests.crash.forks import Serve
from tests.crash.langgraph_workload import Job

NODES = ["a", "b", "c", "one0", "one1", "one2", "ask", "x", "y"]
COMMITS = 30
pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    with forks.server("langgraph_workload") as found:
        yield found


def run(folder: Path, serve: Serve, failpoints: str = "") -> int:
    """One process; checks that no node ran whose result the file held when it began."""
    effects = folder / "effects"
    before = len(effects.read_text().split()) if effects.exists() else 0
    status = serve(Job(str(folder), failpoints))
    ran = (effects.read_text().split() if effects.exists() else [])[before:]
    kept = (folder / "found").read_text().splitlines()[-1].split()
    assert not set(kept) & set(ran), "a node ran again although its result was kept"
    return status


def check(folder: Path, kills: int) -> None:
    """The graph's output is that of a run that nothing happened to."""
    assert json.loads((folder / "output").read_text()) == {"log": NODES, "answer": "yes"}
    ran = (folder / "effects").read_text().split()
    assert set(ran) == set(NODES)
    # A kill interrupts one node, or three at once.
    assert len(ran) <= len(NODES) + 3 * kills


@pytest.mark.parametrize("point", ["sql.before_commit", "sql.after_commit"])
def test_a_graph_killed_at_any_commit_ends_as_if_it_had_not_been(
    tmp_path: Path, point: str, server: Serve, crash_full: bool
) -> None:
    every = range(1, COMMITS + 1)
    for at in every if crash_full else sorted(random.Random(point).sample(every, 2)):
        folder = tmp_path / str(at)
        folder.mkdir()
        first = run(folder, server, f"{point}=kill@{at}")
        assert first in (-signal.SIGKILL, 0)
        assert run(folder, server) == 0
        check(folder, 1)


def test_a_graph_killed_again_and_again_gets_to_its_end(tmp_path: Path, server: Serve, crash_full: bool) -> None:
    luck = random.Random(7)
    for number in range(60 if crash_full else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        kills = luck.randrange(2, 6)
        for _ in range(kills):
            run(folder, server, f"sql.{luck.choice(('before', 'after'))}_commit=kill@{luck.randrange(1, 8)}")
        assert run(folder, server) == 0
        check(folder, kills)
