"""F22: no tool of the toolkit reads or writes anything outside its folder, whatever paths, links and races there are."""

import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.toolbox import Toolbox, toolbox

CANARY = "outside-4711"
OUTSIDE = [
    "../outside.txt", "a/../../outside.txt", "./../outside.txt", "..//outside.txt", "/etc/passwd", "//etc/passwd",
    "/proc/self/environ", "file:///etc/passwd", "..", "../", "a/b/../../../outside.txt", "a\0/../../outside.txt", "x" * 5000,
    "/".join(["d"] * 200), "\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}/outside.txt", "%2e%2e/outside.txt", "..\\outside.txt", "~/x", "~root",
]  # fmt: skip
LINKS = [
    "link.txt", "relative.txt", "up/outside.txt", "chain/outside.txt", "loop", "proc/environ", "inside.txt", "root/etc/passwd",
    "sub/link.txt",
]  # fmt: skip
READS: dict[str, dict[str, Any]] = {
    "files.read": {},
    "files.read_lines": {},
    "files.hash": {},
    "files.edit": {"old": "outside", "new": "x"},
    "csv.read": {},
    "csv.filter": {"where": "true"},
    "csv.aggregate": {"measures": {}},
}
WRITES: dict[str, dict[str, Any]] = {
    "files.write": {"content": "x"},
    "files.append": {"content": "x"},
    "csv.write": {"rows": [{"a": 1}]},
}


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Toolbox]:
    (tmp_path / "outside.txt").write_text(f"{CANARY} outside\n")
    with closing(sqlite3.connect(tmp_path / "outside.db")) as connection:
        connection.executescript(f"CREATE TABLE t (x); INSERT INTO t VALUES ('{CANARY}')")
    async with toolbox(tmp_path / "project") as made:
        folder = made.folder
        (made.project / ".kastra").mkdir()
        (made.project / ".kastra" / "secret.key").write_text(CANARY)
        (folder / "sub").mkdir()
        (folder / "fine.txt").write_text("fine\n")
        (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
        (folder / "sub" / "link.txt").symlink_to(tmp_path / "outside.txt")
        (folder / "relative.txt").symlink_to("../../outside.txt")
        (folder / "up").symlink_to(tmp_path)
        (folder / "chain").symlink_to("up")
        (folder / "loop").symlink_to("loop")
        (folder / "proc").symlink_to("/proc/self")
        (folder / "root").symlink_to("/")
        (folder / "inside.txt").symlink_to("fine.txt")
        (folder / "db").symlink_to(tmp_path / "outside.db")
        yield made


def outside(box: Toolbox) -> str:
    return (box.project.parent / "outside.txt").read_text()


@pytest.mark.parametrize("name", [*READS, *WRITES])
async def test_no_path_leads_out(name: str, box: Toolbox) -> None:
    before = outside(box)
    for path in OUTSIDE + LINKS:
        if path.startswith(("~", "%2e", "\N{FULLWIDTH FULL STOP}", "..\\", "file:")) and name in WRITES:
            # Names like any other: nothing decodes, expands or translates them.
            await box.call(name, {**WRITES[name], "path": path})
            assert (box.folder / path).exists(), path
        elif name in ("files.write", "csv.write") and path in LINKS and "/" not in path:
            refused = await box.refused(name, {**WRITES[name], "path": path})
            assert "exists already" in refused.message, path
            assert (box.folder / path).is_symlink(), path
        else:
            refused = await box.refused(name, {**READS.get(name, {}), **WRITES.get(name, {}), "path": path})
            assert CANARY not in refused.message, path
            assert not refused.retryable, path
        assert outside(box) == before, path
    assert {entry.name for entry in box.project.parent.iterdir()} == {"outside.txt", "outside.db", "project"}


@pytest.mark.parametrize("path", ["up", "root", "chain", "proc", "up/project", "..", "/"])
@pytest.mark.parametrize(
    ("name", "arguments"), [("files.list", {}), ("files.glob", {"pattern": "**"}), ("files.grep", {"pattern": CANARY})]
)
async def test_no_link_to_a_folder_is_walked(name: str, arguments: dict[str, Any], path: str, box: Toolbox) -> None:
    if path == "/":
        found = await box.call(name, {**arguments, "path": path})
        assert CANARY not in str(found), "a slash alone is the folder itself"
    else:
        assert CANARY not in (await box.refused(name, {**arguments, "path": path})).message


async def test_a_search_passes_links_by(box: Toolbox) -> None:
    assert (await box.call("files.grep", {"pattern": "."}))["matches"] == [
        {"path": "fine.txt", "line": 1, "text": "fine"}
    ]
    paths = (await box.call("files.glob", {"pattern": "**"}))["paths"]
    assert "up" in paths, "a link is listed"
    assert not [path for path in paths if path.startswith("up/")], "and not followed"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("files.move", {"source": "fine.txt", "target": "../x"}),
        ("files.move", {"source": "../outside.txt", "target": "x"}),
        ("files.move", {"source": "up/outside.txt", "target": "x"}),
        ("files.move", {"source": "fine.txt", "target": "up/x"}),
        ("files.copy", {"source": "link.txt", "target": "x"}),
        ("files.copy", {"source": "fine.txt", "target": "up/x"}),
        ("files.delete", {"path": "up/outside.txt"}),
        ("files.delete", {"path": "up/project", "recursive": True}),
        ("files.delete", {"path": "", "recursive": True}),
        ("files.mkdir", {"path": "up/made"}),
        ("sql.query", {"database": "db", "sql": "SELECT * FROM t"}),
        ("sql.schema", {"database": "up/outside.db"}),
        ("sql.query", {"database": "../../outside.db", "sql": "SELECT * FROM t"}),
    ],
)
async def test_nothing_outside_is_moved_copied_deleted_made_or_queried(
    name: str, arguments: dict[str, Any], box: Toolbox
) -> None:
    refused = await box.refused(name, arguments)
    assert CANARY not in refused.message
    assert {entry.name for entry in box.project.parent.iterdir()} == {"outside.txt", "outside.db", "project"}


async def test_a_link_is_deleted_moved_and_replaced_as_itself(box: Toolbox) -> None:
    await box.call("files.move", {"source": "link.txt", "target": "moved"})
    await box.call("files.delete", {"path": "moved"})
    await box.call("files.write", {"path": "relative.txt", "content": "own", "overwrite": True})
    assert not (box.folder / "relative.txt").is_symlink()
    assert CANARY in outside(box)


@pytest.mark.parametrize("folder", [".", "workspace/.."])
async def test_the_servers_own_data_is_not_entered_even_if_the_folder_is_the_project(folder: str, box: Toolbox) -> None:
    if ".." in folder:
        with pytest.raises(ValueError, match=r"\.\."):
            await box.call("files.list", folder=folder)
        return
    assert ".kastra" not in str(await box.call("files.list", folder=folder))
    assert CANARY not in str(await box.call("files.grep", {"pattern": CANARY}, folder=folder))
    for name, arguments in (
        ("files.read", {"path": ".kastra/secret.key"}),
        ("files.list", {"path": ".kastra"}),
        ("files.write", {"path": ".kastra/secret.key", "content": "x", "overwrite": True}),
        ("files.move", {"source": ".kastra", "target": "open"}),
        ("files.copy", {"source": ".kastra/secret.key", "target": "open"}),
    ):
        refused = await box.refused(name, arguments, folder=folder)
        assert refused.type == "authorization", name
    (box.project / "alias").symlink_to(".kastra")
    assert CANARY not in (await box.refused("files.read", {"path": "alias/secret.key"}, folder=folder)).message
    assert "server" in (await box.refused("files.list", folder=".kastra")).message


async def test_pipes_and_devices_are_not_opened(box: Toolbox) -> None:
    os.mkfifo(box.folder / "pipe")
    for name, arguments in (("files.read", {}), ("files.hash", {}), ("files.append", {"content": "x"})):
        await box.refused(name, {"path": "pipe", **arguments})
    assert (await box.call("files.grep", {"pattern": "fine"}))["matches"]


@contextmanager
def swapping(folder: Path, outside: Path) -> Iterator[None]:
    """A folder that is now a folder and now a link to another one, as fast as it can be changed."""
    real, link, name = folder / "real", folder / "link", folder / "swap"
    real.mkdir()
    (real / "outside.txt").write_text("inside\n")
    link.symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for source in (real, link):
                try:
                    source.rename(name)
                    name.rename(source)
                except OSError:
                    # A tool has made a folder of that name in the moment in which there was nothing.
                    shutil.rmtree(name, ignore_errors=True)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def test_a_link_that_is_put_in_place_in_between_leads_nowhere(box: Toolbox) -> None:
    before, seen = outside(box), set[str]()
    with swapping(box.folder, box.project.parent):
        for number in range(300):
            try:
                seen.add(await box.call("files.read", {"path": "swap/outside.txt"}))
            except Exception as error:
                assert CANARY not in str(error)
            for name, arguments in (
                ("files.append", {"path": "swap/outside.txt", "content": "x"}),
                ("files.write", {"path": f"swap/new{number}", "content": "x"}),
                ("files.delete", {"path": "swap/outside.txt"}),
            ):
                if number % 10 == 0:
                    try:
                        await box.call(name, arguments)
                    except Exception as error:
                        assert CANARY not in str(error)
    assert outside(box) == before
    assert {entry.name for entry in box.project.parent.iterdir()} == {"outside.txt", "outside.db", "project"}
    assert not [text for text in seen if CANARY in text]
