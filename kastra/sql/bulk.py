"""Many rows by few statements: an INSERT of one row becomes one of sixteen.

Both libraries gain: libsql prepares a statement anew for every row, and sqlite3 gives up the interpreter lock for every one,
which a busy event loop takes half a millisecond to give back. Only the plainest form is widened (`INSERT ... VALUES
(?, ?)`, nothing after it); its meaning doesn't change.

Read next: `kastra.sql.driver_libsql`.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

WIDTH = 16
"""Rows per widened statement; wider ones gain nothing more."""

_PLAIN = re.compile(r"(INSERT INTO .* VALUES )(\(\?(?:, ?\?)*\))", re.DOTALL)


@lru_cache(maxsize=256)
def widened(sql: str) -> str | None:
    """`sql` for `WIDTH` rows at once; None if it isn't a plain INSERT."""
    match = _PLAIN.fullmatch(sql)
    return match[1] + ", ".join([match[2]] * WIDTH) if match else None


def insert_many(
    execute: Callable[[str, Sequence[Any]], int],
    one_by_one: Callable[[str, Sequence[Sequence[Any]]], int],
    sql: str,
    rows: Sequence[Sequence[Any]],
) -> int:
    """Run `sql` for all rows, widened where possible; returns how many rows were changed."""
    wide = widened(sql) if len(rows) >= WIDTH else None
    if wide is None:
        return one_by_one(sql, rows)
    changed, place = 0, 0
    while place + WIDTH <= len(rows):
        flat: list[Any] = []
        for row in rows[place : place + WIDTH]:
            flat += row
        changed += execute(wide, flat)
        place += WIDTH
    return changed + one_by_one(sql, rows[place:]) if place < len(rows) else changed
