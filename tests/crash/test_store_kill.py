"""kill -9 at every point of the store, and power cuts at every access to the disk: nothing acknowledged is lost, and the file is sound."""

import json
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from kastra.sql.driver import load, open_reader
from kastra.store.objects import open_store
from tests.contract.storage import AGENTS, draft, key
from tests.crash.store_workload import Job

ROOT = Path(__file__).parents[2]
POINTS = (
    "sql.before_begin",
    "sql.before_checkpoint",
    "sql.before_commit",
    "sql.after_commit",
    "sql.before_migration_commit",
    "store.before_landing",
    "store.before_prepare",
    "store.before_publish",
)
Serve = Callable[[Job], tuple[int, list[str]]]
POWER_CUT = 99
pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def server() -> Iterator[Serve]:
    """Runs a job in a process of its own; gives how it ended and the lines it told."""
    command = [sys.executable, "-m", "tests.crash.store_workload", "serve"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def run(job: Job) -> tuple[int, list[str]]:
            child.stdin.write(json.dumps(asdict(job)) + "\n")
            child.stdin.flush()
            status = int(child.stdout.readline())
            # The last line may have been cut by the kill.
            return status, Path(job.told).read_text().split("\n")[:-1]

        yield run
        child.stdin.close()


async def verify(path: Path, acknowledged: list[str]) -> None:
    """Every acknowledged write is current, or superseded by a later revision."""
    last: dict[str, tuple[int, str]] = {}
    for line in acknowledged:
        revision, name, text = line.split(" ")
        last[name] = max(last.get(name, (0, "")), (int(revision), text))
    async with await open_store(path, wait=5) as store:
        gone = {
            name: (revision, create)
            for name, revision, create in await store.query(
                "SELECT name, max(rv), create_rv FROM tombstones GROUP BY name"
            )
        }
        for name, (revision, text) in last.items():
            present = store.get(key(name))
            stone = gone.get(name, (0, 0))[0]
            newest = max(present.revision if present else 0, stone)
            assert newest >= revision, f"{name}: acknowledged at {revision}, the file has {newest}"
            if newest == revision:
                assert (present is None) == (text == "-")
                assert present is None or present.body == draft(text).body
        assert store.revision >= max((revision for revision, _ in last.values()), default=0)
        numbers = await store.query("SELECT rv FROM objects UNION ALL SELECT rv FROM tombstones")
        assert len(numbers) == len(set(numbers))
        assert await store.query("PRAGMA integrity_check") == [("ok",)]
        assert len(store.list(AGENTS).entries) == (await store.query("SELECT count(*) FROM objects"))[0][0]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.timeout(300)
async def test_a_kill_at_any_point_loses_nothing_acknowledged(
    tmp_path: Path, point: str, server: Serve, crash_full: bool
) -> None:
    luck = random.Random(point)
    for driver in ("libsql", "sqlite3"):
        path, told = tmp_path / f"{driver}.db", list[str]()
        passes = range(1, 26) if crash_full else (luck.randrange(2, 12),)
        if point in ("sql.before_migration_commit", "sql.before_checkpoint"):
            passes = (1,)
        for at in passes:
            # The log is moved when nothing is to be written, so for that point the writers come to an end.
            count = 5 if point == "sql.before_checkpoint" else 10**9
            job = Job(str(path), driver, at, str(tmp_path / "told"), count, f"{point}=kill@{at}")
            status, lines = server(job)
            assert status == -signal.SIGKILL
            told += lines
            await verify(path, told)


@pytest.mark.timeout(300)
async def test_kills_at_random_moments_one_after_the_other_lose_nothing(
    tmp_path: Path, server: Serve, crash_full: bool
) -> None:
    luck = random.Random(7)
    for driver in ("libsql", "sqlite3"):
        path, told = tmp_path / f"{driver}.db", list[str]()
        for number in range(200 if crash_full else 2):
            job = Job(str(path), driver, number, str(tmp_path / "told"), kill_after=luck.randrange(1, 400))
            status, lines = server(job)
            assert status == -signal.SIGKILL
            told += lines
            await verify(path, told)


@pytest.mark.timeout(300)
async def test_a_power_cut_at_any_disk_access_loses_nothing_acknowledged(
    tmp_path: Path, server: Serve, crash_full: bool
) -> None:
    """Of what was not synced the disk keeps nothing, some, all, or torn writes."""
    acknowledged = cuts = 0
    places = range(1, 1001) if crash_full else sorted(random.Random(13).sample(range(1, 400), 8))
    for at in places:
        path = tmp_path / f"cut-{at}.db"
        job = Job(str(path), "apsw", at, str(tmp_path / "told"), count=150, cut_at=at)
        status, lines = server(job)
        # Batches are larger when the machine is slow; then the workload may end before the disk is accessed so often.
        assert status in (POWER_CUT, 0)
        cuts += status == POWER_CUT
        acknowledged += len(lines)
        await verify(path, lines)
        for leftover in tmp_path.glob(f"cut-{at}.db*"):
            leftover.unlink()
    assert cuts > len(places) / 2
    assert acknowledged > 100


def test_every_failpoint_of_sql_and_store_is_among_those_tested() -> None:
    found = set()
    for folder in ("sql", "store"):
        for file in (ROOT / "kastra" / folder).glob("*.py"):
            found |= set(re.findall(r'failpoint\("([^"]+)"\)', file.read_text()))
    assert found == set(POINTS)


async def test_a_damaged_log_loses_at_most_its_end_and_never_lies(
    tmp_path: Path, server: Serve, crash_full: bool
) -> None:
    """Bit flips and cuts in the log: what is read is a state that once was committed, or the file is refused."""
    path = tmp_path / "k.db"
    _, told = server(Job(str(path), "sqlite3", 3, str(tmp_path / "told"), kill_after=60))
    changes = sorted((int(revision), name, text) for revision, name, text in (line.split(" ") for line in told))
    contiguous = [change for place, change in enumerate(changes, start=1) if change[0] == place]
    file, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    luck, refused, shorter = random.Random(5), 0, 0
    for number in range(1000 if crash_full else 60):
        damaged = bytearray(log)
        if luck.random() < 0.3:
            del damaged[luck.randrange(len(damaged)) :]
        else:
            damaged[luck.randrange(len(damaged))] ^= 1 << luck.randrange(8)
        copy = tmp_path / f"copy-{number}.db"
        copy.write_bytes(file)
        Path(f"{copy}-wal").write_bytes(damaged)
        try:
            reader = open_reader(copy, load("sqlite3"))
            ((revision,),) = reader.query("SELECT i FROM meta WHERE k = 'rev'")
            found = dict(reader.query("SELECT name, body FROM objects"))
            assert reader.query("PRAGMA integrity_check") == [("ok",)]
            reader.close()
        except Exception as error:
            assert "no such table" in str(error), error
            refused += 1
            continue
        finally:
            for leftover in tmp_path.glob(f"copy-{number}.db*"):
                leftover.unlink()
        if revision > len(contiguous):
            continue  # committed, and killed before all of it was told
        shorter += revision < len(contiguous)
        expected: dict[str, bytes] = {}
        for _, name, text in contiguous[:revision]:
            if text == "-":
                del expected[name]
            else:
                expected[name] = draft(text).body
        assert found == expected
    assert shorter > 0
    assert refused < 600
