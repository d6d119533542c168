"""When very many Runs begin at once, what they do in passing is not written down, and what they did is."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import kastra
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.app.running import create_run, wait_until
from kastra.client.interface import PatchType
from kastra.config import Settings

RUNS = 300
ECHO = """\
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: echo}
spec:
  model: {provider: scripted, name: x, parameters: {rules: [{reply: 'You said ${{ input.text }}.'}]}}
"""


@pytest.fixture
async def k(tmp_path: Path) -> AsyncIterator[kastra.Kastra]:
    (tmp_path / "all.yaml").write_text(ECHO)
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=(), grace=0.5)
    async with kastra.open(":memory:", settings=settings) as opened:
        assert (await opened.apply(tmp_path / "all.yaml")).ok
        assert await opened.settle(30)
        yield opened


def complete(run: Object) -> bool:
    return run.is_condition_true("Complete")


async def test_every_run_tells_in_the_end_what_it_was_and_how_it_went(k: kastra.Kastra) -> None:
    async def one(number: int) -> None:
        await create_run(k.client, "agent/echo", {"text": str(number)}, name=f"run-{number}")

    seen: Counter[str] = Counter()
    ended: dict[str, Object] = {}
    async with anyio.create_task_group() as tasks, k.client.watch("runs", "default") as watch:
        for number in range(RUNS):
            tasks.start_soon(one, number)
        with anyio.fail_after(120):
            async for event in watch:
                run = event.object
                seen[run.name] += 1
                if complete(run):
                    ended[run.name] = run
                if len(ended) == RUNS:
                    break
    for number in range(RUNS):
        run = ended[f"run-{number}"]
        assert run.status["output"] == f"You said {number}."
        assert all(run.is_condition_true(name) for name in ("Accepted", "Started", "Complete", "Succeeded"))
        assert run.status["target"] == "Agent/default/echo"
        assert run.status["revision"].startswith("sha256:")
    # Created and ended at least; accepted and running only here and there.
    assert sum(seen.values()) < 3 * RUNS


async def test_what_was_never_written_down_is_read_from_the_journal(k: kastra.Kastra) -> None:
    made = await create_run(k.client, "agent/echo", {"text": "hello"})
    with anyio.fail_after(60):
        before = await wait_until(k.client, made.ref, complete)
    # As it is found by a process that takes over from one that died before it wrote anything.
    nothing = {"status": dict.fromkeys(before.status)}
    await k.client.patch(made.ref, nothing, PatchType.MERGE, subresource="status")
    await k.client.patch(made.ref, {"metadata": {"labels": {"look": "again"}}}, PatchType.MERGE)
    with anyio.fail_after(60):
        after = await wait_until(k.client, ObjectRef("runs", made.name, "default"), complete)
    assert after.is_condition_true("Accepted")
    shown = ("phase", "target", "revision", "output", "startTime", "completionTime", "usage")
    assert {name: after.status.get(name) for name in shown} == {name: before.status.get(name) for name in shown}
