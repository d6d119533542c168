"""A folder is applied as a whole: checked first, then sent in order; what is refused is named with its place."""

from pathlib import Path

import pytest

import kastra
from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.app.applying import ApplyReport
from kastra.client.interface import PatchType, WriteOptions

AGENT = """\
apiVersion: mastra.ai/v1
kind: Agent
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  instructions: Help.
  model: {{provider: {provider}, name: x, parameters: {{rules: [{{when: 'true', reply: hi}}]}}}}
"""
RUN = """\
apiVersion: mastra.ai/v1
kind: Run
metadata: {name: once}
spec: {target: {kind: Agent, name: helper}, input: hello}
"""


def agent(name: str = "helper", namespace: str = "default", provider: str = "scripted") -> str:
    return AGENT.format(name=name, namespace=namespace, provider=provider)


def lines(report: ApplyReport) -> list[str]:
    return [f"{applied.ref} {applied.verb}" for applied in report.applied]


async def test_the_first_apply_creates_and_the_second_changes_nothing(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(agent())
    first = await k.apply(tmp_path)
    revision = (await k.client.get(ObjectRef("agents", "helper", "default"))).resource_version
    second = await k.apply(tmp_path)
    assert lines(first) == ["Agent.mastra.ai/default/helper created"]
    assert lines(second) == ["Agent.mastra.ai/default/helper unchanged"]
    assert (await k.client.get(ObjectRef("agents", "helper", "default"))).resource_version == revision


async def test_a_change_in_the_file_configures_and_a_dropped_field_goes(k: kastra.Kastra, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(agent() + "  description: old\n")
    await k.apply(file)
    file.write_text(agent())
    report = await k.apply(file)
    assert lines(report) == ["Agent.mastra.ai/default/helper configured"]
    assert "description" not in (await k.client.get(ObjectRef("agents", "helper", "default"))).spec


async def test_namespaces_that_nobody_declared_are_created(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(agent(namespace="cooking"))
    report = await k.apply(tmp_path)
    assert lines(report) == ["Namespace/cooking created", "Agent.mastra.ai/cooking/helper created"]


async def test_nothing_is_sent_if_any_file_is_invalid(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(agent("good", namespace="new"))
    (tmp_path / "b.yaml").write_text(agent("bad", provider="opnai"))
    report = await k.apply(tmp_path)
    [problem] = report.problems
    assert (Path(problem.file).name, problem.mark.line, problem.field) == ("b.yaml", 6, "spec.model.provider")
    assert problem.suggestion == 'did you mean "openai"?'
    assert (report.ok, report.not_applied, report.applied) == (False, 2, [])
    with pytest.raises(NotFound):
        await k.client.get(ObjectRef("namespaces", "new"))


async def test_keep_going_sends_the_valid_rest(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(agent("good"))
    (tmp_path / "b.yaml").write_text(agent("bad", provider="opnai"))
    (tmp_path / "c.yaml").write_text("a: [")
    report = await k.apply(tmp_path, keep_going=True)
    assert lines(report) == ["Agent.mastra.ai/default/good created"]
    assert (report.ok, report.not_applied) == (False, 1)


@pytest.mark.parametrize(
    ("text", "place", "message", "suggestion"),
    [
        (agent().replace("instructions", "instructionz"), "5:3", 'unknown field "spec.instructionz"', "instructions"),
        (agent().replace("kind: Agent", "kind: Agnet"), "2:1", 'no matches for kind "Agnet"', "Agent"),
        (agent().replace("mastra.ai/v1", "mastra.ai/v2"), "1:1", "no matches for kind", "Agent is in mastra.ai/v1"),
        (agent().replace("{name: helper", "{nam: x, name: helper"), "3:12", 'unknown field "metadata.nam"', "name"),
        (agent().replace("{name: helper", "{labels: {a: 1}, name: helper"), "3:21", "must be a string; quote it", ""),
        (agent(namespace="Not_ok"), "3:", "lowercase RFC 1123 label", ""),
        (agent() + "  maxSteps: lots\n", "7:3", "must be of type integer", ""),
    ],
)
async def test_each_mistake_is_located_and_explained(
    k: kastra.Kastra, tmp_path: Path, text: str, place: str, message: str, suggestion: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    [problem] = (await k.apply(tmp_path)).problems
    assert f"a.yaml:{place}" in str(problem)
    assert message in problem.message
    assert suggestion in problem.suggestion


async def test_a_folder_may_define_a_kind_and_use_it(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "z-crd.yaml").write_text("""\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {size: {type: integer}}}}
""")
    widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: SIZE}\n"
    (tmp_path / "a-widget.yaml").write_text(widget.replace("SIZE", "big"))
    [problem] = (await k.apply(tmp_path)).problems
    assert problem.field == "spec.size"
    (tmp_path / "a-widget.yaml").write_text(widget.replace("SIZE", "3"))
    report = await k.apply(tmp_path)
    assert [applied.verb for applied in report.applied] == ["created", "created"]
    assert (await k.client.get(ObjectRef("widgets", "w", "default"))).spec == {"size": 3}


async def test_a_field_of_another_manager_is_a_conflict_until_forced(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(agent())
    await k.apply(tmp_path)
    ref = ObjectRef("agents", "helper", "default")
    edit = {"spec": {"instructions": "Mine."}}
    await k.client.patch(ref, edit, PatchType.MERGE, WriteOptions(field_manager="someone"))
    refused = await k.apply(tmp_path)
    [problem] = refused.problems
    assert 'conflict with "someone"' in problem.message
    assert "--force-conflicts" in problem.message
    assert lines(await k.apply(tmp_path, force=True)) == ["Agent.mastra.ai/default/helper configured"]
    assert (await k.client.get(ref)).spec["instructions"] == "Help."


async def test_a_server_dry_run_stores_nothing(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(agent(namespace="new"))
    for dry_run in ("client", "server"):
        report = await k.apply(tmp_path, dry_run=dry_run)
        assert "Agent.mastra.ai/new/helper created" in lines(report)
        for ref in (ObjectRef("agents", "helper", "new"), ObjectRef("namespaces", "new")):
            with pytest.raises(NotFound):
                await k.client.get(ref)


async def test_a_run_in_a_folder_is_created_suspended_and_later_applies_leave_it_alone(
    k: kastra.Kastra, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(agent() + "---\n" + RUN)
    ref = ObjectRef("runs", "once", "default")
    await k.apply(tmp_path)
    assert (await k.client.get(ref)).spec["desiredState"] == "Suspended"
    await k.client.patch(ref, {"spec": {"desiredState": "Running"}})
    assert "Run.mastra.ai/default/once unchanged" in lines(await k.apply(tmp_path))
    assert (await k.client.get(ref)).spec["desiredState"] == "Running"


async def test_runs_start_at_once_when_asked(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RUN)
    await k.apply(tmp_path, run=True)
    assert "desiredState" not in (await k.client.get(ObjectRef("runs", "once", "default"))).spec


async def test_a_status_in_a_manifest_is_ignored(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(agent() + "status: {anything: goes}\n")
    assert (await k.apply(tmp_path)).ok
    assert not (await k.client.get(ObjectRef("agents", "helper", "default"))).status


async def test_prune_deletes_what_the_set_no_longer_names_and_nothing_else(k: kastra.Kastra, tmp_path: Path) -> None:
    mine, others = tmp_path / "mine", tmp_path / "others"
    mine.mkdir()
    others.mkdir()
    (mine / "a.yaml").write_text(agent("a"))
    (mine / "b.yaml").write_text(agent("b", namespace="far"))
    (others / "c.yaml").write_text(agent("c"))
    await k.apply(others)
    await k.apply(mine, prune="app")
    (mine / "b.yaml").unlink()
    preview = await k.apply(mine, prune="app", dry_run="server")
    assert "Agent.mastra.ai/far/b pruned" in lines(preview)
    assert await k.client.get(ObjectRef("agents", "b", "far"))
    report = await k.apply(mine, prune="app")
    assert lines(report) == ["Agent.mastra.ai/default/a unchanged", "Agent.mastra.ai/far/b pruned"]
    names = [obj.name for obj in (await k.client.list("agents")).items]
    assert names == ["a", "c"]


async def test_an_invalid_folder_prunes_nothing(k: kastra.Kastra, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(agent("a") + "---\n" + agent("b"))
    await k.apply(tmp_path, prune="app")
    (tmp_path / "a.yaml").write_text(agent("a", provider="opnai"))
    assert not (await k.apply(tmp_path, prune="app")).ok
    assert len((await k.client.list("agents")).items) == 2
