"""The tables of checkpoints, and how a file gets them.

They are numbered by themselves (`meta.langgraph_schema`), not by the store's schema: a file that never saw a checkpoint has
none of them, and each number is reached in one transaction together with its mark. To change them, append; never edit what
was released. Read next: `kastra.langgraph.statements`.
"""

from collections.abc import Sequence

from kastra.sql.interface import Statement
from kastra.sql.migrations import SchemaTooNew

_FIRST: tuple[str, ...] = (
    # One row per checkpoint. `versions` is JSON, the version of each channel: which rows of lg_blobs hold its values.
    """CREATE TABLE lg_checkpoints(
      id INTEGER PRIMARY KEY, thread TEXT NOT NULL, ns TEXT NOT NULL, checkpoint TEXT NOT NULL, parent TEXT, run TEXT,
      versions TEXT NOT NULL, type TEXT NOT NULL, body BLOB NOT NULL, meta_type TEXT NOT NULL, meta BLOB NOT NULL,
      UNIQUE(thread, ns, checkpoint)) STRICT""",
    "CREATE INDEX lg_checkpoints_run ON lg_checkpoints(run) WHERE run IS NOT NULL",
    # One row per value that a channel ever had; checkpoints share them.
    """CREATE TABLE lg_blobs(
      id INTEGER PRIMARY KEY, thread TEXT NOT NULL, ns TEXT NOT NULL, channel TEXT NOT NULL, version TEXT NOT NULL,
      type TEXT NOT NULL, body BLOB NOT NULL,
      UNIQUE(thread, ns, channel, version)) STRICT""",
    # What tasks wrote after a checkpoint, before the next.
    """CREATE TABLE lg_writes(
      id INTEGER PRIMARY KEY, thread TEXT NOT NULL, ns TEXT NOT NULL, checkpoint TEXT NOT NULL, task TEXT NOT NULL,
      idx INTEGER NOT NULL, path TEXT NOT NULL, channel TEXT NOT NULL, type TEXT NOT NULL, body BLOB NOT NULL,
      UNIQUE(thread, ns, checkpoint, task, idx)) STRICT""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
LATEST = len(MIGRATIONS)

NUMBER = "SELECT i FROM meta WHERE k = 'langgraph_schema'"
_MARK = (
    "INSERT INTO meta(k, i) VALUES ('langgraph_schema', ?) "
    "ON CONFLICT(k) DO UPDATE SET i = excluded.i WHERE meta.i = excluded.i - 1"
)


def missing(found: int, path: str) -> list[list[Statement]]:
    """The transactions that bring tables at number `found` to the latest, one after the other.

    Raises:
        SchemaTooNew: a newer Kastra wrote them.
    """
    if found > LATEST:
        raise SchemaTooNew(
            f"{path} holds LangGraph checkpoints at schema {found}, this Kastra knows {LATEST}: use the newer Kastra "
            "that wrote them, or a backup"
        )
    return [
        # The mark first: if somebody else was here meanwhile, nothing is done twice.
        [Statement(_MARK, (number,), expect=1), *(Statement(sql) for sql in MIGRATIONS[number - 1])]
        for number in range(found + 1, LATEST + 1)
    ]


def number_of(rows: Sequence[tuple[int]]) -> int:
    """The number that `NUMBER` selected; 0 where there are no such tables."""
    return int(rows[0][0]) if rows else 0
