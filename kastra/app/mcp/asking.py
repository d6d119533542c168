"""How does a person behind an MCP client answer the Approval that a Run waits for? By elicitation, with the caller's own rights.

Whoever calls is asked what the Approval asks; the answer is a write of its status on their behalf, so the same rules hold as for
`kastra approve`: who isn't an approver isn't heard, and the Run goes on waiting for who is. In older revisions the question is sent
while the call goes on; in 2026-07-28 the call is answered by the question, and repeated with the answer. What is sent along to find
the Run again holds no right: the Run is read as the caller.

Source: MCP, elicitation. Read next: `kastra.app.approval_decisions`.
"""

from collections.abc import Collection, Mapping
from typing import Any

import orjson
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult

from kastra.api.errors import NotFound, StatusError
from kastra.api.meta import GROUP, ObjectRef
from kastra.api.object import Object
from kastra.app.running import has_ended
from kastra.client.interface import Client, PatchType

from .exports import Export

APPROVAL = f"Approval.{GROUP}"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "decision": {"type": "string", "title": "Decision", "enum": ["approve", "reject"]},
        "reason": {"type": "string", "title": "Reason", "description": "Recorded, and told to whoever asked."},
    },
    "required": ["decision"],
}
_LONGEST_MESSAGE = 4000


def waited_for(run: Object, answered: Collection[str] = ()) -> str:
    """The name of an Approval that a Run waits for and that was not asked about yet; empty if there is none."""
    if has_ended(run):
        return ""
    names = [wait["name"] for wait in run.status.get("waitingFor") or () if wait.get("kind") == "Approval"]
    return next((name for name in names if name and name not in answered), "")


async def question(client: Client, name: str, namespace: str) -> ElicitRequestFormParams | None:
    """What to ask about an Approval; None if the caller may not see it, or it is decided."""
    try:
        approval = await client.get(ObjectRef(APPROVAL, name, namespace))
    except StatusError:
        return None
    if (approval.status.get("decision") or {}).get("verdict"):
        return None
    calls = approval.spec.get("calls") or ()
    lines = [str(approval.spec.get("message", ""))]
    lines += [f"{call.get('tool')}: {orjson.dumps(call.get('args') or {}).decode()}" for call in calls]
    return ElicitRequestFormParams(message="\n".join(lines)[:_LONGEST_MESSAGE], requested_schema=SCHEMA)


async def decide(client: Client, name: str, namespace: str, answer: ElicitResult) -> None:
    """Write what a person answered. Whom the server doesn't let decide has decided nothing, and others may."""
    content: Mapping[str, Any] = answer.content or {}
    verdict = content.get("decision") if answer.action == "accept" else "reject" if answer.action == "decline" else None
    if verdict not in ("approve", "reject"):
        return
    decision = {"verdict": verdict}
    if content.get("reason"):
        decision["reason"] = str(content["reason"])[:1000]
    try:
        await client.patch(
            ObjectRef(APPROVAL, name, namespace),
            {"status": {"decision": decision}},
            PatchType.MERGE,
            subresource="status",
        )
    except StatusError:
        return


def asked(run: Object, name: str, form: ElicitRequestFormParams, answered: Collection[str]) -> InputRequiredResult:
    """The answer to a call that is the question itself, with what finds the Run again."""
    state = orjson.dumps({"run": run.name, "uid": run.uid, "answered": sorted(answered)}).decode()
    return InputRequiredResult(input_requests={name: ElicitRequest(params=form)}, request_state=state)


async def taken_up(client: Client, found: Export, state: str) -> tuple[Object, set[str]]:
    """The Run of an earlier attempt at the same call, and the Approvals that were asked about.

    Raises:
        ValueError: the state is none of this call.
    """
    try:
        known = orjson.loads(state)
        run = await client.get(ObjectRef(f"runs.{GROUP}", str(known["run"]), found.namespace))
        answered = {str(name) for name in known["answered"]}
    except (ValueError, KeyError, TypeError, NotFound):
        raise ValueError("requestState is none of this server's, or its Run is gone") from None
    target = run.spec["target"]
    if run.uid != known.get("uid") or (target.get("kind"), target.get("name")) != (found.kind, found.name):
        raise ValueError("requestState belongs to another call")
    return run, answered
