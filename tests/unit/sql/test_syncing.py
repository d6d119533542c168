"""A commit that must be durable has reached the disk when it returns, whichever library makes it."""

import errno
from pathlib import Path

import pytest

from kastra.sql import syncing
from kastra.sql.driver import load, open_writer
from kastra.sql.syncing import CommitSync, Unsynced


class Library:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def execute(self, sql: str) -> int:
        self.said.append(sql)
        return 0

    query = execute


def test_a_library_that_gives_up_the_interpreter_lock_syncs_by_itself() -> None:
    library = Library()
    commits = CommitSync(library, None)
    for durable in (True, False, False, True):
        commits.begin(durable=durable)
        commits.commit()
    transaction = ["BEGIN IMMEDIATE", "COMMIT"]
    normal, full = "PRAGMA synchronous=NORMAL", "PRAGMA synchronous=FULL"
    assert library.said == [*transaction, normal, *transaction, *transaction, full, *transaction]


def test_for_one_that_keeps_it_the_log_is_synced_after_each_durable_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "k.db-wal"
    log.write_bytes(b"log")
    library = Library()
    monkeypatch.setattr(syncing, "sync", lambda descriptor: library.said.append("sync"))
    commits = CommitSync(library, log)
    for durable in (True, False, True):
        commits.begin(durable=durable)
        commits.commit()
    commits.close()
    transaction = ["BEGIN IMMEDIATE", "COMMIT"]
    assert library.said == ["PRAGMA synchronous=NORMAL", *transaction, "sync", *transaction, *transaction, "sync"]


def test_what_the_disk_refuses_to_take_is_told_although_it_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    connection = open_writer(tmp_path / "k.db", load("libsql"))
    connection.execute("CREATE TABLE t(k)")
    monkeypatch.setattr(syncing, "sync", refuse)
    connection.begin(durable=True)
    connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(Unsynced, match=r"k.db-wal: committed, but the disk refused to take it .*restart this process"):
        connection.commit()
    assert connection.query("SELECT k FROM t") == [(1,)]
    connection.close()
