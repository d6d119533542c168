"""The command line and the Python API against a server: the same answers as on a store of one's own."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import kastra
from kastra.app.clusters import decode_one
from kastra.manifest.encode import to_yaml
from tests.e2e.conftest import Server, start_server, stop_server
from tests.support import warm

AGENT = """apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: helper}
spec:
  instructions: Answer.
  model: {provider: scripted, parameters: {rules: [{reply: Yes.}]}}
"""


class Shell:
    """A folder from which commands are given."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder, self.flags = folder, flags
        folder.mkdir(exist_ok=True)
        (folder / "agent.yaml").write_text(AGENT)

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "KUBE"))}
        return {**kept, "XDG_CACHE_HOME": str(self.folder / "cache"), "EDITOR": "sed -i s/Answer/Reply/"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [warm.kastra(), *self.flags, *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def remote(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("elsewhere"), "--kubeconfig", str(server.kubeconfig))
    shell("apply", "-f", "agent.yaml")
    return shell


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("here"))
    shell("apply", "-f", "agent.yaml")
    return shell


@pytest.mark.parametrize(
    "arguments",
    [
        "apply -f agent.yaml -o name",
        "apply -f agent.yaml --dry-run=client",
        "apply -f agent.yaml --dry-run=server",
        "get agents --no-headers -o custom-columns=N:.metadata.name,S:.spec,R:.status.phase",
        "get agents -o name",
        "get agents helper -o jsonpath={.spec}",
        "get crd -o name",
        "explain agent.spec.model",
        "explain configmap",
        "api-resources --api-group mastra.ai --sort-by name",
        "validate agent.yaml",
        "diff -f agent.yaml",
        "label agents helper team=a --dry-run=server",
        "wait agent/helper --for=condition=Ready --timeout=20s",
        "run agent/helper --input hi -q",
        "delete agent nobody --ignore-not-found",
    ],
)
def test_a_verb_prints_the_same_as_on_a_store_of_ones_own(arguments: str, remote: Shell, embedded: Shell) -> None:
    assert remote(*arguments.split(" ")) == embedded(*arguments.split(" "))


def test_objects_are_changed_followed_and_deleted(remote: Shell) -> None:
    remote("run", "agent/helper", "--name", "one", "--input", "hi")
    assert "run completed" in remote("logs", "run/one")
    assert "Yes." in remote("logs", "run/one", "-o", "json")
    assert "created" in remote("run", "agent/helper", "--detach", "--name", "two")
    remote("wait", "run/two", "--for=condition=Complete", "--timeout=30s")
    assert "edited" in remote("edit", "agent/helper")
    assert remote("get", "agent", "helper", "-o", "jsonpath={.spec.instructions}").strip() == "Reply."
    assert "annotated" in remote("annotate", "agent", "helper", "note=x")
    assert "Ready" in remote("describe", "agent", "helper")
    remote("events")
    assert "server:" in remote("version")
    assert "deleted" in remote("delete", "runs", "one", "two")


def test_a_context_says_which_server_and_namespace(remote: Shell, server: Server) -> None:
    config = decode_one(server.kubeconfig.read_bytes())
    config["contexts"].append({"name": "prod", "context": {**config["contexts"][0]["context"], "namespace": "team"}})
    file = remote.folder / "two.yaml"
    file.write_text(to_yaml(config))
    remote("apply", "-f", "agent.yaml", "-n", "team")
    prod = Shell(remote.folder, "--kubeconfig", str(file), "--context", "prod")
    assert prod("get", "agents", "-o", "jsonpath={.items[*].metadata.namespace}").strip() == "team"
    absent = Shell(remote.folder, "--kubeconfig", str(file), "--context", "test").run("get", "agents")
    assert (absent.returncode, 'no context "test"' in absent.stderr) == (2, True)


def test_in_the_project_of_a_server_writes_go_to_the_server(server: Server) -> None:
    here = Shell(server.folder)
    here("apply", "-f", "agent.yaml", "--force-conflicts")
    assert "labeled" in here("label", "agents", "helper", "team=b")
    assert here("run", "agent/helper", "-q", "--input", "hi") == "Yes.\n"


@pytest.mark.parametrize("verb", ["watch", "serve", "doctor", "backup", "restore"])
def test_what_works_on_this_machine_only_says_so(verb: str, remote: Shell) -> None:
    done = remote.run(verb)
    assert done.returncode == 2
    assert f"'kastra {verb}' works on this machine only" in done.stderr


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("ca", "is not trusted"),
        ("token", "Unauthorized"),
        ("port", "can't reach"),
        ("proxy", "proxy-url"),
    ],
)
def test_what_is_wrong_with_a_kubeconfig_is_said(change: str, complaint: str, remote: Shell, server: Server) -> None:
    config = decode_one(server.kubeconfig.read_bytes())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    if change == "ca":
        del cluster["certificate-authority-data"]
    elif change == "token":
        user["token"] = "wrong"
    elif change == "port":
        cluster["server"] = "https://127.0.0.1:1"
    else:
        cluster["proxy-url"] = "http://127.0.0.1:1"
    file = remote.folder / f"{change}.yaml"
    file.write_text(to_yaml(config))
    done = Shell(remote.folder, "--kubeconfig", str(file)).run("get", "agents")
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "defect" not in done.stderr


async def test_the_python_api_is_the_same(remote: Shell, server: Server) -> None:
    async with kastra.connect(kubeconfig=server.kubeconfig, remember=False) as k:
        report = await k.apply(remote.folder / "agent.yaml", force=True)
        assert report.ok
        assert await k.settle(20)
        assert (await k.run("agent/helper", input="hi")).output == "Yes."
        async with k.watch("agents", "default") as events:
            async for event in events:
                assert event.type == "ADDED"
                break


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Server]:
    running = start_server(tmp_path, real=True)
    yield running
    if running.process.poll() is None:
        stop_server(running)
    assert running.process.stdout is not None
    running.process.stdout.close()


def test_a_server_that_goes_ends_a_watch_with_a_reason(doomed: Server, tmp_path: Path) -> None:
    shell = Shell(tmp_path / "shell", "--kubeconfig", str(doomed.kubeconfig))
    with subprocess.Popen(
        [warm.kastra(), *shell.flags, "get", "namespaces", "-w"],
        cwd=shell.folder, env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        doomed.process.send_signal(signal.SIGKILL)
        doomed.process.wait(10)
        assert "can't reach" in process.stderr.read()
        assert process.wait(30) == 1
