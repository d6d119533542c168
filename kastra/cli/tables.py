"""Objects as rows under headers: what `get` prints by default, with `-o wide` and with `-o custom-columns`.

Columns come from the kind (`additionalPrinterColumns`) through `kastra.api.table`, as a server's Table would. A printer
remembers the widths of each kind's columns, so that rows of a watch line up. Read next: `kastra.cli.layout`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from kastra.api.jsonpath_template import to_text

from .arguments import display
from .layout import Layout, one_line

if TYPE_CHECKING:
    from kastra.api.object import Object
    from kastra.api.scheme import PrinterColumn, Resource

_NONE = "<none>"
_BUILTIN_GROUPS = frozenset({"", "coordination.k8s.io", "rbac.authorization.k8s.io"})


class TablePrinter(Protocol):
    """Prints kinds one after the other."""

    def lines(self, resource: "Resource", objects: "Sequence[Object]", *, event: str = "") -> list[str]:
        """Rows for objects of one kind, under headers when the kind is new to the printer.

        Args:
            event: what a watch says of them; fills the column EVENT.
        """
        ...


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What to show beside the kind's own columns."""

    wide: bool = False
    headers: bool = True
    namespace: bool = False
    kind: bool = False
    labels: bool = False
    events: bool = False


class KindTables:
    """Tables with the columns of the kinds.

    Args:
        now: gives the time from which ages are counted.
    """

    def __init__(self, options: TableOptions, now: Callable[[], datetime]) -> None:
        self._options = options
        self._now = now
        self._layouts: dict[str, Layout] = {}

    def lines(self, resource: "Resource", objects: "Sequence[Object]", *, event: str = "") -> list[str]:
        """See `TablePrinter`."""
        from kastra.api.table import table

        options = self._options
        columns, values = _builtin(resource)
        made = table(objects, columns, now=self._now(), include_object="None", values=values)
        shown = [
            index
            for index, column in enumerate(made["columnDefinitions"])
            if options.wide or not column.get("priority", 0)
        ]
        rows: list[list[str]] = []
        is_new = resource.group_resource not in self._layouts
        if is_new and options.headers:
            rows.append(self._headers([made["columnDefinitions"][index]["name"] for index in shown], resource))
        for obj, row in zip(objects, made["rows"], strict=True):
            cells = [_text(row["cells"][index]) for index in shown]
            if options.kind:
                cells[0] = f"{display(resource)}/{cells[0]}"
            rows.append(self._row(cells, obj, resource, event))
        layout = self._layouts.setdefault(resource.group_resource, Layout())
        lines = layout.lines(rows)
        # Another kind's table stands apart from the one before.
        return ["", *lines] if is_new and len(self._layouts) > 1 and lines else lines

    def _headers(self, names: Sequence[str], resource: "Resource") -> list[str]:
        options = self._options
        return [
            *(["EVENT"] if options.events else []),
            *(["NAMESPACE"] if options.namespace and resource.namespaced else []),
            *(name.upper() for name in names),
            *(["LABELS"] if options.labels else []),
        ]

    def _row(self, cells: Sequence[str], obj: "Object", resource: "Resource", event: str) -> list[str]:
        options = self._options
        return [
            *([event] if options.events else []),
            *([obj.namespace] if options.namespace and resource.namespaced else []),
            *cells,
            *([labels_text(obj.labels)] if options.labels else []),
        ]


class CustomColumns:
    """`-o custom-columns=NAME:.metadata.name,READY:.status.phase`: the same columns for every kind.

    Raises:
        ValueError: a column has no `HEADER:PATH` form, or a broken path.
    """

    def __init__(self, text: str, *, headers: bool = True) -> None:
        from kastra.api.jsonpath import compile_query

        self._headers: list[str] = []
        self._queries: list[Callable[[Any], list[Any]]] = []
        for column in _split_columns(text):
            header, colon, path = column.partition(":")
            if not colon or not header or not path:
                raise ValueError(f'unexpected custom-columns spec: "{column}", expected <header>:<json-path-expr>')
            self._headers.append(header)
            self._queries.append(compile_query(path))
        self._layout = Layout()
        self._pending_headers = headers

    def lines(self, resource: "Resource", objects: "Sequence[Object]", *, event: str = "") -> list[str]:
        """See `TablePrinter`."""
        rows = [self._headers] if self._pending_headers and objects else []
        self._pending_headers = self._pending_headers and not objects
        for obj in objects:
            found = (query(obj.data) for query in self._queries)
            rows.append([one_line(",".join(map(to_text, values))) if values else _NONE for values in found])
        return self._layout.lines(rows)


def _builtin(
    resource: "Resource",
) -> "tuple[Sequence[PrinterColumn], Callable[[Mapping[str, Any]], Sequence[Any]] | None]":
    """The columns of a kind, and what gives their values where paths can't: the number of a ConfigMap's keys, say."""
    if resource.group not in _BUILTIN_GROUPS:
        return resource.columns, None
    from kastra.apiserver.builtin import BUILTINS

    for known, strategy in BUILTINS:
        if known.group_resource == resource.group_resource and strategy.cells({"metadata": {}}) is not None:
            found = strategy.cells
            return known.columns, lambda data, cells=found: cells(data) or ()
    return resource.columns, None


def labels_text(labels: Mapping[str, str]) -> str:
    """`a=b,c=d`, or `<none>`."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or _NONE


def _text(cell: Any) -> str:
    return "" if cell is None else one_line(to_text(cell))


def _split_columns(text: str) -> list[str]:
    """The columns, split at commas that stand outside of brackets and quotes."""
    columns, depth, quote, start = [], 0, "", 0
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[({":
            depth += 1
        elif char in "])}":
            depth -= 1
        elif char == "," and depth == 0:
            columns.append(text[start:index])
            start = index + 1
    return [*columns, text[start:]]
