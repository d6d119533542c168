"""To which conversation does a call of a tool belong? That of the agent whose answer is under way, if it goes on with a thread.

It follows the agent, not the Run: a sub-agent without a thread of its own belongs to none, whoever called it. Read next:
`kastra.agent.calls`, which tells tools.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_current: ContextVar[Mapping[str, Any] | None] = ContextVar("kastra_thread", default=None)


@contextmanager
def belonging(thread: Mapping[str, Any] | None) -> Iterator[None]:
    """Whatever is called within belongs to `thread`, as `ToolContext.thread`; None for none."""
    before = _current.set(thread)
    try:
        yield
    finally:
        _current.reset(before)


def current_thread() -> Mapping[str, Any] | None:
    """The conversation that what is being called belongs to."""
    return _current.get()
