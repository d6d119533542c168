"""With whose rights does a tool act on Kastra itself? In a direct call with those of who asks, in a Run with those of Runs.

What a manifest names (the Workflows, the types of events) is what its author lets the agent do; a caller who may not do that
by himself can't have it done by asking the agent directly. Read next: `kastra.app.tool_platform`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from kastra.api.errors import Forbidden
from kastra.api.meta import GROUP
from kastra.client.interface import Client

_caller: ContextVar[Client | None] = ContextVar("kastra_caller", default=None)


@contextmanager
def asked_by(client: Client | None) -> Iterator[None]:
    """What tools do within is done with the rights of `client`; None for those of Runs."""
    before = _caller.set(client)
    try:
        yield
    finally:
        _caller.reset(before)


def caller() -> Client | None:
    """The client of who asks directly; None within a Run."""
    return _caller.get()


async def require(verb: str, resource: str, namespace: str) -> None:
    """Refuse what who asks directly may not do.

    Raises:
        Forbidden: the caller lacks the permission.
    """
    client = caller()
    if client is None:
        return
    attributes = {"verb": verb, "group": GROUP, "resource": resource, "namespace": namespace}
    review = await client.create(
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
    )
    if not review.status.get("allowed"):
        raise Forbidden(f"you can't {verb} {resource} in namespace {namespace}")
