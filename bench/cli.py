"""What a command costs before it does anything: CPU of `kastra version` and of `kastra get` on a store of its own.

User and system time of the whole process, the least of ten runs, because others on the machine can only add to it. The
store has 100 Agents, in a file that nobody owns, so `get` opens it, reads it, prints a table and ends. A bare interpreter
(`python -c pass`) is measured beside them: what no Python program can go below.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import Row

NAME = "cli"

RUNS = 10
OBJECTS = 100

AGENT = """apiVersion: mastra.ai/v1
kind: Agent
metadata: {{name: agent-{n}}}
spec:
  instructions: Answer in one sentence.
  model: {{provider: scripted, parameters: {{rules: [{{reply: Yes.}}]}}}}
"""


def cpu_milliseconds(command: list[str], folder: Path) -> float:
    """The least user and system time of `RUNS` runs."""
    found = []
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found) * 1000


def _over_tls(kastra: str, folder: Path) -> float:
    """CPU of `kastra get` against a server, its kinds remembered from an earlier command."""
    serve = [kastra, "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(serve, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if "kubectl get" in line:
                    break
            get = [kastra, "--kubeconfig", str(folder / ".kastra" / "kubeconfig"), "get", "agents"]
            subprocess.run(get, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            return cpu_milliseconds(get, folder)
        finally:
            server.terminate()


def run() -> list[Row]:
    """The figures, in milliseconds of CPU."""
    beside = Path(sys.executable).with_name("kastra")
    kastra = str(beside) if beside.exists() else shutil.which("kastra")
    if kastra is None:
        return [Row("kastra version", None, "ms", 100, at_most=True, note="kastra is not installed here")]
    with tempfile.TemporaryDirectory(prefix="kastra-bench-") as place:
        folder = Path(place)
        (folder / "agents.yaml").write_text("---\n".join(AGENT.format(n=n) for n in range(OBJECTS)))
        subprocess.run([kastra, "apply", "-f", "agents.yaml"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        listed = subprocess.run(
            [kastra, "get", "agents", "--no-headers"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        assert listed.count("\n") == OBJECTS, listed
        bare = cpu_milliseconds([sys.executable, "-c", "pass"], folder)
        version = cpu_milliseconds([kastra, "version"], folder)
        get = cpu_milliseconds([kastra, "get", "agents"], folder)
        helped = cpu_milliseconds([kastra, "--help"], folder)
        remote = _over_tls(kastra, folder)
    return [
        Row("a bare interpreter, CPU", bare, "ms"),
        Row("kastra version, CPU", version, "ms", 100, at_most=True, note=f"{version / bare:.0f} bare interpreters"),
        Row(f"kastra get agents with {OBJECTS} objects, CPU", get, "ms", 300, at_most=True, note=f"{get / bare:.0f}"),
        Row("kastra get over TLS, CPU", remote, "ms", 150, at_most=True, note=f"{remote / bare:.0f} bare interpreters"),
        Row("kastra --help, CPU", helped, "ms"),
    ]
