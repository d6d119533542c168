"""`kastra dev` and manifests: what is saved is applied, what is broken is told with its place and changes nothing."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from kastra.app.development import Round

from .developing import BOX, BOXES, CONFIG, Project, developing, places, verbs


@pytest.fixture
async def project(tmp_path: Path) -> AsyncIterator[Project]:
    async with developing(tmp_path) as made:
        yield made


def config(*names: str, text: str = "x") -> str:
    return "---\n".join(CONFIG.format(name=name, text=text) for name in names)


async def test_a_saved_manifest_is_applied_and_a_changed_one_again(project: Project) -> None:
    assert verbs(await project.save("manifests/a.yaml", config("a"))) == {"a": "created"}
    assert verbs(await project.save("manifests/a.yaml", config("a", text="y"))) == {"a": "configured"}
    done = await project.change(project.folder / "manifests" / "a.yaml")
    assert (verbs(done), done.ok, done.settled) == ({"a": "unchanged"}, True, True)


async def test_a_file_that_is_no_yaml_keeps_its_objects_and_says_where_it_is_broken(project: Project) -> None:
    await project.save("manifests/a.yaml", config("a"))
    done = await project.save("manifests/a.yaml", "kind: ConfigMap\ndata: [\n")
    assert not done.ok
    assert places(done)[0].startswith("a.yaml:3:1 error ")
    assert await project.get("configmaps", "a") is not None
    done = await project.save("manifests/a.yaml", config("a", text="y"))
    assert (done.ok, [Path(name).name for name in done.mended]) == (True, ["a.yaml"])


async def test_a_field_that_does_not_exist_is_told_with_its_place_and_nothing_of_the_file_is_sent(
    project: Project,
) -> None:
    text = config("good") + "---\napiVersion: mastra.ai/v1\nkind: Agent\nmetadata: {name: a}\nspec: {modle: x}\n"
    done = await project.save("manifests/a.yaml", text)
    assert places(done) == ['a.yaml:9:8 error spec.modle: unknown field "spec.modle"']
    assert not done.applied


async def test_one_broken_file_does_not_hold_up_the_others(project: Project) -> None:
    broken, good = project.write("manifests/a.yaml", "a: ["), project.write("manifests/b.yaml", config("b"))
    done = await project.change(broken, good)
    assert verbs(done) == {"b": "created"}
    assert not done.ok


async def test_of_two_documents_the_one_that_goes_is_deleted(project: Project) -> None:
    await project.save("manifests/a.yaml", config("a", "b"))
    done = await project.save("manifests/a.yaml", config("b"))
    assert verbs(done) == {"a": "pruned", "b": "unchanged"}
    assert await project.get("configmaps", "a") is None


async def test_a_deleted_file_takes_its_objects_with_it(project: Project) -> None:
    await project.save("manifests/a.yaml", config("a", "b"))
    assert verbs(await project.remove("manifests/a.yaml")) == {"a": "pruned", "b": "pruned"}


async def test_a_renamed_file_changes_nothing(project: Project) -> None:
    await project.save("manifests/a.yaml", config("a"))
    before = await project.get("configmaps", "a")
    (project.folder / "manifests" / "a.yaml").rename(project.folder / "manifests" / "b.yaml")
    done = await project.change(project.folder / "manifests" / "a.yaml", project.folder / "manifests" / "b.yaml")
    after = await project.get("configmaps", "a")
    assert verbs(done) == {"a": "unchanged"}
    assert before is not None
    assert after is not None
    assert before.uid == after.uid


async def test_a_document_that_moves_to_another_file_stays(project: Project) -> None:
    await project.save("manifests/a.yaml", config("a", "b"))
    changed = project.write("manifests/a.yaml", config("a")), project.write("manifests/c.yaml", config("b"))
    assert verbs(await project.change(*changed)) == {"a": "unchanged", "b": "unchanged"}
    assert await project.get("configmaps", "b") is not None


async def test_an_object_that_somebody_else_put_in_its_place_is_not_deleted(project: Project) -> None:
    await project.save("manifests/a.yaml", config("a"))
    client = project.development.kastra.client
    first = await project.get("configmaps", "a")
    assert first is not None
    await client.delete(first.ref)
    await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}})
    assert verbs(await project.remove("manifests/a.yaml")) == {}
    assert await project.get("configmaps", "a") is not None


async def test_an_object_is_declared_in_one_file(project: Project) -> None:
    await project.save("manifests/a.yaml", config("a"))
    done = await project.save("manifests/b.yaml", config("a"))
    assert "is already declared in" in places(done)[0]
    (project.folder / "manifests" / "a.yaml").unlink()
    done = await project.change(project.folder / "manifests" / "a.yaml")
    assert done.ok
    assert await project.get("configmaps", "a") is not None


async def test_a_definition_comes_before_its_objects_whatever_the_order_of_the_files(project: Project) -> None:
    files = project.write("manifests/a.yaml", BOX.format(name="b", size=1)), project.write("crds/z.yaml", BOXES)
    done = await project.change(*files)
    assert (verbs(done), done.ok) == ({"boxes.example.com": "created", "b": "created"}, True)


async def test_a_broken_definition_is_told_and_what_needs_it_is_applied_when_it_is_mended(project: Project) -> None:
    files = (
        project.write("manifests/a.yaml", BOX.format(name="b", size=1)),
        project.write("crds/z.yaml", BOXES.replace("type: integer", "type: number of things")),
    )
    done = await project.change(*files)
    assert any(place.startswith("z.yaml:17:52 ") and "properties[size].type" in place for place in places(done))
    assert any('no matches for kind "Box"' in place for place in places(done))
    done = await project.save("crds/z.yaml", BOXES)
    assert (verbs(done), done.ok) == ({"boxes.example.com": "created", "b": "created"}, True)


async def test_an_object_with_a_generated_name_is_created_once_per_document(project: Project) -> None:
    text = config("a").replace("name: a", "generateName: a-")
    await project.save("manifests/a.yaml", text)
    await project.save("manifests/a.yaml", text + "---\n" + config("b"))
    found = (await project.development.kastra.client.list("configmaps", "default")).items
    assert len([one for one in found if one.name.startswith("a-")]) == 1


async def test_a_run_whose_document_goes_stays_and_is_not_started(project: Project) -> None:
    run = "apiVersion: mastra.ai/v1\nkind: Run\nmetadata: {name: r}\nspec: {target: {kind: Tool, name: none}}\n"
    assert verbs(await project.save("manifests/r.yaml", run)) == {"r": "created"}
    await project.remove("manifests/r.yaml")
    found = await project.get("runs", "r")
    assert found is not None
    assert found.spec["desiredState"] == "Suspended"


async def test_what_lies_outside_the_project_is_refused(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.yaml"
    outside.write_text(config("secret"))
    (project.folder / "manifests").mkdir()
    link = project.folder / "manifests" / "link.yaml"
    link.symlink_to(outside)
    done = await project.change(link)
    assert places(done) == ["link.yaml: error link that leads out of the project; its content is not read"]
    with pytest.raises(ValueError, match="lies outside the project"):
        type(project.development)(project.parts, project.development.kastra.settings, [outside])


async def test_files_that_are_no_manifests_are_nobodys(project: Project) -> None:
    done = await project.change(
        project.write("notes.yaml", "a: ["),
        project.write("manifests/.a.yaml.swp", "x"),
        project.write("manifests/a.txt", "x"),
    )
    assert (done.ok, done.applied) == (True, [])


async def test_an_object_that_takes_a_value_from_a_file_is_looked_at_again(project: Project) -> None:
    project.write("prompts/cook.md", "You cook.")
    agent = (
        "apiVersion: mastra.ai/v1\nkind: Agent\nmetadata: {name: cook}\nspec:\n"
        "  instructionsFrom: {file: prompts/cook.md}\n"
        "  model: {provider: scripted, parameters: {rules: [{reply: 'Yes.'}]}}\n"
    )
    await project.save("manifests/a.yaml", agent)
    done = await project.save("prompts/cook.md", "You bake.")
    assert done.notes == [("agent/cook", "looked at again: a file that it reads has changed")]
    done = await project.remove("prompts/cook.md")
    assert "can't be read" in await project.ready("agents", "cook")


async def test_what_tools_write_in_the_project_is_no_change_of_it(project: Project) -> None:
    rounds: list[Round] = []
    told = anyio.Event()

    def tell(done: Round) -> None:
        rounds.append(done)
        told.set()

    seen = project.development.files.look()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            project.write("out/report.csv", "1,2")
            project.write("out/data.yaml", "a: [")
            project.write("manifests/a.yaml", config("a"))
            tasks.start_soon(project.development.follow, seen, tell)
            await told.wait()
            tasks.cancel_scope.cancel()
    assert [[Path(name).name for name in done.changed] for done in rounds] == [["a.yaml"]]
    assert rounds[0].ok
