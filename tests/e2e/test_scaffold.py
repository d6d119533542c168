"""A project that `kastra init` made, used from outside: commands, its own tests, mypy --strict and ruff."""

import os
import subprocess
from pathlib import Path

import pytest

from kastra.scaffold.generation import module_texts
from kastra.scaffold.project import TEMPLATES, create
from tests.support import warm

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path) -> str:
    """What a command prints, with what it says on standard error; fails with it."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=warm.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.timeout(120)
def test_a_project_with_a_kind_of_its_own_is_ready_tested_and_checked(tmp_path: Path) -> None:
    run("kastra", "init", "shelf", "--template", "kind", cwd=tmp_path)
    shelf = tmp_path / "shelf"
    run("kastra", "new", "kind", "DataSource", cwd=shelf)
    run("kastra", "new", "tool", "word-count", cwd=shelf)
    assert "3 objects are valid" in run("kastra", "validate", "crds", "manifests/word-count.yaml", cwd=shelf)
    run("kastra", "apply", "-f", "crds", "-f", "manifests", "--wait", cwd=shelf)
    assert "coffee   2       True" in run("kastra", "get", "glossaries", cwd=shelf)
    assert run("kastra", "run", "tool/word-count", "--quiet", "--input", '{"text": "a b"}', cwd=shelf) == "2\n"
    assert "5 passed" in run("python", "-m", "pytest", "-q", cwd=shelf)
    assert run("kastra", "generate", "--check", cwd=shelf) == "the views agree with the definitions\n"
    # The built-in kinds as well, since they have everything that definitions have in practice.
    for name, text in module_texts(
        {f"crds/{file.name}": file.read_text() for file in (ROOT / "crds").glob("*.yaml")}
    ).items():
        (shelf / name).write_text(text)
    run("mypy", "--cache-dir", os.devnull, cwd=shelf)
    run("ruff", "check", "--no-cache", cwd=shelf)
    run("ruff", "format", "--check", "--no-cache", cwd=shelf)


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_a_template_gives_has_nothing_for_ruff_to_say(tmp_path: Path, template: str) -> None:
    shelf = create(tmp_path / "shelf", template).folder
    run("ruff", "check", "--no-cache", cwd=shelf)
    run("ruff", "format", "--check", "--no-cache", cwd=shelf)


@pytest.mark.parametrize("template", [name for name in TEMPLATES if name != "kind"])
def test_the_tests_of_a_new_project_pass(tmp_path: Path, template: str) -> None:
    shelf = create(tmp_path / "shelf", template).folder
    assert "passed" in run("python", "-m", "pytest", "-q", cwd=shelf)
