"""A Reconciler is carried out while it can be, says why not otherwise, and counts its objects."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.api.meta import ObjectRef
from kastra.testing import ApplyFailed, ControlPlane

from .declared import definition, page, plane, reconciler
from .objects import apply, ready, remove, said, status

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "${{ object.metadata.name }}"}}
BODY: dict[str, Any] = {"resources": [{"id": "map", "template": MAP}]}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with plane(tmp_path, execute=False) as env:
        yield env


async def carried_out(env: ControlPlane, name: str = "home") -> bool:
    return any(obj.name == name for obj in (await env.client.list("configmaps", "default")).items)


async def test_it_waits_for_the_definition_and_stops_when_that_goes(env) -> None:
    await apply(env, reconciler(**BODY))
    assert await said(env, "Reconciler", "pages") == (
        "False",
        "NotFound",
        "spec.for: no CustomResourceDefinition defines Page in example.com/v1",
    )
    assert (await said(env, "Reconciler", "pages", "ResolvedRefs")).status == "False"
    await apply(env, definition())
    await env.advance(2)
    assert await ready(env, "Reconciler", "pages") == ("True", "Resolved")
    await apply(env, page())
    assert await carried_out(env)
    assert "reconciler/pages" in env.manager.controllers
    await remove(env, "CustomResourceDefinition", "pages.example.com", "")
    await env.advance(2)
    assert await ready(env, "Reconciler", "pages") == ("False", "NotFound")
    assert "reconciler/pages" not in env.manager.controllers


async def test_it_counts_its_objects(env) -> None:
    await apply(env, definition(), reconciler(**BODY, ready="object.spec.good"))
    await env.advance(2)
    await env.apply(page("a", good=True), page("b", good=True), page("c", good=False))
    await env.settle()
    await env.advance(2)
    found = await status(env, "Reconciler", "pages")
    assert (found["body"], found["objects"], found["ready"], found["failing"]) == ("Resources", 3, 2, 1)
    await remove(env, "Page", "c")
    await env.advance(2)
    found = await status(env, "Reconciler", "pages")
    assert (found["objects"], found["ready"], found["failing"]) == (2, 2, 0)


async def test_the_older_of_two_for_one_kind_is_carried_out_and_the_other_takes_its_place(env) -> None:
    await apply(env, definition(), page())
    await apply(env, reconciler("b", **BODY))
    await env.advance(2)
    await apply(env, reconciler("a", **BODY))
    await env.advance(2)
    found = await said(env, "Reconciler", "a")
    assert (found.status, found.reason) == ("False", "AnotherReconciler")
    assert "Reconciler b is for Page.example.com too" in found.message
    await remove(env, "Reconciler", "b", "")
    await env.advance(2)
    assert await ready(env, "Reconciler", "a") == ("True", "Resolved")
    assert [name for name in env.manager.controllers if name.startswith("reconciler/")] == ["reconciler/a"]


@pytest.mark.parametrize(
    ("crd", "subject", "reason"),
    [
        (definition(status=False), {}, "NoStatusSubresource"),
        (definition(), {"version": "v7"}, "NotFound"),
        (definition(versions=("v1", "v2")), {"version": "v2"}, "OtherVersion"),
    ],
    ids=["no status", "no such version", "another version"],
)
async def test_a_definition_that_does_not_fit_is_said(env, crd, subject, reason) -> None:
    await apply(env, crd)
    await apply(env, reconciler(**subject, **BODY))
    await env.advance(2)
    assert await ready(env, "Reconciler", "pages") == ("False", reason)
    assert "reconciler/pages" not in env.manager.controllers


@pytest.mark.parametrize(
    ("api_version", "kind", "reason"),
    [
        ("v1", "ConfigMap", "NotACustomKind"),
        ("mastra.ai/v1", "Agent", "CodedController"),
        ("mastra.ai/v1", "Reconciler", "CodedController"),
    ],
)
async def test_kinds_that_have_a_controller_already_are_left_to_it(env, api_version, kind, reason) -> None:
    body = reconciler(**BODY)
    body["spec"]["for"] = {"apiVersion": api_version, "kind": kind}
    await apply(env, body)
    assert await ready(env, "Reconciler", "pages") == ("False", reason)


async def test_a_kind_with_a_controller_in_the_project_is_left_to_it(tmp_path) -> None:
    (tmp_path / "controllers").mkdir()
    (tmp_path / "controllers" / "page.py").write_text(
        "from typing import Any\nfrom kastra import Context, Result, View, controller\n\n\n"
        "class Page(View, kind='Page', group='example.com'):\n    spec: dict[str, Any]\n\n\n"
        "@controller(Page)\nasync def reconcile(page: Page, ctx: Context) -> Result:\n    return ctx.ready()\n"
    )
    async with ControlPlane(tmp_path, execute=False) as env:
        await apply(env, definition(), reconciler(**BODY), page())
        await env.advance(2)
        assert await ready(env, "Reconciler", "pages") == ("False", "CodedController")
        assert not await carried_out(env)


async def test_a_workflow_that_is_the_same_for_all_objects_and_missing_is_said(env) -> None:
    await apply(env, definition(), reconciler(workflow={"name": "w", "namespace": "default"}))
    await env.advance(2)
    assert await said(env, "Reconciler", "pages") == ("False", "NotFound", "Workflow default/w does not exist (yet)")
    workflow = {"apiVersion": "mastra.ai/v1", "kind": "Workflow", "metadata": {"name": "w"}}
    await apply(env, {**workflow, "spec": {"steps": [{"id": "a", "sleep": "1s"}]}})
    await env.advance(2)
    assert await ready(env, "Reconciler", "pages") == ("True", "Resolved")


async def test_a_definition_without_conditions_in_its_status_is_warned_of(env) -> None:
    crd = definition()
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"] = {"type": "object"}
    await apply(env, crd, reconciler(**BODY))
    await env.advance(2)
    assert await ready(env, "Reconciler", "pages") == ("True", "Resolved")
    assert (await said(env, "Reconciler", "pages", "Degraded"))[:2] == ("True", "ConditionsNotKept")
    await apply(env, page())
    assert await carried_out(env)
    await apply(env, definition())
    await env.advance(2)
    assert (await said(env, "Reconciler", "pages", "Degraded"))[:2] == ("False", "ConditionsKept")


async def test_it_does_nothing_while_it_is_suspended(env) -> None:
    await apply(env, definition(), reconciler(**BODY, suspend=True), page())
    await env.advance(2)
    assert await ready(env, "Reconciler", "pages") == ("False", "Suspended")
    assert not await carried_out(env)
    await apply(env, reconciler(**BODY, suspend=False))
    await env.advance(2)
    assert await carried_out(env)


async def test_it_can_be_made_again_under_its_name(env) -> None:
    await apply(env, definition(), reconciler(**BODY), page())
    await remove(env, "Reconciler", "pages", "")
    await apply(env, page("second"))
    assert not await carried_out(env, "second")
    await apply(env, reconciler(**BODY))
    await env.advance(2)
    assert await carried_out(env, "second")


def template(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "template": {**MAP, **fields}}


WORKFLOW = {"workflow": {"name": "w"}}


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({}, "spec", "exactly one of workflow, agent, resources; none is given"),
        ({**WORKFLOW, **BODY}, "spec", "these are given: workflow, resources"),
        ({"workflow": {"name": "${{ object.spec.x }}"}}, "spec.workflow.name", "can't depend on the object"),
        ({"workflow": {"name": "w", "namespace": "${{ object.x }}"}}, "spec.workflow.namespace", "can't depend"),
        ({"agent": {"name": "a"}}, "spec.agent.input", "what the agent is asked"),
        ({"workflow": {"name": "w", "input": "${{ objekt }}"}}, "spec.workflow.input", "undeclared reference"),
        ({"workflow": {"name": "w", "input": {"a": ["${{ 1 +"]}}}, "spec.workflow.input.a[0]", "not closed"),
        ({**WORKFLOW, "status": {"conditions": []}}, "spec.status.conditions", "the controller sets this field"),
        ({**WORKFLOW, "status": {"a": "${{ resources.x }}"}}, "spec.status.a", "undeclared reference"),
        ({**WORKFLOW, "ready": "output ="}, "spec.ready", "Syntax error"),
        ({**WORKFLOW, "resync": "10ms"}, "spec.resync", "at least 1s"),
        ({**WORKFLOW, "resync": "often"}, "spec.resync", "no duration"),
        ({**WORKFLOW, "finalize": {"workflow": {"name": "w", "input": "${{ output }}"}}},
         "spec.finalize.workflow.input", "undeclared reference"),
        ({"resources": [template(kind="${{ object.spec.kind }}")]}, "spec.resources[0].template.kind", "without expr"),
        ({"resources": [template(metadata={})]}, "spec.resources[0].template.metadata.name", "the same name"),
        ({"resources": [template(status={})]}, "spec.resources[0].template.status", "for the controller"),
        ({"resources": [{**template(metadata={"name": "x"}), "forEach": "object.spec.list"}]},
         "spec.resources[0].template.metadata.name", "or all have the same"),
        ({"resources": [template(), template()]}, "spec.resources[1].id", "Duplicate value"),
        ({"resources": [{**template(), "id": "a-b"}]}, "spec.resources[0].id", "letters, digits and _"),
        ({"resources": [template(data={"x": "${{ item }}"})]}, "spec.resources[0].template.data.x", "undeclared"),
        ({"resources": [template(data={"x": "${{ resources.b.kind }}"})]}, "spec.resources[0].template",
         'there is no resource "b"'),
        ({"resources": [template(data={"x": "${{ size(resources) }}"})]}, "spec.resources[0].template",
         "name the resource"),
        ({"resources": [template(data={"x": "${{ resources.a.kind }}"})]}, "spec.resources[0]", "need each other"),
        ({"resources": [template(data={"x": "${{ resources.b.kind }}"}),
                        {**template(data={"x": "${{ resources.a.kind }}"}), "id": "b"}]},
         "spec.resources[0]", "need each other, so that none can be first: a -> b"),
    ],
)  # fmt: skip
async def test_a_mistake_is_refused_with_its_place(env, spec, field, message) -> None:
    with pytest.raises(ApplyFailed) as refused:
        await env.apply(reconciler(**spec))
    assert f"error {field}: " in str(refused.value)
    assert message in str(refused.value)


async def test_its_name_fits_into_a_label(env) -> None:
    with pytest.raises(ApplyFailed, match="at most 63 characters"):
        await env.apply(reconciler("n" * 64, **BODY))


async def test_a_reconciler_that_goes_before_it_began_leaves_nothing(env) -> None:
    await apply(env, reconciler(**BODY))
    await env.client.delete(ObjectRef("Reconciler", "pages"))
    await env.settle()
    assert (await env.client.list("reconcilers")).items == []
