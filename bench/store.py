"""The store API: durable creates and compare-and-swap updates by 64 writers, watch latency, memory.

Bodies are 2 KB, names rise, updates go over 5,000 objects in random order, every write is synced before it is acknowledged
(synchronous=FULL). Each figure comes from a process of its own. etcd, where it is installed, is driven on the same disk
with the same number of writers through its JSON gateway by a client written for this, in another process; the gateway and
the client share the cores with it, so its figure is a lower bound.
"""

import asyncio
import base64
import gc
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from kastra.clock import SystemClock
from kastra.sql.driver import installed
from kastra.store.interface import Draft, Key
from kastra.store.objects import ObjectStore, open_store

from . import Row, percentile

NAME = "store"

WRITERS = 64
SECONDS = 3.0
AGENTS = "agents.mastra.ai"
_UID = "6f2c1b1e-0000-4000-8000-000000000000"


def body(number: int) -> bytes:
    """A stored object of 2,000 bytes."""
    head = b'{"metadata":{"name":"n%07d"},"apiVersion":"mastra.ai/v1","kind":"Agent","spec":{"instructions":"' % number
    return head + b"x" * (2000 - len(head) - 3) + b'"}}'


def key(number: int) -> Key:
    """The place of object `number`."""
    return Key(AGENTS, "default", f"n{number:07}")


async def writes_per_second(folder: Path, driver: str) -> dict[str, float]:
    """Creates, then updates, for `SECONDS` each."""
    async with await open_store(folder / "k.db", driver=driver, reserve=True) as store:
        numbers = iter(range(10**9))
        latencies: list[float] = []

        async def create(worker: int, until: float) -> None:
            while (begun := time.perf_counter()) < until:
                number = next(numbers)
                await store.create(key(number), Draft(body(number), _UID))
                latencies.append(time.perf_counter() - begun)

        creates, create_p99 = await measure(create, latencies)
        places = [key(number) for number in range(min(5000, store.revision))]
        random.Random(1).shuffle(places)

        async def update(worker: int, until: float) -> None:
            mine, turn = places[worker::WRITERS], 0
            while (begun := time.perf_counter()) < until:
                present = store.get(mine[turn % len(mine)])
                turn += 1
                assert present is not None
                await store.update(present.key, Draft(present.body, _UID), present.revision)
                latencies.append(time.perf_counter() - begun)

        updates, update_p99 = await measure(update, latencies)
    return {"creates": creates, "create p99": create_p99, "updates": updates, "update p99": update_p99}


async def measure(work: Callable[[int, float], Awaitable[None]], latencies: list[float]) -> tuple[float, float]:
    """How many per second, and the 99th percentile in milliseconds, of `WRITERS` workers."""
    latencies.clear()
    begun = time.perf_counter()
    await asyncio.gather(*(work(worker, begun + SECONDS) for worker in range(WRITERS)))
    return len(latencies) / (time.perf_counter() - begun), percentile(latencies, 0.99) * 1000


async def watch_latency(folder: Path) -> dict[str, float]:
    """From the call that writes to the delivery, at 100 watchers and 500 writes a second; includes the commit."""
    clock = SystemClock()
    count, rate = 1500, 500
    async with await open_store(folder / "k.db", reserve=True) as store:
        await store.create(key(0), Draft(body(0), _UID))
        begun: dict[int, float] = {}
        latencies: list[float] = []

        async def follow() -> None:
            watch = store.watch(AGENTS, since=1)
            async for event in watch:
                latencies.append(clock.monotonic() - begun[event.revision])
                if event.revision == count + 1:
                    break
            await watch.aclose()

        watchers = [asyncio.create_task(follow()) for _ in range(100)]
        start = clock.monotonic()
        tasks = []
        for number in range(1, count + 1):
            await clock.sleep(start + number / rate - clock.monotonic())
            # Revisions follow the order of submission.
            begun[number + 1] = clock.monotonic()
            tasks.append(asyncio.create_task(store.create(key(number), Draft(body(number), _UID))))
        await asyncio.gather(*tasks, *watchers)
        return {"p50": percentile(latencies, 0.5) * 1000, "p99": percentile(latencies, 0.99) * 1000}


async def memory(folder: Path) -> dict[str, float]:
    """What 10,000 objects add to a process, in MB, and how long opening them takes, in ms."""
    async with await open_store(folder / "k.db") as store:
        await fill(store, 0, 64)
        idle = resident()
        await fill(store, 64, 10_064)
        gc.collect()
        used = resident() - idle
    begun = time.perf_counter()
    async with await open_store(folder / "k.db"):
        opened = time.perf_counter() - begun
    return {"MB": used, "open ms": opened * 1000}


async def fill(store: ObjectStore, first: int, last: int) -> None:
    """Create objects, 64 at a time."""
    for start in range(first, last, WRITERS):
        await asyncio.gather(
            *(store.create(key(n), Draft(body(n), _UID)) for n in range(start, min(last, start + WRITERS)))
        )


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def etcd_writes_per_second(folder: Path) -> dict[str, float]:
    """The same writes on etcd: a transaction that compares the revision."""
    url_port, peer_port = 23790 + os.getpid() % 1000, 24790 + os.getpid() % 1000
    client = f"http://127.0.0.1:{url_port}"
    peer = f"http://127.0.0.1:{peer_port}"
    arguments = ["etcd", "--data-dir", str(folder), "--listen-client-urls", client, "--advertise-client-urls", client]
    arguments += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    arguments += ["--initial-cluster", f"default={peer}", "--quota-backend-bytes", str(8 << 30)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            return await _drive_etcd(url_port)
        finally:
            server.terminate()


async def _drive_etcd(port: int) -> dict[str, float]:
    async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: object) -> bytes:
        data = json.dumps(request).encode()
        writer.write(b"POST /v3/kv/txn HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return await reader.readexactly(length)

    for _ in range(100):
        try:
            _, probe = await asyncio.open_connection("127.0.0.1", port)
            probe.close()
            break
        except OSError:
            await SystemClock().sleep(0.1)
    await SystemClock().sleep(1)
    value = base64.b64encode(body(0)).decode()
    counts = {"creates": 0, "updates": 0}

    def transaction(name: str, target: str, revision: int) -> object:
        place = base64.b64encode(name.encode()).decode()
        field = "create_revision" if target == "CREATE" else "mod_revision"
        return {
            "compare": [{"key": place, "target": target, field: str(revision)}],
            "success": [{"request_put": {"key": place, "value": value}}],
        }

    async def worker(number: int, until: float, what: str, revisions: dict[str, int]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn, names = 0, list(revisions)
        while time.perf_counter() < until:
            name = f"/registry/agents/w{number:02}-{turn:06}" if what == "creates" else names[turn % len(names)]
            request = transaction(name, "CREATE" if what == "creates" else "MOD", revisions.get(name, 0))
            answer = json.loads(await call(reader, writer, request))
            assert answer.get("succeeded"), answer
            revisions[name] = int(answer["header"]["revision"])
            counts[what] += 1
            turn += 1
        writer.close()

    known: list[dict[str, int]] = [{} for _ in range(WRITERS)]
    for what in counts:
        until = time.perf_counter() + SECONDS
        await asyncio.gather(*(worker(number, until, what, known[number]) for number in range(WRITERS)))
    return {what: count / SECONDS for what, count in counts.items()}


def run() -> list[Row]:
    """All figures of the store."""
    rows = []
    best: dict[str, float] = {}
    for driver in installed():
        found = _apart("writes", driver)
        for what in ("creates", "updates"):
            best.setdefault(what, found[what])
            target = 30_000 if driver == "libsql" else 40_000
            note = f"p99 {found[what[:-1] + ' p99']:.1f} ms"
            rows.append(Row(f"{what}, {WRITERS} writers, {driver}, FULL", found[what], "/s", target, note=note))
    if shutil.which("etcd"):
        other = _apart("etcd")
        for what in ("creates", "updates"):
            rows.append(Row(f"{what}, {WRITERS} writers, etcd (JSON gateway)", other[what], "/s"))
            rows.append(Row(f"{what}: ratio to etcd", best[what] / other[what], "x", 5))
    else:
        rows.append(Row("creates, etcd", None, "/s", note="etcd is not on the PATH"))
    found = _apart("watch")
    rows.append(
        Row(
            "write to watcher p99, 100 watchers, 500 writes/s",
            found["p99"],
            "ms",
            10,
            True,
            f"p50 {found['p50']:.1f} ms",
        )
    )
    found = _apart("memory")
    rows.append(Row("memory of 10,000 objects of 2 KB", found["MB"], "MB", 30, True))
    rows.append(Row("cold open of 10,000 objects", found["open ms"], "ms", 200, True))
    return rows


def _apart(*arguments: str) -> dict[str, float]:
    """Measure in a fresh process, so that neither heap nor libraries of one figure disturb the next."""
    done = subprocess.run([sys.executable, "-m", "bench.store", *arguments], stdout=subprocess.PIPE, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _main(what: str, *arguments: str) -> None:
    with tempfile.TemporaryDirectory(prefix="kastra-bench-") as name:
        folder = Path(name)
        if what == "writes":
            found = asyncio.run(writes_per_second(folder, arguments[0]))
        elif what == "etcd":
            found = asyncio.run(etcd_writes_per_second(folder))
        else:
            found = asyncio.run({"watch": watch_latency, "memory": memory}[what](folder))
    print(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
