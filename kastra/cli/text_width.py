"""How many columns of a terminal does a text take, and what of it fits?

Wide characters (CJK, most emoji) take two columns, combining ones none. Good enough to keep a line from wrapping: where a
terminal disagrees by a column, one remains unused. Source: Unicode Standard Annex 11. Read next: `kastra.cli.run_view`.
"""

from unicodedata import combining, east_asian_width


def columns(text: str) -> int:
    """The columns that a text without control characters takes."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def fit(text: str, room: int) -> str:
    """The text, or as much of it as fits into `room` columns with an ellipsis at its end."""
    if columns(text) <= room:
        return text
    taken, kept = 1, list[str]()
    for char in text:
        taken += _columns_of(char)
        if taken > room:
            break
        kept.append(char)
    return "".join(kept) + "…" if room > 0 else ""


def _columns_of(char: str) -> int:
    if combining(char) or char in "\u200d\ufe0e\ufe0f":
        return 0
    return 2 if east_asian_width(char) in "WF" else 1
