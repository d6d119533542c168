"""How is a provider called, whichever wire it speaks? One POST with a key, bounded in time and size, every failure a ModelError.

    whole()    the complete answer
    events()   a stream's events, to be read as they arrive; closing them closes the connection

Keys are asked for at each call, sent in headers, and appear in no error: what a provider says about a failure is shown
without them, and not at all where it refuses the key. Never retries and never follows a redirect.

Source: RFC 9110 (Retry-After); the providers' API references. Read next: `kastra.model.events`; `kastra.netguard.guard`.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from kastra.api.durations import parse_duration
from kastra.clock import Clock
from kastra.netguard import (
    Answer,
    BadAnswer,
    ConnectionFailed,
    Limits,
    OutboundError,
    Refused,
    StreamedAnswer,
    TimedOut,
    over,
)
from kastra.telemetry import without_secrets

from .dialects import Dialect
from .events import Events, complete
from .interface import Credentials, CredentialsMissing, ModelConfig, ModelError, ModelServices

MAX_ANSWER = 8 * 1024 * 1024
"""Bytes of a whole answer, and of what a stream adds up to."""
MAX_STREAM = 64 * 1024 * 1024
"""Bytes of a stream, in which every few characters come with some hundred around them."""
_MAX_REFUSAL = 64 * 1024
_LONGEST_RETRY_AFTER = 3600.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds of one call in seconds.

    Args:
        total: for the whole call.
        connect: until there is a connection.
        first: until the first event of a stream.
        idle: between two pieces of a stream.
    """

    total: float = 120.0
    connect: float = 10.0
    first: float = 120.0
    idle: float = 60.0

    @classmethod
    def of(cls, given: Any) -> "Timeouts":
        """From the parameter `timeout`: a duration, or `{total, connect, firstToken, idle}`.

        Raises:
            ModelError: it makes no sense.
        """
        if given is None:
            return _USUAL
        fields = given if isinstance(given, Mapping) else {"total": given}
        names = {"total": "total", "connect": "connect", "firstToken": "first", "idle": "idle"}
        found: dict[str, float] = {}
        for name, value in fields.items():
            path = f"model.parameters.timeout{f'.{name}' if fields is given else ''}"
            if name not in names:
                raise ModelError("invalid_request", f"{path}: unknown; known: {', '.join(names)}")
            try:
                found[names[name]] = parse_duration(value)
            except ValueError as error:
                raise ModelError("invalid_request", f"{path}: {error}") from None
        return cls(**found)


_USUAL = Timeouts()


class Endpoint:
    """One model of one provider, as something to call.

    Args:
        config: of the model.
        dialect: of the provider.
        services: to call with.
    """

    def __init__(self, config: ModelConfig, dialect: Dialect, services: ModelServices) -> None:
        self._config = config
        self._dialect = dialect
        self._guard = services.guard
        self._clock = services.clock
        self._base = (config.base_url or dialect.base_url).rstrip("/")
        # The built-in address of a local provider isn't one that a manifest chose.
        self._allow_private = config.allow_private or (dialect.local and not config.base_url)
        self.who = f"model {config.provider}/{config.name}"

    async def credentials(self) -> Credentials:
        """What to call with, read now.

        Raises:
            ModelError: of kind `authorization`: there are none and the provider needs them.
        """
        try:
            credentials = await self._config.credentials()
        except CredentialsMissing as error:
            raise ModelError("authorization", f"{self.who}: {error}") from None
        if self._dialect.needs_key and not credentials.api_key and not credentials.headers:
            raise ModelError("authorization", f"{self.who}: no API key is configured")
        return credentials

    async def whole(
        self, method: str, path: str, headers: Mapping[str, str], body: Any, timeouts: Timeouts, secret: Credentials
    ) -> Answer:
        """The complete answer, of status 200.

        Args:
            method: of HTTP.
            path: below the base URL.
            headers: with the key.
            body: JSON value; None for none.
            timeouts: of which `total` and `connect` count.
            secret: what the headers hold, so that no error shows it.

        Raises:
            ModelError: there is none.
        """
        try:
            answer = await self._guard.request(
                method,
                self._base + path,
                headers={**headers, "accept": "application/json"},
                content=b"" if body is None else orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS),
                allow_private=self._allow_private,
                limits=Limits(timeouts.total, timeouts.connect, MAX_ANSWER, 0),
                authorities=secret.authorities,
                proxy=self._config.proxy,
            )
        except OutboundError as error:
            raise self.failed(error) from None
        if answer.status != 200:
            raise self.refusal(answer, secret)
        return answer

    async def events(
        self, path: str, headers: Mapping[str, str], body: Any, timeouts: Timeouts, secret: Credentials
    ) -> Events | Answer:
        """The events of a streamed answer, which the caller closes; or the whole answer, from a provider that doesn't stream.

        Whether a stream that ends was complete is the reader's to say.

        Raises:
            ModelError: there is no answer, or it took too long.
        """
        limits = Limits(max(timeouts.first, timeouts.idle), timeouts.connect, MAX_STREAM, 0)
        begun, first = asyncio.get_running_loop().time(), min(timeouts.first, timeouts.total)
        ends, until, late = begun + timeouts.total, begun + first, f"no first token within {first:g}s"
        answer: StreamedAnswer | None = None
        events: Events | None = None
        try:
            answer = await self._guard.open(
                "POST",
                self._base + path,
                headers={**headers, "accept": "text/event-stream"},
                content=orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS),
                allow_private=self._allow_private,
                limits=limits,
                authorities=secret.authorities,
                proxy=self._config.proxy,
                until=until,
            )
            if answer.status != 200:
                raise self.refusal(await complete(answer, _MAX_REFUSAL, until), secret)
            if "json" in answer.headers.get("content-type", ""):
                until = ends
                return await complete(answer, MAX_ANSWER, ends)
            events = Events(
                self.who,
                answer,
                first=until,
                ends=ends,
                total=timeouts.total,
                idle=timeouts.idle,
                late=late,
                failed=self.failed,
            )
            return events
        except TimedOut as error:
            if not over(until):
                # It was the connection that took too long.
                raise self.failed(error) from None
            raise ModelError("timeout", f"{self.who}: {late}") from None
        except OutboundError as error:
            raise self.failed(error) from None
        finally:
            if answer is not None and events is None:
                await answer.aclose()

    def failed(self, error: OutboundError) -> ModelError:
        """A call that yielded no answer."""
        text = f"provider {self._config.provider}: {error}"
        if isinstance(error, Refused):
            return ModelError("refused", text)
        if isinstance(error, TimedOut):
            return ModelError("timeout", text)
        if isinstance(error, ConnectionFailed):
            return ModelError("unavailable", text)
        assert isinstance(error, BadAnswer)
        return ModelError("malformed", text)

    def refusal(self, answer: Answer, secret: Credentials) -> ModelError:
        """An answer that isn't 200."""
        status = answer.status
        if status in (401, 403):
            # The body is left out: providers quote the key in it.
            return ModelError("authorization", f"{self.who}: the provider refused the credentials (HTTP {status})")
        said, code = self.said(answer, secret)
        text = f"{self.who}: HTTP {status}{f': {said}' if said else ''}"
        wait = retry_after(answer.headers, self._clock)
        if status == 429:
            return ModelError("rate_limit", text, retryable=code != "insufficient_quota", retry_after=wait)
        if status in (408, 409, 425) or status >= 500:
            return ModelError("timeout" if status == 408 else "unavailable", text, retry_after=wait)
        if code in self._dialect.malformed_codes:
            return ModelError("malformed", text)
        return ModelError("invalid_request" if 400 <= status < 500 else "malformed", text, retryable=False)

    def said(self, answer: Answer, secret: Credentials) -> tuple[str, str]:
        """What the provider says went wrong, without keys, and its code for it."""
        try:
            body = answer.json()
        except ValueError:
            return "", ""
        return self.told(body.get("error") if isinstance(body, dict) else None, secret)

    def told(self, error: Any, secret: Credentials) -> tuple[str, str]:
        """The text, without keys, and the code of an error object, as both wires have it."""
        code: Any = ""
        if isinstance(error, dict):
            code = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
            error = error.get("message")
        if not isinstance(error, str):
            return "", code if isinstance(code, str) else ""
        said: str = without_secrets(error[:500])
        for value in (secret.api_key, *secret.headers.values()):
            said = said.replace(value, "***") if len(value) > 3 else said
        return said, code if isinstance(code, str) else ""


def retry_after(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds to wait as the headers say, in seconds, milliseconds or as a date; at most an hour."""
    text = headers.get("retry-after", "")
    milliseconds = headers.get("retry-after-ms", "")
    try:
        if milliseconds:
            wait = float(milliseconds) / 1000
        elif text[:1].isdigit():
            wait = float(text)
        elif text:
            wait = (parsedate_to_datetime(text) - clock.now()).total_seconds()
        else:
            return None
    except (TypeError, ValueError):
        return None
    # A number that isn't one (nan) fails both comparisons.
    return min(wait, _LONGEST_RETRY_AFTER) if wait > 0 else 0.0
