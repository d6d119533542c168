"""The administrator's token: made once, kept in the kubeconfig, known to the server by its hash."""

import stat
from pathlib import Path

import pytest

from kastra.apiserver.authentication import TokenAuthenticator, token_hash
from kastra.apiserver.call import User
from kastra.app.access import ADMIN, NamedUser, UserFile, administrator, read_users, write_kubeconfig, write_users
from kastra.manifest.decode import decode
from kastra.testing import VirtualClock


def bearer(token: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {token}".encode()}


def user_of(data: Path, token: str) -> User | None:
    return TokenAuthenticator((), UserFile(data, VirtualClock())).authenticate(bearer(token))


def started(data: Path) -> str:
    """What a start of the server does; returns the token."""
    authority = data / "ca.crt"
    authority.write_text("certificate")
    token = administrator(data)
    assert user_of(data, token) == ADMIN
    write_kubeconfig(data, "https://127.0.0.1:1", authority, token)
    return token


def test_a_token_survives_a_restart(tmp_path: Path) -> None:
    assert started(tmp_path) == started(tmp_path)


def test_a_deleted_kubeconfig_means_a_new_token_and_the_end_of_the_old_one(tmp_path: Path) -> None:
    old = started(tmp_path)
    (tmp_path / "kubeconfig").unlink()
    assert started(tmp_path) != old
    assert user_of(tmp_path, old) is None


def test_a_kubeconfig_that_somebody_else_wrote_gives_no_access(tmp_path: Path) -> None:
    started(tmp_path)
    path = write_kubeconfig(tmp_path, "https://127.0.0.1:1", tmp_path / "ca.crt", "planted")
    assert "planted" in path.read_text()
    assert administrator(tmp_path) != "planted"
    assert user_of(tmp_path, "planted") is None


def test_the_token_itself_is_only_in_the_kubeconfig(tmp_path: Path) -> None:
    token = started(tmp_path)
    assert [p.name for p in tmp_path.iterdir() if token.encode() in p.read_bytes()] == ["kubeconfig"]
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("kubeconfig", "tokens.json")} == {0o600}


def test_the_kubeconfig_is_complete(tmp_path: Path) -> None:
    started(tmp_path)
    (document,) = decode((tmp_path / "kubeconfig").read_bytes())
    assert (document.value["kind"], document.value["current-context"]) == ("Config", "kastra")
    assert document.value["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"


def test_damaged_hashes_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("{}")
    with pytest.raises(ValueError, match="delete it to make a new token"):
        administrator(tmp_path)


def test_other_users_stay_when_the_administrator_gets_a_new_token(tmp_path: Path) -> None:
    started(tmp_path)
    write_users(tmp_path, [*read_users(tmp_path), NamedUser("ada", ("team",), token_hash("secret"))])
    (tmp_path / "kubeconfig").unlink()
    started(tmp_path)
    assert user_of(tmp_path, "secret") == User("ada", ("team", "system:authenticated"))


async def test_a_user_who_is_added_or_removed_is_noticed_within_a_second(tmp_path: Path) -> None:
    clock = VirtualClock()
    started(tmp_path)
    users = UserFile(tmp_path, clock)
    assert users.user_of("secret") is None
    write_users(tmp_path, [*read_users(tmp_path), NamedUser("ada", (), token_hash("secret"))])
    await clock.advance(1)
    assert users.user_of("secret") == User("ada")
    (tmp_path / "tokens.json").write_text("{}")
    await clock.advance(1)
    assert users.user_of("secret") is None
