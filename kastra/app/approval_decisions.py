"""Who decides about an Approval, and when is it decided? Told by the server, whoever writes the status.

Whoever may write `approvals/status` writes `status.decision` (`kastra approve`, `kubectl patch --subresource=status`, any
client). Here, before it is stored:

    who         `by` and `at` are the caller and the time, whatever was sent
    may         the caller must be one of `spec.approvers`, where users or groups are named; system:masters may always
    once        a decision is final, and nobody has two votes
    count       `approvers.count` must agree; until then a vote stands in `status.decisions` and there is no decision
    reject      one is enough
    edit        other arguments for the one call that is asked for, checked against the tool's schema; what was agreed to
                before was about other arguments, so it counts no more
    deadline    afterwards nobody decides but the controller, by `spec.onTimeout`

Everybody but the controllers can change nothing else of the status. Source: the approval of CertificateSigningRequests.
Read next: `controllers/approval.py`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.api.errors import INVALID, REQUIRED, BadRequest, Cause, Conflict, Forbidden, invalid
from kastra.api.meta import GROUP
from kastra.apiserver.admission import Attributes, Operation
from kastra.apiserver.authorization import MASTERS
from kastra.apiserver.call import User
from kastra.clock import Clock, parse_rfc3339, rfc3339

CONTROLLERS = "system:serviceaccount:kube-system:controllers"
DEADLINE = "system:deadline"
"""Who decides when time is up."""

_EXPIRED = {"approve": "approve", "reject": "reject", "fail": "expire"}
_VERDICTS = ("approve", "edit", "reject")


class ApprovalDecisions:
    """The mutating hook of Approvals' status."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def applies(self, attributes: Attributes) -> bool:
        """For writes of the status of an Approval."""
        resource = attributes.resource
        if (resource.group, resource.kind) != (GROUP, "Approval"):
            return False
        return attributes.operation is Operation.UPDATE and attributes.subresource == "status"

    async def __call__(self, attributes: Attributes) -> None:
        """Record the caller's vote.

        Raises:
            Forbidden: the caller is no approver.
            Conflict: it is decided, or the caller has voted, or time is up.
            Invalid: the vote makes no sense.
        """
        obj, old = attributes.object, attributes.old_object
        if obj is None or old is None:
            return
        before = dict(old.get("status") or {})
        status = obj.get("status")
        given: dict[str, Any] = status if isinstance(status, dict) else {}
        wanted = given.get("decision") or None
        controller = attributes.user.name == CONTROLLERS
        after = (
            {**given, "decisions": before.get("decisions"), "decision": before.get("decision")}
            if controller
            else before
        )
        if wanted is not None and wanted != before.get("decision"):
            if not isinstance(wanted, dict):
                raise BadRequest("status.decision: must be an object with a verdict")
            vote = self._vote(attributes, old, before, wanted, controller)
            after = {**after, **_counted(old.get("spec") or {}, before, vote)}
        obj["status"] = {name: value for name, value in after.items() if value is not None}

    def _vote(
        self,
        attributes: Attributes,
        old: Mapping[str, Any],
        before: Mapping[str, Any],
        wanted: Mapping[str, Any],
        controller: bool,
    ) -> dict[str, Any]:
        """The vote that the caller casts, stamped."""
        name, spec, now = attributes.name, old.get("spec") or {}, self._clock.now()
        made = before.get("decision") or {}
        if made.get("verdict"):
            raise Conflict(f"approval {name} is decided ({made['verdict']} by {made.get('by')}); a decision is final")
        deadline = spec.get("deadline")
        over = deadline is not None and parse_rfc3339(deadline) <= now
        verdict = wanted.get("verdict")
        if controller:
            if not over or verdict != _EXPIRED[spec.get("onTimeout") or "fail"]:
                raise Forbidden(f"approval {name}: controllers decide at the deadline only, by spec.onTimeout")
            return {"verdict": verdict, "by": DEADLINE, "at": rfc3339(now), "reason": "DeadlineExceeded"}
        if over:
            raise Conflict(f"approval {name}: its deadline was {deadline}")
        user = attributes.user
        if not _may(user, spec.get("approvers") or {}):
            raise Forbidden(
                f"approval {name}: {user.name} is none of its approvers; they are {_named(spec['approvers'])}"
            )
        if any(vote.get("by") == user.name for vote in before.get("decisions") or ()):
            raise Conflict(f"approval {name}: {user.name} has agreed already; others must, too")
        if verdict not in _VERDICTS:
            causes = [Cause(REQUIRED, f"Required value: one of {', '.join(_VERDICTS)}", "status.decision.verdict")]
            raise invalid("Approval", GROUP, name, causes)
        vote = {"verdict": verdict, "by": user.name, "at": rfc3339(now)}
        if wanted.get("reason"):
            vote["reason"] = str(wanted["reason"])
        causes = list(_argument_causes(verdict, wanted.get("args"), spec.get("calls") or []))
        if causes:
            raise invalid("Approval", GROUP, name, causes)
        if verdict == "edit":
            vote["args"] = wanted["args"]
        return vote


def _may(user: User, approvers: Mapping[str, Any]) -> bool:
    users, groups = approvers.get("users") or (), approvers.get("groups") or ()
    if not users and not groups:
        return True
    return user.name in users or not {MASTERS, *groups}.isdisjoint(user.groups)


def _named(approvers: Mapping[str, Any]) -> str:
    names = [*(approvers.get("users") or ()), *(f"group {group}" for group in approvers.get("groups") or ())]
    return ", ".join(names)


def _argument_causes(verdict: str, args: Any, calls: list[Mapping[str, Any]]) -> list[Cause]:
    where = "status.decision.args"
    if verdict != "edit":
        return [Cause(INVALID, "Invalid value: only an edit has arguments", where)] if args is not None else []
    if len(calls) != 1:
        return [
            Cause(INVALID, "Invalid value: there is no call whose arguments could be edited", "status.decision.verdict")
        ]
    if not isinstance(args, dict):
        return [Cause(REQUIRED, "Required value: the arguments to call with", where)]
    schema = calls[0].get("schema")
    if not schema:
        return []
    # Imported when somebody edits: jsonschema is heavy.
    from kastra.tool.schema import JsonSchema

    found = []
    for problem in JsonSchema(schema, "spec.calls[0].schema").problems(args):
        path, _, message = problem.partition(": ")
        field = where if path == "value" else f"{where}.{path}"
        found.append(Cause(INVALID, f"Invalid value: {message}", field))
    return found


def _counted(spec: Mapping[str, Any], before: Mapping[str, Any], vote: Mapping[str, Any]) -> dict[str, Any]:
    """The votes with one more, and the decision if that makes one."""
    votes = [dict(one) for one in before.get("decisions") or ()]
    if vote["verdict"] == "edit":
        votes = []
    votes.append(dict(vote))
    needed = int((spec.get("approvers") or {}).get("count") or 1)
    if vote["verdict"] in ("reject", "expire") or vote["by"] == DEADLINE or len(votes) >= needed:
        edits = [one for one in votes if one["verdict"] == "edit"]
        decision = dict(vote)
        if edits and vote["verdict"] == "approve":
            decision |= {"verdict": "edit", "args": edits[-1]["args"]}
        return {"decisions": votes, "decision": decision}
    return {"decisions": votes, "decision": None}
