"""One process owns a file; others are told which, and where it serves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from kastra.sql.errors import IoFault
from kastra.sql.owner import (
    Endpoint,
    Owned,
    holder_of,
    own,
    read_endpoint,
    refuse_network_file_system,
    remove_endpoint,
    try_own,
    write_endpoint,
)
from kastra.testing.clock import VirtualClock


def test_the_owner_is_named_and_gives_the_file_up(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    with try_own(path) or pytest.fail("the file is free") as ownership:
        holder = holder_of(path)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert try_own(path) is None
        ownership.release()
        ownership.release()
    assert holder_of(path) is None
    again = try_own(path)
    assert again is not None
    again.release()


async def test_waiting_for_the_owner_ends_with_its_name_or_with_the_file(tmp_path: Path) -> None:
    path, clock = tmp_path / "k.db", VirtualClock()
    first = await own(path)
    with pytest.raises(Owned, match=rf"k\.db is in use by .+ \(pid {os.getpid()}\): stop it"):
        await own(path, wait=0)
    write_endpoint(path, Endpoint("https://127.0.0.1:1", os.getpid(), "token"))
    with pytest.raises(
        Owned, match=r"it serves https://127\.0\.0\.1:1, so send it the request \(KUBECONFIG=.*/kubeconfig"
    ):
        await own(path, wait=0)
    taken: list[str] = []

    async def wait() -> None:
        with await own(path, wait=10, clock=clock):
            taken.append("taken")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await clock.advance(5)
        assert taken == []
        first.release()
        await clock.advance(1)
    assert taken == ["taken"]


def test_the_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    script = """
import sys
from kastra.sql.owner import try_own
held = try_own(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert try_own(path) is None
        holder = holder_of(path)
        assert holder is not None
        assert holder.pid == child.pid
        child.send_signal(signal.SIGKILL)
    ownership = try_own(path)
    assert ownership is not None
    ownership.release()


def test_the_endpoint_is_for_this_user_only_and_goes_with_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    endpoint = Endpoint("https://127.0.0.1:6443", os.getpid(), "secret-token", "/ca.crt")
    ownership = try_own(path)
    assert ownership is not None
    write_endpoint(path, endpoint)
    write_endpoint(path, endpoint)
    assert read_endpoint(path) == endpoint
    assert (tmp_path / "k.db.sock.json").stat().st_mode & 0o777 == 0o600
    ownership.release()
    assert read_endpoint(path) is None


def test_another_process_endpoint_is_left_alone_and_a_broken_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    write_endpoint(path, Endpoint("http://x", os.getpid() + 1, "t"))
    remove_endpoint(path)
    assert read_endpoint(path) is not None
    (tmp_path / "k.db.sock.json").write_text("{")
    (tmp_path / "k.db.lock").write_text("[]")
    assert read_endpoint(path) is None
    assert holder_of(path) is None


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(IoFault, match=r"no/k\.db\.lock: No such file"):
        try_own(tmp_path / "no" / "k.db")


def test_network_file_systems_are_refused_by_their_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "30 22 0:40 / /net/home rw - nfs4 server:/home rw\n"
        "31 30 0:41 / /net/home/local\\040disk rw - ext4 /dev/vdb rw\n"
        "32 22 0:42 / /win rw - cifs //server/share rw\n"
        "malformed\n"
    )
    refuse_network_file_system("/data/k.db", mounts)
    refuse_network_file_system("/net/homestead/k.db", mounts)
    refuse_network_file_system("/net/home/local disk/k.db", mounts)
    refuse_network_file_system("/data/k.db", tmp_path / "none")
    for path, kind in (("/net/home/k.db", "nfs4"), ("/win/k.db", "cifs")):
        with pytest.raises(IoFault, match=rf"network file system \({kind}\); the store needs a local disk"):
            refuse_network_file_system(path, mounts)
