"""How does a request say who it is from? A bearer token, a password, a key in a header or in the query, or OAuth 2.

Values come from Secrets at each call, so a rotated one is used by the next. A token of OAuth 2 (client credentials) is asked for
once, kept until shortly before it expires, and forgotten when an endpoint refuses it.

Source: RFC 6749 section 4.4, RFC 7617. Read next: `kastra.tool.http`.
"""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import anyio

from kastra.netguard import OutboundError
from kastra.telemetry import register_secret
from kastra.tool.interface import ToolError, ToolServices

_EARLIER = 30.0
"""Seconds before its end that a token is taken for expired."""
_UNKNOWN = 300.0
"""Seconds that a token is kept whose end isn't told."""


class HttpAuth:
    """Authenticates the requests of one tool.

    Args:
        spec: `{type, valueFrom, header?, username?, parameter?, tokenURL?, clientID?, scope?}`.
        services: the guard, the secrets and the clock.
        allow_private: whether the tool may call private addresses, for the token's endpoint too.
    """

    def __init__(self, spec: Mapping[str, Any], services: ToolServices, *, allow_private: bool) -> None:
        self._spec = spec
        self._services = services
        self._allow_private = allow_private
        self._lock = anyio.Lock()
        self._token = ""
        self._expires = 0.0

    async def apply(self, url: str, headers: dict[str, str], secrets: list[str]) -> str:
        """Add what authenticates to `headers`, or to the URL, which is returned; `secrets` gets what must not be shown.

        Raises:
            LookupError: a secret is missing.
            ToolError: there is no token to be had.
        """
        kind = self._spec["type"]
        secret = await self._services.secrets(self._spec["valueFrom"])
        secrets.append(secret)
        name = self._spec.get("header") or "Authorization"
        if kind == "query":
            parameter = quote(self._spec["parameter"], safe="")
            encoded = quote(secret, safe="")
            secrets.append(encoded)
            return f"{url}{'&' if '?' in url else '?'}{parameter}={encoded}"
        if kind == "bearer":
            value = f"Bearer {secret}"
        elif kind == "basic":
            pair = base64.b64encode(f"{self._spec.get('username') or ''}:{secret}".encode()).decode()
            register_secret(pair)
            value = f"Basic {pair}"
        elif kind == "oauth2":
            token = await self._current(secret)
            secrets.append(token)
            value = f"Bearer {token}"
        else:
            value = secret
        headers[name] = value
        secrets.append(value)
        return url

    def forget(self) -> bool:
        """An endpoint refused what was sent. Returns whether another attempt would send something else."""
        had = bool(self._token)
        self._token = ""
        return had

    async def _current(self, secret: str) -> str:
        async with self._lock:
            if not self._token or self._services.clock.monotonic() >= self._expires:
                await self._ask(secret)
            return self._token

    async def _ask(self, secret: str) -> None:
        asked = {"grant_type": "client_credentials"}
        if self._spec.get("scope"):
            asked["scope"] = self._spec["scope"]
        pair = f"{quote(self._spec['clientID'], safe='')}:{quote(secret, safe='')}"
        encoded = base64.b64encode(pair.encode()).decode()
        register_secret(encoded)
        try:
            answer = await self._services.guard.request(
                "POST",
                self._spec["tokenURL"],
                headers={
                    "Authorization": f"Basic {encoded}",
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Accept": "application/json",
                },
                content=urlencode(asked).encode(),
                allow_private=self._allow_private,
            )
        except OutboundError as error:
            raise ToolError(f"the token endpoint: {error}", type="authorization") from None
        try:
            found = answer.json()
            token = found["access_token"]
            if not isinstance(token, str) or not token:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            # What it says isn't shown: it may hold the token or repeat the secret.
            temporary = answer.status == 429 or answer.status >= 500
            raise ToolError(
                f"the token endpoint answered HTTP {answer.status} without a token",
                type="authorization",
                retryable=temporary,
            ) from None
        lasts = found.get("expires_in")
        seconds = float(lasts) if isinstance(lasts, (int, float)) and not isinstance(lasts, bool) else _UNKNOWN
        register_secret(token)
        self._token = token
        self._expires = self._services.clock.monotonic() + max(0.0, seconds - _EARLIER)
