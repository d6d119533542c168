"""Who may do what, as kubectl and `kastra auth` see it: roles, tokens, impersonation, and every way to more than one has."""

import http.client
import json
import os
import ssl
import subprocess

import pytest

from tests.support import warm

from .conftest import KUBECTLS, Kubectl, Server, thorough, versions

CONFIGMAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: menu}\ndata: {monday: soup}\n"


ONE = versions([*KUBECTLS][-1:])
"""The newest kubectl: the others ask the same questions."""

newest_only = pytest.mark.parametrize("kubectl", ONE, indirect=True)


def kastra(server: Server, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "KUBECONFIG"))}
    return subprocess.run(
        [warm.kastra(), "--data", str(server.folder / ".kastra"), *arguments],
        cwd=server.folder, env=kept, input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


class Person:
    """A user with a kubeconfig of their own."""

    def __init__(self, kubectl: Kubectl, name: str, *groups: str) -> None:
        self.kubectl = kubectl
        self.file = kubectl.home / f"{name}.kubeconfig"
        options = [option for group in groups for option in ("--group", group)]
        made = kastra(kubectl.server, "users", "add", name, "--kubeconfig", str(self.file), *options)
        assert made.returncode == 0, made.stderr
        assert self.file.stat().st_mode & 0o777 == 0o600

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self.kubectl.run("--kubeconfig", str(self.file), *arguments, stdin=stdin)

    def can(self, *arguments: str) -> bool:
        answer = self.run("auth", "can-i", *arguments)
        assert answer.stdout.strip() in ("yes", "no"), answer
        return answer.stdout.strip() == "yes"


@pytest.mark.parametrize("kubectl", thorough(), indirect=True)
def test_a_user_may_do_what_a_role_binding_gives_them_and_nothing_else(kubectl: Kubectl) -> None:
    ada = Person(kubectl, "ada")
    refused = ada.run("get", "configmaps")
    assert refused.returncode == 1
    assert refused.stderr == (
        'Error from server (Forbidden): configmaps is forbidden: User "ada" cannot list resource "configmaps" in API '
        f'group "" in the namespace "{kubectl.namespace}"\n'
    )
    assert not ada.can("list", "configmaps")
    kubectl("create", "rolebinding", "ada-sees", "--clusterrole=view", "--user=ada")
    kubectl("apply", "-f", "-", stdin=CONFIGMAP)
    assert "menu" in ada.run("get", "configmaps").stdout
    assert ada.can("list", "configmaps")
    assert ada.can("watch", "agents.mastra.ai")
    assert not ada.can("get", "secrets")
    assert not ada.can("create", "runs.mastra.ai")
    assert not ada.can("list", "configmaps", "-n", "kube-system")
    assert "cannot delete" in ada.run("delete", "configmap", "menu").stderr
    kubectl("delete", "rolebinding", "ada-sees")
    assert not ada.can("list", "configmaps")


@newest_only
def test_a_role_of_ones_own_can_name_verbs_objects_and_subresources(kubectl: Kubectl) -> None:
    bob = Person(kubectl, "bob", "cooks")
    kubectl("create", "role", "menu-only", "--verb=get,patch", "--resource=configmaps", "--resource-name=menu")
    kubectl("create", "rolebinding", "cooks", "--role=menu-only", "--group=cooks")
    kubectl("apply", "-f", "-", stdin=CONFIGMAP)
    assert bob.run("get", "configmap", "menu", "-o", "jsonpath={.data.monday}").stdout == "soup"
    assert bob.can("patch", "configmaps/menu")
    assert not bob.can("get", "configmaps/other")
    assert not bob.can("list", "configmaps")


@newest_only
def test_who_am_i(kubectl: Kubectl) -> None:
    eve = Person(kubectl, "eve", "team-a")
    told = json.loads(eve.run("auth", "whoami", "-o", "json").stdout)["status"]["userInfo"]
    assert (told["username"], told["groups"]) == ("eve", ["team-a", "system:authenticated"])


@newest_only
def test_rules_can_be_listed(kubectl: Kubectl) -> None:
    fay = Person(kubectl, "fay")
    listed = fay.run("auth", "can-i", "--list").stdout
    assert "selfsubjectaccessreviews.authorization.k8s.io" in listed
    assert "/openapi/*" in listed
    assert "*.*" not in listed
    assert "*.*" in kubectl("auth", "can-i", "--list")


@newest_only
def test_nobody_can_give_what_they_do_not_have(kubectl: Kubectl) -> None:
    gil = Person(kubectl, "gil")
    kubectl("create", "role", "roles", "--verb=get,list,create,update,patch,delete", "--resource=roles,rolebindings")
    kubectl("create", "rolebinding", "gil", "--role=roles", "--user=gil")
    for arguments in (
        ("create", "role", "more", "--verb=get", "--resource=secrets"),
        ("create", "rolebinding", "more", "--clusterrole=admin", "--user=gil"),
        ("create", "rolebinding", "more", "--clusterrole=cluster-admin", "--user=gil"),
    ):
        refused = gil.run(*arguments)
        assert refused.returncode == 1
        assert "is attempting to grant RBAC permissions not currently held" in refused.stderr
    # What one has, one may give; and with the verbs for it, more.
    assert gil.run("create", "role", "same", "--verb=get", "--resource=roles").returncode == 0
    kubectl("create", "role", "binder", "--verb=bind", "--resource=clusterroles", "--resource-name=view")
    kubectl("create", "clusterrole", f"bind-{kubectl.namespace}", "--verb=bind", "--resource=clusterroles")
    kubectl("create", "rolebinding", "binds", f"--clusterrole=bind-{kubectl.namespace}", "--user=gil")
    assert gil.run("create", "rolebinding", "now", "--clusterrole=view", "--user=gil").returncode == 0


@newest_only
def test_acting_as_somebody_else_takes_a_permission(kubectl: Kubectl) -> None:
    hal = Person(kubectl, "hal")
    hal.run("get", "cm")  # kubectl shows the reason of a refusal only where discovery is cached
    assert 'cannot impersonate resource "users"' in hal.run("get", "cm", "--as=eve").stderr
    kubectl.cluster("create", "clusterrole", "be-hal", "--verb=impersonate", "--resource=users", "--resource-name=hal")
    kubectl.cluster("create", "clusterrolebinding", "be-hal", "--clusterrole=be-hal", "--user=hal")
    assert 'cannot list resource "configmaps"' in hal.run("get", "cm", "--as=hal").stderr
    refused = hal.run("get", "cm", "--as=hal", "--as-group=system:masters").stderr
    assert 'cannot impersonate resource "groups"' in refused
    kubectl("create", "rolebinding", "jo", "--clusterrole=view", "--user=jo")
    assert kubectl("auth", "can-i", "list", "cm", "--as=jo") == "yes\n"
    assert "no" in kubectl.run("auth", "can-i", "delete", "cm", "--as=jo").stdout
    told = json.loads(kubectl("auth", "whoami", "-o", "json", "--as=jo", "--as-group=a", "--as-group=b"))
    assert told["status"]["userInfo"]["groups"] == ["a", "b", "system:authenticated"]


@newest_only
def test_a_service_account_has_short_lived_tokens_that_end_with_it(kubectl: Kubectl) -> None:
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "rolebinding", "robot", "--clusterrole=view", f"--serviceaccount={kubectl.namespace}:robot")
    token = kubectl("create", "token", "robot", "--duration=10m").strip()
    port, context = endpoint(kubectl.server)
    path = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    assert get(port, context, path, token) == 200
    assert get(port, context, path.replace("configmaps", "secrets"), token) == 403
    assert get(port, context, path, token[:-4] + "AAAA") == 401
    assert "10 minutes" in kubectl.fails("create", "token", "robot", "--duration=1m")
    kubectl("delete", "serviceaccount", "robot")
    kubectl("create", "serviceaccount", "robot")
    assert get(port, context, path, token) == 401, "the new account of the same name is another one"


@newest_only
def test_every_namespace_has_a_default_service_account(kubectl: Kubectl) -> None:
    kubectl("wait", "--for=jsonpath={.metadata.name}=default", "serviceaccount/default", "--timeout=10s")


@newest_only
def test_every_route_needs_a_token_except_health_and_version(kubectl: Kubectl) -> None:
    port, context = endpoint(kubectl.server)
    paths = json.loads(kubectl("get", "--raw", "/"))["paths"]
    assert len(paths) > 10
    for path in paths:
        expected = 200 if path in ("/healthz", "/livez", "/readyz", "/version") else 401
        for token in ("", "wrong", "a.b.c"):
            assert get(port, context, path, token) == expected, path


@newest_only
def test_discovery_is_for_everybody_known_and_metrics_are_not(kubectl: Kubectl) -> None:
    ivy = Person(kubectl, "ivy")
    assert "agents" in ivy.run("api-resources").stdout
    assert 'cannot get path "/metrics"' in ivy.run("get", "--raw", "/metrics").stderr
    assert "kastra_apiserver_requests_total" in kubectl("get", "--raw", "/metrics")


@newest_only
def test_a_role_of_a_custom_kind_becomes_part_of_view_by_its_label(kubectl: Kubectl) -> None:
    kim = Person(kubectl, "kim")
    kubectl("create", "rolebinding", "kim", "--clusterrole=view", "--user=kim")
    name = f"widgets-{kubectl.namespace}"
    kubectl("create", "clusterrole", name, "--verb=get,list", "--resource=leases.coordination.k8s.io")
    assert not kim.can("list", "leases.coordination.k8s.io")
    kubectl("label", "clusterrole", name, "rbac.authorization.k8s.io/aggregate-to-view=true")
    for _ in range(50):
        if kim.can("list", "leases.coordination.k8s.io"):
            break
    assert kim.can("list", "leases.coordination.k8s.io")
    kubectl.cluster("delete", "clusterrole", name)


@newest_only
def test_audit_names_who_was_refused(kubectl: Kubectl) -> None:
    lea = Person(kubectl, "lea")
    before = kubectl.server.position
    lea.run("get", "secrets")
    entries = [entry for entry in kubectl.server.audit(before) if entry["user"] == "lea" and entry["code"] == 403]
    assert entries
    assert entries[-1]["verb"] == "list"
    kubectl.run("get", "cm", "--as=lea")
    assert [entry for entry in kubectl.server.audit(before) if entry.get("impersonator") == "kastra-admin"]


@newest_only
def test_kastra_auth_asks_the_server(kubectl: Kubectl) -> None:
    server = kubectl.server
    who = kastra(server, "auth", "whoami")
    assert who.returncode == 0, who.stderr
    assert "kastra-admin" in who.stdout
    assert kastra(server, "auth", "can-i", "delete", "agents").stdout == "yes\n"
    moe = Person(kubectl, "moe")
    asked = kastra(server, "--kubeconfig", str(moe.file), "auth", "can-i", "delete", "agents")
    assert (asked.returncode, asked.stdout) == (1, "no\n")
    assert "moe" in kastra(server, "users", "list").stdout
    token = kastra(server, "auth", "token", "default", "-n", kubectl.namespace, "--duration", "10m")
    assert token.returncode == 0, token.stderr
    port, context = endpoint(server)
    assert get(port, context, "/api", token.stdout.strip()) == 200
    assert kastra(server, "users", "remove", "moe").stdout == "user/moe removed\n"


def endpoint(server: Server) -> tuple[int, ssl.SSLContext]:
    context = ssl.create_default_context(cafile=str(server.folder / ".kastra" / "tls" / "ca.crt"))
    text = server.kubeconfig.read_text()
    port = int(text.partition("https://127.0.0.1:")[2].split()[0])
    return port, context


def get(port: int, context: ssl.SSLContext, path: str, token: str) -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status
    finally:
        connection.close()


NAP = """\
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: nap}
spec: {steps: [{id: nap, sleep: 1h}]}
---
apiVersion: mastra.ai/v1
kind: Run
metadata: {name: long}
spec: {target: {kind: Workflow, name: nap}}
"""


@newest_only
def test_a_run_is_read_and_ended_through_what_hangs_below_it_with_permissions_of_their_own(kubectl: Kubectl) -> None:
    nia = Person(kubectl, "nia")
    kubectl("apply", "-f", "-", stdin=NAP)
    kubectl("wait", "run/long", "--for=jsonpath={.status.phase}=Waiting", "--timeout=10s")
    path = f"/apis/mastra.ai/v1/namespaces/{kubectl.namespace}/runs/long"
    [step] = kubectl("get", "--raw", f"{path}/steps").splitlines()
    assert json.loads(step)["phase"] == "Waiting"
    as_nia = ("--kubeconfig", str(nia.file))
    refused = kastra(kubectl.server, *as_nia, "cancel", "run/long", "-n", kubectl.namespace)
    assert "forbidden" in refused.stderr
    kubectl("create", "role", "ender", "--verb=get,list,create", "--resource=runs.mastra.ai,runs.mastra.ai/cancel")
    kubectl("create", "rolebinding", "nia-ends", "--role=ender", "--user=nia")
    ended = kastra(kubectl.server, *as_nia, "cancel", "run/long", "-n", kubectl.namespace)
    assert (ended.returncode, ended.stdout) == (0, "run/long cancelled\n"), ended.stderr
    kubectl("wait", "run/long", "--for=jsonpath={.status.phase}=Cancelled", "--timeout=10s")
    assert kubectl("get", "--raw", f"{path}/log?follow=false").splitlines()[-1].endswith("run cancelled")
    assert "cannot patch" in nia.run("patch", "run", "long", "--type=merge", "-p", "{}").stderr
