"""Lines of standard input, one when it is asked for: from a terminal, a pipe or a file, without a thread.

Waiting for a line can be cancelled, and nothing that was typed is lost by that. What isn't UTF-8 is read with replacement
marks. The terminal's own line editing is what there is. Read next: `kastra.cli.chat`.
"""

import os
from typing import BinaryIO

_LONGEST = 4 << 20
_CHUNK = 1 << 16


class LinesIn:
    """Reads a stream line by line.

    Args:
        stream: standard input, or what stands for it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held = bytearray()
        self._ended = False
        try:
            self._number: int | None = stream.fileno()
        except (OSError, AttributeError):
            # What stands for it in tests, or in a notebook, is no file of the system.
            self._number = None

    async def next(self) -> str | None:
        """The next line without its end; None when there are no more.

        Raises:
            ValueError: it has more than 4 MiB.
        """
        while True:
            end = self._held.find(b"\n")
            if end >= 0:
                line = bytes(self._held[:end])
                del self._held[: end + 1]
                return line.decode("utf-8", "replace").rstrip("\r")
            if len(self._held) > _LONGEST:
                raise ValueError(f"a line of more than {_LONGEST >> 20} MiB")
            if self._ended:
                rest = bytes(self._held)
                self._held.clear()
                return rest.decode("utf-8", "replace") if rest else None
            chunk = await self._read()
            self._held += chunk
            self._ended = not chunk

    async def _read(self) -> bytes:
        if self._number is None:
            return self._stream.readline(_CHUNK)
        import anyio

        try:
            await anyio.wait_readable(self._number)
        except PermissionError:
            # A plain file can't be waited for, and needn't be.
            await anyio.lowlevel.checkpoint()
        return os.read(self._number, _CHUNK)
