"""What happens to an object while its Run is under way: it changes, it is deleted, the Run is cancelled or deleted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kastra.api.meta import ObjectRef
from kastra.testing import ControlPlane

from .declared import definition, finish_runs, page, plane, publish, published, reconciler, runs_of, until_runs_are
from .objects import apply, ready, said

SLEEPER = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Workflow",
    "metadata": {"name": "sleeper"},
    "spec": {"steps": [{"id": "wait", "sleep": "1h"}], "output": {"as": "${{ input }}"}},
}
BODY = {"workflow": {"name": "sleeper", "input": "${{ object.spec.title }}"}}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with plane(tmp_path) as env:
        await env.apply(definition())
        await apply(env, SLEEPER, *publish(tmp_path))
        yield env


async def begin(env: ControlPlane, **spec) -> None:
    await apply(env, reconciler(**{**BODY, **spec}, status={"title": "${{ output }}"}))
    await apply(env, page(title="one"))
    assert await ready(env, "Page", "home") == ("False", "Reconciling")


async def test_a_change_waits_for_the_run_that_is_under_way(env) -> None:
    await begin(env)
    await apply(env, page(title="two"))
    assert len(await runs_of(env)) == 1
    assert "for an older spec is in progress" in (await said(env, "Page", "home")).message
    await env.advance(3601)
    await until_runs_are(env, "Succeeded", "Waiting")
    assert await ready(env, "Page", "home") == ("False", "Reconciling")
    await env.advance(3601)
    await until_runs_are(env, "Succeeded", "Succeeded")
    assert (await env.get("Page", "home")).status["title"] == "two"


async def test_many_changes_meanwhile_are_one_run(env) -> None:
    await begin(env)
    for title in ("two", "three", "four"):
        await apply(env, page(title=title))
    await env.advance(3601)
    await until_runs_are(env, "Succeeded", "Waiting")
    await env.advance(3601)
    await until_runs_are(env, "Succeeded", "Succeeded")
    assert (await env.get("Page", "home")).status["title"] == "four"


async def test_a_change_cancels_the_run_if_the_reconciler_says_so(env) -> None:
    await begin(env, onChange="Cancel")
    await apply(env, page(title="two"))
    await until_runs_are(env, "Cancelled", "Waiting")
    await env.advance(3601)
    await until_runs_are(env, "Cancelled", "Succeeded")
    assert (await env.get("Page", "home")).status["title"] == "two"


async def test_a_run_that_somebody_cancels_is_not_repeated(env) -> None:
    await begin(env)
    (run,) = (await env.client.list("runs")).items
    await env.client.patch(run.ref, {"spec": {"desiredState": "Cancelled"}})
    await env.advance(10_000)
    assert await ready(env, "Page", "home") == ("False", "RunCancelled")
    assert len(await runs_of(env)) == 1


async def test_a_run_that_somebody_deletes_counts_as_a_failure(env) -> None:
    await begin(env)
    (run,) = (await env.client.list("runs")).items
    await env.client.delete(run.ref)
    await env.settle()
    assert await ready(env, "Page", "home") == ("False", "RunGone")
    await env.advance(6)
    assert len(await runs_of(env)) == 1


async def test_clean_up_is_run_before_the_object_goes(env, tmp_path) -> None:
    finalize = {"workflow": {"name": "publish", "input": {"title": "bye-${{ object.spec.title }}"}}}
    await begin(env, workflow={"name": "publish", "input": {"title": "${{ object.spec.title }}"}}, finalize=finalize)
    await finish_runs(env)
    assert (await env.get("Page", "home")).finalizers == ["mastra.ai/reconciler"]
    await env.client.delete(ObjectRef("Page", "home", "default"))
    await finish_runs(env)
    assert published(tmp_path) == ["one", "bye-one"]
    assert (await env.client.list("pages")).items == []
    (run,) = (await env.client.list("runs")).items
    await env.advance(3700)
    assert (await env.client.list("runs")).items == []
    assert run.owner_references == ()


async def test_clean_up_is_run_in_a_foreground_deletion_too(env, tmp_path) -> None:
    finalize = {"workflow": {"name": "publish", "input": {"title": "bye"}}}
    await begin(env, finalize=finalize)
    await env.client.delete(ObjectRef("Page", "home", "default"), propagation_policy="Foreground")
    await finish_runs(env)
    assert published(tmp_path) == ["bye"]
    assert (await env.client.list("pages")).items == []


async def test_the_run_under_way_ends_before_clean_up_begins(env, tmp_path) -> None:
    await begin(env, finalize={"workflow": {"name": "publish", "input": {"title": "bye"}}})
    await env.client.delete(ObjectRef("Page", "home", "default"))
    await finish_runs(env)
    assert published(tmp_path) == ["bye"]
    assert (await env.client.list("pages")).items == []


async def test_clean_up_that_fails_is_repeated_until_its_time_is_up(env, tmp_path) -> None:
    (tmp_path / "broken").touch()
    await begin(env, finalize={"workflow": {"name": "publish", "input": {"title": "bye"}}, "timeout": "20s"})
    await env.client.delete(ObjectRef("Page", "home", "default"))
    for _ in range(5):
        await finish_runs(env)
        await env.advance(5)
    await finish_runs(env)
    assert 2 <= len(published(tmp_path)) <= 5
    assert (await env.client.list("pages")).items == []
    events = (await env.client.list("events")).items
    (event,) = [event for event in events if event.data["reason"] == "FinalizerTimeout"]
    assert "the site is down" in event.data["message"]


async def test_in_a_namespace_that_goes_nothing_is_run_and_nothing_hangs(env, tmp_path) -> None:
    await env.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
    body = {"workflow": {"name": "sleeper", "namespace": "default", "input": "x"}}
    finalize = {"workflow": {"name": "publish", "namespace": "default", "input": {"title": "bye"}}}
    await apply(env, reconciler(**body, finalize=finalize), page(namespace="n"))
    await env.client.delete(ObjectRef("Namespace", "n"))
    for _ in range(3):
        await finish_runs(env)
        await env.advance(10)
    assert "n" not in [obj.name for obj in (await env.client.list("namespaces")).items]
    assert published(tmp_path) == []


async def test_a_reconciler_that_goes_lets_go_of_its_objects(env, tmp_path) -> None:
    await begin(env, finalize={"workflow": {"name": "publish", "input": {"title": "bye"}}})
    await env.client.delete(ObjectRef("Reconciler", "pages"))
    await env.settle()
    found = await env.get("Page", "home")
    assert found.finalizers == ()
    assert "reconciler/pages" not in env.manager.controllers
    await env.client.delete(found.ref)
    await env.settle()
    assert (await env.client.list("pages")).items == []
    assert published(tmp_path) == []


async def test_a_reconciler_without_clean_up_any_more_lets_go_as_well(env) -> None:
    await begin(env, finalize={"workflow": {"name": "publish", "input": {"title": "bye"}}})
    await apply(env, reconciler(**BODY))
    assert (await env.get("Page", "home")).finalizers == ()
