"""What comes in beside the Kubernetes API: CloudEvents, and webhooks of others.

    POST /apis/mastra.ai/v1/namespaces/NAMESPACE/cloudevents    the verb `create` on `cloudevents` of mastra.ai there
    POST /webhooks/NAMESPACE/PATH                               no user: the request carries a signature of its own

Only paths, permissions and limits are here; what becomes of a request is the application's, which hands in `Inlets`. Without
them there are no such paths. Read next: `kastra.app.webhooks`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from kastra.api.cloudevents import read_http
from kastra.api.meta import GROUP, VERSION
from kastra.apiserver.authorization import Access, Authorizer, require

from .errors import method_not_allowed
from .message import Request, Response

WEBHOOKS = "webhooks"
"""First segment of the paths of webhooks."""
MAX_BODY = 1024 * 1024
"""Bytes of a body."""

_EVENTS = ("apis", GROUP, VERSION, "namespaces", None, "cloudevents")


class Answer(NamedTuple):
    """What is answered: a status code and JSON."""

    status: int
    body: Mapping[str, Any]


class Inlets(NamedTuple):
    """Who takes what comes in.

    Args:
        events: given a namespace and events. Raises StatusError.
        webhook: given a namespace, a path, headers by lower-case name, and a body. Raises StatusError.
    """

    events: Callable[[str, Sequence[Any]], Awaitable[Answer]]
    webhook: Callable[[str, str, Mapping[str, str], bytes], Awaitable[Answer]]


def is_inlet(parts: Sequence[str]) -> bool:
    """Whether a path is one of these."""
    if len(parts) == len(_EVENTS):
        # The last part first, since all else is so of every resource of the group.
        return parts[-1] == _EVENTS[-1] and all(
            wanted is None or part == wanted for part, wanted in zip(parts, _EVENTS, strict=True)
        )
    return is_webhook(parts)


def is_webhook(parts: Sequence[str]) -> bool:
    """Whether a path is one of a webhook, which is called without a user."""
    return len(parts) > 2 and parts[0] == WEBHOOKS


async def serve(inlets: Inlets, request: Request, authorizer: Authorizer) -> Response:
    """Take in what a request brings. Raises StatusError."""
    parts = request.segments
    request.verb = "create"
    if is_webhook(parts):
        if request.method != "POST":
            raise method_not_allowed()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.items()}
        body = await request.body(MAX_BODY)
        return _response(await inlets.webhook(parts[1], "/".join(parts[2:]), headers, body))
    namespace = parts[4]
    require(authorizer, request.user, Access("create", GROUP, "cloudevents", namespace=namespace))
    if request.method != "POST":
        raise method_not_allowed()
    sent = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.items()]
    events = read_http(sent, await request.body(MAX_BODY))
    return _response(await inlets.events(namespace, events))


def _response(answer: Answer) -> Response:
    return Response(answer.status, orjson.dumps(answer.body))
