"""The authority and the server's certificate: made once, kept, and renewed when they must be."""

import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kastra.app.certificates import certificates, client_authorities, client_certificate, given_certificates
from kastra.clock import SystemClock
from kastra.config import ConfigError
from kastra.testing.clock import VirtualClock


def names(path: Path) -> set[str]:
    found = x509.load_pem_x509_certificate(path.read_bytes())
    extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in extension}


def test_a_certificate_is_made_that_the_authority_vouches_for(tmp_path: Path) -> None:
    files = certificates(tmp_path, "127.0.0.1", VirtualClock())
    context = ssl.create_default_context(cafile=str(files.authority))
    assert [entry["subject"] for entry in context.get_ca_certs()] == [((("commonName", "kastra-ca"),),)]
    authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
    x509.load_pem_x509_certificate(files.certificate.read_bytes()).verify_directly_issued_by(authority)
    assert {"localhost", "127.0.0.1", "::1"} <= names(files.certificate)


def test_keys_are_their_owners_only(tmp_path: Path) -> None:
    files = certificates(tmp_path, "127.0.0.1", VirtualClock())
    for key in (files.key, files.authority.with_name("ca.key")):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert serialization.load_pem_private_key(key.read_bytes(), None)
    assert stat.S_IMODE(files.key.parent.stat().st_mode) == 0o700


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    clock = VirtualClock()
    files = certificates(tmp_path, "127.0.0.1", clock)
    before = [path.read_bytes() for path in sorted(files.key.parent.iterdir())]
    assert certificates(tmp_path, "127.0.0.1", clock) == files
    assert [path.read_bytes() for path in sorted(files.key.parent.iterdir())] == before


def test_another_address_gets_a_certificate_under_the_same_authority(tmp_path: Path) -> None:
    clock = VirtualClock()
    authority = certificates(tmp_path, "127.0.0.1", clock).authority.read_bytes()
    files = certificates(tmp_path, "kastra.example.com", clock)
    assert "kastra.example.com" in names(files.certificate)
    assert files.authority.read_bytes() == authority


def test_a_certificate_is_renewed_before_it_ends(tmp_path: Path) -> None:
    clock = VirtualClock()
    before = certificates(tmp_path, "127.0.0.1", clock).certificate.read_bytes()
    clock.jump(timedelta(days=340).total_seconds())
    files = certificates(tmp_path, "127.0.0.1", clock)
    assert files.certificate.read_bytes() != before
    renewed = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert renewed.not_valid_after_utc - clock.now() > timedelta(days=300)


def test_a_damaged_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    files = certificates(tmp_path, "127.0.0.1", VirtualClock())
    files.authority.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"tls: .*delete the folder"):
        certificates(tmp_path, "127.0.0.1", VirtualClock())


def test_a_certificate_of_ones_own_is_used_and_its_root_is_for_kubeconfigs(tmp_path: Path) -> None:
    made = certificates(tmp_path / "made", "127.0.0.1", SystemClock())
    chain = tmp_path / "chain.crt"
    chain.write_bytes(made.certificate.read_bytes() + made.authority.read_bytes())
    given = given_certificates(tmp_path, str(chain), str(made.key))
    assert (given.certificate, given.key) == (chain, made.key)
    assert given.authority.read_bytes() == made.authority.read_bytes()
    # Without a root in the file, clients must know the authority by themselves.
    assert given_certificates(tmp_path, str(made.certificate), str(made.key)).authority.read_bytes() == b""


def test_a_certificate_that_can_not_be_used_is_refused_with_its_file(tmp_path: Path) -> None:
    one = certificates(tmp_path / "one", "127.0.0.1", SystemClock())
    two = certificates(tmp_path / "two", "127.0.0.1", SystemClock())
    for certificate, key, says in (
        (str(one.certificate), "", "give both, or neither"),
        (str(one.certificate), str(two.key), "is not the key of the first certificate"),
        (str(tmp_path / "none.crt"), str(one.key), "none.crt"),
        (str(one.key), str(one.key), "server.key"),
    ):
        with pytest.raises(ConfigError, match=says):
            given_certificates(tmp_path, certificate, key)


def test_certificates_of_clients_are_signed_by_the_same_authority(tmp_path: Path) -> None:
    clock = VirtualClock()
    issued = client_certificate(tmp_path, "ada", ["cooks"], 3600, clock)
    files = certificates(tmp_path, "127.0.0.1", clock)
    authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
    made = x509.load_pem_x509_certificate(issued.certificate)
    made.verify_directly_issued_by(authority)
    key = serialization.load_pem_private_key(issued.key, None)
    assert key.public_key() == made.public_key()
    assert [
        path.name for path in tmp_path.rglob("*") if issued.key in (path.read_bytes() if path.is_file() else b"")
    ] == []


def test_a_certificate_of_a_client_does_not_outlive_the_authority(tmp_path: Path) -> None:
    clock = VirtualClock()
    authority = x509.load_pem_x509_certificate(certificates(tmp_path, "127.0.0.1", clock).authority.read_bytes())
    clock.jump(timedelta(days=3600).total_seconds())
    issued = client_certificate(tmp_path, "ada", [], timedelta(days=365).total_seconds(), clock)
    assert issued.ends == authority.not_valid_after_utc


@pytest.mark.parametrize("name", ["", "x" * 65, "ü" * 33])
def test_a_name_that_no_certificate_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 bytes"):
        client_certificate(tmp_path, name, [], 60, VirtualClock())
    with pytest.raises(ValueError, match="1 to 64 bytes"):
        client_certificate(tmp_path, "ada", [name], 60, VirtualClock())


def test_clients_are_vouched_for_by_the_own_authority_and_those_in_the_given_file(tmp_path: Path) -> None:
    clock = VirtualClock()
    company = certificates(tmp_path / "company", "company", clock)
    bundle = client_authorities(tmp_path / "own", str(company.authority), clock)
    own = tmp_path / "own" / "tls" / "ca.crt"
    assert bundle.read_bytes() == own.read_bytes() + company.authority.read_bytes()
    assert client_authorities(tmp_path / "own", "", clock).read_bytes() == own.read_bytes()


def test_a_file_of_authorities_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "nonsense.crt").write_text("nonsense")
    for name in ("missing.crt", "nonsense.crt"):
        with pytest.raises(ConfigError, match=f"client_ca .*{name}"):
            client_authorities(tmp_path, str(tmp_path / name), VirtualClock())
    (tmp_path / "tls" / "ca.crt").write_text("nonsense")
    with pytest.raises(ValueError, match=r"tls: .*delete the folder"):
        client_authorities(tmp_path, "", VirtualClock())
