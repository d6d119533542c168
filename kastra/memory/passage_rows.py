"""The statements of knowledge, over the tables `documents` and `passages` of the store.

A document is kept whole or not at all: it and its passages are one commit. Numbers of passages are never used again, so that an
index which doesn't know yet that one has gone finds nothing in its place. Read next: `kastra.memory.passages`.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from kastra.sql.interface import Statement

# Of which document is known under which hash what was read.
KNOWN = "SELECT source, name, hash FROM documents WHERE base = ?"
TALLY = (
    "SELECT count(DISTINCT d.id), count(p.id), coalesce(sum(length(p.text)), 0) "
    "FROM documents d LEFT JOIN passages p ON p.document = d.id WHERE d.base = ?"
)
ENTRIES = "SELECT count(*) FROM documents WHERE base = ? AND source = ?"
LISTED = (
    "SELECT d.name, d.source, count(p.id) FROM documents d LEFT JOIN passages p ON p.document = d.id "
    "WHERE d.base = ? AND d.name > ? GROUP BY d.id ORDER BY d.name, d.source LIMIT ?"
)
TEXT = "SELECT d.text FROM documents d WHERE d.base = ? AND d.name = ? ORDER BY d.source LIMIT 1"
NUMBERS = (
    "SELECT p.id FROM passages p JOIN documents d ON d.id = p.document WHERE d.base = ? AND d.source = ? AND d.name = ?"
)
NEW = (
    "SELECT p.id, p.vec FROM passages p JOIN documents d ON d.id = p.document "
    "WHERE d.base = ? AND p.model = ? AND p.id > ? AND p.vec IS NOT NULL ORDER BY p.id"
)
BY_WORDS = (
    "SELECT p.id FROM passages_fts f JOIN passages p ON p.id = f.rowid JOIN documents d ON d.id = p.document "
    "WHERE passages_fts MATCH ? AND d.base = ? ORDER BY f.rank LIMIT ?"
)
BY_SHORT_WORD = (
    "SELECT p.id FROM passages p JOIN documents d ON d.id = p.document "
    "WHERE d.base = ? AND p.text LIKE ? ESCAPE '\\' ORDER BY p.id LIMIT ?"
)
_FOUND = (
    "SELECT p.id, d.name, d.source, p.seq, p.text, d.meta FROM passages p JOIN documents d ON d.id = p.document "
    "WHERE p.id IN ({})"
)

_PUT = (
    "INSERT INTO documents(base, source, name, hash, ts, text, meta) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT(base, source, name) DO UPDATE SET hash = excluded.hash, ts = excluded.ts, text = excluded.text, "
    "meta = excluded.meta"
)
_DROP_PASSAGES = (
    "DELETE FROM passages WHERE document = (SELECT id FROM documents WHERE base = ? AND source = ? AND name = ?)"
)
_DROP = "DELETE FROM documents WHERE base = ? AND source = ? AND name = ?"
_ADD = (
    "INSERT INTO passages(document, seq, text, model, vec) "
    "SELECT id, ?, ?, ?, ? FROM documents WHERE base = ? AND source = ? AND name = ?"
)

# Erasing takes portions, so that nobody else's commit waits for long.
PORTION = 100
_OLDEST = "SELECT id FROM documents WHERE base = ? ORDER BY id LIMIT ?"
ERASE = (f"DELETE FROM passages WHERE document IN ({_OLDEST})", f"DELETE FROM documents WHERE id IN ({_OLDEST})")
LEFT = "SELECT count(*) FROM (SELECT 1 FROM documents WHERE base = ? LIMIT 1)"
# Deleted entries stay in the full-text index until its parts are merged.
PURGE = "INSERT INTO passages_fts(passages_fts) VALUES ('optimize')"

Key = tuple[str, str, str]
"""Of a document: the base's uid, the source, the name."""


def found(numbers: Sequence[int]) -> tuple[str, Sequence[Any]]:
    """The query for passages by number."""
    return _FOUND.format(", ".join("?" * len(numbers))), tuple(numbers)


def put(
    key: Key,
    digest: str,
    now: int,
    text: str,
    meta: dict[str, Any],
    passages: Sequence[str],
    model: str,
    vectors: Sequence[bytes | None],
) -> list[Statement]:
    """Statements that keep a document in place of what was known of it."""
    made = [
        Statement(_PUT, (*key, digest, now, text, orjson.dumps(meta))),
        Statement(_DROP_PASSAGES, key),
    ]
    for seq, (passage, vector) in enumerate(zip(passages, vectors, strict=True)):
        made.append(Statement(_ADD, (seq, passage, model, vector, *key)))
    return made


def dropped(key: Key) -> list[Statement]:
    """Statements that forget a document."""
    return [Statement(_DROP_PASSAGES, key), Statement(_DROP, key)]
