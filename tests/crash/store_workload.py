"""The child processes of the store's crash tests: they write, and tell what was acknowledged, line by line.

    python -m tests.crash.store_workload serve                    a fork server: one job as JSON per line of its input
    python -m tests.crash.store_workload faults PATH FIRST STEP SEED
    python -m tests.crash.store_workload full PATH DRIVER

A job forks a process that writes until it is killed, by a failpoint, by a power cut, or after `kill_after` lines by the
server. Its lines go to a file; one is `revision name text`, text `-` for a deletion, written after the write was acknowledged
and before the next. The server answers each job with how the process ended.
"""

import asyncio
import json
import os
import random
import resource
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from kastra import failpoint
from kastra.api.errors import InsufficientStorage, ServiceUnavailable, StatusError
from kastra.sql import syncing
from kastra.sql.driver import Driver
from kastra.store.objects import ObjectStore, open_store
from tests.contract.storage import AGENTS, draft, key

WRITERS = 8


@dataclass
class Job:
    """One process to be killed.

    Args:
        path: of the database.
        driver: libsql or sqlite3, or apsw for one with a disk that can lose power.
        seed: of everything random.
        told: file for the lines.
        count: of changes by each writer; then it waits to be killed.
        failpoints: to arm.
        kill_after: lines after which it is killed; 0 for never.
        cut_at: access to the disk at which the power is cut; 0 for never.
    """

    path: str
    driver: str
    seed: int
    told: str
    count: int = 10**9
    failpoints: str = ""
    kill_after: int = 0
    cut_at: int = 0


def tell(revision: int, name: str, text: str) -> None:
    os.write(1, f"{revision} {name} {text}\n".encode())


async def write(store: ObjectStore, worker: int, luck: random.Random, count: int, size: int = 300) -> int:
    """Change own objects at random, `count` times; returns how many changes failed."""
    failed = 0
    for number in range(count):
        name = f"w{worker}-{luck.randrange(6)}"
        text = f"{worker}.{number}." + "x" * luck.randrange(size)
        present = store.get(key(name))
        try:
            if present is None:
                tell((await store.create(key(name), draft(text))).revision, name, text)
            elif luck.random() < 0.25:
                tell((await store.delete(key(name), present.revision)).revision, name, "-")
            else:
                tell((await store.update(key(name), draft(text), present.revision)).revision, name, text)
        except (ServiceUnavailable, InsufficientStorage):
            failed += 1
    return failed


async def run_writers(job: Job) -> None:
    """Write as the job says, and wait for the end."""
    driver: str | Driver = job.driver
    if job.driver == "apsw":
        from tests.support.apsw_driver import ApswDriver, Disk

        disk = Disk("cut", job.cut_at, seed=job.seed)
        # Every other cut meets a library whose commits are synced by the store.
        driver = ApswDriver(disk, keeps_lock=bool(job.cut_at % 2))
        syncing.sync = disk.sync_logs
    failpoint.arm(job.failpoints)
    async with await open_store(job.path, driver=driver, wait=5) as store:
        lucks = [random.Random(job.seed * 1000 + worker) for worker in range(WRITERS)]
        await asyncio.gather(*(write(store, worker, luck, job.count) for worker, luck in enumerate(lucks)))
        if job.cut_at:
            return
        await asyncio.Event().wait()


def serve() -> None:
    """Run jobs one after the other, each in a fork of this process, which itself never opens a database."""
    for line in sys.stdin:
        job = Job(**json.loads(line))
        output, target = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(target, 1)
            os.close(output)
            os.close(target)
            try:
                asyncio.run(run_writers(job))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(target)
        lines = 0
        with os.fdopen(output, "rb") as told, Path(job.told).open("wb") as kept:
            for told_line in told:
                kept.write(told_line)
                lines += 1
                if lines == job.kill_after:
                    os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


async def meet_faults(folder: Path, first: int, step: int, seed: int) -> None:
    """One store per place at which the disk fails; each must go on without a restart and lose nothing acknowledged."""
    from tests.support.apsw_driver import ApswDriver, Disk

    for fault in ("io", "full"):
        at = first
        while True:
            disk = Disk()
            driver = ApswDriver(disk)
            path = folder / f"{fault}-{at}.db"
            known: dict[str, str] = {}
            store = await open_store(path, driver=driver)
            disk.fault, disk.length, disk.at = fault, random.Random(seed + at).choice((1, 1, 3)), disk.calls + at
            begun = disk.calls
            failed = 0
            for number in range(12):
                name, text = f"n{number % 5}", f"{number}"
                present = store.get(key(name))
                try:
                    if present is None:
                        await store.create(key(name), draft(text))
                    else:
                        await store.update(key(name), draft(text), present.revision)
                    known[name] = text
                except (ServiceUnavailable, InsufficientStorage):
                    failed += 1
                    assert store.list(AGENTS).revision == store.revision
            hit = disk.calls - begun >= at
            for _ in range(6):
                try:
                    await store.create(key("after"), draft("after"))
                    break
                except StatusError:
                    failed += 1
            else:
                raise AssertionError(f"{fault} at {at}: can't write again: {store.degraded}")
            assert store.degraded == "", store.degraded
            expected = {entry.key.name: entry.body for entry in store.list(AGENTS).entries}
            revision = store.revision
            await store.aclose()
            store = await open_store(path, driver=driver)
            found = {entry.key.name: entry.body for entry in store.list(AGENTS).entries}
            assert found == expected, (fault, at)
            assert store.revision == revision
            assert all(found[name] == draft(text).body for name, text in known.items()), (fault, at)
            assert await store.query("PRAGMA integrity_check") == [("ok",)]
            await store.aclose()
            os.write(1, f"{fault} {at} {failed}\n".encode())
            if not hit:
                break
            at += step


async def fill_disk(path: str, driver: str) -> None:
    """Write until the limit on file sizes, read on, and write again when it is lifted."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    async with await open_store(path, driver=driver) as store:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        watch = store.watch(AGENTS, since=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
        count, refused = 0, ""
        while not refused:
            try:
                await store.create(key(f"n{count}"), draft("x" * 5000))
                count += 1
            except (InsufficientStorage, ServiceUnavailable) as error:
                refused = type(error).__name__
        assert 10 < count < 200
        assert store.degraded
        assert len(store.list(AGENTS).entries) == count == store.revision
        for number in range(count):
            assert (await anext(watch)).revision == number + 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await store.create(key("after"), draft("after"))
        assert store.degraded == ""
        assert (await anext(watch)).revision == count + 1
        await watch.aclose()
    async with await open_store(path, driver=driver) as store:
        assert len(store.list(AGENTS).entries) == count + 1
        assert await store.query("PRAGMA integrity_check") == [("ok",)]
    print(refused)


def main(arguments: list[str]) -> None:
    mode, *rest = arguments
    if mode == "faults":
        asyncio.run(meet_faults(Path(rest[0]), int(rest[1]), int(rest[2]), int(rest[3])))
    elif mode == "full":
        asyncio.run(fill_disk(rest[0], rest[1]))
    else:
        serve()


if __name__ == "__main__":
    main(sys.argv[1:])
