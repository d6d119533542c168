"""What every request passes before and after it is served: identity, limits, the audit log, and a net below.

In this order: an id (`Audit-Id`), the number of requests in flight (429), identity (401) and whose identity is taken on
(403), a deadline for writes (504), and an audit line whatever the outcome. A defect of ours becomes a 500 that names the id; its traceback stays in the log.

Source: apiserver/pkg/server/filters. Read next: `kastra.apiserver.http.server`.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kastra.api.durations import parse_duration
from kastra.api.errors import BadRequest, Forbidden, InternalError, ServerTimeout, StatusError, TooManyRequests
from kastra.api.uids import new_uid
from kastra.clock import Clock

from .authentication import Authenticator
from .authorization import AllowEverything, Authorizer
from .deadlines import DeadlineExceeded, Deadlines
from .http.errors import error_response, unauthorized
from .http.health import HEALTH
from .http.inlets import is_webhook
from .http.message import Disconnected, Request, Response
from .impersonation import impersonated

Handler = Callable[[Request], Awaitable[Response]]

_OPEN_PATHS = frozenset({*HEALTH, "version"})
_ID = re.compile(rb"[A-Za-z0-9-]{1,64}")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOCAL_HOST = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?")
audit_log = logging.getLogger("kastra.audit")
_log = logging.getLogger("kastra.apiserver")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server bears.

    Args:
        in_flight: requests at the same time; streams that have begun don't count.
        in_flight_per_user: of these, those of one user, so that one can't take the others' places.
        deadline: seconds that a write may take, also the most that a client can ask for with `timeout`.
        watches_per_user: streams that one user may have open.
    """

    in_flight: int = 400
    in_flight_per_user: int = 200
    deadline: float = 60.0
    watches_per_user: int = 15_000


class Filters:
    """The chain around a handler.

    Args:
        handler: serves what passes.
        authorizer: says who may act as somebody else.
        local: refuse what a browser was talked into: foreign Host names and anything with an Origin. For a listener
            without authentication.
    """

    def __init__(
        self,
        handler: Handler,
        authenticator: Authenticator,
        clock: Clock,
        limits: Limits | None = None,
        *,
        authorizer: Authorizer | None = None,
        local: bool = False,
    ) -> None:
        self._handler = handler
        self._authorizer = authorizer or AllowEverything()
        self._authenticator = authenticator
        self._clock = clock
        self._limits = limits or Limits()
        self._local = local
        self._deadlines = Deadlines()
        self._in_flight = 0
        self._of_user: dict[str, int] = {}

    async def handle(self, request: Request) -> Response:
        """Serve a request; whatever happens, there is a response. Raises Disconnected."""
        sent = request.headers.get(b"audit-id", b"")
        request.id = sent.decode() if _ID.fullmatch(sent) else new_uid()
        begun = self._clock.monotonic()
        self._in_flight += 1
        try:
            response = await self._served(request)
        except StatusError as error:
            response = error_response(error, request.warnings)
        except Disconnected:
            raise
        except Exception:  # noqa: BLE001 - told as a 500; the log has it
            _log.exception("defect while serving a request", extra={"id": request.id, "path": request.path})
            response = internal_error(request.id)
        finally:
            self._in_flight -= 1
        if audit_log.isEnabledFor(logging.INFO):
            more: dict[str, object] = {"impersonator": request.impersonator} if request.impersonator else {}
            if request.annotations:
                more["annotations"] = dict(request.annotations)
            audit_log.info(
                "request",
                extra={
                    "id": request.id,
                    "user": request.user.name,
                    **more,
                    "verb": request.verb or request.method.lower(),
                    "path": request.path,
                    "code": response.status,
                    "seconds": round(self._clock.monotonic() - begun, 6),
                },
            )
        return response

    async def _served(self, request: Request) -> Response:
        public = bool(request.segments) and request.segments[0] in _OPEN_PATHS
        if self._in_flight > self._limits.in_flight and not public:
            raise TooManyRequests("Too many requests, please try again later.", retry_after=1)
        if self._local:
            _check_local(request)
        if not (public or is_webhook(request.segments)) or request.segments[0] == "version":
            user = self._authenticator.authenticate(request.headers, request.certificate)
            if user is None and await self._authenticator.learn(request.headers):
                user = self._authenticator.authenticate(request.headers, request.certificate)
            if user is None and not public:
                raise unauthorized()
            if user is not None:
                request.user = user
                request.user = impersonated(self._authorizer, user, request.headers)
                request.impersonator = user.name if request.user is not user else ""
        if public:
            return await self._handler(request)
        name = request.user.name
        running = self._of_user.get(name, 0)
        if running >= self._limits.in_flight_per_user:
            raise TooManyRequests(f"Too many requests of {name!r} at once, please try again later.", retry_after=1)
        self._of_user[name] = running + 1
        try:
            return await self._within_deadline(request)
        finally:
            if self._of_user[name] == 1:
                del self._of_user[name]
            else:
                self._of_user[name] -= 1

    async def _within_deadline(self, request: Request) -> Response:
        if request.method in _READS:
            return await self._handler(request)
        seconds = self._deadline(request)
        try:
            return await self._deadlines.within(seconds, self._handler(request))
        except DeadlineExceeded:
            why = f"Timeout: request did not complete within {seconds:g}s"
            raise ServerTimeout(why, retry_after=1) from None

    def _deadline(self, request: Request) -> float:
        asked = request.query.get("timeout", "")
        if not asked:
            return self._limits.deadline
        try:
            seconds = parse_duration(asked)
        except ValueError:
            raise BadRequest(f"invalid timeout {asked[:64]!r}: write a duration such as 30s") from None
        return min(seconds, self._limits.deadline) if seconds > 0 else self._limits.deadline


def internal_error(request_id: str) -> Response:
    """500 that says where to look, and nothing of what happened."""
    message = f"Internal error occurred: the server's log has more under the request id {request_id}"
    return error_response(InternalError(message))


def _check_local(request: Request) -> None:
    """Only programs of this machine: a page in a browser can send requests here, but not without these headers."""
    if b"origin" in request.headers or not _LOCAL_HOST.fullmatch(request.headers.get(b"host", b"")):
        raise Forbidden("this listener has no authentication and serves local programs only")
