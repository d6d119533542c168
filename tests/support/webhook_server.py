"""A webhook of one's own: a real HTTPS server, with a certificate authority that only its clients know."""

import base64
import contextlib
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any] | bytes | None]
"""From the `request` of a review to its `response`; bytes are sent as they are, None closes without an answer."""


def self_signed(folder: Path) -> tuple[Path, bytes]:
    """A certificate for 127.0.0.1 with its key in one file, and the certificate alone, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "webhook.pem"
    file.write_bytes(certificate + private)
    return file, certificate


class WebhookServer:
    """What was asked, and what is answered.

    Args:
        answer: may be exchanged at any time.
    """

    def __init__(self, port: int, certificate: bytes) -> None:
        self.url = f"https://127.0.0.1:{port}"
        self.ca_bundle = base64.b64encode(certificate).decode()
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.answer: Answer = lambda request: {"allowed": True}
        self.at: dict[str, Answer] = {}
        """What is answered at some paths, in place of `answer`."""
        self.released = threading.Event()
        """Set at the end, for answers that hang until then."""

    def config(self, path: str = "") -> dict[str, Any]:
        """The clientConfig by which it is called."""
        return {"url": self.url + path, "caBundle": self.ca_bundle}

    def hang(self, request: Mapping[str, Any]) -> None:
        """An answer that doesn't come."""
        self.released.wait(30)


@contextlib.contextmanager
def webhook_server(folder: Path) -> Iterator[WebhookServer]:
    """Serve on a free port of this machine."""
    file, certificate = self_signed(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["content-length"])))
            hook.requests.append(review["request"])
            hook.paths.append(self.path)
            response = hook.at.get(self.path.partition("?")[0], hook.answer)(review["request"])
            if response is None:
                self.close_connection = True
                return
            body = response
            if not isinstance(body, bytes):
                body = json.dumps(
                    {**review, "request": None, "response": {"uid": review["request"]["uid"], **response}}
                ).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that gave up is none of a test's business."""

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    hook = WebhookServer(server.server_address[1], certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def patch(*operations: Mapping[str, Any]) -> dict[str, Any]:
    """A response that allows the request and patches the object."""
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}
