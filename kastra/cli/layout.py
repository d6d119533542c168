"""Columns of text the way kubectl aligns them: three blanks between, at least six characters each, remembered widths.

Source: Go's text/tabwriter as k8s.io/cli-runtime sets it up. Read next: `kastra.cli.tables`.
"""

from collections.abc import Iterable, Sequence

_PADDING = 3
_MINIMUM = 6


class Layout:
    """Aligns rows. Widths only grow, so that what a watch prints later stays below its headers.

    Args:
        widths: with which columns start, where nothing is known yet of what will come.
    """

    def __init__(self, widths: Sequence[int] = ()) -> None:
        self._widths = list(widths)

    def lines(self, rows: Iterable[Sequence[str]]) -> list[str]:
        """The rows as lines without trailing blanks."""
        rows = list(rows)
        for row in rows:
            self._widths += [_MINIMUM] * (len(row) - len(self._widths))
            for index, cell in enumerate(row):
                self._widths[index] = max(self._widths[index], len(cell) + _PADDING)
        return ["".join(map(_pad, row, self._widths)).rstrip() for row in rows]


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """The rows of one finished table as lines."""
    return Layout().lines(rows)


def one_line(text: str) -> str:
    """A cell's text without what would break the line: cut at the first line break, control characters shown."""
    for index, char in enumerate(text):
        if char in "\f\n\r":
            text = text[:index] + "..."
            break
    return "".join(
        char if char.isprintable() else f"^{chr(ord(char) ^ 64)}" if ord(char) < 32 else "?" for char in text
    )


def _pad(cell: str, width: int) -> str:
    return cell.ljust(width)
