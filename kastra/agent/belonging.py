"""To which conversation does a call of a tool belong? That of the agent whose answer is under way, if it goes on with a thread.

It follows the agent, not the Run: a sub-agent without a thread of its own belongs to none, whoever called it. Read next:
`kastra.agent.calls`, which tells tools.
"""

from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Any

_current: ContextVar[Mapping[str, Any] | None] = ContextVar("kastra_thread", default=None)


class belonging:  # noqa: N801 - used as `with belonging(thread):`; a generator costs every answer three times as much
    """Whatever is called within belongs to `thread`, as `ToolContext.thread`; None for none."""

    __slots__ = ("_before", "_thread")
    _before: Token[Mapping[str, Any] | None]

    def __init__(self, thread: Mapping[str, Any] | None) -> None:
        self._thread = thread

    def __enter__(self) -> None:
        self._before = _current.set(self._thread)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._before)


def current_thread() -> Mapping[str, Any] | None:
    """The conversation that what is being called belongs to."""
    return _current.get()
