"""`kastra init` makes a project in which everything is Ready at once, and never overwrites anything."""

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from kastra.cli.init import _TEMPLATES
from kastra.scaffold.project import TEMPLATES, create
from kastra.scaffold.templates import FilesExist
from kastra.testing import ControlPlane

from .conftest import Command

WHAT_IT_DOES: dict[str, tuple[str, Any, Any]] = {
    "minimal": ("agent/greeter", "Ada", "Hello, Ada!"),
    "chat": ("agent/assistant", "Is order 1002 ready", "Your order is being packed."),
    "workflow": ("workflow/weather-report", {"cities": ["Cairo"]}, {"report": "Cairo 24"}),
    "network": ("network/newsroom", "Why?", "The sky is blue because air scatters blue light most."),
    "kind": ("tool/coffee-explain", {"term": "crema"}, "The foam on an espresso."),
}


def test_the_command_line_knows_every_template() -> None:
    assert list(_TEMPLATES) == list(TEMPLATES) == list(WHAT_IT_DOES)


@pytest.mark.parametrize("template", TEMPLATES)
async def test_a_new_project_is_ready_and_does_what_it_says(
    tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tools"]:
        monkeypatch.delitem(sys.modules, name)
    created = create(tmp_path / "shelf", template)
    assert {"README.md", ".gitignore", "kastra.toml", "pyproject.toml"} <= set(created.files)
    for folder in ("crds", "manifests", "controllers", "tests", "tools"):
        assert (created.folder / folder).is_dir()
    target, given, expected = WHAT_IT_DOES[template]
    async with ControlPlane(created.folder) as env:
        await env.apply(*(["crds"] if template == "kind" else []), "manifests")
        await env.settle()
        for kind in ("Tool", "Agent", "Workflow", "Network", *(["Glossary"] if template == "kind" else [])):
            for found in (await env.client.list(kind)).items:
                assert found.is_condition_true("Ready"), (kind, found.name, found.status)
        assert (await env.run(target, given)).output == expected


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_commands_of_the_readme_are_those_that_are_printed(tmp_path: Path, template: str) -> None:
    created = create(tmp_path / "shelf", template)
    readme = (created.folder / "README.md").read_text()
    assert readme.startswith("# shelf\n")
    assert [command for command in created.commands if command not in readme] == []


def test_three_lines_say_what_to_do_next(tmp_path: Path, kastra: Command) -> None:
    code, out, _ = kastra("init", "shelf-2", folder=tmp_path)
    assert code == 0
    first, *commands = out.splitlines()
    assert first.startswith("project shelf-2 created in shelf-2: ")
    assert [shlex.split(command) for command in commands] == [
        ["cd", "shelf-2"],
        ["kastra", "apply", "-f", "manifests", "--wait"],
        ["python", "-m", "pytest"],
    ]


def test_a_project_can_be_made_in_the_folder_one_is_in(tmp_path: Path, kastra: Command) -> None:
    folder = tmp_path / "shelf-3"
    folder.mkdir()
    code, out, _ = kastra("init", ".", folder=folder)
    assert (code, (folder / "kastra.toml").is_file(), "cd " in out) == (0, True, False)


def test_files_that_exist_are_listed_and_nothing_is_written(tmp_path: Path, kastra: Command) -> None:
    (tmp_path / "shelf").mkdir(exist_ok=True)
    (tmp_path / "shelf" / "README.md").write_text("mine")
    (tmp_path / "shelf" / "manifests").write_text("a file")
    before = sorted(tmp_path.rglob("*"))
    code, _, err = kastra("init", "shelf", folder=tmp_path)
    assert code == 1
    assert "README.md" in err
    assert "manifests" in err
    assert "--force" in err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "shelf" / "README.md").read_text() == "mine"


def test_force_overwrites_files_and_keeps_others(tmp_path: Path) -> None:
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    (folder / "notes.txt").write_text("mine, too")
    create(folder, force=True)
    assert (folder / "README.md").read_text().startswith("# shelf")
    assert (folder / "notes.txt").read_text() == "mine, too"
    (folder / "pyproject.toml").unlink()
    (folder / "pyproject.toml").mkdir()
    with pytest.raises(FilesExist, match=r"pyproject\.toml"):
        create(folder, force=True)


@pytest.mark.parametrize("name", ["Shelf", "my shelf", "1shelf", "shelf_a", "-x", "x--y", "ä", "x" * 64])
def test_a_name_that_is_none_is_refused_with_an_example(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"can't be the name of a project: .* such as "):
        create(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shelf").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        create(tmp_path / "shelf")


def test_it_makes_no_project_on_a_server(tmp_path: Path, kastra: Command) -> None:
    code, _, err = kastra("--context", "prod", "init", "shelf-4", folder=tmp_path)
    assert code == 2
    assert "works on this machine only" in err
