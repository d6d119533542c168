"""Approvals over a Client: how a Run asks, and how it learns of the decision.

The name follows from Run and stepKey, so a second creation after a crash finds the first. One that somebody else made under
that name asks for something else, and is refused. Read next: `kastra.engine.approvals`, then `controllers/approval.py`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.api.errors import AlreadyExists, NotFound, StatusError
from kastra.api.meta import API_VERSION, GROUP
from kastra.api.meta import ObjectRef as Address
from kastra.client.interface import Client, WriteOptions
from kastra.engine.objects import ChildOutcome, ObjectRef
from kastra.engine.step import StepError

from .running import wait_until

APPROVAL = "Approval"
_OPTIONS = WriteOptions(field_manager="kastra-engine", field_validation="Strict")


async def create_approval(
    client: Client, namespace: str, name: str, spec: Mapping[str, Any], owner: Mapping[str, Any]
) -> ObjectRef:
    """Create an Approval, or find the one that was created before a crash.

    Raises:
        StepError: it is refused, or another of its name asks for something else.
    """
    body = {
        "apiVersion": API_VERSION,
        "kind": APPROVAL,
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": [dict(owner)]},
        "spec": dict(spec),
    }
    try:
        made = await client.create(body, _OPTIONS)
    except AlreadyExists:
        made = await client.get(Address(f"{APPROVAL}.{GROUP}", name, namespace))
        if made.spec != body["spec"] or owner["uid"] not in [ref.get("uid") for ref in _owners(made.metadata)]:
            message = f"approval/{name} exists and asks for something else than this Run does; who made it?"
            raise StepError("authorization", message, retryable=False) from None
    except StatusError as error:
        raise StepError("validation", f"approval/{name}: {error.message}", retryable=error.code >= 500) from error
    return ObjectRef(APPROVAL, namespace, name, made.uid)


async def decided(client: Client, ref: ObjectRef) -> ChildOutcome:
    """Return when an Approval is decided, with the decision as output. Raises StepError when it is deleted before."""
    address = Address(f"{APPROVAL}.{GROUP}", ref.name, ref.namespace)
    try:
        made = await wait_until(client, address, lambda obj: obj.uid != ref.uid or bool(_verdict(obj.status)))
    except NotFound:
        raise _deleted(ref) from None
    if made.uid != ref.uid:
        raise _deleted(ref)
    decision = dict(made.status["decision"])
    voters = [vote["by"] for vote in made.status.get("decisions") or () if vote.get("verdict") != "reject"]
    if decision["verdict"] in ("approve", "edit") and voters:
        decision["by"] = voters
    return ChildOutcome("Approved" if decision["verdict"] in ("approve", "edit") else "Rejected", decision)


def _deleted(ref: ObjectRef) -> StepError:
    return StepError("authorization", f"approval/{ref.name} was deleted before it was decided", retryable=False)


def _verdict(status: Mapping[str, Any]) -> str:
    return str((status.get("decision") or {}).get("verdict") or "")


def _owners(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(metadata.get("ownerReferences") or ())
