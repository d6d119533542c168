"""How many passes of controllers one turn of the event loop holds."""

import asyncio

from kastra.runtime.turns import AT_ONCE, Turns


async def turns_of(turns: Turns, passes: int, log: list[str]) -> None:
    for _ in range(passes):
        await turns.take()
        log.append("pass")


async def ticks(log: list[str], number: int) -> None:
    """Note each turn of the loop."""
    for _ in range(number):
        log.append("|")
        await asyncio.sleep(0)


async def test_passes_that_never_wait_leave_room_for_others_in_every_turn() -> None:
    turns, log = Turns(), list[str]()
    await asyncio.gather(turns_of(turns, 100, log), turns_of(turns, 100, log), ticks(log, 200))
    assert log.count("pass") == 200
    assert max(len(turn) for turn in "".join(log).replace("pass", "p").split("|")) <= 2 * AT_ONCE


async def test_turns_are_given_in_the_order_of_asking() -> None:
    turns, order = Turns(), list[int]()

    async def one(number: int) -> None:
        await turns.take()
        order.append(number)

    await asyncio.gather(*(one(number) for number in range(20)))
    assert order == list(range(20))


async def test_whoever_gives_up_waiting_takes_no_turn_from_others() -> None:
    turns, log = Turns(), list[str]()
    waiting = [asyncio.create_task(turns_of(turns, 1, log)) for _ in range(3 * AT_ONCE)]
    await asyncio.sleep(0)
    for task in waiting[AT_ONCE : 2 * AT_ONCE]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(log) == 2 * AT_ONCE
