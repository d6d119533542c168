"""uvicorn's connections, which also tell the application what certificate the client showed.

ASGI servers needn't tell, and uvicorn doesn't. The certificate is read once per connection, when TLS has found it good; each
request then carries what it says. Read next: `kastra.apiserver.client_certificates`.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kastra.apiserver.client_certificates import CERTIFICATE, EXTENSION, read_certificate


class PeerProtocol(HttpToolsProtocol):
    """One connection."""

    _extensions: dict[str, dict[object, object]] | None = None

    def connection_made(self, transport: Any) -> None:
        """Called when TLS is established."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        certificate = read_certificate(der) if der else None
        if certificate is not None:
            self._extensions = {EXTENSION: {CERTIFICATE: certificate}}

    def on_message_begin(self) -> None:
        """Called for each request."""
        super().on_message_begin()
        if self._extensions is not None:
            self.scope["extensions"] = self._extensions
