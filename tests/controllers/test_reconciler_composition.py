"""A Reconciler with templates: an object expands to others, which follow it, wait for each other, and go with it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.api.meta import ObjectRef
from kastra.testing import ControlPlane

from .declared import CONDITIONS, definition, page, plane, reconciler
from .objects import apply, ready, said, status, tool


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with plane(tmp_path, execute=False) as env:
        await env.apply(definition())
        yield env


def config(id_: str, name: str, data: Any = None, **more: Any) -> dict[str, Any]:
    """A template of a ConfigMap."""
    template = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data or {}}
    return {"id": id_, "template": template, **more}


def part(id_: str, name: str, spec: Any, **more: Any) -> dict[str, Any]:
    """A template of another object with a status: a Page of its own kind can't be, so a Part."""
    template = {"apiVersion": "example.com/v1", "kind": "Part", "metadata": {"name": name}, "spec": spec}
    return {"id": id_, "template": template, **more}


async def configs(env: ControlPlane) -> dict[str, Any]:
    return {obj.name: obj.data.get("data", {}) for obj in (await env.client.list("configmaps", "default")).items}


async def test_an_object_expands_to_objects_that_belong_to_it_and_follow_it(env) -> None:
    await apply(
        env,
        reconciler(resources=[config("text", "${{ object.metadata.name }}-text", {"t": "${{ object.spec.title }}"})]),
    )
    await apply(env, page(title="one"))
    assert await configs(env) == {"home-text": {"t": "one"}}
    assert await said(env, "Page", "home") == ("True", "Ready", "1 object made and ready")
    found = await env.get("ConfigMap", "home-text")
    (owner,) = found.owner_references
    assert (owner["kind"], owner["name"], owner["blockOwnerDeletion"]) == ("Page", "home", True)
    assert {entry["manager"] for entry in found.metadata["managedFields"]} == {"kastra-reconciler"}
    await apply(env, page(title="two"))
    assert await configs(env) == {"home-text": {"t": "two"}}
    await env.client.delete(ObjectRef("Page", "home", "default"))
    await env.settle()
    assert await configs(env) == {}


async def test_what_others_change_or_delete_is_made_again_and_what_they_add_stays(env) -> None:
    await apply(env, reconciler(resources=[config("text", "text", {"t": "one"})]))
    await apply(env, page())
    ref = (await env.get("ConfigMap", "text")).ref
    await env.client.patch(ref, {"data": {"t": "other", "more": "1"}})
    await env.settle()
    assert await configs(env) == {"text": {"t": "one", "more": "1"}}
    await env.client.delete(ref)
    await env.settle()
    assert await configs(env) == {"text": {"t": "one"}}


async def test_one_object_is_made_per_item_of_a_list_or_a_map(env) -> None:
    await apply(
        env,
        reconciler(
            resources=[
                config(
                    "each", "${{ object.metadata.name }}-${{ key }}", {"v": "${{ item }}"}, forEach="object.spec.list"
                ),
                config("named", "${{ key }}", {"v": "${{ item }}"}, forEach="${{ object.spec.map }}"),
            ],
            status={"names": "${{ resources.each.map(r, r.metadata.name) }}", "x": "${{ resources.named.x.data.v }}"},
        ),
    )
    await apply(env, page(list=["a", "b"], map={"x": "1", "y": "2"}))
    assert await configs(env) == {"home-0": {"v": "a"}, "home-1": {"v": "b"}, "x": {"v": "1"}, "y": {"v": "2"}}
    assert await status(env, "Page", "home") == {
        **await status(env, "Page", "home"), "names": ["home-0", "home-1"], "x": "1"
    }  # fmt: skip
    await apply(env, page(list=["a"], map={"x": "3"}))
    assert await configs(env) == {"home-0": {"v": "a"}, "x": {"v": "3"}}


async def test_a_resource_whose_condition_is_false_is_left_out_with_what_needs_it(env) -> None:
    await apply(
        env,
        reconciler(
            resources=[
                config("second", "second", {"of": "${{ resources.first.metadata.name }}"}),
                config("first", "first", when="object.spec.on"),
                config("third", "third", {"first": "${{ string('first' in resources) }}"}),
            ]
        ),
    )
    await apply(env, page(on=True))
    assert await configs(env) == {"first": {}, "second": {"of": "first"}, "third": {"first": "true"}}
    await apply(env, page(on=False))
    assert await configs(env) == {"third": {"first": "false"}}
    assert await ready(env, "Page", "home") == ("True", "Ready")


async def test_a_resource_waits_for_the_one_that_it_needs_to_be_ready(env) -> None:
    await env.apply(definition("Part"))
    await apply(
        env,
        reconciler(
            resources=[
                config("after", "after", {"url": "${{ resources.part.status.url }}"}),
                part("part", "part", {}, readyWhen="resource.status.url != ''"),
            ],
            status={"url": "${{ resources.part.status.url }}", "kind": "${{ resources.part.kind }}"},
        ),
    )
    await apply(env, page())
    found = await said(env, "Page", "home")
    assert (found.status, found.reason) == ("False", "ChildrenNotReady")
    assert "part: Part part is not ready yet" in found.message
    assert "after: waits for part" in found.message
    assert (await status(env, "Page", "home"))["kind"] == "Part"
    assert await configs(env) == {}
    ref = (await env.get("Part", "part")).ref
    await env.client.patch(ref, {"status": {"url": "u"}}, subresource="status")
    await env.settle()
    assert await configs(env) == {"after": {"url": "u"}}
    assert (await status(env, "Page", "home"))["url"] == "u"
    assert await ready(env, "Page", "home") == ("True", "Ready")
    await env.client.patch(ref, {"status": {"url": ""}}, subresource="status")
    await env.settle()
    assert await ready(env, "Page", "home") == ("False", "ChildrenNotReady")
    assert await configs(env) == {"after": {"url": "u"}}


async def test_without_ready_when_the_condition_ready_decides(env) -> None:
    template = tool("t", python={"entrypoint": "not_there:f"})
    del template["metadata"]["namespace"]
    await apply(env, reconciler(resources=[{"id": "tool", "template": template}]))
    await apply(env, page())
    found = await said(env, "Page", "home")
    assert (found.reason, "NotImportable" in found.message) == ("ChildrenNotReady", True)


async def test_objects_of_a_template_that_is_gone_are_deleted_also_of_another_kind(env) -> None:
    await env.apply(definition("Part"))
    await apply(env, reconciler(resources=[config("a", "a"), part("b", "b", {})]), page())
    assert len((await env.client.list("parts")).items) == 1
    await apply(env, reconciler(resources=[config("a", "a")]))
    assert (await env.client.list("parts")).items == []
    assert await configs(env) == {"a": {}}


async def test_nothing_is_deleted_while_it_is_not_known_what_there_should_be(env) -> None:
    resources = [config("a", "a-${{ object.spec.part }}"), config("b", "b", {"x": "${{ object.spec.x }}"})]
    await apply(env, reconciler(resources=resources))
    await apply(env, page(part="1", x="1"))
    await apply(env, page(part="2"))
    assert (await configs(env)).keys() == {"a-1", "a-2", "b"}
    found = await said(env, "Page", "home")
    assert (found.status, found.reason) == ("False", "EvaluationFailed")
    assert "spec.resources[1].template.data.x" in found.message
    await apply(env, page(part="2", x="2"))
    assert (await configs(env)).keys() == {"a-2", "b"}


async def test_an_object_of_somebody_else_is_not_taken(env) -> None:
    await apply(env, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "text"}, "data": {"mine": "1"}})
    await apply(env, reconciler(resources=[config("text", "text", {"t": "one"})]), page())
    found = await said(env, "Page", "home")
    assert (found.reason, "isn't owned by Page home" in found.message) == ("ChildRefused", True)
    assert await configs(env) == {"text": {"mine": "1"}}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}, "cluster-wide"),
        ({"apiVersion": "example.com/v9", "kind": "Nothing", "metadata": {"name": "x"}}, "has no kind Nothing"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "other"}}, "namespace"),
        ({"apiVersion": "mastra.ai/v1", "kind": "Tool", "metadata": {"name": "x"}, "spec": {"timeout": []}}, "timeout"),
    ],
    ids=["cluster-wide", "unknown kind", "other namespace", "invalid"],
)
async def test_an_object_that_can_not_be_made_is_said_with_the_reason(env, template, message) -> None:
    await apply(env, reconciler(resources=[{"id": "x", "template": template}]), page())
    found = await said(env, "Page", "home")
    assert (found.status, found.reason) == ("False", "ChildRefused")
    assert message in found.message


async def test_two_templates_that_make_the_same_object_are_a_mistake(env) -> None:
    resources = [config("a", "${{ object.spec.x }}"), config("b", "${{ object.spec.y }}")]
    await apply(env, reconciler(resources=resources), page(x="same", y="same"))
    assert (await said(env, "Page", "home")).reason == "EvaluationFailed"


async def test_an_object_expands_to_no_more_than_256_objects(env) -> None:
    await apply(env, reconciler(resources=[config("a", "a-${{ key }}", forEach="object.spec.list")]))
    await apply(env, page(list=list(range(300))))
    found = await said(env, "Page", "home")
    assert (found.reason, "at most 256" in found.message) == ("EvaluationFailed", True)


async def test_a_cluster_wide_object_expands_into_the_namespaces_that_the_template_names(env) -> None:
    await env.apply(definition("Site", scope="Cluster"))
    text = config("text", "text")
    await apply(env, reconciler("sites", "Site", resources=[text]), page("s", "", "Site"))
    assert "needs metadata.namespace" in (await said(env, "Site", "s")).message
    text["template"]["metadata"]["namespace"] = "default"
    await apply(env, reconciler("sites", "Site", resources=[text]))
    assert await ready(env, "Site", "s") == ("True", "Ready")
    assert await configs(env) == {"text": {}}


async def test_an_object_that_is_as_it_should_be_causes_no_write(env) -> None:
    await apply(
        env, reconciler(resources=[config("a", "a")], resync="1m", status={"n": "${{ size(resources) }}"}), page()
    )
    before = (await env.get("Page", "home"), await env.get("ConfigMap", "a"))
    for _ in range(3):
        await env.advance(61)
    after = (await env.get("Page", "home"), await env.get("ConfigMap", "a"))
    assert [obj.resource_version for obj in after] == [obj.resource_version for obj in before]


async def test_a_status_that_breaks_the_schema_of_the_kind_is_said_and_not_written(env) -> None:
    crd = definition("Part")
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"] = {
        "type": "object",
        "properties": {
            "count": {"type": "integer"},
            "phase": {"type": "string", "enum": ["Open"]},
            "conditions": CONDITIONS,
        },
    }
    await env.apply(crd)
    resources = [config("a", "a")]
    await apply(
        env, reconciler("parts", "Part", resources=resources, status={"count": "${{ object.spec.n }}", "phase": "Open"})
    )
    await apply(env, page(kind="Part", n="many"))
    found = await said(env, "Part", "home")
    assert (found.status, found.reason) == ("False", "StatusRefused")
    assert "status.count" in found.message
    await apply(env, page(kind="Part", n=3))
    found = await status(env, "Part", "home")
    assert (found["count"], found["phase"]) == (3, "Open")
    assert await ready(env, "Part", "home") == ("True", "Ready")


async def test_objects_stay_when_the_reconciler_goes_and_another_takes_them_over(env) -> None:
    await apply(env, reconciler(resources=[config("a", "a"), config("b", "b")]), page())
    await env.client.delete(ObjectRef("Reconciler", "pages"))
    await env.settle()
    assert (await configs(env)).keys() == {"a", "b"}
    await apply(env, reconciler("others", resources=[config("a", "a", {"new": "1"})]))
    assert await configs(env) == {"a": {"new": "1"}}
