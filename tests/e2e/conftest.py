"""A `kastra serve` of one's own per test module, and every kubectl that this machine has."""

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import warm

_NUMBERED = re.compile(r"kubectl[.-]v?1\.(\d+)")
_ELSEWHERE = ("/usr/lib/google-cloud-sdk/bin", "/opt/kubectl", "/usr/local/kubectl")
REQUIRED = os.environ.get("KASTRA_REQUIRE_KUBECTL") == "1"


def find_kubectls() -> dict[str, Path]:
    """The numbered kubectls by minor version, oldest first: a plain `kubectl` may pick among several by itself."""
    folders = [Path(folder) for folder in (*os.environ.get("PATH", "").split(os.pathsep), *_ELSEWHERE) if folder]
    found: dict[int, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for file in folder.iterdir():
                match = _NUMBERED.fullmatch(file.name)
                if match and os.access(file, os.X_OK):
                    found.setdefault(int(match[1]), file)
    return {f"1.{minor}": found[minor] for minor in sorted(found) if minor >= 20}


KUBECTLS = find_kubectls()
if not KUBECTLS and REQUIRED:
    raise pytest.UsageError("KASTRA_REQUIRE_KUBECTL=1, and there is no numbered kubectl (kubectl.1.33) on the PATH")


@pytest.fixture(scope="module")
def rubbish() -> Iterator[None]:
    """For modules that look away from what client libraries leave open: it goes before other tests could be blamed for it."""
    yield
    gc.collect()


@dataclass
class Server:
    """A running `kastra serve`."""

    process: subprocess.Popen[str]
    kubeconfig: Path
    folder: Path
    log: Path
    output: str

    def audit(self, since: int = 0) -> list[dict[str, object]]:
        """Requests served so far, from byte `since` of the log."""
        with self.log.open(encoding="utf-8") as file:
            file.seek(since)
            lines = [json.loads(line) for line in file if line.startswith("{")]
        return [line for line in lines if line["logger"] == "kastra.audit"]

    @property
    def position(self) -> int:
        """The present end of the log."""
        return self.log.stat().st_size


def start_server(folder: Path, *options: str, real: bool = False) -> Server:
    """Start `kastra serve` on a free port and wait until it serves; `real`, so that it is gone as soon as it is killed."""
    program = [sys.executable, "-m", "kastra.cli.main"] if real else [warm.kastra()]
    log = folder / "server.log"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "PYTEST_"))}
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [*program, "--data", str(folder / ".kastra"), "--log-level", "info",
             "serve", "--listen", "127.0.0.1:0", *options],
            cwd=folder, env=kept, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "kubectl get" in line:
            return Server(process, folder / ".kastra" / "kubeconfig", folder, log, "".join(lines))
    process.stdout.close()
    raise AssertionError(f"kastra serve ended with {process.wait()}:\n{log.read_text(encoding='utf-8')}")


def stop_server(server: Server) -> int:
    """Ask it to stop, and its exit code."""
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(30)
    assert server.process.stdout is not None
    server.process.stdout.close()
    return code


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("server"))
    try:
        yield running
    finally:
        code = stop_server(running)
    assert code == 0
    defects = [line for line in running.log.read_text(encoding="utf-8").splitlines() if '"level":"error"' in line]
    assert not defects


@dataclass
class Kubectl:
    """One version of kubectl, with a home of its own, in a namespace of its own."""

    binary: Path
    home: Path
    server: Server
    namespace: str = "default"

    @property
    def minor(self) -> int:
        """20 of 1.20: old ones lack some verbs and flags."""
        return int(self.binary.resolve().name.rpartition(".")[2])

    @property
    def scope(self) -> list[str]:
        """The options that name the namespace."""
        return ["-n", self.namespace] if self.namespace else []

    @property
    def environment(self) -> dict[str, str]:
        """Without anything of the user's."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        return {**kept, "HOME": str(self.home), "KUBECONFIG": str(self.server.kubeconfig)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that goes on."""
        return subprocess.Popen(
            [str(self.binary), *self.scope, *arguments],
            env=self.environment, cwd=self.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(
        self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever comes of it."""
        return subprocess.run(
            [str(self.binary), *self.scope, *arguments],
            env={**self.environment, **(env or {})}, cwd=self.home, input=stdin, capture_output=True, text=True,
            timeout=30, check=False,
        )  # fmt: skip

    def __call__(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> str:
        """The output of a command that must succeed and have nothing to complain of."""
        done = self.run(*arguments, stdin=stdin, env=env)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        assert "warning" not in done.stderr.lower(), done.stderr
        return done.stdout

    def cluster(self, *arguments: str) -> str:
        """As a call, for what is in no namespace."""
        return Kubectl(self.binary, self.home, self.server, namespace="")(*arguments)

    def fails(self, *arguments: str, stdin: str = "") -> str:
        """What a command says that must be refused."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode != 0, f"{arguments}: {done.stdout}"
        return done.stderr


def versions(wanted: Sequence[str] = ()) -> list[object]:
    """Parameters for tests: all kubectls, or those of `wanted` that there are; one that is skipped when there is none."""
    found = [version for version in KUBECTLS if not wanted or version in wanted]
    if not found:
        return [
            pytest.param("none", marks=pytest.mark.skip(reason="no numbered kubectl (kubectl.1.33) on this machine"))
        ]
    return [pytest.param(version, id=version) for version in found]


def thorough() -> list[object]:
    """The oldest kubectl, the newest and one in the middle: what differs between neighbours is little."""
    found = list(KUBECTLS)
    return versions([*found[:1], *found[len(found) // 2 : len(found) // 2 + 1], *found[-1:]])


@pytest.fixture
def kubectl(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Kubectl:
    """kubectl of the version that the test is parametrised with, in a namespace of its own."""
    tool = Kubectl(KUBECTLS[request.param], tmp_path, server)
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[-50:].strip("-")
    tool.cluster("create", "namespace", name)
    tool.namespace = name
    return tool


@pytest.fixture
def newest(server: Server, tmp_path: Path) -> Kubectl:
    """The newest kubectl of this machine, called `kubectl` on its PATH."""
    if not KUBECTLS:
        pytest.skip("no numbered kubectl (kubectl.1.33) on this machine")
    binary = list(KUBECTLS.values())[-1]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").symlink_to(shutil.which(binary) or binary)
    return Kubectl(binary, tmp_path, server)
