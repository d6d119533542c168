"""What was typed in earlier chats? Lines kept in a file of the user's own, the latest so many of them.

`kastra/chat-history` in `XDG_STATE_HOME`, or in `~/.local/state`, readable by its owner only: one JSON text a line, so that an entry
can have several lines. What begins with a blank isn't kept, as shells do it. Several chats add to the file at the same time. Read
next: `kastra.cli.line_editor`, which offers them again.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson

_LONGEST = 64 << 10
"""Bytes of an entry that is kept."""
_LARGEST = 4 << 20
"""Bytes at the end of the file that are looked at."""


def history_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the lines are. Raises RuntimeError: the user has no home."""
    state = environment.get("XDG_STATE_HOME", "")
    # A relative path in it is to be ignored, says the specification.
    folder = Path(state) if state.startswith("/") else Path("~/.local/state").expanduser()
    return folder / "kastra" / "chat-history"


class LineHistory:
    """The latest lines in a file.

    Args:
        path: of the file, made if need be with its folders.
        keep: entries at most; the file has a quarter more before it is made shorter.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self._path = path
        self._keep = keep
        self._count = 0

    def entries(self) -> list[str]:
        """What was kept, the latest last. Raises OSError: the file can't be read or made."""
        with self._locked() as descriptor:
            found = _read(descriptor)
        self._count = len(found)
        return found[-self._keep :]

    def add(self, text: str) -> None:
        """Keep another entry, unless it begins with a blank or is too long. Raises OSError: it can't be written."""
        line = orjson.dumps(text.encode("utf-8", "replace").decode()) + b"\n"
        if not text.strip() or text[0].isspace() or len(line) > _LONGEST:
            return
        with self._locked() as descriptor:
            self._count += 1
            if self._count > self._keep + self._keep // 4:
                kept = [*_read(descriptor), text][-self._keep :]
                line = b"".join(orjson.dumps(entry) + b"\n" for entry in kept)
                os.ftruncate(descriptor, 0)
                self._count = len(kept)
            while line:
                line = line[os.write(descriptor, line) :]

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, for nobody else meanwhile."""
        import fcntl

        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Opening a pipe would otherwise wait for somebody at its other end.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise OSError(f"{self._path} is no regular file")
            if mode & 0o077:
                os.fchmod(descriptor, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> list[str]:
    """The entries at the end of a file; lines that are none, such as half of one, are passed over."""
    begin = max(0, os.fstat(descriptor).st_size - _LARGEST)
    content = bytearray()
    while chunk := os.pread(descriptor, 1 << 20, begin + len(content)):
        content += chunk
    found = []
    for line in content.splitlines():
        try:
            entry = orjson.loads(line)
        except ValueError:
            continue
        if isinstance(entry, str):
            found.append(entry)
    return found
