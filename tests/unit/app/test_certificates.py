"""The authority and the server's certificate: made once, kept, and renewed when they must be."""

import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kastra.app.certificates import certificates, given_certificates
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
