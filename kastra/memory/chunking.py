"""How is a document cut into passages? At headings, paragraphs, sentences or words, where it can, and never in the middle of them.

A passage of a Markdown document begins with the headings that it stands below, so that it can be understood alone. Read next:
`kastra.memory.passages`, which keeps them.
"""

import re
from dataclasses import dataclass

SIZE = 1200
"""Characters of a passage at most, unless said otherwise."""
OVERLAP = 100
"""Characters that a passage repeats of the one before, unless said otherwise."""
MOST_HEADINGS = 200
"""Characters of the headings that a passage begins with."""

_LONGEST_TITLE = 200
_HEADING = re.compile(r"(#{1,6})[ \t]+")
_FENCE = re.compile(r"^[ \t]{0,3}(```|~~~)")
_MARKS = ("\n\n", "\n", ". ", "! ", "? ", "。", "！", "？", "; ", " ")


@dataclass(frozen=True, slots=True)
class Chunking:
    """How large passages are: at most `size` characters, of which `overlap` are those of the one before."""

    size: int = SIZE
    overlap: int = OVERLAP


def passages(text: str, how: Chunking, *, markdown: bool = False) -> list[str]:
    """The passages of a document, in order; none if it says nothing."""
    found: list[str] = []
    for headings, section in _sections(text) if markdown else [("", text)]:
        headings = headings[-(how.size // 2 - 1) :]
        room = how.size - len(headings) - 1 if headings else how.size
        parts = _parts(section, room, min(how.overlap, room // 2))
        found += [f"{headings}\n{part}" if headings else part for part in parts]
    return found


def _parts(text: str, size: int, overlap: int) -> list[str]:
    found, start = [], 0
    while start < len(text):
        end = min(len(text), start + size)
        if end < len(text):
            end = _break(text, start, end)
        if part := text[start:end].strip():
            found.append(part)
        start = end if end == len(text) else max(end - overlap, start + 1)
    return found


def _break(text: str, start: int, end: int) -> int:
    """The best place to end a part at, in the second half of it."""
    half = start + (end - start) // 2
    for mark in _MARKS:
        found = text.rfind(mark, half, end)
        if found >= 0:
            return found + len(mark)
    return end


def _sections(text: str) -> list[tuple[str, str]]:
    """The sections of a Markdown document, each with the headings above it."""
    above: list[tuple[int, str]] = []
    found: list[tuple[str, str]] = []
    lines: list[str] = []
    fence = ""

    def close() -> None:
        if "".join(lines).strip():
            titles = " > ".join(title for _, title in above)
            found.append((titles[-MOST_HEADINGS:], "\n".join(lines)))
        lines.clear()

    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark is not None and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        heading = None if fence or mark is not None else _HEADING.match(line)
        title = line[heading.end() :].rstrip("# \t") if heading is not None else ""
        if heading is None or not 0 < len(title) <= _LONGEST_TITLE:
            lines.append(line)
            continue
        close()
        level = len(heading[1])
        above = [entry for entry in above if entry[0] < level]
        above.append((level, title))
    close()
    return found
