"""A certificate authority of one's own, so that clients can check that they talk to this server.

Made at the first start in `<data>/tls`, keys with mode 0600, the folder with 0700. The authority stays as long as the folder
does; the server's certificate is made anew when it nears its end or doesn't name the address that is served. Beside that it
signs certificates of clients, when `kastra users certificate` asks for one; nothing is kept of these.

Source: RFC 5280. Read next: `kastra.app.serving`.
"""

import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kastra.clock import Clock
from kastra.config import ConfigError

FOLDER = "tls"
SIGNING_KEY = "serviceaccounts.key"
_CA_DAYS = 3650
_SERVER_DAYS = 365
_RENEW_DAYS = 30
_CLIENT_AUTHORITIES = "client-ca.crt"
_LONGEST_NAME = 64
_SKEW = timedelta(minutes=5)
"""How far back certificates begin, for clients whose clock is slow."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files of the authority's certificate, and of the server's certificate and key."""

    authority: Path
    certificate: Path
    key: Path


def certificates(data: Path, host: str, clock: Clock) -> Certificates:
    """The certificates for serving at `host` (a name or an address), made as far as they are missing.

    Raises:
        OSError: the folder can't be read or written.
        ValueError: a file in it is damaged; deleting the folder makes new ones.
    """
    folder = data / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    now = clock.now()
    names = _names(host)
    try:
        authority, key = _authority(files.authority, folder / "ca.key", now)
        if not _usable(files, authority, names, now):
            _issue(files, authority, key, names, now)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise ValueError(f"{folder}: {error}; delete the folder to make new certificates") from None
    return files


def given_certificates(data: Path, certificate: str, key: str) -> Certificates:
    """A certificate and a key that somebody else made.

    The authority for kubeconfigs is what is self-signed in the certificate's file; an empty file if nothing is, since then
    the authority is one that clients know by themselves.

    Raises:
        ConfigError: one of the files is missing or unreadable, or they don't belong together.
    """
    if not certificate or not key:
        raise ConfigError("tls_cert and tls_key belong together: give both, or neither")
    files = Certificates(data / FOLDER / "given-ca.crt", Path(certificate), Path(key))
    try:
        chain = x509.load_pem_x509_certificates(files.certificate.read_bytes())
        private = serialization.load_pem_private_key(files.key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{files.certificate}, {files.key}: {error}") from None
    public = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if chain[0].public_key().public_bytes(*public) != private.public_key().public_bytes(*public):
        raise ConfigError(f"{files.key} is not the key of the first certificate in {files.certificate}")
    roots = [made.public_bytes(serialization.Encoding.PEM) for made in chain if made.issuer == made.subject]
    files.authority.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(files.authority, b"".join(roots))
    return files


def client_authorities(data: Path, given: str, clock: Clock) -> Path:
    """The file of those who may vouch for clients: the server's own authority, and those in the file `given`.

    Raises:
        ConfigError: the given file is missing or has no certificates.
        ValueError: the own authority's files are damaged.
    """
    folder = data / FOLDER
    pem = serialization.Encoding.PEM
    found = [_own_authority(folder, clock.now())[0].public_bytes(pem)]
    if given:
        try:
            chain = x509.load_pem_x509_certificates(Path(given).read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"client_ca {given}: {error}") from None
        found += [one.public_bytes(pem) for one in chain]
    write_private(folder / _CLIENT_AUTHORITIES, b"".join(found))
    return folder / _CLIENT_AUTHORITIES


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate with its key, both PEM, and when it ends, in UTC."""

    certificate: bytes
    key: bytes
    ends: datetime


def client_certificate(data: Path, name: str, groups: Sequence[str], seconds: float, clock: Clock) -> IssuedCertificate:
    """A certificate with which its holder is the user `name` in `groups`, for so long.

    Raises:
        ValueError: a name is empty or has more than 64 bytes, or the authority's files are damaged.
    """
    for text in (name, *groups):
        if not 0 < len(text.encode()) <= _LONGEST_NAME:
            raise ValueError(f"{text!r}: names in a certificate have 1 to {_LONGEST_NAME} bytes; use a token instead")
    now = clock.now()
    authority, authority_key = _own_authority(data / FOLDER, now)
    ends = min(now + timedelta(seconds=seconds), authority.not_valid_after_utc)
    private = ec.generate_private_key(ec.SECP256R1())
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in dict.fromkeys(groups)]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
    made = (
        _builder(x509.Name(subject), authority.subject, private.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return IssuedCertificate(made.public_bytes(serialization.Encoding.PEM), _pem(private), made.not_valid_after_utc)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, all at once."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)


def _own_authority(folder: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return _authority(folder / "ca.crt", folder / "ca.key", now)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}; delete the folder to make new certificates") from None


def _authority(certificate: Path, key: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    if certificate.is_file() and key.is_file():
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key.name} is not the key that Kastra made")
        if found.not_valid_after_utc - now > timedelta(days=_RENEW_DAYS):
            return found, private
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kastra-ca")])
    made = (
        _builder(name, name, private.public_key(), now, now + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    write_private(key, _pem(private))
    write_private(certificate, made.public_bytes(serialization.Encoding.PEM))
    return made, private


def _issue(
    files: Certificates,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    now: datetime,
) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kastra")])
    made = (
        _builder(name, authority.subject, private.public_key(), now, now + timedelta(days=_SERVER_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write_private(files.key, _pem(private))
    write_private(files.certificate, made.public_bytes(serialization.Encoding.PEM))


def _usable(files: Certificates, authority: x509.Certificate, names: list[x509.GeneralName], now: datetime) -> bool:
    if not files.certificate.is_file() or not files.key.is_file():
        return False
    found = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    private = serialization.load_pem_private_key(files.key.read_bytes(), None)
    try:
        found.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError):
        return False
    covered = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        found.public_key() == private.public_key()
        and found.not_valid_after_utc - now > timedelta(days=_RENEW_DAYS)
        and all(name in covered for name in names)
    )


def _names(host: str) -> list[x509.GeneralName]:
    """What clients may call this server."""
    texts = dict.fromkeys(("localhost", "127.0.0.1", "::1", socket.gethostname(), host))
    names: list[x509.GeneralName] = []
    for text in texts:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            if text.isascii() and 0 < len(text) <= 253:
                names.append(x509.DNSName(text))
        else:
            if not address.is_unspecified:
                names.append(x509.IPAddress(address))
    return names


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(ends)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signing_key(data: Path) -> ed25519.Ed25519PrivateKey:
    """The key that signs tokens of ServiceAccounts, made if there is none. Raises ValueError if it is damaged."""
    file = data / SIGNING_KEY
    if not file.is_file():
        made = ed25519.Ed25519PrivateKey.generate()
        pkcs8 = serialization.PrivateFormat.PKCS8
        pem = made.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())
        write_private(file, pem)
        return made
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), None)
    except ValueError as error:
        raise ValueError(f"{file}: damaged ({error}); delete it to make a new key, which ends all tokens") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError(f"{file}: not an Ed25519 key; delete it to make a new one, which ends all tokens")
    return key
