"""The head of an answer leaves with its body; and without it, where that takes longer."""

import asyncio
from collections.abc import Callable

import pytest

from kastra.app.single_write import SingleWrite


class Wire(asyncio.Transport):
    """What was written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def after(*steps: Callable[[SingleWrite], None]) -> list[bytes]:
    """What was written when some steps were taken in one turn of the loop, and the turn is over."""
    wire = Wire()
    answer = SingleWrite(wire, asyncio.get_running_loop())
    for step in steps:
        step(answer)
    await asyncio.sleep(0)
    return wire.sent


def write(data: bytes) -> Callable[[SingleWrite], None]:
    return lambda answer: answer.write(data)


async def test_head_and_body_are_one_write() -> None:
    assert await after(write(b"head,"), write(b"body")) == [b"head,body"]


async def test_what_follows_is_written_as_it_comes() -> None:
    assert await after(write(b"head,"), write(b"one"), write(b"two")) == [b"head,one", b"two"]


async def test_a_head_alone_waits_for_the_end_of_the_turn_only() -> None:
    wire = Wire()
    answer = SingleWrite(wire, asyncio.get_running_loop())
    answer.write(b"head,")
    assert wire.sent == []
    await asyncio.sleep(0)
    assert wire.sent == [b"head,"]
    answer.write(b"much later")
    assert wire.sent == [b"head,", b"much later"]


async def test_an_empty_first_part_lets_the_head_go() -> None:
    assert b"".join(await after(write(b"head,"), write(b""), write(b"one"))) == b"head,one"


async def test_a_large_body_is_not_copied() -> None:
    body = b"x" * 100_000
    assert await after(write(b"head,"), write(body)) == [b"head,", body]


@pytest.mark.parametrize(("size", "writes"), [(4, 1), (100_000, 2)], ids=["copied", "not copied"])
async def test_a_whole_answer_follows_what_was_kept(size: int, writes: int) -> None:
    def whole(answer: SingleWrite) -> None:
        answer.write_whole(b"head,", b"x" * size)

    sent = await after(write(b"100 Continue,"), whole)
    assert (sent[0], b"".join(sent[1:]), len(sent) - 1) == (b"100 Continue,", b"head," + b"x" * size, writes)


@pytest.mark.parametrize("parts", [(b"head,",), (b"head,", b"body")])
async def test_closing_loses_nothing(parts: tuple[bytes, ...]) -> None:
    wire = Wire()
    answer = SingleWrite(wire, asyncio.get_running_loop())
    for part in parts:
        answer.write(part)
    answer.close()
    assert (b"".join(wire.sent), wire.closed, answer.is_closing()) == (b"".join(parts), True, True)
