"""Users of a server beside its own tokens: a login at an OpenID provider, and client certificates."""

import http.client
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kastra.app.certificates import certificates, client_certificate
from kastra.clock import SystemClock
from kastra.testing.clock import VirtualClock
from tests.support import warm
from tests.support.openid import EC_KEY, OpenIDProvider, provider_in

from .conftest import KUBECTLS, Kubectl, Server, start_server, stop_server, versions

PEM = serialization.Encoding.PEM
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
WHO = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}

newest_only = pytest.mark.parametrize("kubectl", versions([*KUBECTLS][-1:]), indirect=True)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenIDProvider]:
    with provider_in(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of certificates of a company's own authority."""
    return certificates(tmp_path_factory.mktemp("company"), "company", SystemClock()).authority.parent.parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, provider: OpenIDProvider, company: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "kastra.toml").write_text(
        f'client_ca = "{company}/tls/ca.crt"\n'
        f'oidc_issuer_url = "{provider.issuer}"\noidc_client_id = "kastra"\noidc_ca_file = "{provider.authority_file}"\n'
        'oidc_username_prefix = "oidc:"\noidc_groups_claim = "groups"\noidc_groups_prefix = "oidc:"\n'
    )
    running = start_server(folder)
    try:
        yield running
    finally:
        code = stop_server(running)
    assert code == 0
    assert '"level":"error"' not in running.log.read_text(encoding="utf-8")


def ask(
    server: Server, path: str, *, token: str = "", cert: Path | None = None, body: object = None
) -> tuple[int, dict[str, object]]:
    """One request over a connection of its own."""
    context = ssl.create_default_context(cafile=str(server.folder / ".kastra" / "tls" / "ca.crt"))
    if cert is not None:
        context.load_cert_chain(cert)
    port = int(server.kubeconfig.read_text().partition("https://127.0.0.1:")[2].split()[0])
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def who(server: Server, *, token: str = "", cert: Path | None = None) -> tuple[str, list[str]] | int:
    """The user and the groups, as the server sees them; the status if it refuses."""
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    status, answer = ask(server, path, token=token, cert=cert, body=WHO)
    if status != 201:
        return status
    info = answer["status"]["userInfo"]  # type: ignore[index]
    return info["username"], info["groups"]


# OpenID Connect


@newest_only
def test_a_group_of_the_provider_may_do_what_is_bound_to_it(kubectl: Kubectl, provider: OpenIDProvider) -> None:
    token = provider.token({"groups": ["cooks"]}, key=EC_KEY, kid="e1", algorithm="ES256")
    bare = kubectl.home / "bare.kubeconfig"
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    bare.write_text(json.dumps({**config, "users": [{"name": "kastra", "user": {"token": token}}]}))
    refused = kubectl.run("--kubeconfig", str(bare), "get", "configmaps")
    assert 'User "oidc:ada" cannot list resource "configmaps"' in refused.stderr
    kubectl("create", "rolebinding", "cooks", "--clusterrole=view", "--group=oidc:cooks")
    assert kubectl.run("--kubeconfig", str(bare), "get", "configmaps").returncode == 0
    told = json.loads(kubectl.run("--kubeconfig", str(bare), "auth", "whoami", "-o", "json").stdout)
    assert told["status"]["userInfo"] == {"username": "oidc:ada", "groups": ["oidc:cooks", "system:authenticated"]}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    answer = json.loads(kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review)))["status"]
    assert (answer["authenticated"], answer["user"]["username"]) == (True, "oidc:ada")


def test_neither_a_bad_token_nor_a_provider_that_is_down_gets_in_the_way(
    server: Server, provider: OpenIDProvider
) -> None:
    admin = server.kubeconfig.read_text().partition("token: ")[2].split()[0]
    good = provider.token()
    assert who(server, token=good) == ("oidc:ada", ["system:authenticated"])
    provider.stop()
    try:
        assert who(server, token=provider.token(kid="new")) == 401
        assert who(server, token=provider.token({"aud": "other"})) == 401
        assert who(server, token=good) == ("oidc:ada", ["system:authenticated"]), "its key is known"
        assert who(server, token=admin) == ("kastra-admin", ["system:masters", "system:authenticated"])
    finally:
        provider.start()
    assert good.split(".")[2] not in server.log.read_text(encoding="utf-8")


# Client certificates


def certificate(
    folder: Path,
    name: str = "ada",
    groups: tuple[str, ...] = (),
    *,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
    ends: timedelta = timedelta(hours=1),
    signs: Path | None = None,
) -> Path:
    """A certificate and its key in one file, by the authority in `signs` or one that nobody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer, signer = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kastra-ca")]),
        ec.generate_private_key(ec.SECP256R1()),
    )
    if signs is not None:
        loaded = serialization.load_pem_private_key((signs / "tls" / "ca.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject += [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + ends)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    file = folder / f"{name or 'nobody'}.pem"
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + builder.sign(signer, hashes.SHA256()).public_bytes(PEM))
    return file


def kastra(server: Server, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "KUBECONFIG"))}
    return subprocess.run(
        [warm.kastra(), "--data", str(server.folder / ".kastra"), *arguments],
        cwd=folder, env=kept, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@newest_only
def test_a_certificate_lets_its_user_in_with_kubectl_and_kastra(kubectl: Kubectl) -> None:
    server, home = kubectl.server, kubectl.home
    made = kastra(server, "users", "certificate", "eve", "--group", "bakers", "--group", "team-b", folder=home)
    assert made.returncode == 0, made.stderr
    assert made.stderr.startswith("eve.crt lets eve in until 20")
    assert {(home / name).stat().st_mode & 0o777 for name in ("eve.crt", "eve.key")} == {0o600}
    bare = home / "bare.kubeconfig"
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    bare.write_text(json.dumps({**config, "users": [{"name": "kastra", "user": {}}]}))
    shown = (
        "--kubeconfig",
        str(bare),
        "--client-certificate",
        str(home / "eve.crt"),
        "--client-key",
        str(home / "eve.key"),
    )
    told = json.loads(kubectl.run(*shown, "auth", "whoami", "-o", "json").stdout)["status"]["userInfo"]
    assert (told["username"], told["groups"]) == ("eve", ["bakers", "team-b", "system:authenticated"])
    assert told["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")
    assert 'User "eve" cannot list resource "configmaps"' in kubectl.run(*shown, "get", "configmaps").stderr
    kubectl("create", "rolebinding", "bakers", "--clusterrole=view", "--group=bakers")
    assert kubectl.run(*shown, "get", "configmaps").returncode == 0
    own = home / "eve.kubeconfig"
    made = kastra(server, "users", "certificate", "eve", "--group=bakers", "--kubeconfig", str(own), folder=home)
    assert made.returncode == 0, made.stderr
    assert own.stat().st_mode & 0o777 == 0o600
    assert kubectl.run("--kubeconfig", str(own), "get", "configmaps").returncode == 0
    assert "eve" in kastra(server, "--kubeconfig", str(own), "auth", "whoami", folder=home).stdout


def test_a_certificate_of_an_authority_in_the_settings_is_as_good(
    server: Server, company: Path, tmp_path: Path
) -> None:
    assert who(server, cert=certificate(tmp_path, "jo", ("ops",), signs=company)) == (
        "jo",
        ["ops", "system:authenticated"],
    )
    masters = certificate(tmp_path, "root", ("system:masters",), signs=company)
    assert ask(server, CONFIGMAPS, cert=masters)[0] == 200
    assert ask(server, CONFIGMAPS, cert=certificate(tmp_path, "jo", signs=company))[0] == 403


def test_certificate_and_token_are_tried_in_this_order(server: Server, company: Path, tmp_path: Path) -> None:
    admin = server.kubeconfig.read_text().partition("token: ")[2].split()[0]
    jo = certificate(tmp_path, "jo", signs=company)
    assert who(server, cert=jo, token="wrong") == ("jo", ["system:authenticated"])
    assert who(server, cert=jo, token=admin) == ("jo", ["system:authenticated"])
    nobody = certificate(tmp_path, "", ("ops",), signs=company)
    assert who(server, cert=nobody) == 401
    assert who(server, cert=nobody, token=admin) == ("kastra-admin", ["system:masters", "system:authenticated"])
    assert who(server) == 401, "without a certificate all is as it was"


REFUSED = {
    "of an authority that nobody knows": {},
    "that is over": {"ends": timedelta(minutes=-1), "known": True},
    "for servers": {"usage": ExtendedKeyUsageOID.SERVER_AUTH, "known": True},
}


@pytest.mark.parametrize("what", REFUSED)
def test_no_connection_is_made_with_a_certificate(what: str, server: Server, company: Path, tmp_path: Path) -> None:
    options = dict(REFUSED[what])
    signs = company if options.pop("known", False) else None
    refused = certificate(tmp_path, "jo", ("system:masters",), signs=signs, **options)  # type: ignore[arg-type]
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(server, CONFIGMAPS, cert=refused)


def test_the_servers_own_certificate_is_none_of_a_client(server: Server, tmp_path: Path) -> None:
    tls = server.folder / ".kastra" / "tls"
    both = tmp_path / "server.pem"
    both.write_bytes((tls / "server.key").read_bytes() + (tls / "server.crt").read_bytes())
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(server, CONFIGMAPS, cert=both)


def test_a_certificate_that_says_not_what_it_is_for_names_nobody(server: Server, company: Path, tmp_path: Path) -> None:
    assert who(server, cert=certificate(tmp_path, "jo", usage=None, signs=company)) == 401


def test_a_certificate_made_beside_the_running_server_is_good_at_once(server: Server, tmp_path: Path) -> None:
    issued = client_certificate(server.folder / ".kastra", "new", [], 60, VirtualClock(datetime.now(UTC)))
    file = tmp_path / "new.pem"
    file.write_bytes(issued.key + issued.certificate)
    assert who(server, cert=file) == ("new", ["system:authenticated"])


def test_a_session_that_is_resumed_is_that_of_the_same_certificate(
    server: Server, company: Path, tmp_path: Path
) -> None:
    context = ssl.create_default_context(cafile=str(server.folder / ".kastra" / "tls" / "ca.crt"))
    context.load_cert_chain(certificate(tmp_path, "jo", signs=company))
    address = ("127.0.0.1", int(server.kubeconfig.read_text().partition("https://127.0.0.1:")[2].split()[0]))
    body = json.dumps(WHO)
    request = (
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    session, reused = None, []
    for _ in range(2):
        with (
            socket.create_connection(address, timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secure,
        ):
            secure.sendall(request)
            with secure.makefile("rb") as answer:
                assert b'"username":"jo"' in answer.read()
            session = secure.session
            reused.append(secure.session_reused)
    assert reused == [False, True]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('client_ca = "missing.crt"', "client_ca missing.crt"),
        ('oidc_issuer_url = "http://127.0.0.1:1"\noidc_client_id = "x"', "must be an https URL"),
        ('oidc_client_id = "x"', "oidc_client_id has no effect without oidc_issuer_url"),
    ],
)
def test_a_server_does_not_start_with_settings_that_can_not_be_meant(settings: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "kastra.toml").write_text(settings)
    with pytest.raises(AssertionError, match=f"(?s)error: .*{says}"):
        start_server(tmp_path)


def test_clients_have_certificates_also_where_the_servers_own_was_given(company: Path, tmp_path: Path) -> None:
    made = certificates(company, "127.0.0.1", SystemClock())
    chain = tmp_path / "chain.crt"
    chain.write_bytes(made.certificate.read_bytes() + made.authority.read_bytes())
    server = start_server(tmp_path, "--tls-cert", str(chain), "--tls-key", str(made.key))
    try:
        made_here = kastra(server, "users", "certificate", "eve", "--kubeconfig", "eve.kubeconfig", folder=tmp_path)
        assert made_here.returncode == 0, made_here.stderr
        shown = kastra(server, "--kubeconfig", "eve.kubeconfig", "auth", "whoami", folder=tmp_path)
        assert "eve" in shown.stdout, shown.stderr
    finally:
        assert stop_server(server) == 0
