"""Child Runs over a Client: how the engine's `workflow` and `network` steps become objects of their own.

The name follows from parent and step, so a second creation after a crash finds the first. Read next:
`kastra.engine.objects`, the protocol.
"""

from collections.abc import Mapping
from typing import Any

from kastra.api.errors import AlreadyExists, NotFound, StatusError
from kastra.api.meta import API_VERSION
from kastra.api.meta import ObjectRef as Address
from kastra.client.interface import Client, PatchType, WriteOptions
from kastra.engine.objects import ChildOutcome, ObjectRef
from kastra.engine.step import StepError

from .approvals import APPROVAL, create_approval, decided
from .lineage import TooDeep, inherited
from .running import wait_until

_OPTIONS = WriteOptions(field_manager="kastra-engine", field_validation="Strict")


class ClientChildren:
    """`kastra.engine.objects.ChildObjects` over any client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(
        self, kind: str, namespace: str, name: str, spec: Mapping[str, Any], owner: ObjectRef
    ) -> ObjectRef:
        """Create the object, or find it. Raises StepError when it is refused."""
        if kind == APPROVAL:
            return await create_approval(self._client, namespace, name, spec, _owner_reference(owner))
        try:
            annotations = await inherited(self._client, owner.namespace, owner.name, f"{kind.lower()}/{name}")
        except TooDeep as error:
            raise StepError("no_progress", str(error), retryable=False) from None
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "annotations": annotations,
                # An owner in another namespace would be taken for gone, and its child collected.
                "ownerReferences": [_owner_reference(owner)] if owner.namespace == namespace else [],
            },
            "spec": dict(spec),
        }
        try:
            created = await self._client.create(body, _OPTIONS)
        except AlreadyExists:
            created = await self._client.get(Address(kind, name, namespace))
        except StatusError as error:
            raise StepError("validation", f"{kind.lower()}/{name}: {error.message}", retryable=False) from error
        return ObjectRef(kind, namespace, name, created.uid)

    async def wait(self, ref: ObjectRef) -> ChildOutcome:
        """Return when the object has ended. Raises StepError when it is gone."""
        if ref.kind == APPROVAL:
            return await decided(self._client, ref)
        address = Address(ref.kind, ref.name, ref.namespace)
        try:
            ended = await wait_until(self._client, address, lambda obj: obj.is_condition_true("Complete"))
        except NotFound as error:
            raise StepError("cancelled", f"{ref.kind.lower()}/{ref.name} was deleted", retryable=False) from error
        status = ended.status
        return ChildOutcome(status.get("phase", ""), status.get("output"), status.get("error"), status.get("usage"))

    async def cancel(self, ref: ObjectRef) -> None:
        """Ask the object to stop; nothing happens if it has ended or gone."""
        try:
            await self._client.patch(
                Address(ref.kind, ref.name, ref.namespace),
                {"spec": {"desiredState": "Cancelled"}},
                PatchType.MERGE,
                _OPTIONS,
            )
        except NotFound:
            return


def _owner_reference(owner: ObjectRef) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
