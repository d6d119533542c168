"""kubectl, unchanged, over TLS with a token: what it prints is what it prints against a cluster, without a warning."""

import http.client
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from kastra.app.certificates import certificates
from kastra.clock import SystemClock
from tests.docs.pages import ROOT, blocks_of, commands, matches, normalised
from tests.support import warm

from .conftest import KUBECTLS, Kubectl, Server, start_server, stop_server, thorough, versions

AGENT = """\
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: cook, labels: {team: food}}
spec:
  description: Cooks.
  instructions: You cook.
---
apiVersion: v1
kind: ConfigMap
metadata: {name: menu}
data: {monday: soup}
"""

WIDGETS = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.NAME.example.com}
spec:
  group: NAME.example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What it should be.
            required: [size]
            properties:
              size: {type: integer, minimum: 1, description: How large it is.}
              replicas: {type: integer, default: 1}
          status: {type: object, properties: {phase: {type: string}, replicas: {type: integer}}}
"""


def widget(kubectl: Kubectl, name: str, spec: str = "{size: 3}") -> str:
    return f"apiVersion: {kubectl.namespace}.example.com/v1\nkind: Widget\nmetadata: {{name: {name}}}\nspec: {spec}\n"


@pytest.mark.parametrize("kubectl", versions(), indirect=True)
def test_every_version_creates_applies_reads_and_deletes(kubectl: Kubectl) -> None:
    version = json.loads(kubectl("version", "--client", "-o", "json"))["clientVersion"]
    assert f"kubectl.{version['major']}.{version['minor']}" in str(kubectl.binary)
    assert kubectl("apply", "-f", "-", stdin=AGENT).splitlines() == [
        "agent.mastra.ai/cook created",
        "configmap/menu created",
    ]
    before = kubectl.server.position
    assert kubectl("apply", "-f", "-", stdin=AGENT).splitlines() == [
        "agent.mastra.ai/cook unchanged",
        "configmap/menu unchanged",
    ]
    served = kubectl.server.audit(before)
    assert {entry["verb"] for entry in served} == {"get"}, "an apply without changes only reads"
    assert max(int(str(entry["code"])) for entry in kubectl.server.audit()) < 500
    assert kubectl("create", "configmap", "other", "--from-literal=a=b") == "configmap/other created\n"
    assert kubectl("create", "secret", "generic", "key", "--from-literal=a=b") == "secret/key created\n"
    assert kubectl("get", "agents", "--no-headers").split()[0] == "cook"
    assert kubectl("get", "cm", "menu", "-o", "jsonpath={.data.monday}") == "soup"
    assert kubectl("patch", "cm", "menu", "-p", '{"data":{"friday":"fish"}}') == "configmap/menu patched\n"
    assert kubectl("delete", "agent", "cook").startswith('agent.mastra.ai "cook" deleted')
    assert "NotFound" in kubectl.fails("get", "agent", "cook")


@pytest.mark.parametrize("kubectl", thorough(), indirect=True)
def test_a_custom_kind_through_every_verb(kubectl: Kubectl) -> None:
    wd = f"wd{kubectl.namespace[-2:]}"  # a short name of its own, since the other versions' kinds may be there
    definition = WIDGETS.replace("NAME", kubectl.namespace).replace("[wd]", f"[{wd}]")
    group = f"{kubectl.namespace}.example.com"
    kubectl("create", "-f", "-", stdin=definition)
    assert "condition met" in kubectl("wait", "--for=condition=Established", f"crd/widgets.{group}", "--timeout=10s")
    assert kubectl("apply", "-f", "-", stdin=widget(kubectl, "a")) == f"widget.{group}/a created\n"
    assert kubectl("label", wd, "a", "color=red") == f"widget.{group}/a labeled\n"
    # Older versions of kubectl say `annotate`.
    assert kubectl("annotate", wd, "a", "note=hello").startswith(f"widget.{group}/a annotate")
    assert kubectl("patch", wd, "a", "--type=merge", "-p", '{"spec":{"size":9}}') == f"widget.{group}/a patched\n"
    operation = '[{"op":"replace","path":"/spec/size","value":8}]'
    assert kubectl("patch", wd, "a", "--type=json", "-p", operation) == f"widget.{group}/a patched\n"
    assert kubectl("scale", wd, "a", "--replicas=3") == f"widget.{group}/a scaled\n"
    assert kubectl("edit", wd, "a", env={"KUBE_EDITOR": "sed -i s/size:.8/size:\\ 7/"}) == f"widget.{group}/a edited\n"
    assert kubectl("get", wd, "-l", "color=red", "-o", "jsonpath={.items[*].spec}") == '{"replicas":3,"size":7}'
    assert kubectl("get", wd, "--no-headers").split() == ["a", "7"]
    difference = kubectl.run("diff", "-f", "-", stdin=widget(kubectl, "a"))
    assert (difference.returncode, difference.stderr) == (1, "")
    assert "-  size: 7\n+  size: 3" in difference.stdout
    if kubectl.minor >= 24:
        patch = '{"status":{"phase":"Ready"}}'
        kubectl("patch", wd, "a", "--subresource=status", "--type=merge", "-p", patch)
        kubectl("wait", wd, "a", "--for=jsonpath={.status.phase}=Ready", "--timeout=10s")
    assert kubectl("replace", "-f", "-", stdin=widget(kubectl, "a", "{size: 2}")) == f"widget.{group}/a replaced\n"
    refused = kubectl.fails("apply", "-f", "-", stdin=widget(kubectl, "a", "{size: 0, bogus: 1}"))
    # Before 1.27 kubectl checks by itself, by the OpenAPI v2 document.
    unknown = 'strict decoding error: unknown field "spec.bogus"' if kubectl.minor >= 27 else 'unknown field "bogus"'
    assert unknown in refused
    refused = kubectl.fails("apply", "-f", "-", stdin=widget(kubectl, "a", "{size: 0}"))
    assert "spec.size" in refused
    assert "size\t<integer> -required-" in kubectl("explain", f"{wd}.spec")
    assert "How large it is." in kubectl("explain", f"{wd}.spec.size")
    assert kubectl("delete", wd, "--all").startswith(f'widget.{group} "a" deleted')
    kubectl.cluster("delete", "crd", f"widgets.{group}")
    assert f"{group}/v1" not in kubectl("api-versions")


@pytest.mark.parametrize("kubectl", thorough(), indirect=True)
def test_server_side_apply_takes_one_request_once_everything_is_owned(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=AGENT)
    applied = kubectl("apply", "--server-side", "-f", "-", stdin=AGENT)
    assert applied.splitlines() == ["agent.mastra.ai/cook serverside-applied", "configmap/menu serverside-applied"]
    version = kubectl("get", "agent", "cook", "-o", "jsonpath={.metadata.resourceVersion}")
    before = kubectl.server.position
    kubectl("apply", "--server-side", "-f", "-", stdin=AGENT)
    assert [e["verb"] for e in kubectl.server.audit(before) if e["verb"] != "get"] == ["patch", "patch"]
    assert kubectl("get", "agent", "cook", "-o", "jsonpath={.metadata.resourceVersion}") == version
    other = AGENT.replace("You cook.", "You bake.")
    conflict = kubectl.fails("apply", "--server-side", "--field-manager=baker", "-f", "-", stdin=other)
    assert 'with "kubectl"' in conflict
    assert ".spec.instructions" in conflict
    kubectl("apply", "--server-side", "--field-manager=baker", "--force-conflicts", "-f", "-", stdin=other)
    assert kubectl("get", "agent", "cook", "-o", "jsonpath={.spec.instructions}") == "You bake."
    assert "unchanged" not in kubectl("apply", "-f", "-", "--dry-run=server", stdin=AGENT).splitlines()[0]


@pytest.mark.parametrize("kubectl", thorough(), indirect=True)
def test_a_watch_shows_what_happens_and_waiting_for_deletion_ends(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=AGENT)
    watch = kubectl.start("get", "cm", "-w", "--no-headers")
    waiting = kubectl.start("wait", "--for=delete", "cm/menu", "--timeout=20s")
    try:
        assert watch.stdout is not None
        assert watch.stdout.readline().split()[0] == "menu"
        kubectl("create", "configmap", "later", "--from-literal=a=b")
        assert watch.stdout.readline().split()[0] == "later"
        kubectl("delete", "cm", "menu")
        assert watch.stdout.readline().split()[0] == "menu"
        output, _ = waiting.communicate(timeout=20)
        assert (waiting.returncode, output) == (0, "configmap/menu condition met\n")
    finally:
        watch.kill()
        watch.communicate()
        waiting.kill()


@pytest.mark.parametrize("kubectl", thorough(), indirect=True)
def test_kinds_are_described_explained_and_listed(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=AGENT)
    described = kubectl("describe", "agent", "cook")
    assert "Instructions:  You cook." in described
    assert "soup" in kubectl("describe", "cm", "menu")
    assert "Active" in kubectl("describe", "ns", kubectl.namespace)
    assert "agents" in kubectl("api-resources", "--api-group=mastra.ai")
    assert "mastra.ai/v1" in kubectl("api-versions").splitlines()
    assert "KIND: Agent" in " ".join(kubectl("explain", "agent.spec").split())
    if kubectl.minor >= 26:
        kubectl("events")
    kubectl("get", "events")
    assert "The system prompt" in kubectl("explain", "agent.spec.instructions")
    item = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"of-a-list"}}'
    listed = kubectl("create", "-f", "-", stdin=f'{{"apiVersion":"v1","kind":"List","items":[{item}]}}')
    assert listed == "configmap/of-a-list created\n"


@pytest.mark.parametrize("kubectl", thorough(), indirect=True)
def test_builtin_kinds_are_made_by_their_generators(kubectl: Kubectl) -> None:
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "role", "reader", "--verb=get,list", "--resource=configmaps")
    kubectl("create", "rolebinding", "reads", "--role=reader", f"--serviceaccount={kubectl.namespace}:robot")
    kubectl("create", "clusterrole", kubectl.namespace, "--verb=get", "--resource=configmaps")
    kubectl("create", "clusterrolebinding", kubectl.namespace, f"--clusterrole={kubectl.namespace}", "--user=jo")
    assert kubectl("get", "role", "reader", "-o", "jsonpath={.rules[0].verbs}") == '["get","list"]'
    assert kubectl("get", "rolebinding", "reads", "--no-headers", "-o", "wide").split()[-1] == (
        f"{kubectl.namespace}/robot"
    )


@pytest.mark.parametrize("path", ["kubeconfig", "tokens.json", "kastra.db.sock.json", "tls/ca.key", "tls/server.key"])
def test_what_gives_access_is_readable_by_its_owner_only(server: Server, path: str) -> None:
    assert stat.S_IMODE((server.folder / ".kastra" / path).stat().st_mode) == 0o600


def test_the_token_is_nowhere_but_where_it_belongs(server: Server) -> None:
    token = server.kubeconfig.read_text().rpartition("token: ")[2].split()[0].strip('"')
    holding = [
        p.name for p in (server.folder / ".kastra").rglob("*") if p.is_file() and token.encode() in p.read_bytes()
    ]
    assert sorted(holding) == ["kastra.db.sock.json", "kubeconfig"]
    assert token not in server.log.read_text()
    assert token not in server.output


def test_a_token_stays_good_when_the_server_starts_again(tmp_path: Path) -> None:
    first = start_server(tmp_path)
    before = first.kubeconfig.read_text().rpartition("token:")[2]
    assert stop_server(first) == 0
    assert not (tmp_path / ".kastra" / "kastra.db.sock.json").exists()
    second = start_server(tmp_path)
    assert second.kubeconfig.read_text().rpartition("token:")[2] == before
    assert stop_server(second) == 0


def test_the_plain_listener_must_be_on_loopback(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="must be on loopback"):
        start_server(tmp_path, "--insecure-http", "0.0.0.0:0")


def test_the_plain_listener_serves_local_programs_and_no_browser(tmp_path: Path) -> None:
    server = start_server(tmp_path, "--insecure-http", "127.0.0.1:0")
    port = int(server.output.partition("serving http://127.0.0.1:")[2].split()[0])
    codes = []
    for headers in ({}, {"Origin": "https://example.com"}, {"Host": "example.com"}):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/apis/mastra.ai/v1/agents", headers=headers)
        codes.append(connection.getresponse().status)
        connection.close()
    assert codes == [200, 403, 403]
    assert stop_server(server) == 0


def test_what_is_no_address_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended with 2:.*--listen.*write HOST:PORT"):
        start_server(tmp_path, "--listen", "nonsense")


def test_an_address_in_use_is_refused_with_what_to_do(server: Server, tmp_path: Path) -> None:
    address = server.output.partition("https://")[2].split()[0]
    with pytest.raises(AssertionError, match=f"can't listen on {address}: .*choose another with --listen"):
        start_server(tmp_path, "--listen", address)


@pytest.mark.parametrize("page", ["kubectl.md", "access.md", "gitops.md", "admission.md"])
def test_the_transcript_in_the_documentation_is_what_happens(newest: Kubectl, page: str) -> None:
    environment = {
        **newest.environment,
        "PATH": os.pathsep.join((str(newest.home / "bin"), str(warm.programs()), os.environ["PATH"])),
        "KASTRA_DATA": str(newest.server.folder / ".kastra"),
    }
    for block in blocks_of(ROOT / "docs" / page):
        if name := block.option("file"):
            (newest.home / name).write_text(block.text)
        if "transcript" not in block.words:
            continue
        for command, expected in commands(block.text):
            done = subprocess.run(
                ["/bin/sh", "-c", command], cwd=newest.home, env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False,
            )  # fmt: skip
            assert matches(expected, done.stdout), (
                f"$ {command}\n--- shown\n{normalised(expected)}\n--- is\n{done.stdout}"
            )


def test_the_compatibility_table_names_every_version_that_is_run_here() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith("| kubectl ")]
    named = row.removeprefix("| kubectl ").partition(" |")[0].split(", ")
    assert [version for version in KUBECTLS if version not in named] == []


def test_a_certificate_of_ones_own_serves(tmp_path: Path) -> None:
    made = certificates(tmp_path / "made", "127.0.0.1", SystemClock())
    chain = tmp_path / "chain.crt"
    chain.write_bytes(made.certificate.read_bytes() + made.authority.read_bytes())
    server = start_server(tmp_path, "--tls-cert", str(chain), "--tls-key", str(made.key))
    try:
        if KUBECTLS:
            kubectl = Kubectl(list(KUBECTLS.values())[-1], tmp_path, server)
            assert kubectl("get", "--raw", "/readyz") == "ok"
        shown = subprocess.run(
            [warm.kastra(), "--kubeconfig", str(server.kubeconfig), "get", "namespaces"],
            cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert "default" in shown.stdout, shown.stderr
    finally:
        assert stop_server(server) == 0


@pytest.mark.parametrize("kubectl", versions(list(KUBECTLS)[-1:]), indirect=True)
def test_get_all_shows_our_kinds(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=AGENT)
    assert "agent.mastra.ai/cook" in kubectl("get", "all", "-o", "name").splitlines()
