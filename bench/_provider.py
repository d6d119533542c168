"""A fake model provider in a process of its own, for benchmarks: `python -m bench._provider` prints its URL and serves until stdin ends.

Whatever it is asked, it streams an answer of as many chunks as the last message says, each in a segment of its own.
"""

import sys

import anyio
import anyio.to_thread

from kastra.model import testing as fake
from kastra.model import testing_streams as said


async def main() -> None:
    """Serve until standard input ends."""

    async def turn(_: int) -> None:
        # Lets the loop send each piece before the next is written.
        await anyio.lowlevel.checkpoint()

    def answer(request: fake.Received) -> fake.Scripted:
        text = request.json["messages"][-1]["content"]
        count = int(text if isinstance(text, str) else text[0]["text"])
        if request.path.endswith("/messages"):
            return said.claude_stream(said.words(*["token "] * count), between=turn)
        return said.stream(*[said.say("token ")] * count, between=turn)

    async with fake.FakeProvider() as provider:
        provider.always(answer)
        print(provider.url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(main)
