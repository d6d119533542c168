"""One controller file, the Glossary of the documentation, inside `kastra serve`, beside it, and as a restricted ServiceAccount."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from kastra.manifest.decode import decode
from tests.docs.pages import ROOT, blocks_of, commands, matches, normalised
from tests.support import warm

from .conftest import Kubectl, Server, start_server, stop_server
from .test_python_operators import until

pytestmark = [
    pytest.mark.usefixtures("rubbish"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
PLACE = ("example.com", "v1", "default", "glossaries")
TAKEOVER = 40.0
"""Seconds in which a Lease runs out and another process has taken it."""
FINALIZER = """

@reconcile.finalizer(timeout=30)
async def close(glossary: Glossary, ctx: Context) -> None:
    from pathlib import Path

    Path("closed").write_text(glossary.metadata.name)
"""


def page_file(name: str, page: str = "extending.md") -> str:
    return next(block.text for block in blocks_of(ROOT / "docs" / page) if block.option("file") == name)


def documents(text: str) -> list[Any]:
    return [document.value for document in decode(text.encode())]


def project(folder: Path) -> Path:
    """The page's project, with a child per term and something to clean up."""
    code = page_file("controllers/glossary.py")
    code = code.replace(
        "    await ctx.apply(explain_tool(glossary))\n",
        "    for term in glossary.spec.terms:\n"
        "        tool = explain_tool(glossary)\n"
        '        tool["metadata"]["name"] = f"{glossary.metadata.name}-{term}"\n'
        "        await ctx.apply(tool)\n",
    )
    assert "for term in" in code
    (folder / "controllers").mkdir(exist_ok=True)
    (folder / "controllers" / "glossary.py").write_text(code + FINALIZER)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A `kastra controllers` of one's own; `real`, so that it can be frozen, or one that begins at once."""

    def __init__(
        self, folder: Path, kubeconfig: Path, *options: str, name: str = "controllers", real: bool = False
    ) -> None:
        self.log = folder / f"{name}.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "PYTEST_"))}
        program = [sys.executable, "-m", "kastra.cli.main"] if real else [warm.kastra()]
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                [*program, "controllers", "--kubeconfig", str(kubeconfig), *options],
                cwd=folder, env=kept, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self.log.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)


@pytest.fixture
def started() -> Iterator[list[Running]]:
    """Put what was started here; it is killed at the end, whatever comes."""
    running: list[Running] = []
    yield running
    for one in running:
        if one.process.poll() is None:
            one.kill()


class World:
    """A server that can be stopped and started again, and its objects."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = project(folder), ("--listen", f"127.0.0.1:{free_port()}", *options)
        self.server = start_server(folder, *self.options)
        self._clients: list[client.ApiClient] = []

    @property
    def api(self) -> client.ApiClient:
        self._clients.append(config.new_client_from_config(str(self.server.kubeconfig)))
        return self._clients[-1]

    def restart(self) -> None:
        assert stop_server(self.server) == 0
        self.server = start_server(self.folder, *self.options)

    def close(self) -> None:
        for made in self._clients:
            made.rest_client.pool_manager.clear()
        stop_server(self.server)

    def define(self) -> None:
        [definition] = documents(page_file("crds/glossaries.yaml"))
        client.ApiextensionsV1Api(self.api).create_custom_resource_definition(definition)
        until(lambda: self.lists())

    def shorten_lease(self) -> None:
        """The Lease of one that can't renew it runs out in a second instead of fifteen."""
        leases = client.CoordinationV1Api(self.api)
        leases.patch_namespaced_lease("kastra-controllers", "default", {"spec": {"leaseDurationSeconds": 1}})

    def lists(self) -> bool:
        try:
            client.CustomObjectsApi(self.api).list_namespaced_custom_object(*PLACE)
        except ApiException:
            return False
        return True

    def create(self, name: str = "coffee") -> None:
        body = {"apiVersion": "example.com/v1", "kind": "Glossary", "metadata": {"name": name}}
        terms = {"crema": "The foam.", "ristretto": "Half the water."}
        client.CustomObjectsApi(self.api).create_namespaced_custom_object(*PLACE, {**body, "spec": {"terms": terms}})

    def get(self, name: str = "coffee") -> dict[str, Any]:
        found: dict[str, Any] = client.CustomObjectsApi(self.api).get_namespaced_custom_object(*PLACE, name)
        return found

    def ready(self, name: str = "coffee") -> str:
        conditions = (self.get(name).get("status") or {}).get("conditions", [])
        return next((c.get("message", "") for c in conditions if c["type"] == "Ready" and c["status"] == "True"), "")

    def patch(self, terms: dict[str, str | None], name: str = "coffee") -> None:
        client.CustomObjectsApi(self.api).patch_namespaced_custom_object(*PLACE, name, {"spec": {"terms": terms}})

    def tools(self) -> list[str]:
        listed = client.CustomObjectsApi(self.api).list_namespaced_custom_object("mastra.ai", "v1", "default", "tools")
        return sorted(item["metadata"]["name"] for item in listed["items"])

    def delete(self, name: str = "coffee") -> None:
        client.CustomObjectsApi(self.api).delete_namespaced_custom_object(*PLACE, name)

    def gone(self) -> bool:
        return not client.CustomObjectsApi(self.api).list_namespaced_custom_object(*PLACE)["items"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(*options: str) -> World:
        made.append(World(tmp_path, *options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def life_of_a_glossary(world: World) -> None:
    """What a controller does for its kind, with a restart of the server in the middle."""
    world.create()
    until(lambda: world.ready() == "2 terms")
    assert world.tools() == ["coffee-crema", "coffee-ristretto"]
    assert world.get()["metadata"]["finalizers"] == ["example.com/glossary-finalizer"]
    world.restart()
    world.patch({"ristretto": None, "lungo": "Twice the water."})
    until(lambda: world.tools() == ["coffee-crema", "coffee-lungo"])
    client.CustomObjectsApi(world.api).delete_namespaced_custom_object(
        "mastra.ai", "v1", "default", "tools", "coffee-crema"
    )
    until(lambda: world.tools() == ["coffee-crema", "coffee-lungo"])
    world.delete()
    until(world.gone)
    assert (world.folder / "closed").read_text() == "coffee"
    until(lambda: not world.tools())


def test_inside_the_server(world: Callable[..., World]) -> None:
    here = world()
    here.define()
    life_of_a_glossary(here)


def test_beside_a_server_that_runs_the_built_in_controllers_only(
    world: Callable[..., World], started: list[Running]
) -> None:
    here = world("--controllers", "builtin")
    port = free_port()
    process = Running(here.folder, here.server.kubeconfig, "--metrics", f"127.0.0.1:{port}")
    started.append(process)
    until(lambda: "waiting for its CustomResourceDefinition" in process.said)
    here.define()
    life_of_a_glossary(here)
    until(lambda: "Glossary.example.com: all is well" in process.said)
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b'kastra_controller_reconcile_total{controller="glossary",outcome="success"}' in answer.read()
    assert process.stop() == 0
    assert process.said.rstrip().endswith("stopped")


def token_kubeconfig(world: World, name: str) -> Path:
    """A kubeconfig that holds nothing but the token of a ServiceAccount."""
    core = client.CoreV1Api(world.api)
    token = core.create_namespaced_service_account_token(
        name, "default", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    )
    [kubeconfig] = documents(world.server.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"token": token.status.token}
    file = world.folder / "restricted.kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig))
    return file


def grant(world: World, kinds: tuple[str, ...]) -> None:
    rbac = client.RbacAuthorizationV1Api(world.api)
    for body in documents(page_file("rbac.yaml", "controllers.md")):
        if body["kind"] not in kinds:
            continue
        match body["kind"]:
            case "ServiceAccount":
                client.CoreV1Api(world.api).create_namespaced_service_account("default", body)
            case "ClusterRole":
                # The finalizer of this test is more than the page's controller has.
                for rule in body["rules"]:
                    if rule["resources"] == ["glossaries"]:
                        rule["verbs"].append("patch")
                rbac.create_cluster_role(body)
            case "ClusterRoleBinding":
                rbac.create_cluster_role_binding(body)
            case "Role":
                rbac.create_namespaced_role("default", body)
            case "RoleBinding":
                rbac.create_namespaced_role_binding("default", body)


def test_as_a_service_account_with_the_permissions_of_the_page_and_no_others(
    world: Callable[..., World], started: list[Running]
) -> None:
    here = world("--controllers", "builtin")
    here.define()
    grant(here, ("ServiceAccount", "Role", "RoleBinding"))
    process = Running(here.folder, token_kubeconfig(here, "glossary"))
    started.append(process)
    until(
        lambda: "not allowed; a role needs the rule {apiGroups: [example.com], resources: [glossaries]" in process.said
    )
    assert "cannot list resource" in process.said
    assert "leases" not in process.said
    grant(here, ("ClusterRole", "ClusterRoleBinding"))
    until(lambda: "everything that was not allowed is now" in process.said, 30)
    life_of_a_glossary(here)
    assert "forbidden" not in process.said.partition("running glossary")[2]
    assert process.stop() == 0


def test_the_role_that_the_command_prints_is_that_of_the_page(world: Callable[..., World], tmp_path: Path) -> None:
    here = world("--controllers", "builtin")
    here.define()
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "glossary.py").write_text(page_file("controllers/glossary.py"))
    done = subprocess.run(
        [warm.kastra(), "controllers", "plain", "--role", "--kubeconfig", str(here.server.kubeconfig)],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = [body["rules"] for body in documents(page_file("rbac.yaml", "controllers.md")) if "rules" in body]
    assert [body["rules"] for body in documents(done.stdout)] == shown


@pytest.mark.timeout(150)
def test_of_two_processes_one_leads_and_the_other_takes_over_when_it_stops_answering(
    world: Callable[..., World], started: list[Running]
) -> None:
    here = world("--controllers", "builtin")
    here.define()
    started += [Running(here.folder, here.server.kubeconfig, name="first", real=True)]
    until(lambda: "running glossary" in started[0].said)
    started += [Running(here.folder, here.server.kubeconfig, name="second")]
    until(lambda: "waiting to lead: Lease default/kastra-controllers is held by" in started[1].said)
    here.create()
    until(lambda: here.ready() == "2 terms")
    assert "running" not in started[1].said
    # Frozen is as good as killed to the others, and can find out afterwards that it lost the Lease.
    started[0].process.send_signal(signal.SIGSTOP)
    here.patch({"lungo": "Twice the water."})
    here.shorten_lease()
    until(lambda: here.ready() == "3 terms", TAKEOVER)
    assert "running glossary" in started[1].said
    started[0].process.send_signal(signal.SIGCONT)
    until(lambda: "another process may be leading; standing for election again" in started[0].said)
    until(lambda: "waiting to lead" in started[0].said)
    assert [one.process.poll() for one in started] == [None, None]
    # One that stops in peace gives the Lease up, so the next needn't wait for it to run out.
    led = started[0].said.count("running glossary")
    assert started[1].stop() == 0
    until(lambda: started[0].said.count("running glossary") > led, 14)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("certificate-authority-data: .*", ""), "is not trusted: its certificate is refused"),
        (("token: .*", "token: wrong"), "Unauthorized"),
    ],
    ids=["authority", "token"],
)
def test_credentials_that_are_wrong_end_the_process_with_a_reason(
    server: Server, tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    file = project(tmp_path) / "wrong.kubeconfig"
    text = server.kubeconfig.read_text()
    assert re.search(change[0], text), text
    file.write_text(re.sub(change[0], change[1], text))
    process = Running(tmp_path, file)
    assert process.process.wait(20) == 1
    assert complaint in process.said


def test_a_server_that_is_not_there_yet_is_waited_for(tmp_path: Path, started: list[Running]) -> None:
    here = World(tmp_path, "--controllers", "builtin")
    try:
        here.define()
        assert stop_server(here.server) == 0
        started.append(process := Running(here.folder, here.server.kubeconfig))
        until(lambda: "trying again" in process.said)
        here.server = start_server(here.folder, *here.options)
        until(lambda: "running glossary" in process.said)
    finally:
        here.close()


def test_without_any_controllers_it_is_an_api_server_only(world: Callable[..., World]) -> None:
    here = world("--controllers", "none")
    here.define()
    here.create()
    assert "status" not in here.get()
    names = [found.name for found in client.CustomObjectsApi(here.api).get_api_resources("mastra.ai", "v1").resources]
    assert "runs" in names
    assert "runs/cancel" not in names


def test_a_service_of_the_server_is_refused_by_its_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "controllers").mkdir()
    (tmp_path / "controllers" / "counts.py").write_text(
        "from kastra.engine.pool import Pool\n\n\ndef setup(manager):\n    manager.service(Pool)\n"
    )
    process = Running(tmp_path, server.kubeconfig)
    assert process.process.wait(20) == 1
    assert (
        "counts.py:5: no service kastra.engine.pool.Pool is registered: only the process of 'kastra serve'"
        in process.said
    )


def test_a_parameter_that_only_the_server_can_provide_is_refused_by_its_name(server: Server, tmp_path: Path) -> None:
    code = page_file("controllers/glossary.py").replace("ctx: Context)", "ctx: Context, pool: Pool)")
    (tmp_path / "controllers").mkdir()
    (tmp_path / "controllers" / "glossary.py").write_text(
        code.replace("from typing import Any\n", "from typing import Any\n\nfrom kastra.engine.pool import Pool\n")
    )
    process = Running(tmp_path, server.kubeconfig)
    assert process.process.wait(20) == 1
    assert "parameter 'pool' of controller 'glossary' can't be provided (Pool)" in process.said
    assert "defect" not in process.said


def test_a_controller_that_is_not_there_is_refused_with_those_that_are(server: Server, tmp_path: Path) -> None:
    process = Running(project(tmp_path), server.kubeconfig, "--controller", "glosary")
    assert process.process.wait(20) == 1
    assert "--controller glosary: there is none of that name; there are glossary" in process.said


def test_the_transcript_on_the_page_is_what_happens(newest: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    here = World(tmp_path / "server", "--controllers", "builtin")
    groups: list[int] = []
    home = newest.home / "project"
    home.mkdir()
    for name in ("crds/glossaries.yaml", "controllers/glossary.py", "manifests/coffee.yaml"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(page_file(name))
    environment = {
        **newest.environment,
        "KUBECONFIG": str(here.server.kubeconfig),
        "PATH": os.pathsep.join((str(newest.home / "bin"), str(warm.programs()), os.environ["PATH"])),
        "KASTRA_DATA": str(here.server.folder / ".kastra"),
    }
    try:
        for block in blocks_of(ROOT / "docs" / "controllers.md"):
            if name := block.option("file"):
                (home / name).write_text(block.text)
            for command, expected in commands(block.text) if "transcript" in block.words else ():
                with subprocess.Popen(
                    ["/bin/sh", "-c", command], cwd=home, env=environment, stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                ) as process:  # fmt: skip
                    groups.append(process.pid)
                    output, _ = process.communicate(timeout=40)
                assert matches(expected, output), f"$ {command}\n--- shown\n{normalised(expected)}\n--- is\n{output}"
        assert len(groups) >= 5
    finally:
        for group in groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue
        here.close()
