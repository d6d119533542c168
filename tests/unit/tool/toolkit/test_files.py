"""The tools of files: what they do in their folder, and how they say what they didn't."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.toolbox import Toolbox, listed


@pytest.fixture
def notes(box: Toolbox) -> Path:
    folder = box.folder
    (folder / "a.md").write_text("# A\nfirst line\nsecond line\n")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "b.txt").write_text("beta\n")
    (folder / "deep" / "er" / "c.md").write_text("gamma first\n")
    (folder / "bytes.bin").write_bytes(b"\xff\xfe\0\1")
    return folder


async def test_a_folder_is_listed_with_kinds_and_sizes(box: Toolbox, notes: Path) -> None:
    found = await box.call("files.list")
    assert [(entry["name"], entry["type"]) for entry in found["entries"]] == [
        ("a.md", "file"),
        ("bytes.bin", "file"),
        ("deep", "folder"),
    ]
    assert found["entries"][0]["bytes"] == 27
    assert listed((await box.call("files.list", {"path": "deep"}))["entries"], "name") == ["b.txt", "er"]


async def test_a_folder_of_many_files_is_listed_in_part_and_says_so(box: Toolbox) -> None:
    for number in range(1_005):
        (box.folder / f"{number:04}").touch()
    found = await box.call("files.list")
    assert len(found["entries"]) == 1_000
    assert "1,000 of 1,005" in found["truncated"]


async def test_a_file_is_read_whole_or_by_lines(box: Toolbox, notes: Path) -> None:
    assert await box.call("files.read", {"path": "./a.md"}) == "# A\nfirst line\nsecond line\n"
    part = await box.call("files.read_lines", {"path": "a.md", "start": 2, "count": 1})
    assert part == {"start": 2, "lines": ["first line"], "more": "continue with start 3"}
    assert (await box.call("files.read_lines", {"path": "a.md", "start": 9}))["lines"] == []


async def test_a_large_file_is_read_in_parts_only(box: Toolbox) -> None:
    (box.folder / "big.txt").write_text("line\n" * 2_000_000)
    refused = await box.refused("files.read", {"path": "big.txt"})
    assert "10,000,000 bytes" in refused.message
    assert "files.read_lines" in refused.message
    found = await box.call("files.read_lines", {"path": "big.txt", "start": 1_500_000, "count": 2})
    assert found["lines"] == ["line", "line"]


async def test_a_text_that_is_too_long_for_a_model_is_cut_with_a_note(box: Toolbox) -> None:
    (box.folder / "long.txt").write_text("x" * 300_000)
    text = await box.call("files.read", {"path": "long.txt"})
    assert text.endswith("[truncated: the first 200,000 of 300,000 characters; files.read_lines reads any part]")
    one_line = await box.call("files.read_lines", {"path": "long.txt"})
    assert sum(map(len, one_line["lines"])) <= 200_000


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nothing.md", "does not exist"),
        ("deep", "is a folder"),
        ("bytes.bin", "is not UTF-8 text"),
        ("a.md/x", "is no folder"),
        ("", "name something in it"),
        ("no/where/at/all", "'no' does not exist"),
    ],
)
async def test_what_can_not_be_read_says_why(path: str, words: str, box: Toolbox, notes: Path) -> None:
    refused = await box.refused("files.read", {"path": path})
    assert words in refused.message
    assert not refused.retryable


async def test_files_are_written_whole_and_never_replaced_unasked(box: Toolbox) -> None:
    assert await box.call("files.write", {"path": "new/er/x.txt", "content": "héllo"}) == {
        "path": "new/er/x.txt",
        "bytes": 6,
    }
    refused = await box.refused("files.write", {"path": "new/er/x.txt", "content": "other"})
    assert "set overwrite" in refused.message
    assert (box.folder / "new/er/x.txt").read_text() == "héllo"
    await box.call("files.write", {"path": "new/er/x.txt", "content": "other", "overwrite": True})
    assert (box.folder / "new/er/x.txt").read_text() == "other"
    assert [entry.name for entry in (box.folder / "new/er").iterdir()] == ["x.txt"], "nothing half written stays"


async def test_writing_the_same_again_is_no_error_so_a_repeated_call_does_no_harm(box: Toolbox) -> None:
    for _ in range(2):
        await box.call("files.write", {"path": "x", "content": "same"})


async def test_the_folder_is_made_when_something_is_first_written(box: Toolbox) -> None:
    assert "the folder 'notes/daily'" in (await box.refused("files.list", folder="notes/daily")).message
    await box.call("files.append", {"path": "log.txt", "content": "one\n"}, folder="notes/daily")
    assert await box.call("files.append", {"path": "log.txt", "content": "two\n"}, folder="notes/daily") == {
        "path": "log.txt",
        "bytes": 8,
    }
    assert (box.project / "notes/daily/log.txt").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("name", ["files.write", "files.append"])
async def test_a_file_can_not_grow_beyond_the_limit(name: str, box: Toolbox) -> None:
    refused = await box.refused(name, {"path": "x", "content": "x" * 11}, maxBytes=10)
    assert "at most 10 are written" in refused.message


async def test_a_passage_is_replaced_only_where_it_is_what_was_meant(box: Toolbox, notes: Path) -> None:
    assert (await box.call("files.edit", {"path": "a.md", "old": "first", "new": "1st"}))["replaced"] == 1
    none = await box.refused("files.edit", {"path": "a.md", "old": "first", "new": "x"})
    assert "occurs 0 times" in none.message
    several = await box.refused("files.edit", {"path": "a.md", "old": "line", "new": "x"})
    assert "occurs 2 times" in several.message
    assert "set count to 2" in several.message
    await box.call("files.edit", {"path": "a.md", "old": "line", "new": "row", "count": 2})
    assert (notes / "a.md").read_text() == "# A\n1st row\nsecond row\n"


async def test_files_are_moved_copied_and_deleted(box: Toolbox, notes: Path) -> None:
    await box.call("files.copy", {"source": "a.md", "target": "copies/a.md"})
    await box.call("files.move", {"source": "copies", "target": "deep/copies"})
    assert (notes / "deep/copies/a.md").read_text().startswith("# A")
    assert "exists already" in (await box.refused("files.move", {"source": "a.md", "target": "deep/b.txt"})).message
    assert "is a folder" in (await box.refused("files.move", {"source": "a.md", "target": "deep"})).message
    assert "set recursive" in (await box.refused("files.delete", {"path": "deep"})).message
    assert await box.call("files.delete", {"path": "deep", "recursive": True}) == {"deleted": 6}
    assert await box.call("files.delete", {"path": "a.md"}) == {"deleted": 1}
    assert [entry.name for entry in notes.iterdir()] == ["bytes.bin"]
    await box.call("files.mkdir", {"path": "x/y"})
    assert (notes / "x/y").is_dir()


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("*.md", "", ["a.md"]),
        ("**/*.md", "", ["a.md", "deep/er/c.md"]),
        ("**", "deep", ["deep/b.txt", "deep/er/", "deep/er/c.md"]),
        ("?.txt", "deep", ["deep/b.txt"]),
        ("deep/*", "", ["deep/b.txt", "deep/er/"]),
        ("[a].md", "", []),
    ],
)
async def test_files_are_found_by_pattern(pattern: str, path: str, found: list[str], box: Toolbox, notes: Path) -> None:
    assert (await box.call("files.glob", {"pattern": pattern, "path": path}))["paths"] == found


async def test_lines_are_found_by_expression(box: Toolbox, notes: Path) -> None:
    found = await box.call("files.grep", {"pattern": "^(SECOND|gamma) ", "ignore_case": True})
    assert found == {
        "matches": [
            {"path": "a.md", "line": 3, "text": "second line"},
            {"path": "deep/er/c.md", "line": 1, "text": "gamma first"},
        ]
    }
    assert listed((await box.call("files.grep", {"pattern": "first", "files": "**/c.md"}))["matches"], "path") == [
        "deep/er/c.md"
    ]
    assert "RE2" in (await box.refused("files.grep", {"pattern": "(?=x)"})).message


async def test_what_is_found_is_bounded_and_says_so(box: Toolbox) -> None:
    (box.folder / "many.txt").write_text("hit\n" * 5_000)
    found = await box.call("files.grep", {"pattern": "hit"})
    assert len(found["matches"]) == 200
    assert "200" in found["truncated"]


async def test_a_file_is_described_and_hashed(box: Toolbox, notes: Path) -> None:
    os.utime(notes / "a.md", (0, 1_000_000_000))
    assert await box.call("files.stat", {"path": "a.md"}) == {
        "path": "a.md",
        "type": "file",
        "modified": "2001-09-09T01:46:40Z",
        "bytes": 27,
    }
    digests: dict[str, Any] = {
        name: (await box.call("files.hash", {"path": "deep/b.txt", "algorithm": name}))["hash"]
        for name in ("sha256", "md5")
    }
    assert digests["md5"] == "f0cf2a92516045024a0c99147b28f05b"
    assert len(digests["sha256"]) == 64
