"""Runners of `workflow` and `network` steps: each is a Run of its own.

The child's name follows from the parent's uid and the stepKey, so creating it twice finds the first one: after a crash the
parent goes on waiting for the child that it had. The child pins its own closure when it starts. A parent that is cancelled
asks its child to stop.

Source: Jobs made by a CronJob. Read next: `kastra.engine.objects`.
"""

from collections.abc import Mapping
from typing import Any

import anyio

from .context import Place
from .objects import ChildObjects, ObjectRef, child_name
from .output import Output
from .records import RecordType
from .step import StepContext, StepError


class ChildRunRunner:
    """Executes a step by a child Run of its target.

    Args:
        objects: creates and awaits it.
        kind: of the target: Workflow or Network.
    """

    def __init__(self, objects: ChildObjects, kind: str) -> None:
        self._objects = objects
        self._kind = kind

    async def run(self, step: StepContext, target: Mapping[str, Any], value: Any, options: Mapping[str, Any]) -> Any:
        """The child's output.

        Raises:
            StepError: it failed, was cancelled, or couldn't be created.
        """
        if not isinstance(step, Place):
            raise StepError("tool", "a child run needs a parent that is a Run itself; set durable", retryable=False)
        execution = step.execution
        facts = execution.facts
        owner = ObjectRef("Run", execution.namespace, facts.name, facts.uid)
        spec: dict[str, Any] = {
            "target": {"kind": self._kind, "name": target["name"], "namespace": target["namespace"]},
            "input": value,
        }
        left = execution.ledger.left(step.key) if execution.ledger is not None else None
        if left is not None:
            spec["budget"] = left
        if options.get("threadRef"):
            spec["threadRef"] = {"name": options["threadRef"]}
        name = child_name(facts.name, facts.uid, step.key)
        if step.key in execution.past.children:
            # It was there. If it no longer is, somebody deleted it; it must not do everything once more.
            ref = ObjectRef("Run", execution.namespace, name)
        else:
            await execution.begin()
            try:
                ref = await self._objects.create("Run", execution.namespace, name, spec, owner)
            finally:
                execution.end()
            body = {"kind": "Run", "namespace": ref.namespace, "name": ref.name}
            execution.journal.add(RecordType.CHILD_STARTED, step.key, body=body)
        try:
            async with execution.waiting(step.key):
                outcome = await self._objects.wait(ref)
        except anyio.get_cancelled_exc_class():
            if execution.wanted_to_end:
                with anyio.CancelScope(shield=True):
                    await self._objects.cancel(ref)
            raise
        if outcome.phase == "Succeeded":
            return Output(outcome.output, usage=outcome.usage)
        error = dict(outcome.error or {})
        message = str(error.get("title") or f"the run {ref.name} ended as {outcome.phase}")
        kind = str(error.get("type") or ("cancelled" if outcome.phase == "Cancelled" else "tool"))
        raise StepError(kind, message, details={"run": ref.name})
