"""Who is calling? Bearer tokens, of which only hashes are kept.

A token is compared by its SHA-256 with every known one, in constant time, so that neither a hash file that leaks nor timing
gives a token away. What a user may do is not decided here.

Source: RFC 6750; Kubernetes' static token authentication. Read next: `kastra.apiserver.filters`.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from .authorization import AUTHENTICATED
from .call import User
from .serviceaccount_tokens import AUDIENCE

_BYTES = 32


class Authenticator(Protocol):
    """Finds the user of a request."""

    def authenticate(self, headers: Mapping[bytes, bytes]) -> User | None:
        """The user; None if the request doesn't say, or says something wrong."""
        ...


class TokenSource(Protocol):
    """Recognises tokens of one sort."""

    def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The user of a token that is good for one of the audiences (none: this API); None for any other."""
        ...


class StaticTokens:
    """Users by the SHA-256 (hexadecimal) of their token."""

    def __init__(self, users: Iterable[tuple[str, User]]) -> None:
        self._users = [(bytes.fromhex(digest), user) for digest, user in users]

    def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The user of a token; they are good for this API only."""
        if audiences and AUDIENCE not in audiences:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for known, user in self._users:
            # All are compared, whichever matches.
            if hmac.compare_digest(known, digest):
                found = user
        return found


class TokenAuthenticator:
    """Users by the token that they send.

    Who is recognised is in the group `system:authenticated`, whatever the source says.

    Args:
        users: by the SHA-256 of their token, as in `StaticTokens`.
        sources: asked in turn about every other token.
    """

    def __init__(self, users: Iterable[tuple[str, User]] = (), *sources: TokenSource) -> None:
        self._sources = (StaticTokens(users), *sources)

    def authenticate(self, headers: Mapping[bytes, bytes]) -> User | None:
        """The user of `Authorization: Bearer TOKEN`."""
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token or not token.isascii():
            return None
        return self.user_of(token.decode())

    def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The user of a token, as any of the sources knows it."""
        for source in self._sources:
            user = source.user_of(token, audiences)
            if user is not None:
                known = AUTHENTICATED in user.groups
                return user if known else replace(user, groups=(*user.groups, AUTHENTICATED))
        return None


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
