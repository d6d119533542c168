"""Approval: a question of a Run to people, on whose decision it waits.

How an Approval is read, and the controller that says how it stands and decides when time is up. Who may decide, and who has,
is the server's matter (`kastra.app.approval_decisions`); that the Run goes on is the Run's, which waits for the decision. The
schema is `crds/approvals.yaml`. The spec never changes: what is decided about must be what was asked.

Read next: `kastra.engine.approvals`, which makes them.
"""

from contextlib import suppress
from typing import Any, Literal

from pydantic import Field

from kastra.api.errors import Cause, NotFound
from kastra.api.meta import GROUP
from kastra.api.object import Object
from kastra.api.types import Reference
from kastra.client.interface import PatchType, WriteOptions
from kastra.clock import parse_rfc3339, rfc3339
from kastra.runtime.manager import Manager
from kastra.runtime.predicates import came_went_or_ended, changed_besides_status
from kastra.runtime.reconcile import Request, Result
from kastra.runtime.status import StatusWriter
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import forbidden
from kastra.runtime.view_steps import AskedApprovers

KIND = f"Approval.{GROUP}"
OF_RUN = "run"
"""Index of Approvals by the Run that asks."""

_OPTIONS = WriteOptions(field_manager="kastra-approval")
_DECIDED = {"approve": "Approved", "edit": "Edited", "reject": "Rejected", "expire": "Expired"}
_AT_DEADLINE = {"approve": "approve", "reject": "reject", "fail": "expire"}


class RunRef(Fields):
    """The Run that asks."""

    name: str


class Provenance(Fields):
    """Who wants a call."""

    agent: str | None = None
    network: str | None = None


class Call(Fields):
    """A tool call that waits."""

    tool: str
    args: dict[str, Any] = Field(default_factory=dict)
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    annotations: dict[str, Any] = Field(default_factory=dict)
    provenance: Provenance = Field(default_factory=Provenance)


class ApprovalSpec(Fields):
    """The normal form of an Approval's spec."""

    run_ref: RunRef
    step_key: str | None = None
    message: str
    payload: Any = None
    calls: list[Call] = Field(default_factory=list)
    approvers: AskedApprovers = Field(default_factory=AskedApprovers)
    deadline: str | None = None
    on_timeout: Literal["approve", "reject", "fail"] | None = None


class ApprovalView(View, kind="Approval"):
    """An Approval, read."""

    spec: ApprovalSpec

    def references(self) -> list[Reference]:
        """The Run that asks."""
        return [Reference("spec.runRef", "Run", self.spec.run_ref.name)]

    def unsupported(self) -> list[str]:
        """Nothing: every field is acted on."""
        return []


def validate_update(view: ApprovalView, old: ApprovalView) -> list[Cause]:
    """What is wrong with changing `old` into `view`: anything at all was changed."""
    new_spec, old_spec = view.spec.plain(), old.spec.plain()
    return [
        forbidden("is immutable; what is decided about must be what was asked", f"spec.{name}")
        for name in sorted(new_spec.keys() | old_spec.keys())
        if new_spec.get(name) != old_spec.get(name)
    ]


def _decision(approval: Object | None) -> object:
    return None if approval is None else (approval.status.get("decision"), approval.status.get("decisions"))


def _matters(old: Object | None, new: Object | None) -> bool:
    return changed_besides_status(old, new) or _decision(old) != _decision(new)


class ApprovalReconciler:
    """Says how an Approval stands, and decides by `onTimeout` when its time is up."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._approvals = manager.cache.lister(KIND)
        self._runs = manager.cache.lister(f"Run.{GROUP}")

    async def reconcile(self, request: Request) -> Result:
        """One pass over one Approval."""
        approval = self._approvals.get(request.namespace, request.name)
        if approval is None or approval.deleting:
            return Result()
        now = self._manager.clock.now()
        writer = StatusWriter(approval, rfc3339(now))
        verdict = str((approval.status.get("decision") or {}).get("verdict") or "")
        if verdict:
            by = str(approval.status["decision"].get("by") or "")
            self._say(writer, True, _DECIDED[verdict], f"by {by}" if by else "")
            await self._write(approval, writer)
            return Result()
        run = self._runs.get(approval.namespace, approval.spec["runRef"]["name"])
        if run is not None and run.is_condition_true("Complete"):
            self._say(writer, False, "Obsolete", f"run {run.name} has ended, so nobody waits for a decision")
            await self._write(approval, writer)
            return Result()
        deadline = approval.spec.get("deadline")
        left = None if deadline is None else (parse_rfc3339(deadline) - now).total_seconds()
        if left is not None and left <= 0:
            # The server stamps it; the conditions follow from what it then says.
            writer.fields.decision = {"verdict": _AT_DEADLINE[approval.spec.get("onTimeout") or "fail"]}
            await self._write(approval, writer)
            return Result()
        self._say(writer, False, "Pending", self._missing(approval))
        await self._write(approval, writer)
        return Result(requeue_after=left)

    def _missing(self, approval: Object) -> str:
        needed = int((approval.spec.get("approvers") or {}).get("count") or 1)
        votes = len(approval.status.get("decisions") or ())
        return f"{votes} of {needed} have agreed" if needed > 1 else ""

    def _say(self, writer: StatusWriter, decided: bool, reason: str, message: str) -> None:
        writer.condition("Decided", decided, reason, message)
        writer.fields.phase = reason

    async def _write(self, approval: Object, writer: StatusWriter) -> None:
        patch = writer.patch()
        if not patch:
            return
        body = {"metadata": {"resourceVersion": approval.resource_version}, "status": patch}
        with suppress(NotFound):
            await self._manager.client.patch(approval.ref, body, PatchType.MERGE, _OPTIONS, subresource="status")


def setup(manager: Manager) -> None:
    """Run the controller. A Run that ends concerns what it has asked."""
    manager.cache.informer(KIND).indexer.add_index(OF_RUN, lambda approval: [_run_of(approval)])
    lister = manager.cache.lister(KIND)

    def asked(run: Object) -> list[Request]:
        if not run.is_condition_true("Complete"):
            return []
        found = lister.by_index(OF_RUN, f"{run.namespace}/{run.name}")
        return [Request(approval.namespace, approval.name) for approval in found]

    made = manager.controller(KIND, ApprovalReconciler(manager), concurrency=8, predicate=_matters)
    made.watches(f"Run.{GROUP}", asked, came_went_or_ended)


def _run_of(approval: Object) -> str:
    return f"{approval.namespace}/{(approval.spec.get('runRef') or {}).get('name', '')}"
