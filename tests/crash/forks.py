"""Processes that are killed, and what every test with them needs: a fork server, and a folder they work in one after the other.

A workload module calls `serve(Job, execute)`: it reads jobs from standard input, one JSON object a line, and runs each in a fork of
its own, so that a process costs a fork and not the imports; it answers with the exit code of each. A test calls `server(module)`.
"""

import inspect
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import anyio

from kastra import failpoint
from kastra.sql.driver import choose, open_reader

ROOT = Path(__file__).parents[2]
SECONDS = 120
"""After which a process is taken to hang; that is a failure of its own, told by its exit code."""

Serve = Callable[[Any], int]
"""Runs a job, an instance of the workload's dataclass, in a process of its own; gives how it ended, negative for a signal."""


@dataclass(frozen=True)
class Job:
    """One process.

    Args:
        database: the store.
        effects: file for what it does to the world.
        outputs: file for how its Runs ended.
        failpoints: what kills it, as `kastra.failpoint.arm` takes it.
    """

    database: str
    effects: str
    outputs: str
    failpoints: str = ""

    @classmethod
    def at(cls, folder: Path, failpoints: str = "") -> Self:
        """A process that works in a folder."""
        return cls(str(folder / "k.db"), str(folder / "effects"), str(folder / "outputs"), failpoints)

    def path(self, name: str) -> Path:
        """Another file of the folder."""
        return Path(self.database).with_name(name)

    def arm(self) -> None:
        """From here on the failpoints hold; what is passed is noted in the file `passed`."""
        failpoint.arm(self.failpoints, log=str(self.path("passed")))


def serve(job_type: type[Any], execute: Callable[[Any], Awaitable[None] | None]) -> None:
    """Run jobs one after the other, each in a fork of this process, which itself never opens a database.

    The failpoints of a `Job` are armed before it begins; others do so themselves.
    """
    for line in sys.stdin:
        job = job_type(**json.loads(line))
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(SECONDS)
                if isinstance(job, Job):
                    job.arm()
                if inspect.iscoroutinefunction(execute):
                    anyio.run(execute, job)
                else:
                    execute(job)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


@contextmanager
def server(module: str, *arguments: str) -> Iterator[Serve]:
    """The fork server of a workload, `tests.crash.<module>`."""
    command = [sys.executable, "-m", f"tests.crash.{module}", *arguments]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KASTRA_")}
    with subprocess.Popen(
        command, cwd=ROOT, env=kept, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        given, told = child.stdin, child.stdout
        assert given is not None
        assert told is not None

        def run(job: Any) -> int:
            given.write(json.dumps(asdict(job)) + "\n")
            given.flush()
            return int(told.readline())

        yield run
        given.close()


COMPLETED = "SELECT r.uid || '/' || j.step_key FROM journal j JOIN runs r ON r.id = j.run WHERE j.type IN (4, 14, 16)"
"""Idempotency keys of what is completed: steps, turns of models, calls of tools."""


class Case:
    """A store, the effects on the world, and the processes that work on them one after the other."""

    def __init__(self, folder: Path, serve: Serve) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._serve = serve
        self._completed: set[str] = set()

    def run(self, failpoints: str = "") -> int:
        """One process; checks that it repeats nothing that was completed before it began."""
        before = len(self.effects)
        status = self._serve(Job.at(self.folder, failpoints))
        repeated = self._completed & set(self.effects[before:])
        assert not repeated, f"done again although completed: {repeated}"
        rows = self.rows(COMPLETED)
        assert len(rows) == len(set(rows)), "a step completed twice"
        self._completed = set(rows)
        return status

    def table(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query; none before there is a store."""
        database = self.folder / "k.db"
        if not database.exists():
            return []
        reader = open_reader(database, choose(database))
        try:
            tables = reader.query("SELECT 1 FROM sqlite_master WHERE name = 'journal'")
            return [tuple(row) for row in reader.query(sql)] if tables else []
        finally:
            reader.close()

    def rows(self, sql: str) -> list[Any]:
        """The first column of a query."""
        return [row[0] for row in self.table(sql)]

    @property
    def effects(self) -> list[str]:
        """Idempotency keys of the effects on the world, in order."""
        path = self.folder / "effects"
        return path.read_text().split() if path.exists() else []

    @property
    def outputs(self) -> dict[str, Any]:
        """How the Runs ended."""
        found: dict[str, Any] = json.loads((self.folder / "outputs").read_text())
        return found

    def check_numbers(self) -> None:
        """Every journal is numbered without gaps, and begins and ends once."""
        kinds: dict[str, list[int]] = {}
        for uid, number, kind in self.table(
            "SELECT r.uid, j.seq, j.type FROM journal j JOIN runs r ON r.id = j.run ORDER BY r.uid, j.seq"
        ):
            found = kinds.setdefault(uid, [])
            found.append(kind)
            assert number == len(found), f"{uid}: record {number} follows {len(found) - 1}"
        for uid, found in kinds.items():
            assert found.count(1) == 1, f"{uid} began more than once"
            assert sum(kind in (22, 23, 24) for kind in found) == 1, f"{uid} ended more than once, or never"
