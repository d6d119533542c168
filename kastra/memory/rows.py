"""The statements of memory, over the tables `threads`, `messages`, `embeddings` and `kv` of the store.

Messages are only ever added and erased. A message's uid follows from the place in the Run that said it, so writing it again
changes nothing, and a thread whose row is gone takes no message any more. Read next: `kastra.memory.threads`.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from kastra.sql.interface import Statement

from .interface import ThreadKey
from .windows import Message, kept

OPEN = (
    "INSERT INTO threads(uid, ns, agent, resource_id, title, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT(uid) DO UPDATE SET agent = excluded.agent, resource_id = excluded.resource_id"
)
# What is said about a thread or a resource goes with it, so nothing is written for one that is gone.
_SET = (
    "INSERT INTO kv(scope, key, ver, expires_at, value) SELECT ?, ?, 1, ?, ? FROM threads WHERE uid = ? "
    "ON CONFLICT(scope, key) DO UPDATE SET ver = ver + 1, expires_at = excluded.expires_at, value = excluded.value"
)
VECTOR = (
    "INSERT INTO embeddings(message, model, vec) SELECT id, ?, ? FROM messages WHERE uid = ? "
    "ON CONFLICT(message, model) DO UPDATE SET vec = excluded.vec"
)

# All in one statement: what it costs is mostly its preparation. The last row says where a thread ends but for its messages.
LAST = (
    "SELECT * FROM (SELECT NULL, NULL, m.seq, m.body FROM messages m "
    "WHERE m.thread = (SELECT id FROM threads WHERE uid = ?) AND m.seq > ? ORDER BY m.seq DESC LIMIT ?) "
    "UNION ALL SELECT scope, key, 0, value FROM kv WHERE scope IN (?, ?) AND (expires_at IS NULL OR expires_at > ?) "
    "UNION ALL SELECT '', '', last_seq, NULL FROM threads WHERE uid = ?"
)
_WIDTH = 16
"""Messages that one statement adds."""

PAGE = (
    "SELECT m.seq, m.uid, m.run, m.member, m.ts, m.body FROM messages m JOIN threads t ON t.id = m.thread "
    "WHERE t.uid = ? AND m.seq > ? ORDER BY m.seq LIMIT ?"
)
TALLY = (
    "SELECT count(m.id), coalesce(max(m.ts), 0), coalesce(min(m.ts), 0) "
    "FROM threads t LEFT JOIN messages m ON m.thread = t.id WHERE t.uid = ?"
)
ID = "SELECT id FROM threads WHERE uid = ?"
OF_RESOURCE = "SELECT count(*) FROM threads WHERE ns = ? AND resource_id = ?"

# Erasing takes portions, so that nobody else's commit waits for long.
PORTION = 500
FORGET_VECTORS = (
    "DELETE FROM embeddings WHERE message IN (SELECT id FROM messages WHERE thread = ? AND ts < ? ORDER BY id LIMIT ?)"
)
FORGET = "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE thread = ? AND ts < ? ORDER BY id LIMIT ?)"
LEFT = "SELECT count(*) FROM (SELECT 1 FROM messages WHERE thread = ? AND ts < ? LIMIT 1)"
# Numbers go on where they were although the messages are gone.
MARK = (
    "UPDATE threads SET last_seq = max(last_seq, coalesce((SELECT max(seq) FROM messages WHERE thread = threads.id), 0)) "
    "WHERE id = ?"
)
DROP_VALUES = "DELETE FROM kv WHERE scope = ?"
DROP_VALUE = "DELETE FROM kv WHERE scope = ? AND key = ?"
DROP = "DELETE FROM threads WHERE uid = ?"
# Deleted entries stay in the full-text index until its parts are merged.
PURGE = "INSERT INTO messages_fts(messages_fts) VALUES ('optimize')"

CLONE: tuple[str, ...] = (
    """INSERT INTO messages(thread, seq, uid, run, member, role, ts, text, body)
       SELECT n.id, o.seq, n.uid || '/' || o.seq, o.run, o.member, o.role, o.ts, o.text, o.body
       FROM messages o JOIN threads s ON s.id = o.thread JOIN threads n ON n.uid = ?2 AND n.last_seq = 0
       WHERE s.uid = ?1 ORDER BY o.seq""",
    """INSERT INTO embeddings(message, model, vec)
       SELECT c.id, e.model, e.vec FROM threads s JOIN messages o ON o.thread = s.id JOIN embeddings e ON e.message = o.id
       JOIN threads n ON n.uid = ?2 AND n.last_seq = 0 JOIN messages c ON c.thread = n.id AND c.seq = o.seq
       WHERE s.uid = ?1""",
    """INSERT INTO kv(scope, key, ver, expires_at, value)
       SELECT 'memory/thread/' || ?2, key, 1, expires_at, value FROM kv WHERE scope = 'memory/thread/' || ?1
       ON CONFLICT(scope, key) DO NOTHING""",
    """UPDATE threads SET last_seq = coalesce((SELECT max(seq) FROM messages WHERE thread = threads.id), 0)
       WHERE uid = ?2 AND ?1 <> ?2""",
)


class Entry(NamedTuple):
    """A message that is to be kept."""

    uid: str
    message: Message


def message_uid(run: str, place: str, index: int) -> str:
    """Equal for the same message of the same place in a Run, however often it is written."""
    return sha256(f"{run}\0{place}\0{index}".encode()).hexdigest()[:32]


def thread_scope(uid: str) -> str:
    """Under which what is said of a thread stands in `kv`."""
    return f"memory/thread/{uid}"


def scope_of(thread: ThreadKey, scope: str) -> str:
    """Under which working memory stands in `kv`; that of a resource is the thread's where there is none."""
    if scope == "resource" and thread.resource:
        return f"memory/resource/{thread.namespace}/{thread.resource}"
    return thread_scope(thread.uid)


def appended(thread: str, entries: Sequence[Entry], run: str, member: str, now: int) -> list[Statement]:
    """Statements that add messages to the end of a thread, in order; all of them or, a second time, none."""
    found = []
    for at in range(0, len(entries), _WIDTH):
        values: list[Any] = []
        portion = entries[at : at + _WIDTH]
        for number, (uid, message) in enumerate(portion, 1):
            plain, data, text = kept(message)
            values += (number, uid, plain["role"], text, data)
        found.append(Statement(_add(len(portion)), (run, member, now, thread, *values)))
    return found


def bodies(added: Statement) -> list[bytes]:
    """The messages that a statement of `appended` adds, as they are stored."""
    return list(added.parameters[8::5])


def following(added: Statement, tail: int) -> Statement:
    """What adds the same messages as a statement of `appended`, to a thread that ends at number `tail`, for less.

    For one that goes on after that, or has one of them already, or is gone, it fails with GuardFailed: numbers and uids are unique.
    """
    run, member, now, thread, *given = added.parameters
    values: list[Any] = [thread, tail]
    for number, uid, role, text, data in zip(*[iter(given)] * 5, strict=True):
        values += (tail + number, uid, run, member, role, now, text, data)
    count = len(given) // 5
    return Statement(_next(count), values, count)


@lru_cache(maxsize=_WIDTH)
def _next(count: int) -> str:
    row = "((SELECT id FROM threads WHERE uid = ?1 AND last_seq <= ?2), ?, ?, ?, ?, ?, ?, ?, ?)"
    columns = "messages(thread, seq, uid, run, member, role, ts, text, body)"
    return f"INSERT OR IGNORE INTO {columns} VALUES {', '.join([row] * count)}"


@lru_cache(maxsize=_WIDTH)
def _add(count: int) -> str:
    """The statement that adds so many messages at once: what it costs is mostly its preparation."""
    row = "SELECT ? AS n, ? AS uid, ? AS role, ? AS said, ? AS body"
    said = " UNION ALL ".join([row, *["SELECT ?, ?, ?, ?, ?"] * (count - 1)])
    return (
        "INSERT INTO messages(thread, seq, uid, run, member, role, ts, text, body) "
        "SELECT t.id, t.tail + v.n, v.uid, ?, ?, v.role, ?, v.said, v.body FROM "
        "(SELECT id, max(last_seq, coalesce((SELECT max(seq) FROM messages WHERE thread = threads.id), 0)) AS tail "
        f"FROM threads WHERE uid = ?) t CROSS JOIN ({said}) v "
        "WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.uid = v.uid)"
    )


def valued(thread: ThreadKey, scope: str, key: str, value: Any, now: int) -> Statement:
    """The statement that keeps a value in `scope` of `kv`, for as long as the thread keeps messages."""
    expires = None if thread.retention is None else now + round(thread.retention * 1000)
    return Statement(_SET, (scope, key, expires, orjson.dumps(value), thread.uid))
