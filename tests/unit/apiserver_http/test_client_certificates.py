"""A certificate that TLS has found good: whom it names, when, and what counts beside it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kastra.apiserver.authentication import Anybody, TokenAuthenticator, token_hash
from kastra.apiserver.call import User
from kastra.apiserver.client_certificates import CertificateAuthenticator, ClientCertificate, read_certificate
from kastra.app.certificates import client_certificate
from kastra.testing.clock import VirtualClock

TOKENS = TokenAuthenticator([(token_hash("t"), User("jo"))])
BEARER = {b"authorization": b"Bearer t"}
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def der(*subject: tuple[x509.ObjectIdentifier, str], usages: list[x509.ObjectIdentifier] | None = None) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(BEGIN)
        .not_valid_after(BEGIN.replace(hour=1))
    )
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


CLIENT = [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_common_name_is_the_user_and_organizations_are_groups() -> None:
    read = read_certificate(
        der(
            (NameOID.ORGANIZATION_NAME, "system:masters"),
            (NameOID.ORGANIZATION_NAME, "cooks"),
            (NameOID.ORGANIZATION_NAME, "cooks"),
            (NameOID.COMMON_NAME, "first"),
            (NameOID.COMMON_NAME, "ada"),
            usages=[ExtendedKeyUsageOID.SERVER_AUTH, *CLIENT],
        )
    )
    assert read is not None
    assert (read.user.name, read.user.groups) == ("ada", ("system:masters", "cooks", "system:authenticated"))
    assert (read.begins, read.ends) == (BEGIN, BEGIN.replace(hour=1))


@pytest.mark.parametrize(
    "certificate",
    [
        der((NameOID.ORGANIZATION_NAME, "cooks"), usages=CLIENT),
        der((NameOID.COMMON_NAME, "a\nda"), usages=CLIENT),
        der((NameOID.COMMON_NAME, "ada"), usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
        der((NameOID.COMMON_NAME, "ada"), usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        der((NameOID.COMMON_NAME, "ada")),
        b"nonsense",
    ],
    ids=[
        "without a name",
        "with an unprintable name",
        "for servers",
        "for everything",
        "for nothing said",
        "no certificate",
    ],
)
def test_other_certificates_name_nobody(certificate: bytes) -> None:
    assert read_certificate(certificate) is None


def test_a_certificate_ends_though_its_connection_lasts() -> None:
    clock = VirtualClock(BEGIN)
    authenticator = CertificateAuthenticator(TOKENS, clock)
    certificate = ClientCertificate(User("ada"), BEGIN, BEGIN.replace(hour=1))
    assert authenticator.authenticate({}, certificate) == User("ada")
    clock.jump(3601)
    assert authenticator.authenticate({}, certificate) is None
    clock.jump(-3602)
    assert authenticator.authenticate({}, certificate) is None, "nor is it good before its time"


def test_a_certificate_counts_before_a_token_and_without_one_the_token_counts() -> None:
    clock = VirtualClock(BEGIN)
    authenticator = CertificateAuthenticator(TOKENS, clock)
    certificate = ClientCertificate(User("ada"), BEGIN, BEGIN)
    assert authenticator.authenticate(BEARER, certificate) == User("ada")
    assert authenticator.authenticate({b"authorization": b"Bearer wrong"}, certificate) == User("ada")
    clock.jump(1)
    assert authenticator.authenticate(BEARER, certificate) == User("jo", ("system:authenticated",))
    assert authenticator.authenticate(BEARER) == User("jo", ("system:authenticated",))


async def test_there_is_nothing_to_learn_for_a_token_of_this_server() -> None:
    clock = VirtualClock()
    for authenticator in (CertificateAuthenticator(TOKENS, clock), Anybody(User("x"))):
        assert not await authenticator.learn(BEARER)
        assert not await authenticator.learn({})


def test_what_kastra_signs_names_whom_it_was_made_for(tmp_path: Path) -> None:
    issued = client_certificate(tmp_path, "ada", ["cooks", "cooks"], 3600, VirtualClock())
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    read = read_certificate(certificate.public_bytes(serialization.Encoding.DER))
    assert read is not None
    assert (read.user.name, read.user.groups) == ("ada", ("cooks", "system:authenticated"))
    assert (issued.ends - VirtualClock().now()).total_seconds() == 3600
