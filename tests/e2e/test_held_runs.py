"""Applying a Run doesn't start it unless that is asked for, and never undoes what somebody decided since."""

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest

import kastra
from kastra.api.meta import ObjectRef
from kastra.app.running import wait_until
from kastra.client.interface import PatchType
from kastra.config import Settings
from kastra.manifest.loader import Loaded, load

MANIFESTS = b"""
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: greet}
spec:
  steps:
  - id: greet
    set: {text: '${{ "Hello, " + input.name }}'}
---
apiVersion: mastra.ai/v1
kind: Run
metadata: {name: nightly}
spec:
  target: {kind: Workflow, name: greet}
  input: {name: Ada}
"""
RUN = ObjectRef("runs", "nightly", "default")


def manifests() -> Loaded:
    return load(["-"], stdin=BytesIO(MANIFESTS))


@pytest.fixture
async def k(tmp_path: Path) -> AsyncIterator[kastra.Kastra]:
    async with kastra.open(":memory:", settings=Settings(project=tmp_path, controllers=())) as opened:
        yield opened


async def test_a_run_in_a_file_is_created_suspended(k: kastra.Kastra) -> None:
    assert (await k.apply(manifests())).ok
    await k.settle(30)
    run = await k.client.get(RUN)
    assert run.spec["desiredState"] == "Suspended"
    assert run.condition("Suspended")["reason"] == "Requested"  # type: ignore[index]
    assert run.status.get("startTime") is None


async def test_a_run_in_a_file_runs_when_that_is_asked_for(k: kastra.Kastra) -> None:
    assert (await k.apply(manifests(), run=True)).ok
    run = await wait_until(k.client, RUN, lambda run: run.is_condition_true("Complete"))
    assert run.status["output"] == {"text": "Hello, Ada"}


async def test_applying_again_leaves_a_resumed_run_alone(k: kastra.Kastra) -> None:
    assert (await k.apply(manifests())).ok
    await k.settle(30)
    await k.client.patch(RUN, {"spec": {"desiredState": "Running"}}, PatchType.MERGE)
    again = await k.apply(manifests())
    assert again.ok
    assert {one.verb for one in again.applied} == {"unchanged"}
    run = await wait_until(k.client, RUN, lambda run: run.is_condition_true("Complete"))
    assert run.spec["desiredState"] == "Running"
    assert run.status["output"] == {"text": "Hello, Ada"}


async def test_a_held_run_starts_when_it_is_applied_again_to_run(k: kastra.Kastra) -> None:
    assert (await k.apply(manifests())).ok
    await k.settle(30)
    assert (await k.apply(manifests(), run=True)).ok
    run = await wait_until(k.client, RUN, lambda run: run.is_condition_true("Complete"))
    assert run.status["output"] == {"text": "Hello, Ada"}


async def test_a_run_that_somebody_suspended_is_not_started_by_applying_it_to_run(k: kastra.Kastra) -> None:
    assert (await k.apply(manifests())).ok
    await k.settle(30)
    patch = {"spec": {"desiredState": "Suspended"}, "metadata": {"annotations": {"by": "ada"}}}
    await k.client.patch(RUN, {"spec": {"desiredState": "Running"}})
    await wait_until(k.client, RUN, lambda run: run.is_condition_true("Complete"))
    await k.client.patch(RUN, patch)
    assert (await k.apply(manifests(), run=True)).ok
    assert (await k.client.get(RUN)).spec["desiredState"] == "Suspended"
