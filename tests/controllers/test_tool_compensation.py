"""A failing Run undoes the calls of Tools that name a Tool for that; with what was really called."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.api.meta import ObjectRef
from kastra.config import Settings
from kastra.testing import ControlPlane

from .objects import apply, manifest, ready, the, tool

PAY = {"inline": "def pay(euros: int) -> str:\n    return f'paid {euros}'\n"}
REFUND = {
    "inline": "from typing import Any\n\n"
    "def refund(arguments: dict[str, Any], output: Any, idempotencyKey: str, error: Any) -> str:\n"
    "    return f\"{arguments['euros']} after {output} because {error['title']}\"\n"
}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
        yield plane


async def fails(env: ControlPlane, **spec: Any) -> None:
    steps = [
        {"id": "a", "tool": "pay", "with": {"euros": 40}},
        {"id": "b", "raise": {"type": "user", "title": "no stock"}},
    ]
    await apply(
        env,
        tool("refund", python=REFUND),
        tool("pay", python=PAY, compensate={"toolRef": "refund"}, **spec),
        manifest("Workflow", "order", {"steps": steps, "onError": "compensate"}),
    )
    await env.client.create(manifest("Run", "r", {"target": {"kind": "Workflow", "name": "order"}}))
    await env.advance(2)


async def undone(env: ControlPlane) -> Any:
    rows = [row async for row in env.client.connect(ObjectRef("runs", "r", "default"), "steps")]
    return next(row["output"] for row in rows if row["key"] == "a/compensate/undo")


async def test_a_tools_call_is_undone_by_the_tool_that_it_names(env: ControlPlane) -> None:
    await fails(env)
    assert await ready(env, "Tool", "pay") == ("True", "Resolved")
    run = await env.get("Run", "r")
    assert (run.status["phase"], run.status["error"]["type"]) == ("Failed", "user")
    assert await undone(env) == "40 after paid 40 because no stock"


async def test_what_people_made_of_a_call_is_what_is_undone(env: ControlPlane) -> None:
    await fails(env, requireApproval=True)
    [approval] = await the(env, "approvals")
    decision = {"verdict": "edit", "args": {"euros": 5}}
    await env.client.patch(approval.ref, {"status": {"decision": decision}}, subresource="status")
    await env.advance(2)
    assert await undone(env) == "5 after paid 5 because no stock"
