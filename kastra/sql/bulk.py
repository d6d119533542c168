"""Many rows by few statements: an INSERT of one row becomes one of sixteen, eight or four.

Both libraries gain: libsql prepares a statement anew for every row, and sqlite3 gives up the interpreter lock for every one,
which a busy event loop takes half a millisecond to give back. Only the plainest forms are widened (`INSERT ... VALUES
(?, ?)`, at most with `DO NOTHING` about a conflict after it); their meaning doesn't change.

Read next: `kastra.sql.driver_libsql`.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

WIDTHS = (16, 8, 4)
"""Rows per widened statement; wider ones gain nothing more, and narrower ones nothing at all."""

_PLAIN = re.compile(
    r"(INSERT INTO \w+(?:\([\w, ]+\))? VALUES )(\((?:\?|NULL|\d+|'\w*')(?:, ?(?:\?|NULL|\d+|'\w*'))*\))"
    r"( ON CONFLICT\([\w, ]+\) DO NOTHING)?"
)


@lru_cache(maxsize=256)
def widened(sql: str) -> tuple[tuple[int, str], ...]:
    """`sql` for each of `WIDTHS` rows at once; nothing if it isn't a plain INSERT."""
    match = _PLAIN.fullmatch(sql)
    if match is None:
        return ()
    return tuple((width, match[1] + ", ".join([match[2]] * width) + (match[3] or "")) for width in WIDTHS)


def insert_many(
    execute: Callable[[str, Sequence[Any]], int],
    one_by_one: Callable[[str, Sequence[Sequence[Any]]], int],
    sql: str,
    rows: Sequence[Sequence[Any]],
) -> int:
    """Run `sql` for all rows, widened where possible; returns how many rows were changed."""
    changed, place, count = 0, 0, len(rows)
    for width, wide in widened(sql) if count >= WIDTHS[-1] else ():
        while place + width <= count:
            flat: list[Any] = []
            for row in rows[place : place + width]:
                flat += row
            changed += execute(wide, flat)
            place += width
    return changed + one_by_one(sql, rows[place:]) if place < count else changed
