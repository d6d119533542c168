"""`kastra dev` and code: what is saved is loaded, with what imports it; what doesn't load leaves the old in place."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kastra.app.development import Round

from .developing import BOX, BOXES, CONTROLLER, Project, developing, places

TOOL = """\
apiVersion: mastra.ai/v1
kind: Tool
metadata: {{name: {name}}}
spec: {{python: {{entrypoint: "{entrypoint}"}}}}
"""


@pytest.fixture
async def project(tmp_path: Path) -> AsyncIterator[Project]:
    async with developing(tmp_path) as made:
        made.write("crds/boxes.yaml", BOXES)
        made.write("manifests/box.yaml", BOX.format(name="b", size=3))
        await made.change(tmp_path / "crds" / "boxes.yaml", tmp_path / "manifests" / "box.yaml")
        yield made


def saying(message: str, text: str = CONTROLLER) -> str:
    return text.replace("MESSAGE", message)


def what(done: Round) -> list[tuple[str, str]]:
    return [(Path(name).name, text) for name, text in done.reloaded]


async def test_a_saved_controller_works_and_a_changed_one_does_as_it_says_now(project: Project) -> None:
    done = await project.save("controllers/box.py", saying("holds"))
    assert what(done) == [("box.py", "controller box loaded")]
    assert await project.ready("boxes.example.com", "b") == "holds 3"
    await project.save("controllers/box.py", saying("takes"))
    assert await project.ready("boxes.example.com", "b") == "takes 3"
    assert project.controllers == {"box"}


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        ("def reconcile(:\n", "box.py:1:15 error SyntaxError: invalid syntax"),
        ("import json\n\nLIMIT = json.loads('{')\n", "box.py:3:9 error JSONDecodeError: "),
        ("from kastra import nothing\n", "box.py:1:1 error ImportError: "),
        ("raise SystemExit(3)\n", "box.py:1:1 error SystemExit: 3"),
    ],
    ids=["no Python", "raises at import", "imports what isn't there", "leaves"],
)
async def test_a_controller_that_does_not_load_leaves_the_old_one_at_work(
    project: Project, broken: str, place: str
) -> None:
    await project.save("controllers/box.py", saying("holds"))
    done = await project.save("controllers/box.py", broken)
    assert places(done)[0].startswith(place)
    await project.save("manifests/box.yaml", BOX.format(name="b", size=4))
    assert await project.ready("boxes.example.com", "b") == "holds 4"
    done = await project.save("controllers/box.py", saying("takes"))
    assert [Path(name).name for name in done.mended] == ["box.py"]
    assert await project.ready("boxes.example.com", "b") == "takes 4"


async def test_a_controller_that_raises_is_shown_on_its_object_and_can_be_mended(project: Project) -> None:
    done = await project.save("controllers/box.py", CONTROLLER.replace("return ctx.ready", "raise ValueError"))
    assert done.ok
    assert "MESSAGE 3" in await project.ready("boxes.example.com", "b")
    await project.save("controllers/box.py", saying("holds"))
    assert await project.ready("boxes.example.com", "b") == "holds 3"


async def test_a_deleted_controller_is_gone_and_a_renamed_one_goes_on(project: Project) -> None:
    await project.save("controllers/box.py", saying("holds"))
    (project.folder / "controllers" / "box.py").rename(project.folder / "controllers" / "crate.py")
    done = await project.change(project.folder / "controllers" / "box.py", project.folder / "controllers" / "crate.py")
    assert (done.ok, project.controllers) == (True, {"box"})
    done = await project.remove("controllers/crate.py")
    assert ("crate.py", "controller box removed") in what(done)
    assert project.controllers == set()


async def test_a_module_that_two_controllers_import_takes_both_along_and_no_other(project: Project) -> None:
    project.write("controllers/words.py", "WORD = 'holds'\n")
    text = CONTROLLER.replace("from kastra import", "from .words import WORD\nfrom kastra import")
    project.write("controllers/box.py", text.replace("MESSAGE", "{WORD}"))
    other = (
        "from . import words\nfrom kastra.runtime import Manager, Request, Result\n\nFIRST = words.WORD\n\n\n"
        "class Idle:\n    async def reconcile(self, request: Request) -> Result:\n        return Result()\n\n\n"
        "def setup(manager: Manager) -> None:\n    manager.controller('ConfigMap', Idle(), name=f'idle-{FIRST}')\n"
    )
    project.write("controllers/idle.py", other)
    project.write("controllers/apart.py", other.replace("from . import words\n", "").replace("words.WORD", "'apart'"))
    await project.change(*(project.folder / "controllers").iterdir())
    assert project.controllers == {"box", "idle-holds", "idle-apart"}
    done = await project.save("controllers/words.py", "WORD = 'takes'\n")
    assert sorted(name for name, _ in what(done)) == ["box.py", "idle.py", "words.py"]
    assert project.controllers == {"box", "idle-takes", "idle-apart"}
    assert await project.ready("boxes.example.com", "b") == "takes 3"


async def test_a_setup_that_raises_leaves_what_the_old_one_had_added(project: Project) -> None:
    text = (
        "from kastra.runtime import Manager, Request, Result\n\n\n"
        "class Idle:\n    async def reconcile(self, request: Request) -> Result:\n        return Result()\n\n\n"
        "def setup(manager: Manager) -> None:\n    manager.controller('ConfigMap', Idle(), name='one')\n"
    )
    await project.save("controllers/idle.py", text)
    done = await project.save("controllers/idle.py", text.replace("'one')\n", "'two')\n    raise KeyError('x')\n"))
    assert places(done) == ["idle.py:11:5 error KeyError: 'x'"]
    assert project.controllers == {"one"}
    await project.save("controllers/idle.py", text.replace("'one'", "'two'"))
    assert project.controllers == {"two"}


async def test_a_rule_of_a_controllers_module_holds_from_the_save_on(project: Project) -> None:
    rule = (
        "\n\ndef validate(box: Box) -> list[Any]:\n    from kastra.api.errors import INVALID, Cause\n\n"
        '    return [Cause(INVALID, "Invalid value: too big", "spec.size")] if box.spec.size > 9 else []\n'
    )
    await project.save("controllers/box.py", saying("holds") + rule)
    done = await project.save("manifests/box.yaml", BOX.format(name="b", size=10))
    assert places(done) == ["box.yaml:4:8 error spec.size: Invalid value: too big"]
    await project.save("controllers/box.py", saying("holds"))
    assert await project.ready("boxes.example.com", "b") == "holds 10"


async def test_names_that_are_taken_are_refused(project: Project) -> None:
    await project.save("controllers/box.py", saying("holds"))
    done = await project.save("controllers/copy.py", saying("takes"))
    assert "there is a controller named 'box' in" in places(done)[0]
    done = await project.save("controllers/copy.py", saying("x").replace('"Box", group="example.com"', '"Agent"'))
    assert not done.ok
    assert await project.ready("boxes.example.com", "b") == "holds 3"


async def test_a_new_folder_of_controllers_with_code_of_its_own_is_loaded_as_a_package(project: Project) -> None:
    init = project.write("controllers/__init__.py", "WORD = 'holds'\n")
    box = project.write(
        "controllers/box.py",
        CONTROLLER.replace("from kastra import", "from . import WORD\nfrom kastra import").replace("MESSAGE", "{WORD}"),
    )
    assert (await project.change(init, box)).ok
    done = await project.save("controllers/__init__.py", "WORD = 1 / 0\n")
    assert places(done)[0].startswith("__init__.py:1:8 error ZeroDivisionError")
    await project.save("controllers/__init__.py", "WORD = 'takes'\n")
    assert await project.ready("boxes.example.com", "b") == "takes 3"


async def call(project: Project, tool: str) -> object:
    return (await project.development.kastra.run(f"tool/{tool}", {})).output


async def test_the_next_call_of_a_tool_has_the_code_that_was_saved(project: Project) -> None:
    name = f"dev_tools_{project.folder.name}".replace("-", "_")
    project.write(f"{name}_words.py", "WORD = 'one'\n")
    project.write(f"{name}.py", f"import {name}_words\n\n\ndef say() -> str:\n    return {name}_words.WORD\n")
    await project.save("manifests/t.yaml", TOOL.format(name="say", entrypoint=f"{name}:say"))
    assert await call(project, "say") == "one"
    done = await project.save(f"{name}_words.py", "WORD = 'two'\n")
    assert sorted(what(done)) == [(f"{name}.py", "module loaded"), (f"{name}_words.py", "module loaded")]
    assert await call(project, "say") == "two"
    done = await project.save(f"{name}.py", "def say(:\n")
    assert places(done)[0].startswith(f"{name}.py:1:9 error SyntaxError")
    assert await call(project, "say") == "two"


async def test_a_tool_is_ready_when_its_module_comes_and_has_the_schema_of_its_new_signature(project: Project) -> None:
    name = f"late_{project.folder.name}".replace("-", "_")
    await project.save("manifests/t.yaml", TOOL.format(name="late", entrypoint=f"{name}:say"))
    assert "there is no module" in await project.ready("tools", "late")
    await project.save(f"{name}.py", "def say() -> str:\n    return 'now'\n")
    assert await call(project, "late") == "now"
    await project.save(f"{name}.py", "def say(word: str = 'then') -> str:\n    return word\n")
    found = await project.get("tools", "late")
    assert found is not None
    assert found.status["inputSchema"]["properties"] == {"word": {"type": "string", "default": "then"}}
    await project.remove(f"{name}.py")
    assert "there is no module" in await project.ready("tools", "late")


async def test_code_outside_the_project_is_not_loaded(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "box.py"
    outside.write_text(saying("holds"))
    (project.folder / "controllers").mkdir()
    link = project.folder / "controllers" / "box.py"
    link.symlink_to(outside)
    done = await project.change(link)
    assert places(done) == ["box.py: error link that leads out of the project; its content is not loaded"]
    assert project.controllers == set()


async def test_a_setup_that_wants_to_leave_does_not_end_the_loop(project: Project) -> None:
    done = await project.save("controllers/x.py", "def setup(manager):\n    raise SystemExit(1)\n")
    assert places(done) == ["x.py:2:5 error SystemExit: 1"]
    assert (await project.save("controllers/box.py", saying("holds"))).problems == done.problems
    assert await project.ready("boxes.example.com", "b") == "holds 3"


async def test_a_folder_of_controllers_that_goes_takes_them_with_it(project: Project) -> None:
    await project.save("controllers/box.py", saying("holds"))
    for file in (project.folder / "controllers").rglob("*.pyc"):
        file.unlink()
    done = await project.remove("controllers/box.py")
    assert (done.ok, project.controllers) == (True, set())


async def test_a_module_is_loaded_though_time_and_size_are_those_of_its_compiled_form(project: Project) -> None:
    await project.save("controllers/box.py", saying("holds"))
    path = project.folder / "controllers" / "box.py"
    status = path.stat()
    project.write("controllers/box.py", saying("takes"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    await project.change(path)
    assert await project.ready("boxes.example.com", "b") == "takes 3"
