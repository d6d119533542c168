"""Every error the API answers, as Kubernetes' `Status` objects.

    StatusError            the caller must act; has an HTTP code, a reason and, for kubectl, details
    |- BadRequest 400      |- Unauthorized 401      |- Forbidden 403          |- NotFound 404
    |- MethodNotAllowed    |- NotAcceptable 406     |- AlreadyExists 409      |- Conflict 409
    |- Expired 410         |- RequestEntityTooLarge |- UnsupportedMediaType   |- Invalid 422
    |- TooManyRequests 429 |- InternalError 500     |- ServiceUnavailable 503 |- ServerTimeout 504
    '- InsufficientStorage 507

The text of the messages is Kubernetes' own, because kubectl and scripts show and match it.
Source: apimachinery/pkg/api/errors and apis/meta/v1 Status. Read next: `kastra.api.meta`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple


class Cause(NamedTuple):
    """One reason among several: `reason` is a metav1.CauseType, `field` a path such as `spec.steps[0].agent`."""

    reason: str
    message: str
    field: str


REQUIRED = "FieldValueRequired"
INVALID = "FieldValueInvalid"
TYPE_INVALID = "FieldValueTypeInvalid"
NOT_SUPPORTED = "FieldValueNotSupported"
FORBIDDEN = "FieldValueForbidden"
DUPLICATE = "FieldValueDuplicate"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
NAMESPACE_TERMINATING = "NamespaceTerminating"


@dataclass(eq=False)
class StatusError(Exception):
    """A refusal with the fields of metav1.Status.

    Args:
        message: the sentence shown to the user.
        name: of the object concerned, if any.
        group: API group of its resource; empty for core kinds.
        kind: Kubernetes puts the plural resource here except in Invalid, where it is the kind.
        uid: of the object concerned.
        causes: what is wrong, field by field.
        retry_after: seconds after which trying again makes sense; 0 for none.
    """

    message: str
    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: tuple[Cause, ...] = field(default=())
    retry_after: int = 0
    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __str__(self) -> str:
        return self.message

    def status(self) -> dict[str, Any]:
        """This error as a `v1.Status` object, ready to be encoded."""
        details: dict[str, Any] = {}
        for key in ("name", "group", "kind", "uid"):
            if getattr(self, key):
                details[key] = getattr(self, key)
        if self.causes:
            details["causes"] = [{"reason": c.reason, "message": c.message, "field": c.field} for c in self.causes]
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if details:
            body["details"] = details
        return body


class BadRequest(StatusError):
    """The request itself is malformed."""

    code, reason = 400, "BadRequest"


class Unauthorized(StatusError):
    """Nobody is known to be calling."""

    code, reason = 401, "Unauthorized"


class Forbidden(StatusError):
    """The caller is known and may not do this."""

    code, reason = 403, "Forbidden"


class NotFound(StatusError):
    """There is no such object or resource."""

    code, reason = 404, "NotFound"


class MethodNotAllowed(StatusError):
    """The resource does not have this verb."""

    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(StatusError):
    """None of the representations asked for exists."""

    code, reason = 406, "NotAcceptable"


class AlreadyExists(StatusError):
    """An object of that name exists."""

    code, reason = 409, "AlreadyExists"


class Conflict(StatusError):
    """The object changed meanwhile, or another field manager owns the field."""

    code, reason = 409, "Conflict"


class Expired(StatusError):
    """The resource version or continue token is too old; list again."""

    code, reason = 410, "Expired"


class RequestEntityTooLarge(StatusError):
    """The body exceeds a limit."""

    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(StatusError):
    """The body's content type is not accepted here."""

    code, reason = 415, "UnsupportedMediaType"


class Invalid(StatusError):
    """The object was understood and breaks rules; `causes` say which."""

    code, reason = 422, "Invalid"


class TooManyRequests(StatusError):
    """The caller exceeds its share; `retry_after` says when to come back."""

    code, reason = 429, "TooManyRequests"


class InternalError(StatusError):
    """A defect or fault on this side."""

    code, reason = 500, "InternalError"


class ServiceUnavailable(StatusError):
    """Not able to serve now: starting, stopping, or read-only after a disk fault."""

    code, reason = 503, "ServiceUnavailable"


class ServerTimeout(StatusError):
    """The work did not finish in the time allowed."""

    code, reason = 504, "Timeout"


class InsufficientStorage(StatusError):
    """The disk is full; reads and watches go on."""

    code, reason = 507, "InsufficientStorage"


_BY_REASON: dict[str, type[StatusError]] = {
    cls.reason: cls
    for cls in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable, AlreadyExists, Conflict, Expired,
        RequestEntityTooLarge, UnsupportedMediaType, Invalid, TooManyRequests, InternalError, ServiceUnavailable,
        ServerTimeout, InsufficientStorage,
    )
}  # fmt: skip
_BY_CODE: dict[int, type[StatusError]] = {cls.code: cls for cls in _BY_REASON.values() if cls is not AlreadyExists}


def qualified(resource: str, group: str) -> str:
    """`agents.mastra.ai`, or just `configmaps` in the core group: how messages name a resource."""
    return f"{resource}.{group}" if group else resource


def not_found(resource: str, group: str, name: str) -> NotFound:
    """Kubernetes' `agents.mastra.ai "x" not found`."""
    return NotFound(f'{qualified(resource, group)} "{name}" not found', name=name, group=group, kind=resource)


def already_exists(resource: str, group: str, name: str) -> AlreadyExists:
    """Kubernetes' `agents.mastra.ai "x" already exists`."""
    return AlreadyExists(f'{qualified(resource, group)} "{name}" already exists', name=name, group=group, kind=resource)


def conflict(resource: str, group: str, name: str, why: str = "") -> Conflict:
    """Kubernetes' optimistic-lock conflict, or another reason in `why`."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {why}'
    return Conflict(message, name=name, group=group, kind=resource)


def invalid(kind: str, group: str, name: str, causes: Iterable[Cause]) -> Invalid:
    """Kubernetes' `Agent.mastra.ai "x" is invalid: spec.a: Required value, ...`."""
    causes = tuple(causes)
    texts = [f"{c.field}: {c.message}" if c.field else c.message for c in causes]
    joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    message = f'{qualified(kind, group)} "{name}" is invalid: {joined}'
    return Invalid(message, name=name, group=group, kind=kind, causes=causes)


def has_cause(error: BaseException, reason: str) -> bool:
    """Whether an error is a refusal with a cause of that reason."""
    return isinstance(error, StatusError) and any(cause.reason == reason for cause in error.causes)


def expired(message: str = "The resourceVersion for the provided watch is too old.") -> Expired:
    """410: what the caller holds is older than what is kept."""
    return Expired(message)


def from_status(body: Mapping[str, Any]) -> StatusError:
    """The error that a `v1.Status` describes; an unknown reason falls back to the code, then to InternalError."""
    cls = _BY_REASON.get(body.get("reason", "")) or _BY_CODE.get(body.get("code", 500), InternalError)
    details = body.get("details") or {}
    return cls(
        body.get("message", ""),
        name=details.get("name", ""),
        group=details.get("group", ""),
        kind=details.get("kind", ""),
        uid=details.get("uid", ""),
        causes=tuple(
            Cause(c.get("reason", ""), c.get("message", ""), c.get("field", "")) for c in details.get("causes") or ()
        ),
        retry_after=details.get("retryAfterSeconds", 0),
    )
