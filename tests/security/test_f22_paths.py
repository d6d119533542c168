"""F22: nothing that a manifest says makes the process open a file outside the folder it may read."""

import asyncio
import base64
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kastra.app.secrets import ClientSecrets
from kastra.manifest.loader import load

opened: list[str] | None = None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if opened is not None and event in ("open", "os.open") and isinstance(args[0], str | bytes):
        opened.append(os.fsdecode(args[0]))


# There is no way to take an audit hook back; this one does nothing unless a test listens.
sys.addaudithook(_audit)


@contextmanager
def watching() -> Iterator[list[str]]:
    global opened
    opened = found = []
    try:
        yield found
    finally:
        opened = None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project folder with links of all kinds in it, and a secret beside it."""
    folder = tmp_path / "project"
    (folder / "keys").mkdir(parents=True)
    (folder / "keys" / "fine.txt").write_text("fine\n")
    (tmp_path / "outside.txt").write_text("outside\n")
    (tmp_path / "project-evil").mkdir()
    (tmp_path / "project-evil" / "key.txt").write_text("outside\n")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "relative.txt").symlink_to("../outside.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "chain").symlink_to("up")
    (folder / "loop").symlink_to("loop")
    (folder / "proc").symlink_to("/proc/self")
    (folder / "inside.txt").symlink_to("keys/fine.txt")
    return folder


OUTSIDE = [
    "../outside.txt", "keys/../../outside.txt", "./../outside.txt", "keys/./.././../outside.txt", "..//outside.txt",
    "../project-evil/key.txt", "../project/../outside.txt", "/etc/passwd", "//etc/passwd", "/proc/self/environ",
    "/proc/self/root/etc/passwd", "/dev/stdin", "/dev/fd/0", "link.txt", "relative.txt", "up/outside.txt",
    "chain/outside.txt", "up/project-evil/key.txt", "proc/environ", "proc/root/etc/passwd", "proc/cwd/README.md",
    "keys/../up/outside.txt", "~/.ssh/id_rsa", "../" * 40 + "etc/passwd", "keys/" + "../" * 40 + "proc/self/environ",
]  # fmt: skip
NOWHERE = [
    "%2e%2e/outside.txt", "%2e%2e%2foutside.txt", "..%2foutside.txt", "%252e%252e/outside.txt", "..\\outside.txt",
    "keys\\..\\..\\outside.txt", "file:///etc/passwd", "file:../outside.txt", "..\u2215outside.txt", "\uff0e\uff0e/outside.txt",
    "keys/fine.txt\0.yaml", "\0", "../outside.txt\0", "keys/fine.txt/", "keys/fine.txt/../fine.txt", "KEYS/FINE.TXT", "keys",
    "", ".", "loop", "x" * 5_000, "a/" * 5_000, "keys/fine.txt ", "$HOME/.profile", "${HOME}", "`id`",
]  # fmt: skip


class NoClient:
    """`file` sources need no server."""


@pytest.mark.parametrize("path", [*OUTSIDE, *NOWHERE], ids=lambda path: repr(path[:30]))
def test_a_file_source_stays_in_the_project(root: Path, path: str) -> None:
    secrets = ClientSecrets(NoClient(), root)  # type: ignore[arg-type]
    for source in (path, {"path": path}):
        with watching() as found:
            try:
                value = asyncio.run(secrets.read({"file": source}, "default"))
            except LookupError as refused:
                assert len(str(refused)) < 300
            else:
                # A system that ignores the case of names, or a path that comes back to the file, finds it.
                assert value == "fine"
        assert [name for name in found if not is_harmless(name, root)] == []


def test_what_lies_in_the_project_is_read(root: Path) -> None:
    secrets = ClientSecrets(NoClient(), root)  # type: ignore[arg-type]
    for path in (
        "keys/fine.txt",
        "./keys/fine.txt",
        "inside.txt",
        "up/project/keys/fine.txt",
        str(root / "keys/fine.txt"),
    ):
        assert asyncio.run(secrets.read({"file": path}, "default")) == "fine"


def test_a_link_out_of_a_folder_of_manifests_is_not_followed(tmp_path: Path) -> None:
    hidden = base64.b64encode(b"canary").decode()
    (tmp_path / "outside.yaml").write_text(
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: x}}\ndata: {{k: {hidden}}}\n"
    )
    folder = tmp_path / "manifests"
    (folder / "sub").mkdir(parents=True)
    (folder / "good.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n")
    (folder / "alias.yaml").symlink_to("good.yaml")
    (folder / "out.yaml").symlink_to(tmp_path / "outside.yaml")
    (folder / "sub" / "environ.yaml").symlink_to("/proc/self/environ")
    (folder / "up").symlink_to(tmp_path)
    (folder / "gone.yaml").symlink_to("nowhere.yaml")
    os.mkfifo(folder / "pipe.yaml")
    with watching() as found:
        loaded = load([folder])
    assert [manifest.ref.name for manifest in loaded.manifests] == ["good"]
    assert sorted(error.file for error in loaded.errors) == [str(folder / "out.yaml"), str(folder / "sub/environ.yaml")]
    assert all("leads out of the folder" in error.message for error in loaded.errors)
    assert not any("outside.yaml" in name or "/proc" in name for name in found)


def test_a_folder_that_is_itself_a_link_is_one_the_user_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    (tmp_path / "link").symlink_to("real")
    assert [manifest.ref.name for manifest in load([tmp_path / "link"]).manifests] == ["a"]


@pytest.mark.parametrize(
    "path", ["a\0b", "\0", "x" * 5_000, "*\0", "[", "~", "file:///etc/passwd", "http://x.test/a.yaml"]
)
def test_an_impossible_path_is_an_error_and_not_a_crash(path: str) -> None:
    [error] = load([path]).errors
    assert error.message in ("no such file or folder", "pattern matches nothing", "File name too long")


def is_harmless(name: str, root: Path) -> bool:
    """Whether an opened file is in the project, or the interpreter's own."""
    return (
        Path(name).is_relative_to(root)
        or name.startswith((sys.prefix, sys.base_prefix))
        or name.endswith((".py", ".pyc"))
    )
