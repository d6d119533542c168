"""A command on a terminal of its own, and what is to be seen on its screen: a pseudo-terminal, and pyte, which reads what is written."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from pathlib import Path

import pyte

from . import warm

_COLUMNS, _ROWS = 110, 60
_PATIENCE = 30.0
"""Seconds for which something is waited for."""

UP, DOWN, LEFT = "\x1b[A", "\x1b[B", "\x1b[D"


def control(letter: str) -> str:
    """The key with Ctrl."""
    return chr(ord(letter.upper()) - 64)


def pasted(text: str) -> str:
    """Text as a terminal sends what was pasted."""
    return f"\x1b[200~{text}\x1b[201~"


def environment(folder: Path, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """That of a user whose home is the folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "KUBE"))}
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state"), "TERM": "xterm"}
    return {**kept, **own, **(given or {})}


class Terminal:
    """`kastra ARGUMENTS...` with a person in front of it."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._own, other = pty.openpty()
        fcntl.ioctl(self._own, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [warm.kastra(), *arguments],
            cwd=folder, env=environment(folder, env), stdin=other, stdout=other, stderr=other, start_new_session=True,
            # The terminal of the session, so that Ctrl-C is a signal to it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(other)
        self._screen = pyte.Screen(_COLUMNS, _ROWS)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def text(self) -> str:
        """What is on the screen, without what is empty at the right and below."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    @property
    def echoes(self) -> bool:
        """Whether the terminal itself shows what is typed, as it does for a shell."""
        return bool(termios.tcgetattr(self._own)[3] & termios.ECHO)

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def until(self, end: str) -> str:
        """What is on the screen, once it ends with this text."""
        deadline = time.monotonic() + _PATIENCE
        while not self.text.endswith(end):
            assert self._read(deadline), f"never ended with {end!r}:\n{self.text}"
        return self.text

    def shows(self, text: str) -> None:
        """Wait until this is somewhere on the screen."""
        deadline = time.monotonic() + _PATIENCE
        while text not in self.text:
            assert self._read(deadline), f"never came {text!r}:\n{self.text}"

    def says(self, line: str, end: str) -> str:
        """Type a line, press Enter, and give the screen once it ends with `end`."""
        self.type(f"{line}\r")
        return self.until(end)

    def ended(self) -> int:
        """The exit code, once the command has ended."""
        deadline = time.monotonic() + _PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(timeout=max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=10)
        os.close(self._own)

    def _read(self, deadline: float) -> bool:
        """Take what was written; False where nothing more comes."""
        ready, _, _ = select.select([self._own], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            written = os.read(self._own, 65536)
        except OSError:
            return False  # The other side was closed.
        self._stream.feed(written)
        return bool(written)
