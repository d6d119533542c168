"""How much of the event loop do controllers get while others wait for it? So many passes in each of its turns, all controllers together.

A pass that finds everything in its cache never waits, and thousands of objects may be due at once. Whoever asks the API in the meantime is
answered after a few turns of the loop, so a turn has to be short. With nothing else to do the next turn comes at once, and nothing is
lost but the look at the sockets between the two.

Read next: `kastra.runtime.controller`, whose workers take turns.
"""

import asyncio
from collections import deque

AT_ONCE = 1
"""Passes in one turn, each of a millisecond at most, as a rule. More in one make who asks the API wait longer, and are no faster."""

CROWD = 64
"""Requests that wait for one controller, from which on it is crowded."""


class Turns:
    """Hands out the places for passes of one event loop, in the order of asking."""

    def __init__(self) -> None:
        self._left = AT_ONCE
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._renewing = False

    async def take(self) -> None:
        """Return when a pass may begin: at once, or in one of the next turns of the loop."""
        loop = asyncio.get_running_loop()
        if not self._renewing:
            self._renewing = True
            loop.call_soon(self._renew)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _renew(self) -> None:
        taken = self._left < AT_ONCE
        self._left = AT_ONCE
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                self._left -= 1
        self._renewing = taken or self._left < AT_ONCE
        if self._renewing:
            asyncio.get_running_loop().call_soon(self._renew)
