"""Who is calling, as the certificate says that the client showed when it connected?

The TLS listener has checked that an authority it trusts signed the certificate; here is read whom it names: the common name
is the user, the organizations are the groups. It must say that it is for clients (the extended key usage `clientAuth`) and
must not be over, which is asked at every request, because a connection may last longer than a certificate.

As in Kubernetes a certificate counts before a token: whoever shows a good one needs no other, and a request whose certificate
names nobody may still have a token. There is no list of revoked certificates.

Source: apiserver/pkg/authentication/request/x509 and union. Read next: `kastra.apiserver.filters`.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from kastra.clock import Clock

from .authorization import AUTHENTICATED
from .call import User

if TYPE_CHECKING:
    from .authentication import Authenticator

EXTENSION, CERTIFICATE = "kastra.client", "certificate"
"""Where an ASGI scope carries the ClientCertificate of its connection: the extension, and the key in it."""

_log = logging.getLogger("kastra.apiserver")


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Whom a certificate names, and from when until when, in UTC."""

    user: User
    begins: datetime
    ends: datetime


def read_certificate(der: bytes) -> ClientCertificate | None:
    """What a certificate (DER) says that TLS has found good; None if it names nobody or isn't for clients."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    try:
        read = x509.load_der_x509_certificate(der)
        usage = read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = [str(entry.value) for entry in read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        groups = [str(entry.value) for entry in read.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        _log.info("a client's certificate names nobody: %s", error)
        return None
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        _log.info("a client's certificate names nobody: it isn't for clients")
        return None
    if not names or not all(text and text.isprintable() for text in (names[-1], *groups)):
        _log.info("a client's certificate names nobody: its common name or an organization is missing or unprintable")
        return None
    extra = {"authentication.kubernetes.io/credential-id": [f"X509SHA256={hashlib.sha256(der).hexdigest()}"]}
    user = User(names[-1], tuple(dict.fromkeys((*groups, AUTHENTICATED))), "", extra)
    return ClientCertificate(user, read.not_valid_before_utc, read.not_valid_after_utc)


class CertificateAuthenticator:
    """Users by their certificate, all others as `others` knows them."""

    def __init__(self, others: "Authenticator", clock: Clock) -> None:
        self._others = others
        self._clock = clock

    def authenticate(self, headers: Mapping[bytes, bytes], certificate: ClientCertificate | None = None) -> User | None:
        """The user whom the certificate names; without a good one the user of the headers."""
        if certificate is not None and certificate.begins <= self._clock.now() <= certificate.ends:
            return certificate.user
        return self._others.authenticate(headers, certificate)

    async def learn(self, headers: Mapping[bytes, bytes]) -> bool:
        """As the others do."""
        return await self._others.learn(headers)
