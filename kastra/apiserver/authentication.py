"""Who is calling? Bearer tokens, of which only hashes are kept.

A token is compared by its SHA-256 with every known one, in constant time, so that neither a hash file that leaks nor timing
gives a token away. Recognising never waits; what must be fetched first is fetched by `learn`, after which it is tried again.
What a user may do is not decided here.

Source: RFC 6750; Kubernetes' static token authentication. Read next: `kastra.apiserver.client_certificates`.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from .admission import Attributes, Hook
from .authorization import AUTHENTICATED
from .call import User
from .client_certificates import ClientCertificate
from .serviceaccount_tokens import AUDIENCE

_BYTES = 32


class Authenticator(Protocol):
    """Finds the user of a request."""

    def authenticate(self, headers: Mapping[bytes, bytes], certificate: ClientCertificate | None = None) -> User | None:
        """The user; None if the request doesn't say, or says something wrong.

        Args:
            certificate: that the client showed when it connected.
        """
        ...

    async def learn(self, headers: Mapping[bytes, bytes]) -> bool:
        """Fetch what may be missing to recognise the user, for some seconds at most; whether to try again."""
        ...


class TokenSource(Protocol):
    """Recognises tokens of one sort."""

    def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The user of a token that is good for one of the audiences (none: this API); None for any other."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A source that may have to fetch something before it recognises a token."""

    async def learn(self, token: str) -> bool:
        """Fetch what is missing for this very token, for some seconds at most; whether to ask again."""
        ...


class StaticTokens:
    """Users by the SHA-256 (hexadecimal) of their token."""

    def __init__(self, users: Iterable[tuple[str, User]]) -> None:
        self._users = [(bytes.fromhex(digest), user) for digest, user in users]

    def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The user of a token; they are good for this API only."""
        if audiences and AUDIENCE not in audiences:
            return None
        if not self._users:
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
        self._learners = [source for source in sources if isinstance(source, Learner)]

    def authenticate(self, headers: Mapping[bytes, bytes], certificate: ClientCertificate | None = None) -> User | None:
        """The user of `Authorization: Bearer TOKEN`."""
        token = _bearer(headers)
        return self.user_of(token) if token else None

    async def learn(self, headers: Mapping[bytes, bytes]) -> bool:
        """Let the sources fetch what they miss for the token; whether to try again."""
        token = _bearer(headers)
        return bool(token) and await self.learn_token(token)

    async def learn_token(self, token: str) -> bool:
        """As `learn`, for a token that came otherwise."""
        for source in self._learners:
            if await source.learn(token):
                return True
        return False

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

    def authenticate(self, headers: Mapping[bytes, bytes], certificate: ClientCertificate | None = None) -> User | None:
        """The user."""
        return self._user

    async def learn(self, headers: Mapping[bytes, bytes]) -> bool:
        """There is nothing to learn."""
        return False


def learning_from_reviews(authenticator: TokenAuthenticator) -> Hook:
    """A policy of admission by which a TokenReview is answered as well as a request with the same token would be."""

    async def learn(attributes: Attributes) -> None:
        resource = attributes.resource
        if (resource.group, resource.kind) != ("authentication.k8s.io", "TokenReview") or attributes.object is None:
            return
        spec = attributes.object.get("spec")
        token = spec.get("token") if isinstance(spec, dict) else None
        if isinstance(token, str) and token.isascii():
            await authenticator.learn_token(token)

    return learn


def _bearer(headers: Mapping[bytes, bytes]) -> str:
    """The bearer token that was sent; empty without one."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    token = token.strip()
    return token.decode() if scheme.lower() == b"bearer" and token.isascii() else ""


def new_token() -> str:
    """A token that can't be guessed: 256 bits."""
    return secrets.token_urlsafe(_BYTES)


def token_hash(token: str) -> str:
    """What is kept of a token, in hexadecimal. It has so many bits that it needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()
