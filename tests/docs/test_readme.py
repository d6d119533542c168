"""The README shows what `make demo` prints, and the demo fails when anything isn't Ready."""

from pathlib import Path

import pytest

from .pages import ROOT, Project, blocks_of, matches, normalised

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def clone(tmp_path: Path) -> Project:
    return Project(tmp_path, clone=True)


def demo_block() -> str:
    (block,) = [
        block for block in blocks_of(ROOT / "README.md") if block.language == "console" and "demo" in block.words
    ]
    command, _, output = block.text.partition("\n")
    assert command == "$ make demo"
    return output


def test_the_demo_prints_what_the_readme_shows(clone: Project) -> None:
    done = clone.shell("sh manifests/demo.sh")
    assert done.returncode == 0, done.stdout
    shown = demo_block()
    assert matches(shown, done.stdout), f"--- README\n{normalised(shown)}\n--- printed\n{done.stdout}"


def test_the_demo_takes_ingredients(clone: Project) -> None:
    done = clone.shell("INGREDIENTS='rice, peas ,eggs,soy sauce' sh manifests/demo.sh")
    assert '--input \'{"ingredients": ["rice", "peas", "eggs", "soy sauce"]}\'' in done.stdout
    assert "Try Egg Fried Rice" in done.stdout


def test_the_demo_leaves_nothing_behind(clone: Project) -> None:
    temporary = clone.folder / "tmp"
    temporary.mkdir()
    before = {path for path in clone.folder.rglob("*") if "__pycache__" not in path.parts}
    assert clone.shell(f"TMPDIR={temporary} sh manifests/demo.sh").returncode == 0
    assert {path for path in clone.folder.rglob("*") if "__pycache__" not in path.parts} == before


def test_the_demo_fails_when_something_is_not_ready(clone: Project) -> None:
    (clone.folder / "manifests" / "recipes" / "tool.yaml").unlink()
    demo = clone.folder / "manifests" / "demo.sh"
    demo.write_text(
        demo.read_text().replace("kastra apply -f manifests --wait", "kastra apply -f manifests --wait --timeout 3s")
    )
    done = clone.shell("KASTRA_LOG_LEVEL=error sh manifests/demo.sh 2>&1")
    assert done.returncode == 1
    assert 'no Tool "recipe-finder" in namespace "cooking"' in done.stdout
