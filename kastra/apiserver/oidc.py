"""Who is calling, as an OpenID provider says? ID tokens of a company's own login, as `kubectl` sends them.

A token is good if a key of the provider signed it, it was made for this server (`aud`) by that very issuer (`iss`), its time
has come and isn't over, and all required claims are there. Its claims then name the user and the groups. Nothing of it is
kept but the hash of tokens that were good, and nobody logs in here: getting a token is the client's matter.

Names of the server's own (`system:...`) are never taken from a provider.

Source: OpenID Connect Core 1.0; the `--oidc-*` options of kube-apiserver. Read next: `kastra.apiserver.oidc_keys`.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from kastra.clock import Clock

from .call import User
from .oidc_keys import ALGORITHMS, SigningKey
from .serviceaccount_tokens import AUDIENCE

LEEWAY = 10.0
"""Seconds by which the clocks of the provider and of this machine may differ."""

_LONGEST = 16 * 1024
_REMEMBERED = 1024
_RESERVED = "system:"
_FAR = 1e12
"""Seconds since the epoch that no time reaches, nor what is no number."""

_log = logging.getLogger("kastra.apiserver")


class Keys(Protocol):
    """The keys of the provider."""

    @property
    def generation(self) -> int:
        """Goes up whenever they have changed."""
        ...

    def find(self, kid: str) -> Sequence[SigningKey]:
        """Those of that id; all for an empty one."""
        ...

    async def refresh(self) -> bool:
        """Fetch them now, unless that was tried just now; whether it was tried."""
        ...


@dataclass(frozen=True, slots=True)
class Provider:
    """What of a provider's tokens is believed.

    Args:
        issuer: URL, exactly as it stands in tokens; https.
        client_id: for whom tokens must be.
        username_claim: names the user.
        username_prefix: put before that; empty for none.
        groups_claim: names the groups, as a text or a list of texts; empty for no groups.
        groups_prefix: put before each.
        required_claims: must be in the token, with exactly these texts.
        algorithms: of signatures that are accepted.

    Raises:
        ValueError: it can't be meant that way.
    """

    issuer: str
    client_id: str
    username_claim: str = "sub"
    username_prefix: str = ""
    groups_claim: str = ""
    groups_prefix: str = ""
    required_claims: Mapping[str, str] = field(default_factory=dict)
    algorithms: frozenset[str] = frozenset(ALGORITHMS)

    def __post_init__(self) -> None:
        if not self.issuer.startswith("https://") or "?" in self.issuer or "#" in self.issuer:
            raise ValueError(f"the issuer {self.issuer!r} must be an https URL without query and fragment")
        if not self.client_id or not self.username_claim:
            raise ValueError("a client id and a claim for the user's name are needed")
        if any(prefix.startswith(_RESERVED) for prefix in (self.username_prefix, self.groups_prefix)):
            raise ValueError(
                f"names that begin with {_RESERVED!r} are the server's own, so that is no prefix for others"
            )
        unknown = sorted(self.algorithms - set(ALGORITHMS))
        if unknown or not self.algorithms:
            raise ValueError(f"signatures {', '.join(unknown) or 'of no kind'}: there are {', '.join(ALGORITHMS)}")


class _Known(NamedTuple):
    """Whom a token names that was found good, and when it is good, in seconds since the epoch."""

    user: User
    begins: float
    ends: float


class _Bad(Exception):
    """Why a token isn't good; shows in the log only."""


class OIDCTokens:
    """Recognises ID tokens of one provider."""

    def __init__(self, provider: Provider, keys: Keys, clock: Clock) -> None:
        self._provider = provider
        self._keys = keys
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._generation = 0

    def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The user whom a good token names; None for any other. They are good for this API only."""
        if (audiences and AUDIENCE not in audiences) or len(token) > _LONGEST:
            return None
        if self._generation != self._keys.generation:
            # What a key has signed that is no more isn't good any more.
            self._generation = self._keys.generation
            self._known.clear()
        digest = hashlib.sha256(token.encode()).digest()
        found = self._known.get(digest)
        now = self._clock.now().timestamp()
        try:
            if found is None:
                found = self._read(token)
            if found.ends + LEEWAY <= now:
                raise _Bad("it is expired")
            if found.begins - LEEWAY > now:
                raise _Bad("its time has not come")
        except _Bad as error:
            _log.debug("a token was not accepted as one of %s: %s", self._provider.issuer, error)
            self._known.pop(digest, None)
            return None
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[digest] = found
        return found.user

    async def learn(self, token: str) -> bool:
        """Fetch the provider's keys if the token is signed with one that isn't known, which takes some seconds at most.

        Returns:
            Whether asking again is worthwhile.
        """
        import jwt

        if len(token) > _LONGEST:
            return False
        try:
            kid = self._header(token)
            claims = jwt.decode(token, options={"verify_signature": False})
            _, ends = _times(claims)
        except (jwt.InvalidTokenError, RecursionError, _Bad):
            return False
        if claims.get("iss") != self._provider.issuer or not _is_for(claims.get("aud"), self._provider.client_id):
            return False
        if ends + LEEWAY <= self._clock.now().timestamp() or (kid and self._keys.find(kid)):
            return False
        return await self._keys.refresh()

    def _header(self, token: str) -> str:
        """The id of the key that a token says to be signed with; empty if it doesn't. Raises _Bad, InvalidTokenError."""
        import jwt

        header = jwt.get_unverified_header(token)
        kid = header.get("kid", "")
        if header.get("alg") not in self._provider.algorithms or not isinstance(kid, str) or "crit" in header:
            raise _Bad("its header asks for what isn't accepted")
        return kid

    def _read(self, token: str) -> _Known:
        """Whom a token names, if it was signed by the provider for us. Raises _Bad."""
        import jwt

        # Times are judged at every use, by our own clock.
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp", "iss", "aud"]}
        provider = self._provider
        why: Exception = _Bad("its key is not known")
        try:
            for key in self._keys.find(self._header(token)):
                try:
                    claims = jwt.decode(
                        token,
                        key.public,
                        algorithms=sorted(key.algorithms & provider.algorithms),
                        audience=provider.client_id,
                        issuer=provider.issuer,
                        options=options,
                    )
                except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as error:
                    why = error  # without an id in the token, it may be another of the keys
                else:
                    begins, ends = _times(claims)
                    return _Known(self._user(claims), begins, ends)
        except (jwt.InvalidTokenError, jwt.InvalidKeyError, RecursionError) as error:
            why = error
        raise _Bad(str(why)) from None

    def _user(self, claims: Mapping[str, Any]) -> User:
        provider = self._provider
        for claim, value in provider.required_claims.items():
            if claims.get(claim) != value:
                raise _Bad(f"the claim {claim} isn't what is required")
        named = claims.get(provider.username_claim)
        if not isinstance(named, str) or not named.strip() or not named.isprintable():
            raise _Bad(f"the claim {provider.username_claim} names nobody")
        if provider.username_claim == "email" and claims.get("email_verified", True) is not True:
            raise _Bad("the address is not verified")
        groups = claims.get(provider.groups_claim, []) if provider.groups_claim else []
        groups = [groups] if isinstance(groups, str) else groups
        if not isinstance(groups, list) or not all(
            isinstance(one, str) and one and one.isprintable() for one in groups
        ):
            raise _Bad(f"the claim {provider.groups_claim} is no list of groups")
        name = provider.username_prefix + named
        groups = [provider.groups_prefix + group for group in groups]
        if any(one.startswith(_RESERVED) for one in (name, *groups)):
            raise _Bad(f"it names somebody of the server's own ({_RESERVED})")
        jti = claims.get("jti")
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={jti}"]} if isinstance(jti, str) else {}
        return User(name, tuple(dict.fromkeys(groups)), "", extra)


def _is_for(audience: Any, client_id: str) -> bool:
    return audience == client_id or (isinstance(audience, list) and client_id in audience)


def _times(claims: Mapping[str, Any]) -> tuple[float, float]:
    """From when until when a token is good. Raises _Bad."""

    def moment(name: str, default: float) -> float:
        value = claims.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _FAR:
            raise _Bad(f"the claim {name} is no time")
        return float(value)

    if "exp" not in claims:
        raise _Bad("it has no end")
    return max(moment("nbf", 0.0), moment("iat", 0.0)), moment("exp", 0.0)
