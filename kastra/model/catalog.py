"""Which models does a provider offer, and can it be reached at all? One GET of `/models` with the provider's own key.

    names = await catalog.models(spec, namespace)       # raises Unavailable with a reason for a condition

Costs nothing and calls no model. What goes wrong is sorted for whoever reads conditions: the key is refused, no connection,
no trust (TLS), no answer in time, the outbound policy, an answer that is none. Read next: `kastra.model.wire`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from kastra.clock import Clock
from kastra.netguard import BadAnswer, ConnectionFailed, Guard, Limits, OutboundError, Refused, TimedOut

from .anthropic import headers as anthropic_headers
from .dialects import DIALECTS, dialect_of
from .interface import Credentials
from .openai import headers as openai_headers

MAX_LISTING = 4 * 1024 * 1024
"""Bytes of one page of a listing."""
MAX_MODELS = 2000
"""Names that are kept."""
PATIENCE = 5.0
"""Seconds that a provider has for a page."""
_PAGES = 20
_NAME = 200

Read = Callable[[Mapping[str, Any], str], Awaitable[str]]
"""Reads `{secretKeyRef}` and the like for a namespace. Raises LookupError."""


class Unavailable(Exception):
    """A provider didn't list its models.

    Args:
        reason: Unauthorized, NoRoute, TLSFailed, TimedOut, AddressRefused, NotOffered, SecretNotResolved or BadAnswer.
        message: for people; holds no secret.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Catalog:
    """Asks providers for their models.

    Args:
        guard: to call with.
        clock: of the process.
        read: values that specs refer to.
    """

    def __init__(self, guard: Guard, clock: Clock, read: Read) -> None:
        self._guard = guard
        self._clock = clock
        self._read = read
        self._made = clock.monotonic()

    def age(self) -> float:
        """Seconds since it was made, which is since the process began to work."""
        return self._clock.monotonic() - self._made

    @staticmethod
    def offers(provider: str) -> bool:
        """Whether providers of this type can be asked."""
        return provider in DIALECTS

    async def models(self, spec: Mapping[str, Any], namespace: str) -> list[str]:
        """The names that a provider lists, sorted.

        Args:
            spec: a ModelProvider's, in its normal form.
            namespace: of the object, for its Secrets.

        Raises:
            Unavailable: with the reason.
        """
        dialect = dialect_of(spec["type"], spec.get("dialect"))
        base = (spec.get("baseURL") or dialect.base_url).rstrip("/")
        secret = await self._secret(spec, namespace)
        if dialect.needs_key and not secret.api_key and not secret.headers:
            raise Unavailable("SecretNotResolved", "no API key is configured, and the provider answers nobody without")
        fields = anthropic_headers(secret) if dialect.wire == "anthropic" else openai_headers(secret)
        fields.pop("content-type")
        allow_private = bool(spec.get("allowPrivate")) or (dialect.local and not spec.get("baseURL"))
        found: set[str] = set()
        query = "?limit=1000" if dialect.wire == "anthropic" else ""
        for _ in range(_PAGES):
            page = await self._page(f"{base}/models{query}", fields, secret, allow_private, spec.get("proxy") or "")
            entries = page.get("data", page.get("models"))
            if not isinstance(entries, list):
                raise Unavailable("BadAnswer", "the listing of models has no list of them")
            found.update(name for entry in entries if (name := _name(entry)))
            last = page.get("last_id")
            if len(found) >= MAX_MODELS or not page.get("has_more") or not isinstance(last, str) or not last.isascii():
                break
            query = f"?limit=1000&after_id={last[:_NAME]}"
        return sorted(found)[:MAX_MODELS]

    async def _secret(self, spec: Mapping[str, Any], namespace: str) -> Credentials:
        async def value(source: Mapping[str, Any]) -> str:
            return await self._read({key: part for key, part in source.items() if part is not None}, namespace)

        try:
            key = await value(spec["apiKeyFrom"]) if spec.get("apiKeyFrom") else ""
            headers = {
                header["name"]: header["value"] if header.get("valueFrom") is None else await value(header["valueFrom"])
                for header in spec.get("headers") or ()
            }
            trusted = (spec.get("tls") or {}).get("caFrom")
            return Credentials(key.strip(), headers, await value(trusted) if trusted else "")
        except LookupError as error:
            raise Unavailable(
                "SecretNotResolved", str(error.args[0]) if error.args else "a secret is missing"
            ) from None

    async def _page(
        self, url: str, fields: Mapping[str, str], secret: Credentials, allow_private: bool, proxy: str
    ) -> Mapping[str, Any]:
        try:
            answer = await self._guard.request(
                "GET",
                url,
                headers=fields,
                allow_private=allow_private,
                limits=Limits(PATIENCE, PATIENCE / 2, MAX_LISTING, 0),
                authorities=secret.authorities,
                proxy=proxy,
            )
        except OutboundError as error:
            raise Unavailable(_reason(error), str(error)) from None
        if answer.status in (401, 403):
            raise Unavailable("Unauthorized", f"the provider refused the credentials (HTTP {answer.status})")
        if answer.status in (404, 405, 501):
            raise Unavailable("NotOffered", f"the provider lists no models (HTTP {answer.status})")
        if answer.status != 200:
            raise Unavailable("BadAnswer", f"the provider answered HTTP {answer.status} to the question for its models")
        try:
            body = orjson.loads(answer.body)
        except ValueError:
            raise Unavailable("BadAnswer", "the listing of models is not JSON") from None
        return body if isinstance(body, dict) else {"data": body}


def _name(entry: Any) -> str:
    name = entry.get("id", entry.get("name")) if isinstance(entry, dict) else entry
    return name if isinstance(name, str) and name.isprintable() and 0 < len(name) <= _NAME else ""


def _reason(error: OutboundError) -> str:
    if isinstance(error, Refused):
        return "AddressRefused"
    if isinstance(error, TimedOut):
        return "TimedOut"
    if isinstance(error, BadAnswer):
        return "BadAnswer"
    assert isinstance(error, ConnectionFailed)
    text = str(error)
    return "TLSFailed" if any(word in text for word in ("SSL", "CERTIFICATE", "certificate")) else "NoRoute"
