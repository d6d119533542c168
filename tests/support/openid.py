"""An OpenID provider on this machine: real HTTPS under an authority of its own, real keys, real ID tokens."""

import base64
import hashlib
import hmac
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

PEM = serialization.Encoding.PEM
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def jwk(key: Key, kid: str, **more: Any) -> dict[str, Any]:
    """The public half, as it stands in a key set."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": kid, "use": "sig", **more}
    return {**ECAlgorithm.to_jwk(public, as_dict=True), "kid": kid, "use": "sig", **more}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class OpenIDProvider:
    """Answers discovery and keys; what it answers can be changed while it runs."""

    def __init__(self, folder: Path) -> None:
        self.fetches = 0
        self.key_set: Any = {"keys": [jwk(RSA_KEY, "r1", alg="RS256"), jwk(EC_KEY, "e1")]}
        self.overrides: dict[str, Any] = {}
        self.redirect = ""
        self.silent = threading.Event()
        self.silent.set()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.authority_file = folder / "provider-ca.crt"
        self._certificate = folder / "provider.crt"
        self._make_certificate()

    @property
    def authority(self) -> str:
        return self.authority_file.read_text()

    @property
    def issuer(self) -> str:
        return f"https://127.0.0.1:{self._port}/realm"

    def start(self) -> None:
        """Serve, on the same port as before if there was one."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                provider.silent.wait(20)
                if provider.redirect:
                    self.send_response(302)
                    self.send_header("Location", provider.redirect)
                    self.end_headers()
                    return
                if self.path == "/realm/.well-known/openid-configuration":
                    body = {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/keys", **provider.overrides}
                elif self.path == "/realm/keys":
                    provider.fetches += 1
                    body = provider.key_set
                else:
                    body = None
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(200 if body is not None else 404)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that hung up

            def get_request(self) -> tuple[Any, Any]:
                connection, address = super().get_request()
                return tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self._certificate)
        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Be down: connections are refused."""
        self.silent.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def token(
        self,
        claims: Mapping[str, Any] | None = None,
        *,
        key: Key = RSA_KEY,
        kid: str | None = "r1",
        algorithm: str = "RS256",
        now: datetime | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> str:
        """An ID token of an hour for `ada`; a claim that is given as None is left out."""
        present = (now or datetime.now(UTC)).timestamp()
        payload = {
            "iss": self.issuer,
            "aud": "kastra",
            "sub": "ada",
            "iat": int(present),
            "exp": int(present) + 3600,
            **(claims or {}),
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, key, algorithm, headers={**({"kid": kid} if kid else {}), **(headers or {})})

    def _make_certificate(self) -> None:
        def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
            return (
                x509.CertificateBuilder()
                .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
                .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provider-ca")]))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(datetime.now(UTC) - timedelta(days=1))
                .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            )

        root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        identifier = x509.SubjectKeyIdentifier.from_public_key(root.public_key())
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        authority = (
            builder("provider-ca", root)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
            .sign(root, hashes.SHA256())
        )
        name = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            builder("provider", leaf)
            .add_extension(name, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
            .sign(root, hashes.SHA256())
        )
        self.authority_file.write_bytes(authority.public_bytes(PEM))
        private = leaf.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._certificate.write_bytes(private + certificate.public_bytes(PEM))


def signed_with_the_public_key(token: str, key: Key) -> str:
    """A token whose HMAC has the public key as its secret: good for whoever lets the token choose the algorithm."""
    secret = key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{b64(json.dumps({'alg': 'HS256', 'typ': 'JWT', 'kid': 'r1'}).encode())}.{token.split('.')[1]}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def unsigned(token: str) -> str:
    """A token that says to need no signature."""
    return f"{b64(json.dumps({'alg': 'none', 'kid': 'r1'}).encode())}.{token.split('.')[1]}."


@contextmanager
def provider_in(folder: Path) -> Iterator[OpenIDProvider]:
    """A running provider."""
    provider = OpenIDProvider(folder)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
