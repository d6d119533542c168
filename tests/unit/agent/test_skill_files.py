"""Skills are folders with a SKILL.md: what is one, what is wrong with one, and what of it can be read."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kastra.agent.skills.front_matter import SkillProblem, parse
from kastra.agent.skills.shelf import MOST_LISTED, Shelf, collected
from kastra.tool.interface import ToolError

GOOD = "---\nname: review\ndescription: Reviews code.\n---\n\n# Review\n\nRead it twice.\n"


def skill(folder: Path, name: str, text: str | None = None, **files: str) -> None:
    (folder / name).mkdir(parents=True)
    said = GOOD.replace("name: review", f"name: {name.rpartition('/')[2]}") if text is None else text
    (folder / name / "SKILL.md").write_text(said)
    for path, content in files.items():
        place = folder / name / path.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)


async def look(folder: Path | None, *uses: Mapping[str, Any], given: Any = None, most: int = MOST_LISTED) -> Shelf:
    private = () if folder is None else (folder / ".kastra",)
    return await collected(uses, "default", folder, private, given or {}, most, whole=True)


# --- SKILL.md -----------------------------------------------------------------------------------------------------


def test_a_skill_is_front_matter_and_instructions() -> None:
    read = parse(
        b"\xef\xbb\xbf---\r\nname: review\r\ndescription: >\r\n  Reviews\r\n  code.\r\nlicense: MIT\r\nmetadata: {a: 1}\r\n---\r\n"
        b"One.\r\n\r\n---\r\nTwo.\r\n",
        "x",
        "review",
    )
    assert (read.name, read.description) == ("review", "Reviews code.")
    assert read.instructions == "One.\n\n---\nTwo."


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("# Review", "1:1", "there is no front matter"),
        ("", "1:1", "there is no front matter"),
        ("---\nname: review\n", "1:1", "has no end"),
        ("---\n---\nbody", "2:1", "has no name"),
        ("---\n- name\n---\nbody", "2:1", "must be fields"),
        ("---\nname: review\n---\nbody", "2:1", "has no description"),
        ("---\nname: review\ndescription: Use when: always\n---\nbody", "3:22", "mapping values"),
        ("---\nname: review\nname: other\ndescription: x\n---\nbody", "3:1", "stands twice"),
        ("---\n\nname: yes\ndescription: x\n---\nbody", "3:7", "name: must be a text, not bool; put it in quotes"),
        ("---\nname: Review\ndescription: x\n---\nbody", "2:7", "small letters"),
        ("---\nname: a--b\ndescription: x\n---\nbody", "2:7", "small letters"),
        (f"---\nname: {'a' * 65}\ndescription: x\n---\nbody", "2:7", "at most 64"),
        ("---\nname: other\ndescription: x\n---\nbody", "2:7", "must be that of the folder, 'review'"),
        ("---\nname: review\ndescription: ' '\n---\nbody", "3:14", "not 0"),
        (f"---\nname: review\ndescription: {'x' * 1025}\n---\nbody", "3:14", "not 1,025"),
        ("---\nname: review\ndescription: x\n---\n \n", "4:1", "no instructions"),
        ("---\nname: &a [*a, *a]\n---\nbody", "2", ""),
    ],
)
def test_what_is_wrong_with_a_skill_is_told_with_its_place(text: str, place: str, what: str) -> None:
    with pytest.raises(SkillProblem) as wrong:
        parse(text.encode(), "skills/review/SKILL.md", "review")
    assert wrong.value.message.startswith(f"skills/review/SKILL.md:{place}")
    assert what in wrong.value.message


def test_bytes_that_are_no_text_are_refused_at_their_line() -> None:
    with pytest.raises(SkillProblem, match=r"^x:3:1: it is not UTF-8"):
        parse(b"---\nname: review\ndescription: \xff\n---\nbody", "x")


# --- folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use", ["skills", "./skills/", "skills/review", "skills/review/SKILL.md"], ids=["all", "dots", "one", "file"]
)
async def test_a_folder_is_a_skill_or_holds_some(tmp_path: Path, use: str) -> None:
    skill(tmp_path, "skills/review", None, references__style="Short.", scripts__lint="x", **{".hidden": "no"})
    skill(tmp_path, "skills/.draft")
    (tmp_path / "skills" / "notes").mkdir()
    (tmp_path / "skills" / "README.md").write_text("no skill")
    shelf = await look(tmp_path, {"file": use})
    assert (list(shelf.skills), shelf.wrong) == (["review"], "")
    told = shelf.named("review").told()
    assert (
        told
        == "# Review\n\nRead it twice.\n\nFiles of the skill review, for skill_read:\n- references/style\n- scripts/lint"
    )


@pytest.mark.parametrize(
    ("use", "what", "reason"),
    [
        ("nothing", "does not exist", "SkillNotFound"),
        ("empty", "there is no SKILL.md in it", "SkillNotFound"),
        ("../outside", "'..' is not allowed", "InvalidSkill"),
        ("/etc", "must be relative", "InvalidSkill"),
        ("linked", "link", "InvalidSkill"),
        ("file.txt", "is no folder", "InvalidSkill"),
        (".kastra", "belongs to the server itself", "InvalidSkill"),
        ("broken", "broken/review/SKILL.md:1:1: there is no front matter", "InvalidSkill"),
        ("large", "at most 65,536", "InvalidSkill"),
        ("many", "more than 200 files", "InvalidSkill"),
        ("deep", "more than 4 folders down", "InvalidSkill"),
        ("twice", "there is a skill review already: one/review/SKILL.md", "InvalidSkill"),
    ],
)
async def test_what_cannot_be_read_is_told_and_never_left_out(tmp_path: Path, use: str, what: str, reason: str) -> None:
    outside = tmp_path / "outside"
    project = tmp_path / "project"
    skill(outside, "review")
    for name in ("empty", "broken", "many", ".kastra"):
        (project / name).mkdir(parents=True)
    (project / "linked").symlink_to(outside)
    (project / "file.txt").write_text("")
    skill(project, ".kastra/review")
    skill(project, "broken/review", "no front matter")
    skill(project, "large/review", GOOD + "x" * 65_536)
    skill(project, "deep/review", None, a__b__c__d__e__f="x")
    skill(project, "one/review")
    skill(project, "twice/review")
    if use == "many":
        skill(project, "many/review", None, **{f"f{number}": "" for number in range(201)})
    uses = [{"file": "one"}, {"file": use}] if use == "twice" else [{"file": use}]
    shelf = await look(project, *uses)
    assert what in shelf.wrong
    assert shelf.wrong.startswith("spec.skills[")
    assert shelf.reason == reason


async def test_a_folder_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    skill(tmp_path, "skills/review")
    shelf = await look(tmp_path, {"file": "skills"}, {"file": "skills/review"})
    assert (list(shelf.skills), shelf.wrong) == (["review"], "")


async def test_a_skill_within_a_folder_that_is_a_link_is_none(tmp_path: Path) -> None:
    skill(tmp_path / "outside", "review")
    skill(tmp_path / "project", "skills/other")
    (tmp_path / "project/skills/review").symlink_to(tmp_path / "outside/review")
    assert list((await look(tmp_path / "project", {"file": "skills"})).skills) == ["other"]


async def test_more_than_can_be_listed_are_to_be_looked_for(tmp_path: Path) -> None:
    for number in range(4):
        skill(tmp_path, f"skills/s{number}")
    assert (
        "more than 3 skills; use the processor skill-search" in (await look(tmp_path, {"file": "skills"}, most=3)).wrong
    )
    assert (await look(tmp_path, {"file": "skills"}, most=4)).wrong == ""


@pytest.mark.skipif(sys.platform == "darwin", reason="every name is text there")
@pytest.mark.parametrize("within", [b"skills", b"skills/review"], ids=["beside", "within"])
async def test_a_name_that_is_no_text_is_told_and_breaks_nothing_else(tmp_path: Path, within: bytes) -> None:
    skill(tmp_path, "skills/review")
    (tmp_path / os.fsdecode(within) / os.fsdecode(b"caf\xe9")).mkdir()
    (tmp_path / os.fsdecode(within) / os.fsdecode(b"caf\xe9") / "x").touch()
    shelf = await look(tmp_path, {"file": "skills"})
    assert "caf\\xe9" in shelf.wrong
    assert "is no UTF-8 text; rename it" in shelf.wrong
    assert shelf.reason == "InvalidSkill"


async def test_without_a_project_folder_there_are_no_files() -> None:
    assert "no project folder" in (await look(None, {"file": "skills"})).wrong


# --- ConfigMaps ---------------------------------------------------------------------------------------------------

MAP = {"SKILL.md": GOOD, "style": "Short.", "unused": "x"}


async def test_a_config_map_is_a_skill_as_it_would_be_mounted() -> None:
    use = {
        "configMap": {
            "name": "m",
            "items": [{"key": "SKILL.md", "path": "SKILL.md"}, {"key": "style", "path": "./a/b.md"}],
        }
    }
    found = (await look(None, use, given={0: MAP})).named("review")
    assert found.lines("a/b.md", 1, None) == "Short."
    assert "- a/b.md" in found.told()
    assert "unused" not in found.told()


async def test_keys_of_a_config_map_that_begin_with_a_dot_are_not_listed_since_they_are_not_read() -> None:
    found = (await look(None, {"configMap": {"name": "m"}}, given={0: {**MAP, ".env": "canary"}})).named("review")
    assert "- style" in found.told()
    assert ".env" not in found.told()


@pytest.mark.parametrize(
    ("use", "given", "what"),
    [
        ({"name": "m"}, {}, "ConfigMap default/m is not there"),
        ({"name": "m"}, {0: {"a": "b"}}, "ConfigMap default/m: there is no file 'SKILL.md'"),
        ({"name": "m"}, {0: {"SKILL.md": "x"}}, "ConfigMap default/m/SKILL.md:1:1: there is no front matter"),
        ({"name": "m", "items": [{"key": "z", "path": "SKILL.md"}]}, {0: MAP}, 'ConfigMap default/m has no key "z"'),
        ({"name": "m"}, {0: SkillProblem("ConfigMap default/m does not exist", missing=True)}, "does not exist"),
    ],
)
async def test_what_a_config_map_lacks_is_told(use: Any, given: Any, what: str) -> None:
    assert what in (await look(None, {"configMap": use}, given=given)).wrong


# --- other files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "map"])
@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("../secret", "'..' is not allowed"),
        ("references/../../secret", "'..' is not allowed"),
        ("/etc/passwd", "must be relative"),
        ("%2e%2e/secret", "there is no file"),
        ("a\0b", "no NUL"),
        (".env", "begin with a dot"),
        ("nothing.md", "there is no file 'nothing.md'"),
        ("x" * 2000, "at most 1024 characters"),
    ],
)
async def test_nothing_outside_of_a_skill_can_be_read(tmp_path: Path, kind: str, path: str, what: str) -> None:
    skill(tmp_path, "skills/review", None, **{".env": "canary"})
    (tmp_path / "skills" / "secret").write_text("canary")
    use, given = ({"file": "skills"}, {}) if kind == "folder" else ({"configMap": {"name": "m"}}, {0: MAP})
    found = (await look(tmp_path, use, given=given)).named("review")
    with pytest.raises(ToolError) as refused:
        found.lines(path, 1, None)
    assert what in refused.value.message
    assert "canary" not in refused.value.message


async def test_links_within_a_skill_are_neither_listed_nor_followed(tmp_path: Path) -> None:
    skill(tmp_path, "skills/review")
    (tmp_path / "secret").write_text("canary")
    (tmp_path / "skills/review/link.md").symlink_to(tmp_path / "secret")
    found = (await look(tmp_path, {"file": "skills"})).named("review")
    assert "link.md" not in found.told()
    with pytest.raises(ToolError, match="symbolic link"):
        found.lines("link.md", 1, None)


async def test_files_are_given_whole_or_by_lines(tmp_path: Path) -> None:
    skill(
        tmp_path,
        "skills/review",
        None,
        a="one\ntwo\nthree\n",
        long="x" * 63_000 + "\n" + "y" * 2_000,
        wide="z" * 65_000,
    )
    (tmp_path / "skills/review/image.png").write_bytes(b"\x89PNG\x00\xff")
    (tmp_path / "skills/review/large").write_bytes(b"x" * (1 << 20) + b"x")
    found = (await look(tmp_path, {"file": "skills"})).named("review")
    assert found.lines("a", 1, None) == "one\ntwo\nthree\n"
    assert found.lines("a", 2, 2) == "a (lines 2-2 of 3)\ntwo\n"
    assert found.lines("long", 1, None).startswith("long (lines 1-1 of 2)\nx")
    assert found.lines("wide", 1, None).startswith("wide (lines 1-1 of 1, cut)\nzz")
    assert len(found.lines("wide", 1, None)) < 64_100
    for path, first, last, what in (
        ("a", 4, None, "has 3 lines"),
        ("a", 2, 1, "has 3 lines"),
        ("image.png", 1, None, "is no text: 6 bytes"),
        ("large", 1, None, "at most 1,048,576"),
    ):
        with pytest.raises(ToolError, match=what):
            found.lines(path, first, last)
