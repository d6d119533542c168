"""`kastra users`: tokens and certificates, made in the data folder, with or without a running server."""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from .conftest import Kastra


def test_a_user_is_added_listed_and_removed(changeable: Kastra) -> None:
    added = changeable("users", "add", "ada", "--group", "team-a")
    assert added.code == 0
    token = added.stdout.strip()
    assert len(token) == 43
    assert token not in added.stderr
    assert changeable("users", "list").lines[1].split() == ["ada", "team-a"]
    assert changeable("users", "remove", "ada").stdout == "user/ada removed\n"
    assert changeable("users", "remove", "ada").code == 1


def test_a_certificate_is_written_beside_its_key_for_their_owner_only(changeable: Kastra) -> None:
    made = changeable("users", "certificate", "ada@example.com", "--group", "team-a", "--duration", "1h")
    assert made.code == 0, made.stderr
    certificate, key = (changeable.folder / f"ada@example.com.{ending}" for ending in ("crt", "key"))
    assert {file.stat().st_mode & 0o777 for file in (certificate, key)} == {0o600}
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    [name] = read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    [group] = read.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert (name.value, group.value) == ("ada@example.com", "team-a")
    assert (read.not_valid_after_utc - read.not_valid_before_utc).total_seconds() == 3600 + 300
    assert "BEGIN" not in made.stdout + made.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ada", "--duration", "9000h"), "a certificate is good for 1m to 365d"),
        (("ada", "--duration", "1s"), "a certificate is good for 1m to 365d"),
        (("ada", "--duration", "soon"), "--duration: "),
        (("system:admin",), "one of the server's own"),
        (("kastra-admin",), "one of the server's own"),
        ((" ",), "can't be a user's name"),
        (("x" * 65,), "1 to 64 bytes"),
        (("ada", "--group", ""), "1 to 64 bytes"),
        (("../ada",), "no good name of a file"),
        (("ada", "--kubeconfig", "ada.kubeconfig"), "start it with 'kastra serve' first"),
    ],
)
def test_what_can_not_be_meant_is_wrong_usage(changeable: Kastra, arguments: tuple[str, ...], says: str) -> None:
    refused = changeable("users", "certificate", *arguments)
    assert refused.code == 2
    assert says in refused.stderr
    assert not [*changeable.folder.rglob("*.crt"), *changeable.folder.rglob("ada.key")]
