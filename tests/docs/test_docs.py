"""Every code block in the README and the documentation is run, or says that it isn't."""

import ast
import re
from io import BytesIO
from pathlib import Path

import pytest

import kastra
from kastra.config import load_settings
from kastra.manifest.decode import decode
from kastra.manifest.loader import load

from .pages import CHECKED, ROOT, Block, Project, blocks_of, commands, matches, normalised

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "manifests").rglob("README.md"),
    ]
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def checked_blocks(page: Path) -> list[Block]:
    """The blocks to run; the README's demo has a test of its own."""
    blocks = [block for block in blocks_of(page) if block.language in CHECKED or block.option("file")]
    return [block for block in blocks if not {"no-run", "demo"} & {*block.words}]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", [page for page in PAGES if checked_blocks(page)], ids=name_of)
async def test_the_code_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    project = Project(tmp_path, clone="<!-- project: clone -->" in page.read_text(encoding="utf-8"))
    for block in checked_blocks(page):
        where = f"{name_of(page)}:{block.line}"
        if file := block.option("file"):
            project.write(file, block.text)
        elif block.language == "console":
            for command, expected in commands(block.text):
                done = project.shell(command)
                assert done.returncode == 0, f"{where}: {command}\n{done.stdout}"
                assert matches(expected, done.stdout), (
                    f"{where}: {command}\n--- the page says\n{normalised(expected)}\n--- it printed\n{done.stdout}"
                )
        elif block.language == "python":
            ast.parse(block.text)
            if "fragment" not in block.words:
                done = project.script(block.text)
                assert done.returncode == 0, f"{where}\n{done.stdout}"
        elif "fragment" in block.words:
            assert decode(block.text.encode()), where
        else:
            await applies(project, block, where)


async def applies(project: Project, block: Block, where: str) -> None:
    loaded = load(["-"], stdin=BytesIO(block.text.encode()))
    settings = load_settings(project.folder, {})
    async with kastra.open(":memory:", settings=settings, execute=False) as k:
        report = await k.apply(loaded)
        assert report.ok, f"{where}: {report.problems}"
        assert report.applied, where


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            file, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            linked = (page.parent / file).resolve() if file else page
            if not linked.exists():
                broken.append(f"{name_of(page)}: {target}")
            elif anchor and linked.suffix == ".md" and anchor not in anchors(linked):
                broken.append(f"{name_of(page)}: {target}: no such heading")
    assert broken == []


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
