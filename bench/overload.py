"""Far more Runs at once than there are places: 5,100 of as many Agents in 51 namespaces, against a model that answers in 20 ms.

`kastra serve` runs as a process of its own, the fake provider as another, and a third keeps using the API meanwhile (GET, LIST and
POST). All Runs are created over HTTP as fast as 32 connections can, and followed by a watch over all namespaces. Their durability
is `process`: they survive the death of the process. A rate is counted from the first request to the last Run that ends. Server,
provider, prober and this process share the processors, so the CPU of the server is given too: what a quiet machine with two
processors could do at best, since the server's own work is one thread and a half.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import Row, percentile
from .wire import Server, answer

NAME = "overload"

NAMESPACES = 51
AGENTS = 100
RUNS = NAMESPACES * AGENTS
CLIENTS = 32
MODEL_SECONDS = 0.02
PATIENCE = 600.0
_GROUP = "/apis/mastra.ai/v1"


def run() -> list[Row]:
    """The figures."""
    command = [sys.executable, "-m", "bench._slow_provider", str(MODEL_SECONDS)]
    with (
        tempfile.TemporaryDirectory(prefix="kastra-overload-") as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as provider,
    ):
        assert provider.stdout is not None
        server = Server(Path(folder))
        try:
            found = asyncio.run(_measured(server, provider.stdout.readline().strip()))
        finally:
            server.process.terminate()
            server.process.wait(60)
        told = json.loads(provider.communicate("")[0])
    return _rows(found, told)


def _rows(found: dict[str, Any], told: dict[str, int]) -> list[Row]:
    times = [value for kind in found["probes"].values() for value in kind]
    each = ", ".join(f"{kind} {percentile(values, 0.99):.1f}" for kind, values in found["probes"].items())
    when = f"all created after {found['created']:.1f} s, all ended after {found['seconds']:.1f} s"
    calls = f"{told['served']} model calls, {told['most']} at once at most"
    return [
        Row(f"{RUNS:,} agent Runs created at once: succeeded", found["succeeded"], "", RUNS, note=calls),
        Row("Runs per second, process durability", RUNS / found["seconds"], "/s", 500, note=when),
        Row("CPU of the server for a Run", found["cpu"] / RUNS * 1000, "ms"),
        Row("memory of the server at most", found["memory"], "MB", 400, True, f"{found['before']:.0f} before the Runs"),
        Row("other API calls meanwhile, p99", percentile(times, 0.99), "ms", 50, True, f"{each} of {len(times)}"),
    ]


async def _measured(server: Server, url: str) -> dict[str, Any]:
    names = [f"team-{number}" for number in range(NAMESPACES)]
    await _create(server, [("/api/v1/namespaces", _namespace(name)) for name in names])
    await _create(server, [item for name in names for item in _models(name, url)])
    await _create(server, [(_path(name, "agents"), _agent(at)) for name in names for at in range(AGENTS)])
    await _rest(server)
    command = [sys.executable, "-m", "bench._prober", str(server.plain_port), server.token, names[0]]
    prober = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert prober.stdout is not None
    await asyncio.to_thread(prober.stdout.readline)
    before, cpu = server.megabytes(), server.cpu()
    began = time.perf_counter()
    watching = asyncio.create_task(_ended(server))
    try:
        await _create(server, [(_path(name, "runs"), _order(at)) for at in range(AGENTS) for name in names])
        created = time.perf_counter() - began
        succeeded = await asyncio.wait_for(watching, PATIENCE)
        seconds = time.perf_counter() - began
    finally:
        told, _ = await asyncio.to_thread(prober.communicate, "")
    return {
        "seconds": seconds,
        "created": created,
        "succeeded": succeeded,
        "cpu": server.cpu() - cpu,
        "memory": _peak(server),
        "before": before,
        "probes": json.loads(told),
    }


def _path(namespace: str, plural: str) -> str:
    return f"{_GROUP}/namespaces/{namespace}/{plural}"


def _manifest(kind: str, name: str, spec: dict[str, Any]) -> bytes:
    body = {"apiVersion": "mastra.ai/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return json.dumps(body, separators=(",", ":")).encode()


def _namespace(name: str) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).encode()


def _models(namespace: str, url: str) -> list[tuple[str, bytes]]:
    provider = {"type": "openai-compatible", "baseURL": url, "allowPrivate": True}
    return [
        (_path(namespace, "modelproviders"), _manifest("ModelProvider", "local", provider)),
        (_path(namespace, "models"), _manifest("Model", "m", {"providerRef": "local", "name": "m"})),
    ]


def _agent(number: int) -> bytes:
    spec = {"description": f"Agent {number}.", "instructions": f"You are number {number}. Help.", "modelRef": "m"}
    return _manifest("Agent", f"agent-{number}", spec)


def _order(number: int) -> bytes:
    target = {"kind": "Agent", "name": f"agent-{number}"}
    spec = {"target": target, "input": "What is for dinner?", "durability": "process"}
    return _manifest("Run", f"run-{number}", spec)


async def _create(server: Server, items: Sequence[tuple[str, bytes]]) -> None:
    """POST them all, over so many connections at once."""
    left = iter(items)

    async def client() -> None:
        reader, writer = await server.connect(tls=False)
        for path, body in left:
            writer.write(server.request("POST", path, body))
            status, text = await answer(reader)
            assert status == 201, text
        writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def _rest(server: Server) -> None:
    """Wait until every Agent is Ready and the server has nothing to do."""
    reader, writer = await server.connect(tls=False)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        before = server.cpu()
        await asyncio.sleep(1)
        if server.cpu() - before < 0.05:
            break
    writer.write(server.request("GET", f"{_GROUP}/agents?limit={RUNS}"))
    _, body = await answer(reader)
    ready = body.count(b'"phase":"Running"')
    assert ready == RUNS, f"{ready} of {RUNS} Agents are Ready"
    writer.close()


async def _ended(server: Server) -> int:
    """Watch all Runs until each has ended; how many succeeded."""
    reader, writer = await server.connect(tls=False)
    writer.write(server.request("GET", f"{_GROUP}/runs?watch=true&timeoutSeconds=3600"))
    await reader.readuntil(b"\r\n\r\n")
    ended: dict[str, bool] = {}
    rest = b""
    while len(ended) < RUNS:
        size = int(await reader.readline(), 16)
        *lines, rest = (rest + (await reader.readexactly(size + 2))[:-2]).split(b"\n")
        for line in lines:
            if b'"completionTime"' in line:
                found = json.loads(line)["object"]
                place = f"{found['metadata']['namespace']}/{found['metadata']['name']}"
                ended[place] = found["status"]["phase"] == "Succeeded"
    writer.close()
    return sum(ended.values())


def _peak(server: Server) -> float:
    """Megabytes of resident memory at most so far."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
