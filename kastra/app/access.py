"""How clients get in: named users and their tokens, and the kubeconfig that carries the administrator's.

The token is made once and lives in `<data>/kubeconfig` (mode 0600), so that a kubeconfig that was copied stays good;
`<data>/tokens.json` has only hashes. Deleting the kubeconfig makes a new token, which takes the old one's place.

Source: Kubernetes' kubeconfig (`v1 Config`). Read next: `kastra.app.serving`.
"""

import base64
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from kastra.apiserver.authentication import StaticTokens, new_token, token_hash
from kastra.apiserver.call import User
from kastra.clock import Clock
from kastra.manifest.decode import DecodeError, decode
from kastra.manifest.encode import to_yaml

from .certificates import IssuedCertificate, write_private

ADMIN = User("kastra-admin", ("system:masters", "system:authenticated"))
KUBECONFIG = "kubeconfig"
_TOKENS = "tokens.json"
_NAME = "kastra"
_LOOK_EVERY = 1.0
_log = logging.getLogger("kastra.apiserver")


def administrator(data: Path) -> str:
    """The administrator's token; one is made if the kubeconfig has none that is known.

    Raises:
        ValueError: the file of hashes is damaged.
    """
    token = token_of(data / KUBECONFIG)
    users = read_users(data)
    if token is None or not any(user.digest == token_hash(token) and user.name == ADMIN.name for user in users):
        token = new_token()
        admin = NamedUser(ADMIN.name, ADMIN.groups, token_hash(token))
        write_users(data, [admin, *(user for user in users if user.name != ADMIN.name)])
    return token


class NamedUser(NamedTuple):
    """A person or program that has a token: `digest` is its SHA-256 in hexadecimal."""

    name: str
    groups: tuple[str, ...]
    digest: str


class UserFile:
    """The users in a data folder as a source of tokens.

    Who is added can come in at once; who is removed stays for a second at most.

    A file that can't be read any more lets nobody in whom it named, until it can again.
    """

    def __init__(self, data: Path, clock: Clock) -> None:
        self._data = data
        self._clock = clock
        self._looked = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._tokens = StaticTokens(())

    def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The user of a token."""
        if self._clock.monotonic() - self._looked >= _LOOK_EVERY:
            self._looked = self._clock.monotonic()
            self._reload()
        user = self._tokens.user_of(token, audiences)
        if user is None and self._reload():
            # Somebody who was just added.
            user = self._tokens.user_of(token, audiences)
        return user

    def _reload(self) -> bool:
        """Whether the file was another than when it was read last, and now is read."""
        try:
            found = (self._data / _TOKENS).stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp == self._stamp:
                return False
            users = read_users(self._data)
            self._tokens = StaticTokens((user.digest, User(user.name, user.groups)) for user in users)
            self._stamp = stamp
        except (OSError, ValueError) as error:
            _log.error("users can't be read, so nobody is let in by a token: %s", error)
            self._tokens, self._stamp = StaticTokens(()), None
            return False
        return True


def read_users(data: Path) -> list[NamedUser]:
    """The users of a data folder; none if it has no file of them. Raises ValueError if that is damaged."""
    file = data / _TOKENS
    if not file.is_file():
        return []
    try:
        rows: list[dict[str, Any]] = orjson.loads(file.read_bytes())["users"]
        found = [NamedUser(str(row["user"]), tuple(row["groups"]), str(row["sha256"])) for row in rows]
        for user in found:
            bytes.fromhex(user.digest)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged ({error}); delete it to make a new token") from None
    return found


def write_users(data: Path, users: Sequence[NamedUser]) -> None:
    """Make these the users."""
    rows = [{"sha256": user.digest, "user": user.name, "groups": user.groups} for user in users]
    write_private(data / _TOKENS, orjson.dumps({"users": rows}))


def write_kubeconfig(data: Path, url: str, authority: Path, token: str) -> Path:
    """Write the administrator's kubeconfig for a server at `url`; returns its path."""
    path = data / KUBECONFIG
    write_private(path, to_yaml(kubeconfig_of(url, authority, token)).encode())
    return path


def kubeconfig_of(url: str, authority: Path, credential: str | IssuedCertificate) -> dict[str, Any]:
    """A kubeconfig for a server at `url`; the credential is a token or a certificate."""
    cluster = {"server": url}
    if trusted := authority.read_bytes():
        cluster["certificate-authority-data"] = base64.b64encode(trusted).decode()
    if isinstance(credential, IssuedCertificate):
        user = {
            "client-certificate-data": base64.b64encode(credential.certificate).decode(),
            "client-key-data": base64.b64encode(credential.key).decode(),
        }
    else:
        user = {"token": credential}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": _NAME, "cluster": cluster}],
        "users": [{"name": _NAME, "user": user}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": _NAME, "namespace": "default"}}],
        "current-context": _NAME,
    }


def token_of(kubeconfig: Path) -> str | None:
    """The token of the kubeconfig that an earlier start has written; None if there is none that can be read."""
    try:
        (document,) = decode(kubeconfig.read_bytes())
        (user,) = (row["user"] for row in document.value["users"] if row["name"] == _NAME)
        token = user["token"]
    except (FileNotFoundError, DecodeError, ValueError, KeyError, TypeError):
        return None
    return token if isinstance(token, str) and token else None
