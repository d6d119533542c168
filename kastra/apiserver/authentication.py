"""Who is calling? Bearer tokens, of which only hashes are kept.

A token is compared by its SHA-256 with every known one, in constant time, so that neither a hash file that leaks nor timing
gives a token away. What a user may do is not decided here.

Source: RFC 6750; Kubernetes' static token authentication. Read next: `kastra.apiserver.filters`.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import Protocol

from .call import User

_BYTES = 32


class Authenticator(Protocol):
    """Finds the user of a request."""

    def authenticate(self, headers: Mapping[bytes, bytes]) -> User | None:
        """The user; None if the request doesn't say, or says something wrong."""
        ...


class TokenAuthenticator:
    """Users by the SHA-256 (hexadecimal) of their token."""

    def __init__(self, users: Iterable[tuple[str, User]]) -> None:
        self._users = [(bytes.fromhex(digest), user) for digest, user in users]

    def authenticate(self, headers: Mapping[bytes, bytes]) -> User | None:
        """The user of `Authorization: Bearer TOKEN`."""
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            return None
        digest = hashlib.sha256(token).digest()
        found = None
        for known, user in self._users:
            # All are compared, whichever matches.
            if hmac.compare_digest(known, digest):
                found = user
        return found


class Anybody:
    """Whoever calls is `user`: for a listener that only this machine can reach."""

    def __init__(self, user: User) -> None:
        self._user = user

    def authenticate(self, headers: Mapping[bytes, bytes]) -> User | None:
        """The user."""
        return self._user


def new_token() -> str:
    """A token that can't be guessed: 256 bits."""
    return secrets.token_urlsafe(_BYTES)


def token_hash(token: str) -> str:
    """What is kept of a token, in hexadecimal. It has so many bits that it needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()
