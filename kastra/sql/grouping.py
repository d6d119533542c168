"""In which order are the statements of a batch run? As they were asked for, save that equal ones run together where none can tell.

A library call costs more than the row that it writes, and forty Runs that begin at the same time ask forty times for the same three
statements. A statement joins an earlier group of its text if that comes after all that precedes it in its own item, and if nothing in
between touches its table. The statements of one item thus run in their order, and so do all that touch one table. Of the tables
whose rows belong to one Run each only the first is kept to: a Run has one commit under way at most, so no two items of a batch touch
the same rows. What reads another table, or is of no known form, joins only its neighbour, and nothing is moved past it.

Read next: `kastra.sql.writer`, the caller; `kastra.sql.bulk`, which runs a group.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from .interface import Statement

_OF_RUNS = frozenset({"runs", "journal", "blobs"})
_PLAIN = re.compile(r"(?:INSERT(?: OR \w+)? INTO|UPDATE|DELETE FROM) (\w+)\b(?!.*\b(?:SELECT|FROM|JOIN)\b)", re.DOTALL)


class Group:
    """Statements of equal text: a row of parameters each, and how many rows they must change in all (None: any number)."""

    __slots__ = ("expect", "rows", "sql")

    def __init__(self, sql: str, first: Sequence[Any], expect: int | None) -> None:
        self.sql = sql
        self.rows = [first]
        self.expect = expect


class Grouping:
    """Collects the statements of a batch, item by item.

    Attributes:
        groups: in the order in which they are to be run.
        size: bytes of blobs among the parameters.
    """

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.size = 0
        self._latest: dict[str, int] = {}
        self._touched: dict[str, int] = {}
        self._barrier = -1
        self._floor = -1

    def next_item(self) -> None:
        """What is added from here on belongs to another item, and may join what precedes it."""
        self._floor = -1

    def at_end(self) -> None:
        """What is added from here on runs after everything else."""
        self._floor = len(self.groups)

    def add(self, statements: Sequence[Statement]) -> None:
        """More statements of the present item."""
        groups = self.groups
        for sql, parameters, expect in statements:
            for value in parameters:
                if value.__class__ is bytes:
                    self.size += len(value)
            table = _table(sql)
            place = self._latest.get(sql, -1)
            last = len(groups) - 1
            free = max(self._floor, self._barrier, self._touched.get(table, -1) if table else last)
            if place >= 0 and place >= free and (groups[place].expect is None) is (expect is None):
                group = groups[place]
                group.rows.append(parameters)
                if expect is not None and group.expect is not None:
                    group.expect += expect
            else:
                groups.append(Group(sql, parameters, expect))
                place = self._latest[sql] = last + 1
                if not table:
                    self._barrier = place
            if table and table not in _OF_RUNS:
                self._touched[table] = max(place, self._touched.get(table, -1))
            self._floor = max(self._floor, place)


@lru_cache(maxsize=512)
def _table(sql: str) -> str:
    """The only table that a statement touches, besides what its triggers do; empty if that can't be told."""
    match = _PLAIN.match(sql)
    return match[1] if match else ""
