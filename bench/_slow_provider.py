"""A model provider that takes its time, in a process of its own: `python -m bench._slow_provider SECONDS` prints its URL and serves until stdin ends.

It answers everything with the same few streamed words after so many seconds, on the OpenAI-compatible wire, and costs as little as
possible, since it shares the processors with what is measured. When stdin ends it prints how many calls it answered, and how many at
once at most.
"""

import asyncio
import json
import sys

from kastra.model import testing_streams as said

_LISTING = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"


def _answer() -> bytes:
    body = b"".join(said.stream(said.say("All "), said.say("is "), said.say("well.")).pieces)
    return _HEAD % (b"text/event-stream", len(body)) + body


class Connection(asyncio.Protocol):
    """One connection: requests one after the other."""

    seconds = 0.0
    answer = _answer()
    listing = _HEAD % (b"application/json", len(_LISTING)) + _LISTING
    served = 0
    active = 0
    most = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody calls."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            _, found, rest = head.partition(b"content-length:")
            whole = end + 4 + (int(rest.split(b"\r\n")[0]) if found else 0)
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            if head.startswith(b"get"):
                self._transport.write(self.listing)
                continue
            Connection.active += 1
            Connection.most = max(Connection.most, Connection.active)
            asyncio.get_running_loop().call_later(self.seconds, self._reply)

    def _reply(self) -> None:
        Connection.active -= 1
        Connection.served += 1
        self._transport.write(self.answer)


async def main(seconds: float) -> None:
    """Serve until standard input ends."""
    Connection.seconds = seconds
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"served": Connection.served, "most": Connection.most}), flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
