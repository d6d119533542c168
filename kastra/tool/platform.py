"""What may a built-in tool ask of Kastra itself? Workflows, events, working memory and knowledge, all of one namespace.

Tools lie below the parts that hold these things, so they know protocols only; `kastra.app` fills them in. Where a process
has no such part (a tool that is tried out alone, a process that only reads) it is None, and a tool that needs it says so.
The namespace is that of the object that names the tool. Whatever writes does so once for each idempotency key.

Read next: `kastra.tool.toolkit.workflows`, `kastra.app.tool_platform`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kastra.tool.interface import ToolContext


class Workflows(Protocol):
    """Runs Workflows as Runs of their own."""

    async def described(self, namespace: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """`{name, description, inputSchema, ready}` of each Workflow of these names that is there."""
        ...

    async def start(self, namespace: str, name: str, value: Any, context: ToolContext) -> str:
        """Create a Run of a Workflow; its name. A second call with the same idempotency key finds the first one's.

        Raises:
            ToolError: it can't be run, by whoever asks, or not this deep.
        """
        ...

    async def outcome(
        self, namespace: str, run: str, names: Sequence[str], wait: float, context: ToolContext
    ) -> dict[str, Any]:
        """`{run, workflow, phase, output?, error?}` of a Run, when it has ended or after `wait` seconds.

        Raises:
            ToolError: there is no such Run of one of the Workflows in `names`.
        """
        ...


class Events(Protocol):
    """Delivers CloudEvents."""

    async def emit(self, namespace: str, kind: str, subject: str, data: Any, context: ToolContext) -> dict[str, Any]:
        """Deliver an event, durably, to the namespace's triggers and waiting Runs: `{id, source, type}`.

        Raises:
            ToolError: it makes no event, or who asks may not send any.
        """
        ...


class WorkingMemory(Protocol):
    """What is kept about the thread that a call belongs to, or its resource."""

    async def read(self, scope: str, context: ToolContext) -> dict[str, Any]:
        """`{scope, value}`; the value is a text, an object, or None.

        Args:
            scope: `thread`, `resource`, or empty for what the agent's manifest says.

        Raises:
            ToolError: the call belongs to no thread.
        """
        ...

    async def update(
        self, scope: str, text: str | None, fields: Mapping[str, Any] | None, context: ToolContext
    ) -> dict[str, Any]:
        """Replace it by a text, or change fields of an object (null removes one); what it then is, as `read`.

        Raises:
            ToolError: as for `read`, or the value can't be kept.
        """
        ...

    async def search(self, query: str, limit: int, context: ToolContext) -> list[dict[str, Any]]:
        """Messages of the thread that hold every word of `query`, newest first. Raises ToolError."""
        ...


class Knowledge(Protocol):
    """KnowledgeBases: documents in passages, found by words and by meaning, and entries that tools keep there."""

    async def described(self, namespace: str, bases: Sequence[str]) -> list[dict[str, Any]]:
        """`{base, description, documents, passages}` of each."""
        ...

    async def documents(self, namespace: str, base: str, after: str, limit: int) -> list[dict[str, Any]]:
        """`{document, source, passages}` of a base, by name, after the document `after`."""
        ...

    async def read(self, namespace: str, base: str, document: str) -> str:
        """The text of a document. Raises ToolError if there is none."""
        ...

    async def search(self, namespace: str, bases: Sequence[str], query: str, limit: int) -> list[dict[str, Any]]:
        """The passages that fit best, by words and, where there is an embedder, by meaning.

        Raises:
            ToolError: a base isn't there, or its embedder can't be asked.
        """
        ...

    async def near(
        self, namespace: str, base: str, query: str, where: Mapping[str, Any], limit: int
    ) -> list[dict[str, Any]]:
        """The entries nearest in meaning whose metadata fit `where`: `{id, text, metadata, score}`. Raises ToolError."""
        ...

    async def keep(self, namespace: str, base: str, entries: Sequence[Mapping[str, Any]]) -> int:
        """Keep entries `{id, text, metadata}`, each in place of the one of its id; how many. Raises ToolError."""
        ...

    async def forget(self, namespace: str, base: str, ids: Sequence[str]) -> int:
        """Drop entries; how many were there. Raises ToolError."""
        ...


@dataclass(frozen=True, slots=True)
class Platform:
    """What of Kastra there is in this process."""

    workflows: Workflows | None = None
    events: Events | None = None
    memory: WorkingMemory | None = None
    knowledge: Knowledge | None = None
