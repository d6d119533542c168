"""F7: a provider that is cut off, silent or slow fails the step that called it, leaves nothing half in memory, and nobody else waits."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

import kastra
from kastra.api.meta import ObjectRef
from kastra.app.running import create_run, wait_until
from kastra.config import Settings
from kastra.model import testing as fake
from kastra.model import testing_streams as said

WIRES = ["openai", "anthropic"]
Answer = Callable[[str], fake.Scripted]


def says(wire: str, text: str) -> fake.Scripted:
    pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
    if wire == "anthropic":
        return said.claude_stream(said.words(*pieces))
    return said.stream(*map(said.say, pieces))


def size(answer: fake.Scripted) -> int:
    head, pieces = answer.wire()
    return len(head) + sum(map(len, pieces))


MANIFESTS = """\
apiVersion: mastra.ai/v1
kind: Model
metadata: {{name: m}}
spec: {{providerRef: p, name: m, parameters: {{timeout: {{firstToken: {first}}}}}}}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {{name: a}}
spec: {{modelRef: m}}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {{name: b}}
spec: {{model: {{provider: scripted, parameters: {{rules: [{{reply: Fine.}}]}}}}}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {{name: twice}}
spec:
  steps:
  - {{id: before, set: {{seen: true}}}}
  - {{id: ask, agent: a, input: {{with: {{text: hello}}}}, retry: {{limit: 3, initialInterval: 10ms}}}}
---
"""


@pytest.fixture
async def provider() -> AsyncIterator[fake.FakeProvider]:
    async with fake.FakeProvider() as made:
        made.models = ["m"]
        yield made


@pytest.fixture
async def k(tmp_path: Path) -> AsyncIterator[kastra.Kastra]:
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=(), grace=0.5)
    async with kastra.open(":memory:", settings=settings) as opened:
        yield opened


async def set_up(k: kastra.Kastra, folder: Path, wire: str, url: str, first: str = "30s") -> None:
    key = {"env": "PATH"}
    spec = {"type": wire, "baseURL": url, "allowPrivate": True, "apiKeyFrom": key}
    manifest = {"apiVersion": "mastra.ai/v1", "kind": "ModelProvider", "metadata": {"name": "p"}, "spec": spec}
    (folder / "all.yaml").write_text(MANIFESTS.format(first=first) + orjson.dumps(manifest).decode())
    assert (await k.apply(folder / "all.yaml")).ok
    assert await k.settle(30)


async def outcome(k: kastra.Kastra, text: str, **spec: Any) -> Any:
    """The status of a Run of the agent, once it has ended."""
    run = await create_run(k.client, "agent/a", text, spec=spec)
    with anyio.fail_after(60):
        ended = await wait_until(k.client, run.ref, lambda found: found.is_condition_true("Complete"))
    return ended.status


@pytest.mark.parametrize("wire", WIRES)
async def test_an_answer_that_breaks_off_fails_the_run_and_is_no_part_of_the_conversation(
    wire: str, provider: fake.FakeProvider, k: kastra.Kastra, tmp_path: Path
) -> None:
    await set_up(k, tmp_path, wire, provider.url)
    secret = "Half of this must never be remembered by anybody."
    whole = size(says(wire, secret))
    for part in range(20):
        provider.answer(fake.cut(whole * part // 24, says(wire, secret)))
        status = await outcome(k, f"question {part}", threadRef="t")
        assert status["phase"] == "Failed"
        assert status["error"]["type"] == "model"
    provider.answer(says(wire, "Whole."))
    assert (await outcome(k, "the last question", threadRef="t"))["output"] == "Whole."
    sent = orjson.dumps(provider.requests[-1].json)
    assert b"Half of" not in sent
    assert b"the last question" in sent


@pytest.mark.parametrize("wire", WIRES)
async def test_a_step_is_tried_again_as_often_as_it_says_and_what_came_before_it_is_not_repeated(
    wire: str, provider: fake.FakeProvider, k: kastra.Kastra, tmp_path: Path
) -> None:
    await set_up(k, tmp_path, wire, provider.url)
    provider.answer(fake.cut(250, says(wire, "Never to the end.")), fake.cut(0), says(wire, "At last."))
    result = await k.run("workflow/twice")
    assert result.output == "At last."
    assert len(provider.requests) == 3
    run = await k.client.get(ObjectRef("runs", result.name, "default"))
    assert (run.status["counts"]["total"], run.status["counts"]["succeeded"]) == (2, 2)


async def test_a_provider_that_says_nothing_fails_its_run_in_time_and_no_other_run_waits_for_it(
    provider: fake.FakeProvider, k: kastra.Kastra, tmp_path: Path
) -> None:
    await set_up(k, tmp_path, "openai", provider.url, first="300s")
    release = anyio.Event()
    provider.always(lambda request: fake.after(release.wait, says("openai", "Late.")))
    held = [await create_run(k.client, "agent/a", "hello") for _ in range(5)]
    with anyio.fail_after(60):
        while len(provider.requests) < 5:
            await anyio.sleep(0.01)
        for _ in range(20):
            assert (await k.run("agent/b", "hello")).output == "Fine."
        assert not release.is_set()
        release.set()
        for run in held:
            ended = await wait_until(k.client, run.ref, lambda found: found.is_condition_true("Complete"))
            assert ended.status["output"] == "Late."


@pytest.mark.parametrize("wire", WIRES)
async def test_the_limit_for_the_first_token_ends_a_run_that_gets_none(
    wire: str, provider: fake.FakeProvider, k: kastra.Kastra, tmp_path: Path
) -> None:
    await set_up(k, tmp_path, wire, provider.url, first="200ms")
    provider.answer(fake.hang())
    status = await outcome(k, "hello")
    assert (status["phase"], status["error"]["type"]) == ("Failed", "timeout")
    assert "no first token within" in status["error"]["title"]


async def test_a_provider_that_is_not_there_is_named(k: kastra.Kastra, tmp_path: Path) -> None:
    await set_up(k, tmp_path, "openai", "http://127.0.0.1:1/v1")
    status = await outcome(k, "hello")
    assert (status["phase"], status["error"]["type"]) == ("Failed", "model")
    assert "127.0.0.1:1" in status["error"]["title"]
