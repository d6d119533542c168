"""What does each request of LangGraph's mean in SQL?

A checkpoint's values are kept apart from it, one row per channel and version, so a step stores what it changed and no more.
Everything here is text and rows; nothing is decoded. Read next: `kastra.langgraph.saver`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from kastra.sql.interface import Statement

_PUT = """INSERT INTO lg_checkpoints(thread, ns, checkpoint, parent, run, versions, type, body, meta_type, meta)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(thread, ns, checkpoint) DO UPDATE SET parent = excluded.parent, run = excluded.run,
versions = excluded.versions, type = excluded.type, body = excluded.body, meta_type = excluded.meta_type,
meta = excluded.meta"""
_PUT_BLOB = """INSERT INTO lg_blobs(thread, ns, channel, version, type, body) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT(thread, ns, channel, version) DO UPDATE SET type = excluded.type, body = excluded.body"""
_PUT_WRITE = """INSERT INTO lg_writes(thread, ns, checkpoint, task, idx, path, channel, type, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(thread, ns, checkpoint, task, idx) DO """
# What a task wrote is written once; of errors, interrupts and answers to them the latest counts.
_KEEP_WRITE = _PUT_WRITE + "NOTHING"
_REPLACE_WRITE = (
    _PUT_WRITE
    + "UPDATE SET path = excluded.path, channel = excluded.channel, type = excluded.type, body = excluded.body"
)

LATEST = "SELECT id FROM lg_checkpoints WHERE thread = ? AND ns = ? ORDER BY checkpoint DESC LIMIT 1"
EXACT = "SELECT id FROM lg_checkpoints WHERE thread = ? AND ns = ? AND checkpoint = ?"
# One statement, so that all parts are of one moment.
PARTS = """SELECT 0, c.id, c.thread, c.ns, c.checkpoint, c.parent, 0, c.type, c.body, c.meta_type, c.meta
FROM lg_checkpoints c WHERE c.id IN (SELECT value FROM json_each(?1))
UNION ALL SELECT 1, c.id, b.channel, '', '', '', 0, b.type, b.body, '', NULL
FROM lg_checkpoints c, json_each(c.versions) v CROSS JOIN lg_blobs b
ON b.thread = c.thread AND b.ns = c.ns AND b.channel = v.key AND b.version = v.value
WHERE c.id IN (SELECT value FROM json_each(?1))
UNION ALL SELECT 2, c.id, w.path, w.task, w.channel, '', w.idx, w.type, w.body, '', NULL
FROM lg_checkpoints c CROSS JOIN lg_writes w
ON w.thread = c.thread AND w.ns = c.ns AND w.checkpoint = c.checkpoint
WHERE c.id IN (SELECT value FROM json_each(?1))"""
META = """SELECT id, meta_type, meta FROM lg_checkpoints WHERE id IN (SELECT value FROM json_each(?))"""
THREADS_OF_RUNS = "SELECT DISTINCT thread FROM lg_checkpoints WHERE run IN (SELECT value FROM json_each(?))"
OF_RUNS = "SELECT id FROM lg_checkpoints WHERE thread = ? AND run IN (SELECT value FROM json_each(?))"
CHAIN = """SELECT id, ns, checkpoint, parent, meta_type, meta, versions FROM lg_checkpoints WHERE thread = ?
ORDER BY checkpoint"""
STORED = "SELECT ns, channel, version FROM lg_blobs WHERE thread = ?"


class Address(NamedTuple):
    """Of a checkpoint."""

    thread: str
    ns: str
    checkpoint: str


class Typed(NamedTuple):
    """What LangGraph's serializer made of a value."""

    type: str
    body: bytes


def put(at: Address, parent: str | None, run: str | None, versions: bytes, body: Typed, meta: Typed) -> Statement:
    """Store a checkpoint without its values."""
    return Statement(_PUT, (*at, parent, run, versions.decode(), *body, *meta))


def put_blob(at: Address, channel: str, version: str, value: Typed) -> Statement:
    """Store the value that a channel has at a version."""
    return Statement(_PUT_BLOB, (at.thread, at.ns, channel, version, *value))


def put_write(at: Address, task: str, path: str, index: int, channel: str, value: Typed) -> Statement:
    """Store what a task wrote; indices below 0 are LangGraph's special channels."""
    return Statement(_REPLACE_WRITE if index < 0 else _KEEP_WRITE, (*at, task, index, path, channel, *value))


def ids(numbers: Iterable[int]) -> str:
    """Row numbers as the parameter of `PARTS` and `META`."""
    return orjson.dumps(list(numbers)).decode()


def select(thread: str | None, ns: str | None, checkpoint: str | None, before: str | None) -> tuple[str, list[str]]:
    """The SELECT of the row numbers of matching checkpoints, newest first, and its parameters."""
    wheres = {"thread = ?": thread, "ns = ?": ns, "checkpoint = ?": checkpoint, "checkpoint < ?": before}
    given = {where: value for where, value in wheres.items() if value is not None}
    where = f" WHERE {' AND '.join(given)}" if given else ""
    return f"SELECT id FROM lg_checkpoints{where} ORDER BY checkpoint DESC, id DESC", list(given.values())


def delete_thread(thread: str) -> list[Statement]:
    """Remove everything of a thread."""
    return [
        Statement(f"DELETE FROM {table} WHERE thread = ?", (thread,))
        for table in ("lg_writes", "lg_blobs", "lg_checkpoints")
    ]


def delete_checkpoints(thread: str, numbers: Sequence[int]) -> list[Statement]:
    """Remove these checkpoints of a thread, their writes, and the values that no other of its checkpoints has."""
    chosen = ids(numbers)
    return [
        Statement(
            "DELETE FROM lg_writes WHERE thread = ? AND (ns, checkpoint) IN (SELECT ns, checkpoint FROM lg_checkpoints "
            "WHERE thread = ? AND id IN (SELECT value FROM json_each(?)))",
            (thread, thread, chosen),
        ),
        Statement(
            "DELETE FROM lg_checkpoints WHERE thread = ? AND id IN (SELECT value FROM json_each(?))", (thread, chosen)
        ),
        Statement(
            "DELETE FROM lg_blobs WHERE thread = ? AND (ns, channel, version) NOT IN (SELECT c.ns, v.key, v.value "
            "FROM lg_checkpoints c, json_each(c.versions) v WHERE c.thread = ?)",
            (thread, thread),
        ),
    ]


def copy_thread(source: str, target: str) -> list[Statement]:
    """Copy everything of a thread; what the target has under the same address stays."""
    columns = {
        "lg_checkpoints": "ns, checkpoint, parent, run, versions, type, body, meta_type, meta",
        "lg_blobs": "ns, channel, version, type, body",
        "lg_writes": "ns, checkpoint, task, idx, path, channel, type, body",
    }
    return [
        Statement(
            f"INSERT INTO {table}(thread, {names}) SELECT ?, {names} FROM {table} WHERE thread = ? ON CONFLICT DO NOTHING",
            (target, source),
        )
        for table, names in columns.items()
    ]
