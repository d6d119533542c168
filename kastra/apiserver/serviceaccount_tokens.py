"""Tokens of ServiceAccounts: short-lived, signed, bound to the account that they were made for.

A token is a JSON Web Token signed with this server's own key (Ed25519). Nothing of it is kept: it is good as long as it
isn't expired and the very ServiceAccount that it names, by uid, exists. So deleting the account ends all its tokens.

Source: RFC 7519, RFC 8037; KEP-1205 (bound service account tokens). Read next: `kastra.apiserver.authentication`.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from kastra.api.errors import INVALID as INVALID_VALUE
from kastra.api.errors import BadRequest, Cause, NotFound, invalid
from kastra.api.uids import new_uid
from kastra.clock import Clock, rfc3339
from kastra.store.interface import Key, Storage

from .authorization import SERVICE_ACCOUNT, service_account
from .call import User

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ISSUER = "kastra"
AUDIENCE = "kastra"
"""For whom a token is when nothing else was asked for: this API."""

_DEFAULT_SECONDS, _LEAST_SECONDS, _MOST_SECONDS = 3600, 600, 1 << 32
_CLAIM = "kubernetes.io"
_ALGORITHM = "EdDSA"
_REMEMBERED = 1024


class ServiceAccountTokens:
    """Makes and recognises them.

    Args:
        key: signs.
        storage: has the ServiceAccounts.
    """

    def __init__(self, key: "Ed25519PrivateKey", storage: Storage, clock: Clock) -> None:
        self._key = key
        self._public = key.public_key()
        self._storage = storage
        self._clock = clock
        self._verified: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}

    def request(self, namespace: str, name: str, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a TokenRequest: the same object with the token and when it expires in its status.

        Raises:
            NotFound: there is no such ServiceAccount.
            BadRequest: the spec isn't one.
            Invalid: it asks for too short or too long a life, or is bound to another object.
        """
        import jwt

        account = self._account(namespace, name)
        if account is None:
            raise NotFound(f'serviceaccounts "{name}" not found', name=name, kind="serviceaccounts")
        spec = _spec(obj)
        seconds = spec.get("expirationSeconds")
        seconds = _DEFAULT_SECONDS if seconds is None else seconds
        causes = []
        if type(seconds) is not int or not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
            why = f"Invalid value: {str(seconds)[:64]}: may not specify a duration less than 10 minutes or more than 2^32 seconds"
            causes.append(Cause(INVALID_VALUE, why, "spec.expirationSeconds"))
        if spec.get("boundObjectRef"):
            why = "Invalid value: tokens are bound to their ServiceAccount only"
            causes.append(Cause(INVALID_VALUE, why, "spec.boundObjectRef"))
        if causes:
            raise invalid("TokenRequest", "authentication.k8s.io", name, causes)
        audiences = list(spec.get("audiences") or [AUDIENCE])
        now = self._clock.now()
        expires = now + timedelta(seconds=seconds)
        claims = {
            "iss": ISSUER,
            "sub": f"{SERVICE_ACCOUNT}{namespace}:{name}",
            "aud": audiences,
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(expires.timestamp()),
            "jti": new_uid(),
            _CLAIM: {"namespace": namespace, "serviceaccount": {"name": name, "uid": account["metadata"]["uid"]}},
        }
        token = jwt.encode(claims, self._key, algorithm=_ALGORITHM)
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": rfc3339(now)},
            "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": rfc3339(expires)},
        }

    def user_of(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """The ServiceAccount of a good token, as a user; None for any other.

        Args:
            audiences: for one of which it must be; empty for this API.
        """
        claims = self._claims(token, tuple(audiences) or (AUDIENCE,))
        if claims is None:
            return None
        bound = claims.get(_CLAIM) or {}
        namespace, named = bound.get("namespace", ""), bound.get("serviceaccount") or {}
        account = self._account(namespace, named.get("name", ""))
        if account is None or account["metadata"]["uid"] != named.get("uid"):
            return None
        if claims["exp"] <= self._clock.now().timestamp():
            return None
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims.get('jti', '')}"]}
        return service_account(namespace, named["name"], named["uid"], extra)

    def _claims(self, token: str, audiences: tuple[str, ...]) -> dict[str, Any] | None:
        """What a token says, if its signature, issuer and audience are right. Not whether it is expired or revoked."""
        known = self._verified.get((token, audiences))
        if known is not None:
            return known
        import jwt

        # Expiry is judged at every use, by our own clock.
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp", "sub", "iss"]}
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._public, algorithms=[_ALGORITHM], audience=audiences, issuer=ISSUER, options=options
            )
        except (jwt.InvalidTokenError, RecursionError):
            return None
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[(token, audiences)] = claims
        return claims

    def _account(self, namespace: str, name: str) -> dict[str, Any] | None:
        entry = self._storage.get(Key("serviceaccounts", namespace, name))
        if entry is None:
            return None
        account: dict[str, Any] = orjson.loads(entry.body)
        return None if account["metadata"].get("deletionTimestamp") else account


def _spec(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a TokenRequest. Raises BadRequest where its types are wrong."""
    spec = obj.get("spec")
    spec = {} if spec is None else spec
    if not isinstance(spec, dict):
        raise BadRequest("spec must be an object")
    audiences = spec.get("audiences") or []
    if not isinstance(audiences, list) or not all(isinstance(audience, str) for audience in audiences):
        raise BadRequest("spec.audiences must be a list of strings")
    return dict(spec)
