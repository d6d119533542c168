"""Group `csv`: tables, from a text or from a file of the folder.

Cells are texts; where numbers are meant (conditions, aggregates) a cell that looks like one is one. Conditions are CEL over
`row`, evaluated row by row. Read next: `kastra.tool.toolkit.bounds`.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from kastra.cel import CelError, Program, environment
from kastra.tool.interface import ToolError
from kastra.tool.toolkit.bounds import MAX_TEXT, text_of
from kastra.tool.toolkit.builtin import READ, REPLACE, Builtin, unfit
from kastra.tool.toolkit.kit import Kit

MAX_ROWS = 100_000
"""Rows that a call looks at."""
MAX_COLUMNS = 1_000
_MAX_GROUPS = 10_000

Text = Annotated[str, "The table as CSV text; or give path."]
Path = Annotated[str, "Path of a CSV file in the tool's folder; or give text."]
Delimiter = Annotated[str, "Between cells, one character; found out when empty."]
Where = Annotated[str, "CEL condition over row, such as row.price > 5 && row.name.contains('tea')."]
Row = dict[str, Any]


def read(
    kit: Kit,
    text: Text = "",
    path: Path = "",
    delimiter: Delimiter = "",
    offset: Annotated[int, "Rows to skip."] = 0,
    limit: Annotated[int, "Rows at most."] = 100,
) -> dict[str, Any]:
    """Read rows of a table, each as an object by column name."""
    return _page(_rows(kit, text, path, delimiter), offset, limit)


def filter_rows(
    kit: Kit,
    where: Where,
    text: Text = "",
    path: Path = "",
    delimiter: Delimiter = "",
    columns: Annotated[list[str], "Columns to keep; all when empty."] = [],  # noqa: B006 - never changed; the schema shows it
    limit: Annotated[int, "Rows at most."] = 100,
) -> dict[str, Any]:
    """Find the rows of a table for which a condition holds."""
    condition = _condition(where)
    rows = (row for row in _rows(kit, text, path, delimiter) if _holds(condition, row))
    if columns:
        rows = (_only(row, columns) for row in rows)
    return _page(rows, 0, limit)


def aggregate(
    kit: Kit,
    measures: Annotated[
        dict[str, Literal["sum", "avg", "min", "max", "count", "distinct"]], "By column: what is computed of it."
    ],
    by: Annotated[list[str], "Columns to group by; one group when empty."] = [],  # noqa: B006 - as above
    where: Where = "",
    text: Text = "",
    path: Path = "",
    delimiter: Delimiter = "",
) -> dict[str, Any]:
    """Group the rows of a table and compute sums, averages and counts of columns."""
    condition = _condition(where) if where else None
    groups: dict[tuple[str, ...], tuple[int, dict[str, _Measure]]] = {}
    for row in _rows(kit, text, path, delimiter):
        if condition is not None and not _holds(condition, row):
            continue
        key = tuple(str(_only(row, by)[column]) for column in by)
        count, found = groups.get(key) or (0, {column: _Measure() for column in measures})
        for column, measure in found.items():
            measure.add(_only(row, [column])[column])
        groups[key] = (count + 1, found)
        if len(groups) > _MAX_GROUPS:
            raise unfit(f"by: more than {_MAX_GROUPS:,} groups")
    return {
        "groups": [
            {
                **dict(zip(by, key, strict=True)),
                "rows": count,
                **{f"{measures[column]}_{column}": found[column].value(measures[column]) for column in measures},
            }
            for key, (count, found) in list(groups.items())[:1000]
        ],
        **({"truncated": f"the first 1,000 of {len(groups):,} groups"} if len(groups) > 1000 else {}),
    }


def write(
    kit: Kit,
    rows: list[dict[str, Any]],
    path: Annotated[str, "Write to this file of the tool's folder instead of returning the text."] = "",
    delimiter: Annotated[str, "Between cells, one character."] = ",",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write rows (objects) as CSV, to a text or to a file."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if len(columns) > MAX_COLUMNS or len(rows) > MAX_ROWS:
        raise unfit(f"at most {MAX_ROWS:,} rows and {MAX_COLUMNS:,} columns")
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, delimiter=_delimiter(delimiter), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    made = buffer.getvalue()
    if path:
        kit.jail.write(path, made.encode("utf-8", "surrogatepass"), overwrite=overwrite)
        return {"path": path, "rows": len(rows)}
    if len(made) > MAX_TEXT:
        raise unfit(f"rows: the text would have {len(made):,} characters; give path to write a file")
    return {"text": made, "rows": len(rows)}


class _Measure:
    """One aggregate of one column; cells that are empty don't count."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0
        self._numbers = True
        self._least: Any = None
        self._most: Any = None
        self._distinct: set[Any] = set()

    def add(self, cell: Any) -> None:
        if cell == "":
            return
        self._count += 1
        self._distinct.add(cell)
        if isinstance(cell, str):
            self._numbers = False
        elif self._numbers:
            self._sum += cell
            self._least = cell if self._least is None else min(self._least, cell)
            self._most = cell if self._most is None else max(self._most, cell)

    def value(self, kind: str) -> Any:
        if kind == "count":
            return self._count
        if kind == "distinct":
            return len(self._distinct)
        if not self._numbers:
            if kind in ("min", "max"):
                choose: Callable[..., Any] = min if kind == "min" else max
                return choose((str(cell) for cell in self._distinct), default=None)
            raise unfit(f"measures: a column with texts has no {kind}; use count or distinct")
        if kind == "sum":
            return _tidy(self._sum)
        if kind == "avg":
            return _tidy(self._sum / self._count) if self._count else None
        return self._least if kind == "min" else self._most


def _tidy(number: float) -> float | int:
    return int(number) if number.is_integer() and abs(number) < 1e15 else round(number, 10)


def _rows(kit: Kit, text: str, path: str, delimiter: str) -> Iterator[Row]:
    if bool(text) == bool(path):
        raise unfit("give exactly one of text and path")
    whole = text_of(text) if text else kit.jail.text(path)
    separator = _delimiter(delimiter or _guessed(whole))
    reader = csv.reader(io.StringIO(whole.removeprefix("\ufeff"), newline=""), delimiter=separator)
    header: list[str] | None = None
    try:
        for number, cells in enumerate(reader):
            if not cells:
                continue
            if len(cells) > MAX_COLUMNS:
                raise unfit(f"line {reader.line_num}: more than {MAX_COLUMNS:,} columns")
            if header is None:
                header = _header(cells)
                continue
            if number > MAX_ROWS:
                raise unfit(f"more than {MAX_ROWS:,} rows; use a smaller table")
            row: Row = {name: _cell(cell) for name, cell in zip(header, cells, strict=False)}
            for name in header[len(cells) :]:
                row[name] = ""
            yield row
    except csv.Error as error:
        raise unfit(f"line {reader.line_num}: this is not CSV: {error}") from None


def _header(cells: list[str]) -> list[str]:
    names: dict[str, None] = {}
    for index, cell in enumerate(cells, 1):
        name = cell.strip() or f"column{index}"
        names.setdefault(name if name not in names else f"{name}_{index}")
    return list(names)


def _cell(text: str) -> Any:
    plain = text.strip()
    if not plain or len(plain) > 24 or not (plain[0].isdigit() or plain[0] in "+-."):
        return text
    if plain.lstrip("+-").isdecimal():
        # A code such as 007 stays the text it is.
        return text if plain.lstrip("+-").startswith("0") and len(plain.lstrip("+-")) > 1 else int(plain)
    try:
        number = float(plain)
    except ValueError:
        return text
    return number if math.isfinite(number) and "_" not in plain else text


def _guessed(text: str) -> str:
    first = text[:10_000].partition("\n")[0]
    return max((",", ";", "\t", "|"), key=first.count)


def _delimiter(text: str) -> str:
    if len(text) != 1 or text in '\r\n"':
        raise unfit("delimiter: must be one character, such as , or ;")
    return text


def _condition(where: str) -> Program:
    try:
        return environment("row").compile(where)
    except CelError as error:
        raise ToolError(f"where: {error}", type="expression", retryable=False) from None


def _holds(condition: Program, row: Mapping[str, Any]) -> bool:
    try:
        return condition.test({"row": row})
    except CelError as error:
        shown = ", ".join(list(row)[:30])
        raise ToolError(
            f"where: {error} (columns: {shown}; empty cells are empty texts)", type="expression", retryable=False
        ) from None


def _only(row: Row, columns: list[str]) -> Row:
    for column in columns:
        if column not in row:
            raise unfit(f"there is no column {column[:100]!r}; the table has {', '.join(list(row)[:30])}")
    return {column: row[column] for column in columns}


def _page(rows: Iterator[Row], offset: int, limit: int) -> dict[str, Any]:
    if offset < 0 or not 1 <= limit <= 1000:
        raise unfit("offset must be at least 0, limit from 1 to 1000")
    found: list[Row] = []
    size = matched = 0
    for row in rows:
        matched += 1
        if matched <= offset or len(found) >= limit or size > MAX_TEXT:
            continue
        found.append(row)
        size += sum(len(name) + len(str(cell)) for name, cell in row.items())
    result: dict[str, Any] = {"rows": found, "total": matched}
    if offset + len(found) < matched:
        result["truncated"] = f"rows {offset + 1} to {offset + len(found)} of {matched}"
    return result


_SETTINGS = ("folder", "maxBytes")
TOOLS = (
    Builtin("csv.read", read, READ, _SETTINGS),
    Builtin("csv.filter", filter_rows, READ, _SETTINGS),
    Builtin("csv.aggregate", aggregate, READ, _SETTINGS),
    Builtin("csv.write", write, REPLACE, _SETTINGS),
)
