"""How deep is a Run nested, and how many events led to it? Noted on each Run that a Run starts, so that no chain is endless.

    mastra.ai/run-depth        Runs above it: by `workflow` and `network` steps, by tools that run Workflows
    mastra.ai/trigger-chain    Runs that started each other by events before it; what it starts goes on counting

Read next: `kastra.runtime.triggers.starting`, which ends chains of events.
"""

from kastra.api.errors import NotFound
from kastra.api.meta import GROUP, ObjectRef
from kastra.client.interface import Client
from kastra.runtime.triggers.starting import CHAIN

DEPTH = f"{GROUP}/run-depth"
"""Annotation on a child Run: how many Runs lie above it."""

MAX_DEPTH = 16


class TooDeep(Exception):
    """A Run would be nested more than `MAX_DEPTH` deep."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} would be nested more than {MAX_DEPTH} Runs deep; does something run itself?")


async def inherited(client: Client, namespace: str, parent: str, name: str) -> dict[str, str]:
    """The annotations of a Run that the Run `parent` starts.

    Args:
        name: of the new one, for messages.

    Raises:
        TooDeep: it would be nested too deeply.
    """
    noted: dict[str, str] = {}
    try:
        above = (await client.get(ObjectRef("Run", parent, namespace))).annotations
    except NotFound:
        above = {}
    depth = above.get(DEPTH, "0")
    deeper = 1 + (int(depth) if depth.isascii() and depth.isdigit() else 0)
    if deeper > MAX_DEPTH:
        raise TooDeep(name)
    noted[DEPTH] = str(deeper)
    if CHAIN in above:
        noted[CHAIN] = above[CHAIN]
    return noted
