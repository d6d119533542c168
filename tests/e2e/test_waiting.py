"""Runs that wait for people and events: on a server, over restarts, in the middle of an agent's loop."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import anyio
import pytest

import kastra
from kastra.api.errors import BadRequest, Conflict
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.app.running import create_run, wait_until
from kastra.config import Settings
from kastra.manifest.loader import load
from tests.support import warm

from .conftest import KUBECTLS, Kubectl, Server, versions

TOOLS = '''
from pathlib import Path

def pay(euros: int) -> str:
    """Pays."""
    with Path("payments").open("a") as book:
        book.write(f"{euros}\\n")
    return f"paid {euros}"
'''
MANIFESTS = """\
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: pay}
spec:
  requireApproval: true
  delivery: AtMostOnce
  python: {entrypoint: "waiting_tools:pay"}
  inputSchema: {type: object, required: [euros], properties: {euros: {type: integer}}}
---
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: look}
spec: {python: {inline: "def look() -> int:\\n    return 40"}}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: clerk}
spec:
  instructions: Pay what is owed.
  model:
    provider: scripted
    parameters:
      rules:
      - {when: size(results) == 0, call: {tool: look}}
      - {when: size(results) == 1, call: {tool: pay, arguments: {euros: '${{ results[0] }}'}}}
      - {when: size(results) == 2, reply: 'Result: ${{ results[1] }}'}
  tools: [pay, look]
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: settle}
spec:
  steps:
  - {id: pay, tool: pay, with: {euros: '${{ input.euros }}'}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: notify}
spec:
  steps:
  - id: ready
    waitForEvent: {type: doc.ready, filter: 'event.data.id == input.id'}
  - {id: tell, emit: {type: doc.seen, data: {id: '${{ input.id }}'}}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: review}
spec:
  steps:
  - id: ok
    approve: {message: 'Publish?', approvers: {groups: [editors], count: 2}}
---
apiVersion: mastra.ai/v1
kind: Network
metadata: {name: office}
spec:
  agents: []
  tools: [{name: pay, ref: tools/pay, requireApproval: true}]
  router: {mode: expression, maxSteps: 2, rules: [{when: 'turn == 0', next: pay}, {when: 'true', next: END}]}
"""


def settings(folder: Path) -> Settings:
    (folder / "waiting_tools.py").write_text(TOOLS)
    return Settings(project=folder, data=folder / ".kastra", controllers=(), grace=0.1)


async def rests(k: kastra.Kastra, name: str) -> Object:
    def waits(run: Object) -> bool:
        return run.status.get("phase") == "Suspended"

    with anyio.fail_after(30):
        return await wait_until(k.client, ObjectRef("runs", name, "default"), waits)


async def ended(k: kastra.Kastra, name: str) -> Object:
    with anyio.fail_after(30):
        return await wait_until(
            k.client, ObjectRef("runs", name, "default"), lambda run: run.is_condition_true("Complete")
        )


async def decide(k: kastra.Kastra, run: Object, **decision: object) -> None:
    [wait] = run.status["waitingFor"]
    ref = ObjectRef("approvals", wait["name"], run.namespace)
    await k.client.patch(ref, {"status": {"decision": decision}}, subresource="status")


@pytest.mark.parametrize(
    ("target", "value", "decision", "output", "paid"),
    [
        ("agent/clerk", "go", {"verdict": "approve"}, "Result: paid 40", "40\n"),
        ("agent/clerk", "go", {"verdict": "edit", "args": {"euros": 5}}, "Result: paid 5", "5\n"),
        (
            "agent/clerk",
            "go",
            {"verdict": "reject", "reason": "too much"},
            "was rejected by kastra-admin: too much",
            "",
        ),
        ("workflow/settle", {"euros": 7}, {"verdict": "approve"}, "paid 7", "7\n"),
        ("workflow/settle", {"euros": 7}, {"verdict": "edit", "args": {"euros": 6}}, "paid 6", "6\n"),
        ("workflow/settle", {"euros": 7}, {"verdict": "reject"}, None, ""),
        ("network/office", {"euros": 3}, {"verdict": "approve"}, "paid 3", "3\n"),
        ("tool/pay", {"euros": 9}, {"verdict": "approve"}, "paid 9", "9\n"),
    ],
    ids=["agent", "agent-edit", "agent-reject", "step", "step-edit", "step-reject", "network", "tool"],
)
async def test_a_tool_is_called_with_what_was_agreed_to_after_any_number_of_restarts(
    tmp_path: Path, target: str, value: object, decision: dict[str, object], output: str | None, paid: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("waiting_tools", None)
    async with kastra.open(settings=settings(tmp_path)) as k:
        assert (await k.apply(load(["-"], stdin=BytesIO(MANIFESTS.encode())))).ok
        await create_run(k.client, target, value, name="r")
        await rests(k, "r")
    for _ in range(2):
        async with kastra.open(settings=settings(tmp_path)) as k:
            run = await rests(k, "r")
            [wait] = run.status["waitingFor"]
            assert wait["kind"] == "Approval"
            assert not (tmp_path / "payments").exists()
    async with kastra.open(settings=settings(tmp_path)) as k:
        await decide(k, await rests(k, "r"), **decision)
        run = await ended(k, "r")
        assert len((await k.client.list("approvals", "default")).items) == 1
    book = tmp_path / "payments"
    assert (book.read_text() if book.exists() else "") == paid
    if output is None:
        assert (run.status["phase"], run.status["error"]["type"]) == ("Failed", "authorization")
    else:
        assert output in json.dumps(run.status["output"])


async def test_a_direct_call_that_would_have_to_wait_is_refused_and_calls_nothing(tmp_path: Path) -> None:
    async with kastra.open(":memory:", settings=settings(tmp_path)) as k:
        assert (await k.apply(load(["-"], stdin=BytesIO(MANIFESTS.encode())))).ok
        with pytest.raises(BadRequest, match="needs an approval, which only a Run can wait for"):
            async for _ in k.client.connect(ObjectRef("agents", "clerk", "default"), "generate", {"input": "go"}):
                pass


async def test_signals_are_checked_and_events_wake_whoever_waits(tmp_path: Path) -> None:
    async with kastra.open(":memory:", settings=settings(tmp_path)) as k:
        assert (await k.apply(load(["-"], stdin=BytesIO(MANIFESTS.encode())))).ok
        run = await create_run(k.client, "workflow/notify", {"id": 1}, name="r")

        async def signal(body: dict[str, object]) -> None:
            async for _ in k.client.connect(run.ref, "signal", body):
                pass

        for body, says in (
            ({}, "exactly one of name and type"),
            ({"name": "a", "type": "b"}, "exactly one of name and type"),
            ({"name": "doc.ready", "to": "x"}, "unknown field 'to'"),
            ({"name": ""}, "must not be empty"),
            ({"name": "a", "id": 5}, "must be a string"),
        ):
            with pytest.raises(BadRequest, match=says):
                await signal(body)
        await signal({"name": "doc.ready", "data": {"id": 2}})
        await signal({"name": "doc.ready", "data": {"id": 1}, "id": "once"})
        await ended(k, "r")
        with pytest.raises(Conflict, match=r"has ended \(Succeeded\)"):
            await signal({"name": "doc.ready"})


@pytest.mark.parametrize("kubectl", versions([*KUBECTLS][-1:]), indirect=True)
def test_kubectl_patch_and_kastra_approve_are_equal_and_rbac_says_who(kubectl: Kubectl) -> None:
    people = {name: person(kubectl, name, *groups) for name, groups in PEOPLE.items()}
    kubectl("apply", "-f", "-", stdin=MANIFESTS)
    run = "apiVersion: mastra.ai/v1\nkind: Run\nmetadata: {name: r}\nspec: {target: {kind: Workflow, name: review}}\n"
    kubectl("apply", "-f", "-", stdin=run)
    kubectl("wait", "--for=jsonpath={.status.phase}=Suspended", "run/r", "--timeout=30s")
    name = kubectl("get", "approvals", "-o", "jsonpath={.items[0].metadata.name}").strip()
    kubectl("create", "rolebinding", "approvers", "--clusterrole=approver", "--group=editors", "--user=bob")
    kubectl("create", "rolebinding", "viewers", "--clusterrole=view", "--user=eve")
    patch = ("patch", "approval", name, "--subresource=status", "--type=merge", "-p")
    approved = '{"status": {"decision": {"verdict": "approve", "by": "root"}}}'
    assert 'cannot patch resource "approvals/status"' in people["eve"](*patch, approved).stderr
    assert "bob is none of its approvers; they are group editors" in people["bob"](*patch, approved).stderr
    assert people["ada"](*patch, approved).returncode == 0
    shell = kastra_as(kubectl, "grace")
    listed = shell("approve", "-n", kubectl.namespace)
    assert name in listed.stdout, listed.stderr
    second = shell("approve", name, "-n", kubectl.namespace)
    assert second.stdout == f"approval/{name} approved\n", second.stderr
    kubectl("wait", "--for=condition=Decided", f"approval/{name}", "--timeout=30s")
    kubectl("wait", "--for=condition=Succeeded", "run/r", "--timeout=30s")
    output = json.loads(kubectl("get", "run", "r", "-o", "jsonpath={.status.output}"))
    assert (output["approved"], output["by"]) == (True, ["ada", "grace"])
    table = kubectl("get", "approvals")
    assert [word in table for word in ("RUN", "TOOL", "DECISION", "Approved", "grace")] == [True] * 5


PEOPLE = {"ada": ("editors",), "grace": ("editors",), "bob": (), "eve": ()}


def _kastra(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "KUBECONFIG"))}
    return subprocess.run(
        [warm.kastra(), *arguments],
        cwd=server.folder, env=kept, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def person(kubectl: Kubectl, name: str, *groups: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A user with a kubeconfig of their own; gives kubectl as them."""
    file, data = kubectl.home / f"{name}.kubeconfig", str(kubectl.server.folder / ".kastra")
    options = [option for group in groups for option in ("--group", group)]
    made = _kastra(kubectl.server, "--data", data, "users", "add", name, "--kubeconfig", str(file), *options)
    assert made.returncode == 0, made.stderr
    return lambda *arguments: kubectl.run("--kubeconfig", str(file), *arguments, stdin="")


def kastra_as(kubectl: Kubectl, name: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`kastra` with the kubeconfig of a user."""
    flags = ("--kubeconfig", str(kubectl.home / f"{name}.kubeconfig"))
    return lambda *arguments: _kastra(kubectl.server, *flags, *arguments)
