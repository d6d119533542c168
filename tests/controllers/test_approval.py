"""An Approval is decided once, by those who may, in the name of whoever decided; the Run goes on with the decision."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.api.errors import Conflict, Forbidden, Invalid
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.apiserver.authorization import Access
from kastra.apiserver.call import User
from kastra.apiserver.loopback import LoopbackClient
from kastra.apiserver.rbac_authorizer import RBACAuthorizer
from kastra.apiserver.rbac_defaults import ensure_default_roles
from kastra.app.approvals import create_approval
from kastra.app.composition import Composition, compose
from kastra.app.running import create_run, wait_until
from kastra.clock import rfc3339
from kastra.config import Settings
from kastra.engine.step import StepError
from kastra.testing.clock import VirtualClock

DEADLINE = "2030-01-01T10:00:00Z"
CALL = {
    "tool": "refund",
    "args": {"euros": 90},
    "schema": {"type": "object", "required": ["euros"], "properties": {"euros": {"type": "integer", "maximum": 100}}},
}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Composition]:
    async with compose(Settings(project=tmp_path, data=tmp_path / ".kastra"), path=":memory:") as parts:
        yield parts


def person(parts: Composition, name: str, *groups: str) -> LoopbackClient:
    return LoopbackClient(parts.api.registry, user=User(name, groups))


async def ask(parts: Composition, **spec: Any) -> Object:
    """An Approval as a Run makes it."""
    body = {
        "apiVersion": "mastra.ai/v1",
        "kind": "Approval",
        "metadata": {"name": "ask", "namespace": "default"},
        "spec": {"runRef": {"name": "r"}, "message": "Go on?", **spec},
    }
    return await parts.client.create(body)


async def decide(client: LoopbackClient, verdict: str, **fields: Any) -> Object:
    ref = ObjectRef("approvals", "ask", "default")
    body = {"status": {"decision": {"verdict": verdict, **fields}}}
    return await client.patch(ref, body, subresource="status")


async def decided(parts: Composition, reason: str) -> Object:
    def told(approval: Object) -> bool:
        return (approval.condition("Decided") or {}).get("reason") == reason

    with anyio.fail_after(20):
        return await wait_until(parts.client, ObjectRef("approvals", "ask", "default"), told)


async def test_who_decided_and_when_is_told_by_the_server(parts: Composition) -> None:
    await ask(parts)
    ada = person(parts, "ada")
    given = await decide(ada, "approve", by="grace", at="2001-01-01T00:00:00Z", reason="fine")
    assert given.status["decision"]["by"] == "ada"
    assert given.status["decision"]["at"] > "2020"
    approval = await decided(parts, "Approved")
    assert (approval.status["phase"], approval.is_condition_true("Decided")) == ("Approved", True)
    assert [vote["by"] for vote in approval.status["decisions"]] == ["ada"]


async def test_a_decision_is_final_and_the_same_again_changes_nothing(parts: Composition) -> None:
    await ask(parts)
    first = await decide(person(parts, "ada"), "reject")
    for user, verdict in (("ada", "approve"), ("grace", "approve"), ("grace", "edit")):
        with pytest.raises(Conflict, match=r"is decided \(reject by ada\); a decision is final"):
            await decide(person(parts, user), verdict)
    assert (await decide(person(parts, "grace"), "reject")).status["decision"] == first.status["decision"]


async def test_only_the_approvers_may_decide_and_masters(parts: Composition) -> None:
    await ask(parts, approvers={"users": ["ada"], "groups": ["editors"]})
    for groups in ((), ("readers",)):
        with pytest.raises(Forbidden, match="grace is none of its approvers; they are ada, group editors"):
            await decide(person(parts, "grace", *groups), "approve")
    assert (await decide(person(parts, "grace", "editors"), "approve")).status["decision"]["by"] == "grace"


async def test_as_many_as_count_must_agree_and_one_who_refuses_is_enough(parts: Composition) -> None:
    await ask(parts, approvers={"count": 2})
    noted = await decide(person(parts, "ada"), "approve")
    assert "decision" not in noted.status
    with pytest.raises(Conflict, match="ada has agreed already; others must, too"):
        await decide(person(parts, "ada"), "approve")
    pending = await decided(parts, "Pending")
    assert (pending.condition("Decided") or {})["message"] in ("", "0 of 2 have agreed", "1 of 2 have agreed")
    final = await decide(person(parts, "grace"), "reject", reason="no")
    assert (final.status["decision"]["verdict"], final.status["decision"]["by"]) == ("reject", "grace")


async def test_an_edit_is_checked_against_the_schema_of_the_tool_and_starts_the_count_anew(parts: Composition) -> None:
    await ask(parts, calls=[CALL], approvers={"count": 2})
    await decide(person(parts, "ada"), "approve")
    with pytest.raises(Invalid) as refused:
        await decide(person(parts, "grace"), "edit", args={"euros": 1000})
    assert [cause.field for cause in refused.value.causes] == ["status.decision.args.euros"]
    edited = await decide(person(parts, "grace"), "edit", args={"euros": 10})
    assert [vote["by"] for vote in edited.status["decisions"]] == ["grace"]
    final = await decide(person(parts, "ada"), "approve")
    assert (final.status["decision"]["verdict"], final.status["decision"]["args"]) == ("edit", {"euros": 10})
    await decided(parts, "Edited")


@pytest.mark.parametrize(
    ("spec", "decision", "field"),
    [
        ({}, {"verdict": "edit", "args": {}}, "status.decision.verdict"),
        ({"calls": [CALL]}, {"verdict": "edit"}, "status.decision.args"),
        ({"calls": [CALL]}, {"verdict": "approve", "args": {}}, "status.decision.args"),
        ({}, {"verdict": "expire"}, "status.decision.verdict"),
        ({}, {"reason": "because"}, "status.decision.verdict"),
    ],
    ids=["nothing-to-edit", "edit-without-args", "approve-with-args", "expire", "no-verdict"],
)
async def test_a_decision_that_makes_no_sense_is_refused(
    parts: Composition, spec: Mapping[str, Any], decision: Mapping[str, Any], field: str
) -> None:
    await ask(parts, **spec)
    with pytest.raises(Invalid) as refused:
        await parts.client.patch(
            ObjectRef("approvals", "ask", "default"), {"status": {"decision": dict(decision)}}, subresource="status"
        )
    assert [cause.field for cause in refused.value.causes] == [field]


async def test_nobody_but_the_server_writes_the_rest_of_the_status_or_changes_the_question(parts: Composition) -> None:
    made = await ask(parts, approvers={"users": ["ada"]})
    await decided(parts, "Pending")
    forged = {
        "phase": "Approved",
        "decisions": [{"verdict": "approve", "by": "ada"}],
        "conditions": [
            {"type": "Decided", "status": "True", "reason": "Approved", "message": "", "lastTransitionTime": DEADLINE}
        ],
    }
    written = await parts.client.patch(made.ref, {"status": forged}, subresource="status")
    assert "decisions" not in written.status
    assert (written.status["phase"], written.is_condition_true("Decided")) == ("Pending", False)
    for patch in ({"message": "Harmless?"}, {"approvers": {"users": ["eve"]}}, {"calls": [CALL]}):
        with pytest.raises(Invalid, match="immutable; what is decided about must be what was asked"):
            await parts.client.patch(made.ref, {"spec": patch})
    assert "decision" not in (await parts.client.create({**made.data, "metadata": {"name": "b", "namespace": "default"}, "status": {"decision": {"verdict": "approve"}}})).status  # fmt: skip


@pytest.mark.parametrize(
    ("on_timeout", "verdict", "reason"),
    [("approve", "approve", "Approved"), ("reject", "reject", "Rejected"), ("fail", "expire", "Expired")],
)
async def test_at_the_deadline_it_is_decided_as_on_timeout_says(
    tmp_path: Path, clock: VirtualClock, on_timeout: str, verdict: str, reason: str
) -> None:
    settings = Settings(project=tmp_path, data=tmp_path / ".kastra")
    async with compose(settings, path=":memory:", clock=clock) as parts:
        due = clock.now().timestamp() + 60
        await ask(parts, deadline=rfc3339(datetime.fromtimestamp(due, UTC)), onTimeout=on_timeout)
        controllers = person(parts, "system:serviceaccount:kube-system:controllers")
        with pytest.raises(Forbidden, match="at the deadline only"):
            await decide(controllers, verdict)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_pass, clock)
            approval = await decided(parts, reason)
            tasks.cancel_scope.cancel()
        assert approval.status["decision"] | {"at": ""} == {
            "verdict": verdict, "by": "system:deadline", "reason": "DeadlineExceeded", "at": "",
        }  # fmt: skip
        with pytest.raises(Conflict):
            await decide(person(parts, "ada"), "edit")


async def _pass(clock: VirtualClock) -> None:
    while True:
        await anyio.sleep(0.01)
        await clock.advance(5)


async def test_one_whose_run_has_ended_is_obsolete(parts: Composition) -> None:
    workflow = {"steps": [{"id": "ok", "approve": {"message": "?"}}]}
    await parts.client.create(
        {
            "apiVersion": "mastra.ai/v1",
            "kind": "Workflow",
            "metadata": {"name": "w", "namespace": "default"},
            "spec": workflow,
        }
    )
    run = await create_run(parts.client, "workflow/w", name="r")
    with anyio.fail_after(20):
        waiting = await wait_until(parts.client, run.ref, lambda run: run.status.get("phase") == "Suspended")
        assert (waiting.condition("Suspended") or {})["reason"] == "WaitingApproval"
        await parts.client.patch(run.ref, {"spec": {"desiredState": "Cancelled"}})
        await wait_until(parts.client, run.ref, lambda run: run.is_condition_true("Complete"))
        [wait] = waiting.status["waitingFor"]
        ref = ObjectRef("approvals", wait["name"], "default")
        approval = await wait_until(parts.client, ref, lambda found: found.status.get("phase") == "Obsolete")
    assert (approval.condition("Decided") or {})["message"] == "run r has ended, so nobody waits for a decision"


async def test_roles_say_who_may_decide_and_runs_may_not(parts: Composition) -> None:
    await ensure_default_roles(parts.api.registry)
    authorizer = RBACAuthorizer(parts.api.registry.storage)
    runs = User("system:serviceaccount:kube-system:runs", ("system:serviceaccounts",))

    def may(user: User, verb: str, resource: str, subresource: str = "") -> bool:
        return authorizer.authorize(user, Access(verb, "mastra.ai", resource, subresource, "default", "x")).allowed

    for role, user in (("approver", "ada"), ("runner", "bob"), ("view", "eve")):
        await parts.client.create(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": role},
                "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"},
                "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
            }
        )
    assert may(User("ada"), "patch", "approvals", "status")
    assert not may(User("ada"), "patch", "approvals")
    assert may(User("bob"), "create", "runs", "signal")
    for nobody in (User("bob"), User("eve"), runs):
        assert not may(nobody, "patch", "approvals", "status")
    assert may(runs, "create", "approvals")
    assert not may(User("eve"), "create", "runs", "signal")


async def test_an_approval_that_somebody_else_made_under_its_name_is_not_taken_for_the_runs_own(
    parts: Composition,
) -> None:
    await ask(parts)
    owner = {"apiVersion": "mastra.ai/v1", "kind": "Run", "name": "r", "uid": "u"}
    spec = {"runRef": {"name": "r"}, "message": "Go on?"}
    with pytest.raises(StepError, match="asks for something else"):
        await create_approval(parts.client, "default", "ask", spec, owner)
