"""Which events are complete in the bytes of an event stream so far? Incremental, on bytes, one object per stream.

Gives the `data` of each event; names and ids of events are skipped, because providers repeat them in the data. A piece of a
stream may end anywhere, in the middle of a character too.

Source: Server-sent events, HTML Living Standard, 9.2. Read next: `kastra.model.events`, which feeds it.
"""

MAX_EVENT = 8 * 1024 * 1024
"""Bytes of one event."""


class EventTooLarge(ValueError):
    """An event has more than `MAX_EVENT` bytes."""


class EventReader:
    """Feed it bytes; it returns the data of the events that they complete."""

    __slots__ = ("_begun", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that end in `chunk`, in order; events without data are left out.

        Raises:
            EventTooLarge: as it says.
        """
        rest = self._rest + chunk if self._rest else chunk
        if not self._begun:
            if len(rest) < 3 and b"\xef\xbb\xbf".startswith(rest):
                self._rest = rest
                return []
            self._begun = True
            rest = rest.removeprefix(b"\xef\xbb\xbf")
        if b"\r" in rest:
            # A lone carriage return ends a line, too; whether the last one is alone, the next chunk shows.
            held = b"\r" if rest.endswith(b"\r") else b""
            rest = rest[: len(rest) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        blocks = rest.split(b"\n\n")
        self._rest = blocks.pop()
        if len(self._rest) > MAX_EVENT:
            raise EventTooLarge(f"an event of more than {MAX_EVENT} bytes")
        found = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                found.append(block[6:])
            elif (data := _data(block)) is not None:
                found.append(data)
        return found

    def rest(self) -> list[bytes]:
        """What a server meant that left out the last blank line; asked once, at the end of the stream."""
        rest, self._rest = self._rest.rstrip(b"\r\n"), b""
        data = _data(rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        return [] if data is None else [data]


def _data(block: bytes) -> bytes | None:
    lines = []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
        elif line == b"data":
            lines.append(b"")
    return b"\n".join(lines) if lines else None
