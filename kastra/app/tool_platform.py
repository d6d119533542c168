"""What built-in tools may ask of Kastra itself, put together.

Read next: `kastra.tool.platform`, the protocols.
"""

from collections.abc import Callable

from kastra.agent.library import Library
from kastra.client.interface import Client
from kastra.clock import Clock
from kastra.engine.mailroom import Mailroom
from kastra.tool.platform import Platform

from .threads import AppMemory
from .tool_events import ToolEvents
from .tool_knowledge import Closer, ToolKnowledge
from .tool_memory import ToolMemory
from .tool_workflows import ToolWorkflows


def platform_of(
    client: Client,
    clock: Clock,
    mailroom: Callable[[], Mailroom],
    memory: AppMemory | None = None,
    library: Library | None = None,
    close: Closer | None = None,
) -> Platform:
    """The parts that a process which executes has.

    Args:
        client: with the rights of Runs.
        clock: of Runs.
        mailroom: takes events; asked for when there are any.
        memory: threads; None where nothing is remembered.
        library: of KnowledgeBases; None where there is none.
        close: builds the closure of an object.
    """
    return Platform(
        workflows=ToolWorkflows(client, clock),
        events=ToolEvents(mailroom),
        memory=None if memory is None else ToolMemory(memory.threads),
        knowledge=None if library is None or close is None else ToolKnowledge(client, library, close),
    )
