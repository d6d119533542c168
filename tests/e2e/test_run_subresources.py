"""What hangs below a Run: how its steps went, its journal, its log, and the actions that need no right to write Runs."""

from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import kastra
from kastra.api.errors import BadRequest, Conflict
from kastra.api.meta import ObjectRef
from kastra.app.running import create_run, wait_until
from kastra.config import Settings
from kastra.manifest.loader import load

MANIFESTS = b"""
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: greet}
spec:
  steps:
  - id: all
    forEach:
      items: input.names
      steps:
      - {id: one, set: {text: '${{ "Hello, " + item }}'}}
  - id: never
    when: 'false'
    set: {text: skipped}
  - id: long
    set: {text: '${{ input.names[0] }}'}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: rest}
spec:
  steps:
  - {id: nap, sleep: 1h}
"""


@pytest.fixture
async def k(tmp_path: Path) -> AsyncIterator[kastra.Kastra]:
    async with kastra.open(":memory:", settings=Settings(project=tmp_path, controllers=())) as opened:
        assert (await opened.apply(load(["-"], stdin=BytesIO(MANIFESTS)))).ok
        yield opened


async def records(
    k: kastra.Kastra, name: str, subresource: str, body: Mapping[str, Any] | None = None, since: int | None = None
) -> list[Mapping[str, Any]]:
    ref = ObjectRef("runs", name, "default")
    return [record async for record in k.client.connect(ref, subresource, body, since)]


async def greeted(k: kastra.Kastra, names: list[str]) -> None:
    run = await create_run(k.client, "workflow/greet", {"names": names}, name="hello")
    await wait_until(k.client, run.ref, lambda run: run.is_condition_true("Complete"))


async def test_steps_tells_how_each_step_went_and_counts_those_of_a_for_each_together(k: kastra.Kastra) -> None:
    await greeted(k, ["Ada", "Grace"])
    rows = {row["key"]: row for row in await records(k, "hello", "steps")}
    assert list(rows) == ["all", "all[*]/one", "never", "long"]
    assert rows["all"]["kind"] == "forEach"
    assert rows["all[*]/one"]["counts"] == {"Succeeded": 2}
    assert (rows["never"]["phase"], rows["long"]["phase"]) == ("Skipped", "Succeeded")
    assert rows["long"]["output"] == {"text": "Ada"}
    assert rows["long"]["startedAt"] <= rows["long"]["finishedAt"]


async def test_an_output_that_is_long_is_referred_to_by_its_record(k: kastra.Kastra) -> None:
    await greeted(k, ["x" * 2000])
    row = next(row for row in await records(k, "hello", "steps") if row["key"] == "long")
    assert "output" not in row
    number = int(row["outputRef"].removeprefix("history/"))
    [record] = [record for record in await records(k, "hello", "history") if record["seq"] == number]
    assert record["body"]["output"] == {"text": "x" * 2000}


async def test_history_is_the_journal_from_where_a_reader_stopped(k: kastra.Kastra) -> None:
    await greeted(k, ["Ada"])
    whole = await records(k, "hello", "history")
    assert [record["seq"] for record in whole] == list(range(1, len(whole) + 1))
    assert (whole[0]["type"], whole[-1]["type"]) == ("RunStarted", "RunCompleted")
    assert await records(k, "hello", "history", since=3) == whole[3:]


async def test_definition_is_the_target_as_it_was_when_the_run_began(k: kastra.Kastra) -> None:
    await greeted(k, ["Ada"])
    edited = MANIFESTS.replace(b"id: never", b"id: ever")
    assert (await k.apply(load(["-"], stdin=BytesIO(edited)))).ok
    [definition] = await records(k, "hello", "definition")
    assert (definition["kind"], definition["name"], definition["generation"]) == ("Workflow", "greet", 1)
    assert [step["id"] for step in definition["spec"]["steps"]] == ["all", "never", "long"]
    assert [obj["name"] for obj in definition["objects"]] == ["greet"]


async def test_events_are_followed_from_any_position_to_the_end(k: kastra.Kastra) -> None:
    await greeted(k, ["Ada"])
    whole = [event async for event in k.events("run/hello")]
    assert (whole[0]["type"], whole[-1]["type"]) == ("run.started", "run.completed")
    for index, event in enumerate(whole):
        assert [later async for later in k.events("hello", event["seq"])] == whole[index + 1 :]


async def test_log_is_the_events_as_lines(k: kastra.Kastra) -> None:
    await greeted(k, ["Ada"])
    lines = [record["text"] for record in await records(k, "hello", "log")]
    assert "run started (Workflow)" in lines[0]
    assert lines[-1].endswith("run completed")


async def test_cancel_ends_a_run_that_waits(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "workflow/rest", name="nap")
    await wait_until(k.client, run.ref, lambda run: run.status.get("phase") == "Waiting")
    [answer] = await records(k, "nap", "cancel")
    assert answer["spec"]["desiredState"] == "Cancelled"
    ended = await wait_until(k.client, run.ref, lambda run: run.is_condition_true("Complete"))
    assert ended.status["phase"] == "Cancelled"
    with pytest.raises(Conflict, match=r"has ended \(Cancelled\); rerun it"):
        await records(k, "nap", "cancel")


async def test_suspend_and_resume_hold_a_run_and_let_it_go_on(k: kastra.Kastra) -> None:
    run = await create_run(k.client, "workflow/rest", name="nap")
    await wait_until(k.client, run.ref, lambda run: run.status.get("phase") == "Waiting")
    await records(k, "nap", "suspend")
    await wait_until(k.client, run.ref, lambda run: run.status.get("phase") == "Suspended")
    await records(k, "nap", "resume")
    await wait_until(k.client, run.ref, lambda run: run.status.get("phase") == "Waiting")


async def test_rerun_is_the_same_once_more_as_a_new_run(k: kastra.Kastra) -> None:
    await greeted(k, ["Ada"])
    [first] = await records(k, "hello", "rerun")
    [second] = await records(k, first["metadata"]["name"], "rerun", {"input": {"names": ["Grace"]}})
    assert first["metadata"]["name"].startswith("hello-")
    assert second["metadata"]["annotations"] == {"mastra.ai/rerun-of": "hello"}
    for made, name in ((first, "Ada"), (second, "Grace")):
        ref = ObjectRef("runs", made["metadata"]["name"], "default")
        ended = await wait_until(k.client, ref, lambda run: run.is_condition_true("Complete"))
        assert ended.status["output"] == {"text": name}


async def test_what_an_action_does_not_know_is_refused(k: kastra.Kastra) -> None:
    await create_run(k.client, "workflow/rest", name="nap")
    for name, body, says in (
        ("cancel", {"why": "x"}, "unknown field 'why': it takes no body"),
        ("rerun", {"from": "x"}, "unknown field 'from': it takes name, input"),
        ("resume", {"stepKey": "nap"}, "data: an object is needed"),
    ):
        with pytest.raises(BadRequest, match=says):
            await records(k, "nap", name, body)
