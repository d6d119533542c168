"""An answer on the terminal, or in a pipe, as it arrives: its text on standard output, what is done for it on standard error.

Everything that comes from a model or a tool is that of a stranger: control characters never reach the terminal, so nothing in an
answer can move the cursor, change a title, or hide a line. Read next: `kastra.app.streaming`, where the chunks are listed.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .layout import one_line

_LONGEST = 200
_DIM, _END = "\x1b[2m", "\x1b[0m"
_KEPT = "\n\t\u200c\u200d"
"""Not printable by the book, and harmless: line breaks, tabs, and what joins letters and emoji."""


def shown(text: str) -> str:
    """Text of a stranger, of several lines maybe, as it may be written to a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char in _KEPT or char.isprintable() else "" if char == "\r" else "\ufffd" for char in text)


class AnswerView:
    """Writes the chunks of one answer.

    Args:
        write: puts text of the answer out, at once.
        note: takes a line about what is done.
        color: whether the lines are dimmed.
        quiet: whether there are no lines.
    """

    def __init__(
        self, write: Callable[[str], object], note: Callable[[str], object], *, color: bool = False, quiet: bool = False
    ) -> None:
        self._write = write
        self._note = note
        self._color = color
        self._quiet = quiet
        self._key = ""
        self._text = ""
        self._open = False

    def chunk(self, chunk: Mapping[str, Any]) -> None:
        """Show a chunk, if there is something in it to be seen."""
        kind, key = chunk["type"], chunk.get("key", "")
        if kind == "text-delta":
            if _is_nested(key):
                return
            if key != self._key:
                self.close()
                self._key, self._text = key, ""
            self._text += chunk["text"]
            self._write(shown(chunk["text"]))
            self._open = not chunk["text"].endswith("\n")
        elif kind == "tool-call":
            self._say(f"→ {chunk['toolName']} {_short(chunk['args'])}".rstrip())
        elif kind == "tool-result":
            word = "failed: " if chunk["isError"] else ""
            self._say(f"← {word}{_short(_title(chunk['result']) if chunk['isError'] else chunk['result'])}")
        elif kind == "restart" and (not _is_nested(key)) and self._text:
            self._text, self._key = "", ""
            self._say(f"begins again: {chunk['reason']}")

    def finish(self, output: str) -> None:
        """Write the output as text, unless it has been written already, and end the line."""
        if self._text and self._open and output.startswith(self._text):
            # The rest of it was missed.
            self._write(shown(output[len(self._text) :].rstrip("\n")))
        elif output.rstrip("\n") != self._text.rstrip("\n"):
            self.close()
            self._write(shown(output))
            self._open = not output.endswith("\n")
        self.close()

    def close(self) -> None:
        """End the line that is being written."""
        if self._open:
            self._write("\n")
            self._open = False

    def _say(self, text: str) -> None:
        if self._quiet:
            return
        self.close()
        line = f"  {one_line(text)}"
        self._note(f"{_DIM}{line}{_END}" if self._color else line)


def _is_nested(key: str) -> bool:
    """Whether a place belongs to an agent that was called as a tool."""
    return key.count("turn[") > 1


def _title(error: Any) -> Any:
    return error.get("title", error) if isinstance(error, Mapping) else error


def _short(value: Any) -> str:
    if value in (None, "", {}):
        return ""
    import orjson

    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
