"""How are files found by name, and lines by what they say, without a pattern that takes for ever?

Both kinds of pattern become RE2, whose time grows with the text only. Read next: `kastra.tool.toolkit.jail`.
"""

import os
import stat
from functools import cache
from itertools import islice
from typing import Any

from kastra.tool.toolkit.bounds import MAX_ITEMS
from kastra.tool.toolkit.builtin import unfit
from kastra.tool.toolkit.jail import Jail

MAX_PATTERN = 1_000
MAX_SEARCHED = 64 * 1024 * 1024
"""Bytes that one search reads."""
_MAX_LINE = 500
_MAX_MATCHES = 200


@cache
def _options(*, ignore_case: bool, lines: bool) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    options.never_nl = False
    options.dot_nl = not lines
    options.max_mem = 8 << 20
    return options


def compiled(pattern: str, *, ignore_case: bool = False, lines: bool = True, what: str = "pattern") -> Any:
    """A regular expression (RE2).

    Args:
        pattern: its text.
        ignore_case: whether case matters not.
        lines: whether `.` stops at line ends, and `^` and `$` mean lines with `(?m)`.
        what: the argument, for messages.

    Raises:
        ToolError: it isn't RE2.
    """
    import re2

    if len(pattern) > MAX_PATTERN:
        raise unfit(f"{what}: more than {MAX_PATTERN} characters")
    try:
        return re2.compile(pattern, _options(ignore_case=ignore_case, lines=lines))
    except re2.error as error:
        reason = error.args[0] if error.args else "not understood"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise unfit(
            f"{what}: this is not a regular expression (RE2: no look-around, no back-references): {text[:200]}"
        ) from None


def path_pattern(pattern: str) -> Any:
    """What matches the paths that a pattern of files means. Raises ToolError."""
    if not pattern or pattern.startswith("/") or ".." in pattern.split("/"):
        raise unfit(f"pattern {pattern[:100]!r}: must be relative, such as **/*.md")
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            parts.append("(?:[^/]+/)*")
            position += 3
        elif pattern.startswith("**", position):
            parts.append(".*")
            position += 2
        else:
            character = pattern[position]
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(character) or _quoted(character))
            position += 1
    return compiled(f"^(?:{''.join(parts)})$", lines=False)


def _quoted(character: str) -> str:
    return (
        character if character.isalnum() or ord(character) > 127 or character in "_/ " else f"\\x{{{ord(character):x}}}"
    )


def find_names(jail: Jail, pattern: str, path: str) -> dict[str, Any]:
    """Paths that a pattern means; see `files.glob`."""
    wanted = path_pattern(pattern)
    prefix = path.strip("/")
    found: list[str] = []
    for inner, _folder, _name, facts in jail.walk(path):
        relative = inner[len(prefix) :].lstrip("/") if prefix else inner
        if wanted.match(relative):
            if len(found) == MAX_ITEMS:
                return {"paths": found, "truncated": f"the first {MAX_ITEMS:,} paths; use a narrower pattern"}
            found.append(f"{inner}/" if stat.S_ISDIR(facts.st_mode) else inner)
    return {"paths": found}


def find_text(jail: Jail, pattern: str, path: str, files: str, *, ignore_case: bool) -> dict[str, Any]:
    """Lines that match; see `files.grep`."""
    wanted, names = compiled(pattern, ignore_case=ignore_case), path_pattern(files)
    matches: list[dict[str, Any]] = []
    skipped, read = 0, 0
    prefix = path.strip("/")
    for inner, folder, name, facts in jail.walk(path):
        relative = inner[len(prefix) :].lstrip("/") if prefix else inner
        if not stat.S_ISREG(facts.st_mode) or not names.match(relative):
            continue
        if facts.st_size > jail.max_bytes or read + facts.st_size > MAX_SEARCHED:
            skipped += 1
            continue
        data = _content(folder, name, jail.max_bytes)
        if data is None or b"\0" in data[:8192]:
            continue
        read += len(data)
        room = _MAX_MATCHES + 1 - len(matches)
        lines = enumerate(data.decode("utf-8", "replace").splitlines(), 1)
        hits = (
            {"path": inner, "line": number, "text": line[:_MAX_LINE]} for number, line in lines if wanted.search(line)
        )
        matches += islice(hits, room)
        if len(matches) > _MAX_MATCHES:
            matches.pop()
            return {"matches": matches, "truncated": f"the first {_MAX_MATCHES} lines; use a narrower pattern or files"}
    result: dict[str, Any] = {"matches": matches}
    if skipped:
        result["skipped"] = f"{skipped} files are too large to be searched"
    return result


def _content(folder: int, name: str, limit: int) -> bytes | None:
    """The bytes of a regular file in an open folder; None if it is none any more or can't be read."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read(limit)
