"""Errors as responses: a Status for everything but unknown paths, which get text, as in Kubernetes.

Read next: `kastra.api.errors`, which knows the codes and reasons.
"""

from collections.abc import Sequence

import orjson

from kastra.api.errors import MethodNotAllowed, StatusError, Unauthorized

from .message import Response, text


def error_response(error: StatusError, warnings: Sequence[str] = ()) -> Response:
    """A refusal as the client sees it: a v1.Status, and when to try again."""
    headers = []
    if error.retry_after:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    return Response(error.code, orjson.dumps(error.status()), warnings=warnings, headers=headers)


def unknown_path() -> Response:
    """404 for a path that means nothing here, or not at present."""
    return text(404, "404 page not found\n")


def unauthorized() -> Unauthorized:
    """The same for every reason, so that it tells nothing about tokens."""
    return Unauthorized("Unauthorized")


def method_not_allowed() -> MethodNotAllowed:
    """The path exists and doesn't have this method."""
    return MethodNotAllowed("the server does not allow this method on the requested resource")
