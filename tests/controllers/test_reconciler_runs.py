"""A Reconciler with a workflow or an agent: one Run for each spec of an object, and what it says comes into the status."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kastra.api.meta import ObjectRef
from kastra.testing import ControlPlane

from .declared import definition, finish_runs, page, plane, publish, published, reconciler, runs_of
from .objects import apply, ready, said, status

INPUT = {"title": "${{ object.spec.title }}"}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with plane(tmp_path) as env:
        await env.apply(definition())
        await apply(env, *publish(tmp_path))
        yield env


async def test_each_spec_of_an_object_gets_one_run_whose_output_is_mapped_into_the_status(env, tmp_path) -> None:
    body = {"workflow": {"name": "publish", "input": INPUT}, "status": {"url": "${{ output.url }}"}}
    await apply(env, reconciler(**body))
    await env.apply(page(title="one"))
    await finish_runs(env)
    found = await env.get("Page", "home")
    assert found.status["url"] == "https://example.com/one"
    assert found.status["observedGeneration"] == 1
    assert await ready(env, "Page", "home") == ("True", "Ready")
    assert (await said(env, "Page", "home", "ResolvedRefs")).status == "True"
    assert "phase" not in found.status
    await env.apply(page(title="two"))
    await finish_runs(env)
    assert published(tmp_path) == ["one", "two"]
    assert (await status(env, "Page", "home"))["url"] == "https://example.com/two"
    assert await runs_of(env, found) == ["Succeeded", "Succeeded"]


async def test_nothing_is_run_again_without_a_reason(env, tmp_path) -> None:
    await apply(env, reconciler(workflow={"name": "publish", "input": INPUT}))
    await env.apply(page(title="one"))
    await finish_runs(env)
    ref = (await env.get("Page", "home")).ref
    await env.client.patch(ref, {"metadata": {"labels": {"a": "b"}}})
    await env.client.patch(ref, {"status": {"other": 1}}, subresource="status")
    await env.advance(100_000)
    await finish_runs(env)
    assert published(tmp_path) == ["one"]


async def test_a_changed_body_is_run_for_every_object(env, tmp_path) -> None:
    await apply(env, reconciler(workflow={"name": "publish", "input": INPUT}))
    await env.apply(page(title="one"))
    await finish_runs(env)
    await env.apply(reconciler(workflow={"name": "publish", "input": {"title": "new-${{ object.spec.title }}"}}))
    await finish_runs(env)
    assert published(tmp_path) == ["one", "new-one"]
    await env.apply(
        reconciler(workflow={"name": "publish", "input": {"title": "new-${{ object.spec.title }}"}}, status={"a": 1})
    )
    await finish_runs(env)
    assert published(tmp_path) == ["one", "new-one"]
    assert (await status(env, "Page", "home"))["a"] == 1


async def test_a_failed_run_is_repeated_later_and_later_up_to_a_limit(env, tmp_path) -> None:
    (tmp_path / "broken").touch()
    await apply(env, reconciler(workflow={"name": "publish", "input": INPUT}, retries=2))
    await env.apply(page(title="one"))
    await finish_runs(env)
    found = await said(env, "Page", "home")
    assert (found.status, found.reason) == ("False", "RunFailed")
    assert "the site is down" in found.message
    assert "the next is due in 5 s" in found.message
    await env.advance(5.1)
    await finish_runs(env)
    assert "due in 10 s" in (await said(env, "Page", "home")).message
    await env.advance(10.1)
    await finish_runs(env)
    assert "nothing is tried again before the object changes" in (await said(env, "Page", "home")).message
    await env.advance(10_000)
    assert published(tmp_path) == ["one"] * 3
    (tmp_path / "broken").unlink()
    await env.apply(page(title="two"))
    await finish_runs(env)
    assert await ready(env, "Page", "home") == ("True", "Ready")


async def test_resync_runs_again_no_more_often_than_it_says_and_the_object_stays_ready(env, tmp_path) -> None:
    await apply(env, reconciler(workflow={"name": "publish", "input": INPUT}, resync="10m"))
    await env.apply(page(title="one"))
    await finish_runs(env)
    await env.advance(590)
    await finish_runs(env)
    assert published(tmp_path) == ["one"]
    since = (await env.get("Page", "home")).condition("Ready")["lastTransitionTime"]
    for seconds in (11, 601, 601):
        await env.advance(seconds)
        await finish_runs(env)
    assert published(tmp_path) == ["one"] * 4
    condition = (await env.get("Page", "home")).condition("Ready")
    assert (condition["status"], condition["lastTransitionTime"]) == ("True", since)


async def test_a_failing_resync_makes_the_object_not_ready_and_a_later_one_ready_again(env, tmp_path) -> None:
    await apply(env, reconciler(workflow={"name": "publish", "input": INPUT}, resync="1m", retries=0))
    await env.apply(page(title="one"))
    await finish_runs(env)
    (tmp_path / "broken").touch()
    await env.advance(61)
    await finish_runs(env)
    assert await ready(env, "Page", "home") == ("False", "RunFailed")
    (tmp_path / "broken").unlink()
    await env.advance(61)
    await finish_runs(env)
    assert await ready(env, "Page", "home") == ("True", "Ready")


async def test_only_the_last_finished_runs_are_kept(env) -> None:
    await apply(env, reconciler(workflow={"name": "publish", "input": INPUT}, resync="1m", historyLimit=2))
    await env.apply(page(title="one"))
    for _ in range(4):
        await finish_runs(env)
        await env.advance(61)
    await finish_runs(env)
    assert await runs_of(env) == ["Succeeded", "Succeeded"]


async def test_a_run_that_was_deleted_is_not_made_again(env, tmp_path) -> None:
    await apply(env, reconciler(workflow={"name": "publish", "input": INPUT}, status={"url": "${{ output.url }}"}))
    await env.apply(page(title="one"))
    await finish_runs(env)
    (run,) = (await env.client.list("runs")).items
    await env.client.delete(run.ref)
    ref = (await env.get("Page", "home")).ref
    await env.client.patch(ref, {"metadata": {"labels": {"a": "b"}}})
    await finish_runs(env)
    found = await env.get("Page", "home")
    assert published(tmp_path) == ["one"]
    assert (found.status["url"], found.is_condition_true("Ready")) == ("https://example.com/one", True)


async def test_a_copy_of_an_object_is_another_object(env, tmp_path) -> None:
    await apply(env, reconciler(workflow={"name": "publish", "input": INPUT}))
    await env.apply(page(title="one"))
    await finish_runs(env)
    copy = page("second", title="one")
    copy["metadata"]["annotations"] = dict((await env.get("Page", "home")).annotations)
    await env.client.create(copy)
    await finish_runs(env)
    assert published(tmp_path) == ["one", "one"]


@pytest.mark.parametrize("note", ["{", "7", '{"uid": 1}', '{"number": -4}'])
async def test_a_record_that_makes_no_sense_is_as_none(env, tmp_path, note) -> None:
    await apply(env, reconciler(workflow={"name": "publish", "input": INPUT}))
    obj = page(title="one")
    obj["metadata"]["annotations"] = {"mastra.ai/reconciliation": note}
    await env.client.create(obj)
    await finish_runs(env)
    assert published(tmp_path) == ["one"]
    assert await ready(env, "Page", "home") == ("True", "Ready")


async def test_an_object_waits_for_the_workflow_to_be_there_and_ready(env, tmp_path) -> None:
    await apply(env, reconciler(workflow={"name": "later", "input": INPUT}))
    await apply(env, page(title="one"))
    assert await ready(env, "Page", "home") == ("False", "NotFound")
    assert (await said(env, "Page", "home", "ResolvedRefs")).status == "False"
    tool, workflow = publish(tmp_path, "later")
    await apply(env, workflow)
    assert await ready(env, "Page", "home") == ("False", "DependencyNotReady")
    assert (await said(env, "Page", "home", "ResolvedRefs")).status == "True"
    assert await runs_of(env) == []
    await env.apply(tool)
    await finish_runs(env)
    assert await ready(env, "Page", "home") == ("True", "Ready")


async def test_the_output_decides_whether_the_object_is_ready_and_why(env) -> None:
    await apply(
        env,
        reconciler(
            workflow={"name": "publish", "input": INPUT},
            ready="output.ok",
            reason="${{ output.ok ? 'Online' : 'Draft' }}",
            message="see ${{ output.url }}",
        ),
    )
    await env.apply(page("a", title="draft"), page("b", title="x"))
    await finish_runs(env)
    assert await said(env, "Page", "a") == ("False", "Draft", "see https://example.com/draft")
    assert await said(env, "Page", "b") == ("True", "Online", "see https://example.com/x")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"workflow": {"name": "publish", "input": {"title": "${{ object.spec.absent }}"}}}, "no such key: absent"),
        ({"workflow": {"name": "publish", "input": INPUT}, "status": {"a": "${{ output.none }}"}}, "spec.status.a: "),
        ({"workflow": {"name": "publish", "input": INPUT}, "ready": "output.url"}, "must be true or false"),
        ({"workflow": {"name": "publish", "input": INPUT}, "message": "${{ 1 / 0 }}"}, "division by zero"),
    ],
    ids=["input", "status", "ready", "message"],
)
async def test_an_expression_that_fails_is_said_on_the_object(env, spec, message) -> None:
    await apply(env, reconciler(**spec))
    await env.apply(page(title="one"))
    await finish_runs(env)
    found = await said(env, "Page", "home")
    assert (found.status, found.reason) == ("False", "EvaluationFailed")
    assert message in found.message


async def test_without_an_input_the_workflow_gets_the_object_without_its_status(env) -> None:
    await apply(env, reconciler(workflow={"name": "publish"}))
    await apply(env, page(title="one"))
    (run,) = (await env.client.list("runs")).items
    given = run.spec["input"]["object"]
    assert given["spec"] == {"title": "one"}
    assert given["metadata"].keys() == {"name", "namespace", "uid", "generation"}
    assert given.keys() == {"apiVersion", "kind", "metadata", "spec"}


async def test_an_agent_is_asked_and_its_answer_mapped(env) -> None:
    model = {"provider": "scripted", "parameters": {"rules": [{"reply": "Bonjour"}]}}
    agent = {"apiVersion": "mastra.ai/v1", "kind": "Agent", "metadata": {"name": "editor"}}
    await apply(env, {**agent, "spec": {"instructions": "Translate.", "model": model}})
    body = {"agent": {"name": "editor", "input": "Translate ${{ object.spec.title }}", "timeout": "1m"}}
    await apply(env, reconciler(**body, status={"greeting": "${{ output }}"}))
    await env.apply(page(title="Hello"))
    await finish_runs(env)
    assert (await status(env, "Page", "home"))["greeting"] == "Bonjour"
    (run,) = (await env.client.list("runs")).items
    assert (run.spec["input"], run.spec["timeout"]) == ("Translate Hello", "1m")


async def test_objects_without_a_namespace_run_a_workflow_of_a_given_one(env, tmp_path) -> None:
    await env.apply(definition("Site", scope="Cluster"))
    await apply(env, reconciler("sites", "Site", workflow={"name": "publish", "input": INPUT}))
    assert await ready(env, "Reconciler", "sites") == ("False", "NamespaceRequired")
    await apply(env, reconciler("sites", "Site", workflow={"name": "publish", "namespace": "default", "input": INPUT}))
    await env.apply(page("main", "", "Site", title="one"))
    await finish_runs(env)
    assert published(tmp_path) == ["one"]
    assert (await env.get("Site", "main")).is_condition_true("Ready")
    await env.client.delete(ObjectRef("Site", "main"))
    await env.settle()
    assert (await env.client.list("runs")).items == []


async def test_runs_go_with_their_object(env) -> None:
    await apply(env, reconciler(workflow={"name": "publish", "input": INPUT}))
    await env.apply(page(title="one"))
    await finish_runs(env)
    await env.client.delete(ObjectRef("Page", "home", "default"))
    await env.settle()
    assert (await env.client.list("runs")).items == []
