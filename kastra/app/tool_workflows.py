"""Workflows for the built-in tools: Runs, made under names that follow from the call.

A Run that a tool starts isn't owned by the one that it was called in, so that it may go on beyond it; it notes how deep it is
nested. Read next: `kastra.tool.toolkit.workflows`, `kastra.app.lineage`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from kastra.agent.check import called_schema
from kastra.api.errors import AlreadyExists, NotFound, StatusError
from kastra.api.meta import API_VERSION, ObjectRef
from kastra.api.object import Object
from kastra.client.interface import Client, WriteOptions
from kastra.clock import Clock
from kastra.engine.objects import child_name
from kastra.failpoint import failpoint
from kastra.tool.interface import ToolContext, ToolError
from kastra.tool.timeout import within
from kastra.tool.toolkit.builtin import missing

from .lineage import TooDeep, inherited
from .running import has_ended, wait_until
from .tool_callers import caller

_OPTIONS = WriteOptions(field_manager="kastra-tools", field_validation="Strict")


class ToolWorkflows:
    """`kastra.tool.platform.Workflows` over a client.

    Args:
        client: with the rights of Runs.
        clock: of Runs.
    """

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def described(self, namespace: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """What there is of these names."""
        found = []
        for name in names:
            try:
                workflow = await self._acting.get(ObjectRef("Workflow", name, namespace))
            except NotFound:
                continue
            except StatusError as error:
                raise _refused(error) from error
            found.append(
                {
                    "name": name,
                    "description": workflow.spec.get("description") or "",
                    "inputSchema": called_schema("Workflow", workflow.spec),
                    "ready": workflow.is_condition_true("Ready"),
                }
            )
        return found

    async def start(self, namespace: str, name: str, value: Any, context: ToolContext) -> str:
        """Create the Run, or find it. Raises ToolError."""
        client = self._acting
        run = child_name(context.run_name or name, context.run, f"tool/{context.idempotency_key}")
        ref = ObjectRef("Run", run, namespace)
        try:
            await client.get(ObjectRef("Workflow", name, namespace))
            annotations = {}
            if context.run_name:
                annotations = await inherited(self._client, context.run_namespace, context.run_name, f"run/{run}")
            body = {
                "apiVersion": API_VERSION,
                "kind": "Run",
                "metadata": {"name": run, "namespace": namespace, "annotations": annotations},
                "spec": {"target": {"kind": "Workflow", "name": name, "namespace": namespace}, "input": value},
            }
            failpoint("tool.before_run_created")
            try:
                await client.create(body, _OPTIONS)
            except AlreadyExists:
                if _target(await client.get(ref)) != (namespace, name):
                    raise ToolError(f"run/{run} exists and is of another workflow", retryable=False) from None
            failpoint("tool.after_run_created")
        except TooDeep as error:
            raise ToolError(str(error), type="no_progress", retryable=False) from None
        except NotFound:
            raise missing(f"there is no workflow {name} in namespace {namespace}") from None
        except StatusError as error:
            raise _refused(error) from error
        return run

    async def outcome(
        self, namespace: str, run: str, names: Sequence[str], wait: float, context: ToolContext
    ) -> dict[str, Any]:
        """How the Run ended, or how it is. Raises ToolError."""
        client, ref = self._acting, ObjectRef("Run", run, namespace)
        unknown = missing(f"there is no run {run[:100]!r} of one of the workflows {', '.join(names)}")
        try:
            found = await client.get(ref)
            if _target(found) not in {(namespace, name) for name in names}:
                raise unknown
            if wait > 0 and not has_ended(found):
                async with context.waiting():
                    try:
                        found = await within(self._clock, wait, partial(wait_until, client, ref, has_ended))
                    except TimeoutError:
                        found = await client.get(ref)
        except NotFound:
            raise unknown from None
        except StatusError as error:
            raise _refused(error) from error
        return _told(found)

    @property
    def _acting(self) -> Client:
        return caller() or self._client


def _target(run: Object) -> tuple[str, str]:
    target = run.spec.get("target") or {}
    if target.get("kind") != "Workflow":
        return "", ""
    return target.get("namespace") or run.namespace, str(target.get("name"))


def _told(run: Object) -> dict[str, Any]:
    status = run.status
    phase = status.get("phase") or "Pending"
    told = {"run": run.name, "workflow": _target(run)[1], "phase": phase}
    if phase == "Succeeded":
        told["output"] = status.get("output")
    elif has_ended(run):
        error = status.get("error") or {}
        told["error"] = {"type": error.get("type", ""), "title": str(error.get("title") or "")[:2000]}
    return told


def _refused(error: StatusError) -> ToolError:
    kind = "authorization" if error.code == 403 else "validation" if 400 <= error.code < 500 else "tool"
    return ToolError(error.message, type=kind, retryable=error.code >= 500 or error.code == 429)
