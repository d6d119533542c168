"""In which order the statements of a batch are run."""

from hypothesis import given
from hypothesis import strategies as st

from kastra.sql.driver import Connection
from kastra.sql.driver_sqlite3 import DRIVER
from kastra.sql.grouping import Grouping
from kastra.sql.interface import Statement

CLAIM = "INSERT INTO runs(id, v) VALUES (?, ?)"
GUARD = "UPDATE runs SET v = ? WHERE id = ?"
RECORD = "INSERT INTO journal(id, v) VALUES (?, ?)"
PUT = "INSERT INTO kv(id, v) VALUES (?, ?) ON CONFLICT(id) DO UPDATE SET v = excluded.v"
CHANGE = "UPDATE kv SET v = v || ? WHERE id = ?"
DROP = "DELETE FROM kv WHERE id = ?"
COPY = "UPDATE log SET v = (SELECT group_concat(id || v) FROM kv) WHERE id = ?"
NOTE = "INSERT INTO log(id, v) VALUES (?, ?)"


def grouped(*items: list[Statement]) -> list[tuple[str, int]]:
    """The text and the number of rows of each group."""
    grouping = Grouping()
    for item in items:
        grouping.next_item()
        grouping.add(item)
    return [(group.sql, len(group.rows)) for group in grouping.groups]


def test_what_many_runs_write_takes_a_few_groups() -> None:
    begun = [[Statement(CLAIM, (n, 0)), Statement(RECORD, (n, 0)), Statement(RECORD, (n, 1))] for n in range(20)]
    ended = [[Statement(GUARD, (1, n), 1), Statement(RECORD, (n, 2))] for n in range(20, 40)]
    assert grouped(*begun, *ended) == [(CLAIM, 20), (RECORD, 40), (GUARD, 20), (RECORD, 20)]
    mixed = [item for pair in zip(begun, ended, strict=True) for item in pair]
    assert grouped(*mixed) == [(CLAIM, 20), (RECORD, 2), (GUARD, 20), (RECORD, 58)]


def test_rows_that_must_change_are_counted_per_group_and_never_joined_with_others() -> None:
    grouping = Grouping()
    for statement in (Statement(GUARD, (1, 1), 1), Statement(GUARD, (1, 2), 1), Statement(GUARD, (1, 3))):
        grouping.next_item()
        grouping.add([statement])
    assert [group.expect for group in grouping.groups] == [2, None]


def test_nothing_is_moved_past_what_reads_elsewhere() -> None:
    put = [Statement(PUT, (1, "a"))]
    assert grouped(put, [Statement(COPY, (1,))], put) == [(PUT, 1), (COPY, 1), (PUT, 1)]


def test_what_belongs_at_the_end_runs_after_everything() -> None:
    grouping = Grouping()
    grouping.add([Statement(PUT, (1, "a")), Statement(NOTE, (1, ""))])
    grouping.at_end()
    grouping.add([Statement(PUT, (2, "b"))])
    assert [group.sql for group in grouping.groups] == [PUT, NOTE, PUT]


@st.composite
def batches(draw: st.DrawFn) -> list[list[Statement]]:
    """Items that touch a few rows of a few tables; those of Runs each a row of their own."""
    items: list[list[Statement]] = []
    for number in range(draw(st.integers(1, 8))):
        row = st.integers(1, 3)
        free = st.one_of(
            st.builds(lambda at, v: Statement(PUT, (at, v)), row, st.sampled_from("abc")),
            st.builds(lambda at, v: Statement(CHANGE, (v, at)), row, st.sampled_from("abc")),
            st.builds(lambda at: Statement(DROP, (at,)), row),
            st.builds(lambda at: Statement(COPY, (at,)), row),
            st.just(Statement(GUARD, (7, number))),
            st.just(Statement(GUARD, (8, number))),
        )
        item = [Statement(CLAIM, (number, 0))] if draw(st.booleans()) else []
        items.append(item + draw(st.lists(free, max_size=5)))
    return items


def contents(connection: Connection) -> list[object]:
    return [connection.query(f"SELECT * FROM {table} ORDER BY id") for table in ("runs", "kv", "log")]


def prepared() -> Connection:
    connection = DRIVER.connect(":memory:", read_only=False)
    for table in ("runs", "journal", "kv", "log"):
        connection.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, v TEXT)")
    connection.executemany(NOTE, [(1, ""), (2, ""), (3, "")])
    return connection


@given(batches())
def test_the_result_is_that_of_the_order_in_which_they_were_asked_for(items: list[list[Statement]]) -> None:
    one_by_one, together = prepared(), prepared()
    grouping = Grouping()
    for item in items:
        grouping.next_item()
        grouping.add(item)
        for statement in item:
            one_by_one.execute(statement.sql, statement.parameters)
    for group in grouping.groups:
        for row in group.rows:
            together.execute(group.sql, row)
    assert contents(one_by_one) == contents(together)
    one_by_one.close()
    together.close()
