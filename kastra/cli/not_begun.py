"""Why doesn't it begin? A Run that isn't accepted, because something that its target needs isn't there, waits without a word.

Read next: `kastra.cli.resting`, Runs that wait for somebody.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import anyio

from kastra.api.errors import StatusError
from kastra.background import Background

from .layout import one_line
from .session import say

if TYPE_CHECKING:
    from kastra.api.object import Object
    from kastra.client.interface import Client

_PATIENCE = 1.0
"""Seconds after which it is said."""


class ReasonTold(Background):
    """While it is entered, says once what keeps a Run from beginning, if it hasn't begun within a second.

    Args:
        tell: takes the sentence.
    """

    def __init__(self, client: "Client", run: "Object", tell: Callable[[str], object] = say) -> None:
        super().__init__()
        self._client = client
        self._run = run
        self._tell = tell

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._tasks.start_soon(self._look)
        return self

    async def _look(self) -> None:
        await anyio.sleep(_PATIENCE)
        try:
            accepted = (await self._client.get(self._run.ref)).condition("Accepted")
        except (StatusError, OSError):
            return  # Whoever follows the Run is told so, too.
        if accepted is not None and accepted.get("status") == "False":
            why = one_line(str(accepted.get("message") or accepted.get("reason") or ""))
            self._tell(f"run/{self._run.name} waits: {why}")
