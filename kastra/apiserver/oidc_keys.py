"""With which keys does an OpenID provider sign at present?

They are fetched when the server starts and from then on in the background: the discovery document of the issuer, which must
name exactly that issuer, then the JSON Web Key Set that it points to. A token with a key that nobody knows yet makes them be
fetched at once, but not more often than every few seconds. As long as the provider can't be reached the last keys stay good.
Never calls anything but https, and never follows a redirect.

Source: OpenID Connect Discovery 1.0, RFC 7517. Read next: `kastra.apiserver.oidc`.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from kastra.clock import Clock
from kastra.netguard import Guard, Limits, OutboundError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_BY_CURVE = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
ALGORITHMS = (*RSA_ALGORITHMS, *_BY_CURVE.values())
"""Signatures that are accepted: those that take a private key to make. `none` and the HMACs never are."""

LEAST_INTERVAL = 10.0
"""Seconds between two fetches, however many unknown keys come up."""

_REFRESH = 900.0
_RETRY = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_WAIT = 5.0
_MOST_WAITING = 64
_MOST_KEYS = 64
_RSA_BITS = range(2048, 8193)
_LIMITS = Limits(timeout=10.0, connect_timeout=5.0, max_bytes=256 * 1024, max_redirects=0)
_log = logging.getLogger("kastra.apiserver")


class SigningKey(NamedTuple):
    """One public key.

    Args:
        id: `kid`; may be empty.
        algorithms: with which its signatures may be made.
    """

    id: str
    algorithms: frozenset[str]
    public: "RSAPublicKey | EllipticCurvePublicKey"


class Unusable(Exception):
    """What the provider answered is not what it should be."""


class ProviderKeys:
    """The keys of one provider; `run` keeps them fresh.

    Args:
        issuer: URL, as it stands in tokens.
        guard: makes the calls.
        authorities: certificates (PEM) of those who may vouch for the provider, instead of the system's.
    """

    def __init__(self, issuer: str, guard: Guard, clock: Clock, *, authorities: str = "") -> None:
        self._issuer = issuer
        self._guard = guard
        self._clock = clock
        self._authorities = authorities
        self._keys: tuple[SigningKey, ...] = ()
        self._attempted = float("-inf")
        self._asked = anyio.Event()
        self._done = anyio.Event()
        self._waiting = 0
        self._trouble = ""
        self.generation = 0
        """Goes up whenever the keys have changed."""

    def find(self, kid: str) -> Sequence[SigningKey]:
        """The keys of that id; all there are for an empty one."""
        return [key for key in self._keys if not kid or key.id == kid]

    async def run(self) -> None:
        """Fetch the keys now and then, until cancelled. What goes wrong is logged, and tried again."""
        failures = 0
        while True:
            fetched = await self._fetch()
            failures = 0 if fetched else failures + 1
            await self._pause(_REFRESH if fetched else _RETRY[min(failures, len(_RETRY)) - 1])

    async def refresh(self) -> bool:
        """Fetch the keys now and wait for them, for a few seconds at most.

        Returns:
            Whether it was tried; False at once if that was done just now, or too many wait already.
        """
        under_way = self._asked.is_set()
        if not under_way and self._clock.monotonic() - self._attempted < LEAST_INTERVAL:
            return False
        if self._waiting >= _MOST_WAITING:
            return False
        self._waiting += 1
        try:
            with anyio.move_on_after(_WAIT):
                self._asked.set()
                await self._done.wait()
                return True
            return False
        finally:
            self._waiting -= 1

    async def _pause(self, seconds: float) -> None:
        """Until the time is up, or somebody asks."""
        self._asked = anyio.Event()

        async with anyio.create_task_group() as tasks:

            async def alarm() -> None:
                await self._clock.sleep(seconds)
                self._asked.set()

            tasks.start_soon(alarm)
            await self._asked.wait()
            tasks.cancel_scope.cancel()

    async def _fetch(self) -> bool:
        # From here on, whoever asks waits for this very fetch.
        self._asked.set()
        self._attempted = self._clock.monotonic()
        try:
            keys = await self._read()
        except (OutboundError, Unusable) as error:
            self._tell(str(error))
            return False
        else:
            self._tell("" if keys else f"{self._issuer}: none of its keys can be used")
            if keys != self._keys:
                self._keys = keys
                self.generation += 1
            return True
        finally:
            done, self._done = self._done, anyio.Event()
            done.set()

    def _tell(self, trouble: str) -> None:
        """Log what is wrong with the provider once, and when it is over."""
        if trouble and trouble != self._trouble:
            _log.warning("keys of the OpenID provider can't be had, so new tokens of it may be refused: %s", trouble)
        elif self._trouble and not trouble:
            _log.info("the OpenID provider %s answers again", self._issuer)
        self._trouble = trouble

    async def _read(self) -> tuple[SigningKey, ...]:
        """Raises OutboundError, Unusable."""
        document = await self._get(f"{self._issuer.removesuffix('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer:
            raise Unusable(f"{self._issuer}: its discovery document names another issuer")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not url.startswith("https://"):
            raise Unusable(f"{self._issuer}: jwks_uri of its discovery document is no https URL")
        rows = (await self._get(url)).get("keys")
        if not isinstance(rows, list) or len(rows) > _MOST_KEYS:
            raise Unusable(f"{self._issuer}: its key set is no list of at most {_MOST_KEYS} keys")
        return tuple(key for row in rows if (key := _signing_key(row)) is not None)

    async def _get(self, url: str) -> Mapping[str, Any]:
        answer = await self._guard.request(
            "GET", url, headers={"accept": "application/json"}, limits=_LIMITS, authorities=self._authorities
        )
        if answer.status != 200:
            raise Unusable(f"{self._issuer}: answered {answer.status}")
        try:
            value = answer.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Unusable(f"{self._issuer}: answered what is no JSON object")
        return value


def _signing_key(row: Any) -> SigningKey | None:
    """A key of a set; None for one that signs nothing here: encryption, symmetric, private, weak, unknown."""
    import jwt
    from jwt.algorithms import ECAlgorithm, RSAAlgorithm

    if not isinstance(row, dict) or row.get("use", "sig") != "sig" or "d" in row or "k" in row:
        return None
    kid, named = row.get("kid", ""), row.get("alg")
    if not isinstance(kid, str):
        return None
    public: Any
    try:
        if row.get("kty") == "RSA":
            public, able = RSAAlgorithm.from_jwk(row), frozenset(RSA_ALGORITHMS)
            if public.key_size not in _RSA_BITS:
                return None
        elif row.get("kty") == "EC" and row.get("crv") in _BY_CURVE:
            public, able = ECAlgorithm.from_jwk(row), frozenset({_BY_CURVE[row["crv"]]})
        else:
            return None
    except (jwt.InvalidKeyError, ValueError, TypeError, KeyError):
        return None
    if named is not None:
        able &= {named} if isinstance(named, str) else frozenset()
    return SigningKey(kid, able, public) if able else None
