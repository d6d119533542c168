"""Which files of a project count, and how a change of one is noticed."""

import os
from pathlib import Path

import anyio
import pytest

from kastra.app.project_files import ProjectFiles, differing, follow
from kastra.clock import SystemClock


@pytest.fixture
def files(tmp_path: Path) -> ProjectFiles:
    return ProjectFiles(tmp_path, tmp_path / "data")


def write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    "name",
    [
        ".git/config", "__pycache__/a.pyc", "tools/__pycache__/a.py", "node_modules/a/b.json", "data/kastra.db", ".hidden.yaml",
        "manifests/.a.yaml.swp", "manifests/a.yaml~", "manifests/#a.yaml#", "manifests/a.yaml.tmp", "venv/lib/a.py",
    ],
)  # fmt: skip
def test_what_nobody_wrote_is_passed_over(files: ProjectFiles, name: str) -> None:
    write(files.project / "venv" / "pyvenv.cfg")
    before = files.look()
    write(files.project / name)
    assert files.look() == before


def test_folders_that_are_links_are_not_entered(files: ProjectFiles, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    write(outside / "a.yaml")
    (files.project / "link").symlink_to(outside)
    (files.project / "loop").symlink_to(files.project)
    assert not files.look()
    assert not files.holds(files.project / "link" / "a.yaml")


def test_a_save_by_renaming_is_a_change_even_if_time_and_size_are_the_same(files: ProjectFiles) -> None:
    file, beside = files.project / "a.yaml", files.project / ".new"
    write(file)
    before = files.look()
    write(beside)
    status = file.stat()
    os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))
    beside.replace(file)
    assert differing(before, files.look()) == {file}


async def test_what_is_saved_is_told_also_in_folders_that_come_later(files: ProjectFiles) -> None:
    write(files.project / "manifests" / "a.yaml")
    send, receive = anyio.create_memory_object_stream[frozenset[Path]](10)
    seen = files.look()
    with anyio.fail_after(20):
        async with send, receive, anyio.create_task_group() as tasks:
            tasks.start_soon(follow, files, seen, send.send, SystemClock())
            write(files.project / "manifests" / "a.yaml", "changed")
            assert await receive.receive() == {files.project / "manifests" / "a.yaml"}
            write(files.project / "crds" / "deep" / "b.yaml")
            assert await receive.receive() == {files.project / "crds" / "deep" / "b.yaml"}
            (files.project / "manifests" / "a.yaml").unlink()
            assert await receive.receive() == {files.project / "manifests" / "a.yaml"}
            tasks.cancel_scope.cancel()


class Unwatchable(ProjectFiles):
    """A project whose folders the system can't watch."""

    def folders(self) -> list[Path]:
        return [self.project / "nowhere"]


async def test_without_notifications_files_are_looked_at_all_the_same(tmp_path: Path) -> None:
    files, file = Unwatchable(tmp_path, tmp_path / "data"), tmp_path / "manifests" / "a.yaml"
    write(file)
    send, receive = anyio.create_memory_object_stream[frozenset[Path]](10)
    seen = files.look()
    with anyio.fail_after(20):
        async with send, receive, anyio.create_task_group() as tasks:
            tasks.start_soon(follow, files, seen, send.send, SystemClock())
            for text in ("at the start", "and later"):
                write(file, text)
                assert await receive.receive() == {file}
            tasks.cancel_scope.cancel()
