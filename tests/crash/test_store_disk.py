"""The disk fails or fills under the store: nothing acknowledged is lost, and it goes on when the disk does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.test_store_kill import ROOT

pytestmark = pytest.mark.crash


def workload(*arguments: object) -> list[str]:
    """Run a child to its end; returns its lines."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.store_workload", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.timeout(400)
def test_an_error_at_any_disk_access_fails_writes_cleanly_and_the_next_ones_succeed(
    tmp_path: Path, crash_full: bool
) -> None:
    """Both an I/O error and a full disk, at every access (sampled by default), for one or a few accesses."""
    lines = workload("faults", tmp_path, 1, 1 if crash_full else 9, 11)
    met = [line.split(" ") for line in lines]
    assert {fault for fault, _, _ in met} == {"io", "full"}
    assert sum(int(failed) for _, _, failed in met) > len(met) / 4


@pytest.mark.parametrize("driver", ["libsql", "sqlite3"])
def test_a_limit_on_file_sizes_is_refused_read_through_and_recovered_from(tmp_path: Path, driver: str) -> None:
    assert workload("full", tmp_path / "k.db", driver)[-1] in ("InsufficientStorage", "ServiceUnavailable")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=1200k", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"can't mount a small disk here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("driver", ["libsql", "sqlite3"])
def test_a_full_disk_is_507_read_through_and_recovered_from(small_disk: Path, driver: str) -> None:
    script = f"""
import asyncio, pathlib
from kastra.api.errors import InsufficientStorage
from kastra.store.objects import open_store
from tests.contract.storage import AGENTS, draft, key
async def main():
    ballast = pathlib.Path({str(small_disk)!r}) / "ballast"
    ballast.write_bytes(bytes(250_000))
    async with await open_store({str(small_disk / "k.db")!r}, driver={driver!r}) as store:
        count = 0
        try:
            while True:
                await store.create(key(f"n{{count}}"), draft("x" * 4000))
                count += 1
        except InsufficientStorage:
            pass
        assert store.degraded
        assert len(store.list(AGENTS).entries) == count == store.revision
        ballast.unlink()
        await store.create(key("after"), draft("after"))
        assert store.degraded == ""
    async with await open_store({str(small_disk / "k.db")!r}, driver={driver!r}) as store:
        assert len(store.list(AGENTS).entries) == count + 1
    print("went on after", count)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "went on after" in done.stdout
