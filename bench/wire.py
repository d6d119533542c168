"""The API over HTTP: requests per second of the server's CPU, with and without TLS, and what idle watches weigh.

`kastra serve` runs as a process of its own; CPU is that process's user and system time while the requests were served, so
the clients, which share the cores, don't count. The object is a custom resource of 2 KB with a structural schema; a POST has
full semantics: defaults, validation, managedFields, a durable commit. 16 connections are kept alive, each with one
request at a time; field validation is Strict, as kubectl asks for it.
"""

import asyncio
import json
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import Row, percentile

NAME = "wire"

CLIENTS = 16
SECONDS = 3.0
WATCHES = 5_000
_TICKS = os.sysconf("SC_CLK_TCK")
CRD = """\
{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"things.bench.example.com"},
"spec":{"group":"bench.example.com","scope":"Namespaced","names":{"plural":"things","singular":"thing","kind":"Thing"},
"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{
"spec":{"type":"object","required":["size"],"properties":{"size":{"type":"integer","minimum":1},"color":{"type":"string",
"default":"red","enum":["red","blue"]},"text":{"type":"string","maxLength":10000},"parts":{"type":"array","items":{
"type":"object","required":["name"],"properties":{"name":{"type":"string"},"weight":{"type":"number"},
"on":{"type":"boolean"}}}}}}}}}}]}}"""
_PATH = "/apis/bench.example.com/v1/namespaces/default/things"


def thing(name: str) -> bytes:
    """An object of 2 KB."""
    parts = [{"name": f"part-{number}", "weight": number / 2, "on": number % 2 == 0} for number in range(12)]
    spec = {"size": 3, "text": "x" * 1100, "parts": parts}
    body = {"apiVersion": "bench.example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec}
    return json.dumps(body, separators=(",", ":")).encode()


class Server:
    """A `kastra serve` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "kastra.cli.main", "--data", str(folder / "data"), "serve"]
        self.process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0", "--insecure-http", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder,
        )  # fmt: skip
        assert self.process.stdout is not None
        ports = []
        for line in self.process.stdout:
            if line.startswith("serving"):
                ports.append(int(line.split("127.0.0.1:")[1].split()[0]))
            if "kubectl get" in line:
                break
        self.secure_port, self.plain_port = ports
        self.context = ssl.create_default_context(cafile=str(folder / "data" / "tls" / "ca.crt"))
        kubeconfig = (folder / "data" / "kubeconfig").read_text()
        self.token = kubeconfig.partition("token: ")[2].split()[0]

    def cpu(self) -> float:
        """Seconds of user and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def megabytes(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def connect(self, *, tls: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection."""
        if tls:
            return await asyncio.open_connection("127.0.0.1", self.secure_port, ssl=self.context)
        return await asyncio.open_connection("127.0.0.1", self.plain_port)

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """A request as bytes."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def load(server: Server, kind: str, *, tls: bool) -> dict[str, float]:
    """Requests per second of server CPU, and the 99th percentile of their time in milliseconds."""
    numbers = iter(range(10**9))
    times: list[float] = []

    async def client(until: float) -> None:
        reader, writer = await server.connect(tls=tls)
        while (begun := time.perf_counter()) < until:
            if kind == "GET":
                writer.write(server.request("GET", f"{_PATH}/one"))
            else:
                name = f"{'s' if tls else 'p'}-{next(numbers):07}"
                writer.write(server.request("POST", f"{_PATH}?fieldValidation=Strict", thing(name)))
            status, body = await answer(reader)
            assert status in (200, 201), body
            times.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*(client(time.perf_counter() + 0.3) for _ in range(CLIENTS)))
    times.clear()
    before = server.cpu()
    await asyncio.gather(*(client(time.perf_counter() + SECONDS) for _ in range(CLIENTS)))
    return {"rate": len(times) / (server.cpu() - before), "p99": percentile(times, 0.99) * 1000}


async def watches(server: Server) -> float:
    """Megabytes that `WATCHES` idle watches add."""
    before = server.megabytes()
    opened = []
    for _ in range(WATCHES // 100):
        opened += await asyncio.gather(*(server.connect(tls=False) for _ in range(100)))
        for _, writer in opened[-100:]:
            writer.write(server.request("GET", f"{_PATH}?watch=true&timeoutSeconds=600"))
        for reader, _ in opened[-100:]:
            await reader.readuntil(b"\r\n\r\n")
    used = server.megabytes() - before
    for _, writer in opened:
        writer.close()
    return used


async def measure(folder: Path) -> list[Row]:
    """All figures, against one server."""
    server = Server(folder)
    try:
        for path, body in (
            ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD.replace("\n", "").encode()),
            (_PATH, thing("one")),
        ):
            reader, writer = await server.connect(tls=False)
            writer.write(server.request("POST", path, body))
            status, text = await answer(reader)
            assert status == 201, text
            writer.close()
        rows = []
        for kind, target in (("GET", 20_000), ("POST", 6_000)):
            for tls in (False, True):
                found = await load(server, kind, tls=tls)
                over = "TLS" if tls else "plain HTTP"
                rows.append(Row(f"{kind} of 2 KB, {over}, per CPU-second of the server", found["rate"], "/s", target))
                if kind == "POST" and tls:
                    rows.append(Row(f"POST p99 at {CLIENTS} clients, TLS, FULL", found["p99"], "ms", 10, True))
        return rows
    finally:
        server.process.terminate()
        server.process.wait(30)


async def measure_watches(folder: Path) -> list[Row]:
    """Memory of idle watches on a fresh server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < WATCHES + 200:
        return [Row(f"memory of {WATCHES:,} idle watches", None, "MB", note=f"only {hard} open files are allowed here")]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, WATCHES + 200), hard))
    server = Server(folder)
    try:
        reader, writer = await server.connect(tls=False)
        crd = CRD.replace("\n", "").encode()
        writer.write(server.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd))
        await answer(reader)
        writer.close()
        used = await watches(server)
        note = f"so 10,000 take {used * 10_000 / WATCHES:,.0f} MB; target 512"
        return [Row(f"memory of {WATCHES:,} idle watches, plain HTTP", used, "MB", 512 * WATCHES / 10_000, True, note)]
    finally:
        server.process.kill()
        server.process.wait(30)


def run() -> list[Row]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="kastra-bench-") as one, tempfile.TemporaryDirectory() as two:
        return [*asyncio.run(measure(Path(one))), *asyncio.run(measure_watches(Path(two)))]
