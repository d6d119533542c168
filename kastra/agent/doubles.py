"""Who may stand in for tools and models? The seam for tests: what is made of an object passes through here first.

In production there are no doubles. Those of the test kit answer in place of a tool or a model where a test says so, note every
call, and keep tests from reaching anything outside. Read next: `kastra.testing.doubles`.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from kastra.api.types import ClosureObject
from kastra.model.chain import ModelEntry
from kastra.tool.interface import ToolBody


class Doubles(Protocol):
    """Stands in for tools and models."""

    async def tool(self, tool: ClosureObject, make: Callable[[], Awaitable[ToolBody]]) -> ToolBody:
        """The body of a tool in place of the one that `make` makes.

        Raises:
            ValueError: as `make` does, if that one is used.
        """
        ...

    def models(self, owner: str, make: Callable[[], list[ModelEntry]]) -> list[ModelEntry]:
        """The models of an agent (`NAMESPACE/NAME`) or of a network's router (`network/NAME`) in place of those that `make` makes.

        Raises:
            StepError: as `make` does, if those are used.
        """
        ...
