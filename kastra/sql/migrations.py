"""Which schema does a database file have, and how does it get the present one?

Numbered migrations, each a tuple of statements run in one transaction together with the new number (`PRAGMA
user_version`), so a file is at one number or the next, never between. A file that holds data is copied first (`VACUUM
INTO`, beside it); one from a newer Kastra is refused.

To change the schema, append a migration; never edit one that was released. Read next: `kastra.sql.database`.
"""

import uuid
from pathlib import Path

from kastra.failpoint import failpoint

from .driver import MEMORY, Connection
from .errors import SqlError


class SchemaTooNew(SqlError):
    """The file was written by a newer Kastra."""


_FIRST: tuple[str, ...] = (
    "CREATE TABLE meta(k TEXT PRIMARY KEY, i INTEGER, t TEXT) STRICT, WITHOUT ROWID",
    # Current objects. `body` is JSON without resourceVersion; `gr` is `<plural>.<group>`; ns='' is cluster scoped.
    """CREATE TABLE objects(
      id INTEGER PRIMARY KEY, gr TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,
      uid TEXT NOT NULL, rv INTEGER NOT NULL, create_rv INTEGER NOT NULL,
      expires_at INTEGER, body BLOB NOT NULL,
      UNIQUE(gr, ns, name)) STRICT""",
    "CREATE UNIQUE INDEX objects_rv ON objects(rv)",
    "CREATE INDEX objects_exp ON objects(expires_at) WHERE expires_at IS NOT NULL",
    # Deleted objects for a while: watches that resume learn of the deletion and see the last state.
    """CREATE TABLE tombstones(
      rv INTEGER PRIMARY KEY, gr TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,
      uid TEXT NOT NULL, create_rv INTEGER NOT NULL, ts INTEGER NOT NULL, body BLOB NOT NULL) STRICT""",
    # History of specs of config kinds.
    """CREATE TABLE revisions(
      id INTEGER PRIMARY KEY, uid TEXT NOT NULL, generation INTEGER NOT NULL, spec_hash TEXT NOT NULL,
      rv INTEGER NOT NULL, ts INTEGER NOT NULL, actor TEXT, spec BLOB NOT NULL,
      UNIQUE(uid, generation)) STRICT""",
    # The engine's working row beside a Run object.
    """CREATE TABLE runs(
      id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE,
      target_kind TEXT NOT NULL, target_uid TEXT NOT NULL, target_generation INTEGER NOT NULL,
      spec_hash TEXT NOT NULL, phase TEXT NOT NULL, last_seq INTEGER NOT NULL DEFAULT 0,
      wake_at INTEGER, lease_holder TEXT, lease_epoch INTEGER NOT NULL DEFAULT 0,
      created INTEGER NOT NULL, updated INTEGER NOT NULL) STRICT""",
    "CREATE INDEX runs_wake ON runs(wake_at) WHERE wake_at IS NOT NULL",
    "CREATE INDEX runs_phase ON runs(phase, updated)",
    """CREATE TABLE journal(
      id INTEGER PRIMARY KEY, run INTEGER NOT NULL, seq INTEGER NOT NULL, ts INTEGER NOT NULL,
      type INTEGER NOT NULL, step_key TEXT, attempt INTEGER, body BLOB, blob TEXT,
      UNIQUE(run, seq)) STRICT""",
    # StepCompleted, ModelTurn, ToolResult: a second completion of a step is impossible.
    "CREATE UNIQUE INDEX journal_done ON journal(run, step_key) WHERE type IN (4, 14, 16)",
    """CREATE TABLE blobs(
      id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, data BLOB NOT NULL) STRICT""",
    """CREATE TABLE inbox(
      id INTEGER PRIMARY KEY, source TEXT NOT NULL, event_id TEXT NOT NULL, type TEXT NOT NULL,
      subject TEXT, run INTEGER, consumed_seq INTEGER, ts INTEGER NOT NULL, expires_at INTEGER, body BLOB,
      UNIQUE(source, event_id)) STRICT""",
    "CREATE INDEX inbox_open ON inbox(type, ts) WHERE consumed_seq IS NULL",
    """CREATE TABLE threads(
      id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, ns TEXT NOT NULL, agent TEXT NOT NULL,
      resource_id TEXT NOT NULL, title TEXT, last_seq INTEGER NOT NULL DEFAULT 0,
      created INTEGER NOT NULL, updated INTEGER NOT NULL, meta BLOB) STRICT""",
    "CREATE INDEX threads_res ON threads(ns, resource_id, updated)",
    """CREATE TABLE messages(
      id INTEGER PRIMARY KEY, thread INTEGER NOT NULL, seq INTEGER NOT NULL, uid TEXT NOT NULL UNIQUE,
      run TEXT, member TEXT, role TEXT NOT NULL, ts INTEGER NOT NULL, text TEXT, body BLOB,
      UNIQUE(thread, seq)) STRICT""",
    "CREATE VIRTUAL TABLE messages_fts USING fts5(text, content='messages', content_rowid='id', tokenize='trigram')",
    """CREATE TRIGGER messages_ai AFTER INSERT ON messages WHEN new.text IS NOT NULL BEGIN
      INSERT INTO messages_fts(rowid, text) VALUES (new.id, new.text); END""",
    """CREATE TRIGGER messages_ad AFTER DELETE ON messages WHEN old.text IS NOT NULL BEGIN
      INSERT INTO messages_fts(messages_fts, rowid, text) VALUES ('delete', old.id, old.text); END""",
    """CREATE TABLE embeddings(
      message INTEGER NOT NULL, model TEXT NOT NULL, vec BLOB NOT NULL,
      PRIMARY KEY(message, model)) STRICT""",
    """CREATE TABLE kv(
      scope TEXT NOT NULL, key TEXT NOT NULL, ver INTEGER NOT NULL, expires_at INTEGER, value BLOB NOT NULL,
      PRIMARY KEY(scope, key)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX kv_exp ON kv(expires_at) WHERE expires_at IS NOT NULL",
    """CREATE TABLE leases(
      name TEXT PRIMARY KEY, holder TEXT NOT NULL, epoch INTEGER NOT NULL,
      expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
    "INSERT INTO meta(k, i) VALUES ('rev', 0), ('compact_rev', 0), ('writer_epoch', 0)",
)

_SECOND: tuple[str, ...] = (
    # Whether a blob is still named by a record, asked when records are deleted. Few records have one.
    "CREATE INDEX journal_blob ON journal(blob) WHERE blob IS NOT NULL",
    # Rows of Runs that began and ended in one commit said that they go on.
    """UPDATE runs SET phase = ended.phase FROM (
      SELECT run, CASE type WHEN 22 THEN 'Succeeded' WHEN 23 THEN 'Failed' ELSE 'Cancelled' END AS phase
      FROM journal WHERE type IN (22, 23, 24)) AS ended
    WHERE ended.run = runs.id AND runs.phase NOT IN ('Succeeded', 'Failed', 'Cancelled')""",
)

_THIRD: tuple[str, ...] = (
    # Knowledge: what a KnowledgeBase (`base`, its uid) was read from, and the passages in which it is searched.
    """CREATE TABLE documents(
      id INTEGER PRIMARY KEY, base TEXT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL, hash TEXT NOT NULL,
      ts INTEGER NOT NULL, text TEXT NOT NULL, meta BLOB NOT NULL,
      UNIQUE(base, source, name)) STRICT""",
    """CREATE TABLE passages(
      id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL, seq INTEGER NOT NULL, text TEXT NOT NULL,
      model TEXT NOT NULL, vec BLOB,
      UNIQUE(document, seq)) STRICT""",
    "CREATE VIRTUAL TABLE passages_fts USING fts5(text, content='passages', content_rowid='id', tokenize='trigram')",
    """CREATE TRIGGER passages_ai AFTER INSERT ON passages BEGIN
      INSERT INTO passages_fts(rowid, text) VALUES (new.id, new.text); END""",
    """CREATE TRIGGER passages_ad AFTER DELETE ON passages BEGIN
      INSERT INTO passages_fts(passages_fts, rowid, text) VALUES ('delete', old.id, old.text); END""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SECOND, _THIRD)
"""Migration n is `MIGRATIONS[n - 1]` and makes schema n out of schema n - 1."""

LATEST = len(MIGRATIONS)
"""The schema that this Kastra reads and writes."""


def schema_of(connection: Connection) -> int:
    """The number of the file's schema; 0 for a new file."""
    ((number,),) = connection.query("PRAGMA user_version")
    return int(number)


def check_readable(connection: Connection, path: str | Path) -> None:
    """Refuse a file whose schema is not the present one; readers can't migrate.

    Raises:
        SchemaTooNew: it is newer.
        SqlError: it is older, or not a Kastra database.
    """
    number = schema_of(connection)
    if number > LATEST:
        raise _too_new(path, number)
    if number < LATEST:
        what = "not a Kastra database" if number == 0 else f"at schema {number}, this Kastra reads {LATEST}"
        raise SqlError(f"{path} is {what}; opening it for writing brings it up to date")


def migrate(connection: Connection, path: str | Path) -> Path | None:
    """Bring a file to the latest schema. Returns the copy that was made first, None if none was needed.

    Raises:
        SchemaTooNew: downgrades are refused.
        StorageFault: the copy or the change couldn't be written; the file is as it was before this migration.
    """
    found = schema_of(connection)
    if found > LATEST:
        raise _too_new(path, found)
    if found == LATEST:
        return None
    if found == 0 and connection.query("SELECT 1 FROM sqlite_master LIMIT 1"):
        raise SqlError(f"{path} holds tables that are not Kastra's; name another file")
    copy = None
    if found > 0 and str(path) != MEMORY:
        copy = Path(f"{path}.schema-{found}-{uuid.uuid4().hex[:8]}.db")
        connection.execute("VACUUM INTO ?", (str(copy),))
    for number in range(found + 1, LATEST + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[number - 1]:
                connection.execute(statement)
            connection.query(f"PRAGMA user_version={number}")
            failpoint("sql.before_migration_commit")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
    return copy


def _too_new(path: str | Path, number: int) -> SchemaTooNew:
    return SchemaTooNew(
        f"{path} has schema {number}, this Kastra knows {LATEST}: use the newer Kastra that wrote it, or a backup"
    )
