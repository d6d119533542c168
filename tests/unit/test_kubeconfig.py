"""kubeconfig files are read as kubectl reads them; what can't be used is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from kastra.client.credentials import Credentials
from kastra.client.kubeconfig import Cluster, KubeconfigError, default_paths, in_cluster, load_cluster


def config(
    cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, current: str = "one", **more: Any
) -> dict[str, Any]:
    return {
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://h:1", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u", **more}}],
        "current-context": current,
    }


def load(tmp_path: Path, content: Any, context: str = "") -> Cluster:
    file = tmp_path / "config"
    file.write_text(json.dumps(content))
    return load_cluster(file, context, decode=json.loads)


def test_the_first_file_to_name_something_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text(json.dumps(config(current="")))
    other = config({"server": "https://other:2"}, namespace="team")
    other["contexts"].append({"name": "two", "context": {"cluster": "c", "user": "u", "namespace": "two"}})
    second.write_text(json.dumps(other))
    environment = {"KUBECONFIG": f"{first}:{tmp_path / 'absent'}:{second}"}
    found = load_cluster(decode=json.loads, environment=environment)
    assert (found.server, found.namespace, found.context) == ("https://h:1", "default", "one")
    assert load_cluster(context="two", decode=json.loads, environment=environment).namespace == "two"
    assert default_paths({}) == [Path("~/.kube/config").expanduser()]


def test_files_are_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"PEM")
    (tmp_path / "token").write_text("secret\n")
    found = load(tmp_path, config({"certificate-authority": "ca.pem"}, {"tokenFile": "token"}))
    assert (found.authority, found.token_file) == (b"PEM", tmp_path / "token")


@pytest.mark.parametrize(
    ("cluster", "user", "complaint"),
    [
        ({"proxy-url": "http://p"}, {}, "proxy-url"),
        ({"server": "h:1"}, {}, "is no server's URL"),
        ({"certificate-authority-data": "?"}, {}, "is no base64"),
        ({"certificate-authority": "absent"}, {}, "No such file"),
        ({"certificate-authority-data": "UEVN", "insecure-skip-tls-verify": True}, {}, "contradict"),
        ({}, {"auth-provider": {"name": "x"}}, "auth-provider"),
        ({}, {"client-certificate-data": "UEVN"}, "go together"),
    ],
    ids=["proxy", "url", "base64", "file", "insecure", "provider", "key"],
)
def test_what_can_not_be_used_is_named(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(KubeconfigError, match=complaint):
        load(tmp_path, config(cluster, user))


def test_missing_files_contexts_and_users_are_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="there is no such kubeconfig"):
        load_cluster(tmp_path / "absent", decode=json.loads)
    with pytest.raises(KubeconfigError, match='no context "x"; there are: one'):
        load(tmp_path, config(), "x")
    with pytest.raises(KubeconfigError, match="no current-context"):
        load(tmp_path, config(current=""))
    (tmp_path / "broken").write_text("{")
    with pytest.raises(KubeconfigError, match="broken: is no YAML"):
        load_cluster(tmp_path / "broken", decode=json.loads)


def test_a_url_alone_sends_no_credentials() -> None:
    assert load_cluster(server="http://127.0.0.1:8080/", decode=json.loads) == Cluster("http://127.0.0.1:8080")


def test_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    for name, text in (("token", "t"), ("ca.crt", "PEM"), ("namespace", "team")):
        (tmp_path / name).write_text(text)
    found = in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    assert found is not None
    assert (found.server, found.namespace, found.authority) == ("https://10.0.0.1:443", "team", b"PEM")


async def test_a_plugin_gives_a_token(tmp_path: Path) -> None:
    made = {"kind": "ExecCredential", "status": {"token": "fresh"}}
    entry = {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [json.dumps(made)]}
    assert await Credentials(Cluster("https://h", exec=entry)).header() == "Bearer fresh"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"command": "no-such-command-here"}, "there is no such command"),
        ({"command": "false"}, "failed with exit code 1"),
        ({"command": "true"}, "printed no ExecCredential"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "not supported"),
    ],
    ids=["absent", "fails", "silent", "version"],
)
async def test_a_plugin_that_fails_is_named(change: dict[str, Any], complaint: str) -> None:
    entry = {"apiVersion": "client.authentication.k8s.io/v1", "command": "true", **change}
    with pytest.raises(KubeconfigError, match=complaint):
        await Credentials(Cluster("https://h", exec=entry)).header()


def test_credentials_are_not_shown() -> None:
    assert "hidden" not in repr(Cluster("https://h", token="hidden", key=b"hidden"))
