"""The thread that a chat goes on with: named by who chats, or made for an agent that has memory; shown by `/thread` and `/history`.

Read next: `kastra.cli.conversing`, the questions and answers.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from kastra.api.errors import NotFound
from kastra.api.meta import API_VERSION, GROUP, ObjectRef
from kastra.api.names import name_problems
from kastra.app.applying import FIELD_MANAGER
from kastra.app.running import own_thread
from kastra.client.interface import Client, WriteOptions

from .layout import one_line
from .session import say
from .threads import messages_in, said_in


class ChatThread:
    """Which thread the next question goes on with.

    Args:
        agent: its name.
        name: of the thread; empty for one that is made when something is asked, if the agent has memory.
        resource: whom a thread belongs to; empty for nobody in particular.
        quiet: whether nothing is said of a thread that is made.

    Raises:
        ValueError: no thread can have that name.
    """

    def __init__(
        self, client: Client, agent: str, namespace: str, name: str, resource: str, *, quiet: bool = False
    ) -> None:
        self.name = _checked(name) if name else ""
        self._client = client
        self._agent = agent
        self._namespace = namespace
        self._resource = resource
        self._quiet = quiet
        self._wanted = bool(name or resource)
        self._owned = False

    def agent_is(self, spec: Mapping[str, Any]) -> None:
        """Take into account what the agent says of memory.

        Raises:
            ValueError: it has none, and a thread is asked for.
        """
        memory = spec.get("memory")
        off = memory is False or (isinstance(memory, Mapping) and memory.get("enabled") is False)
        if off and self._wanted:
            raise ValueError(f"agent/{self._agent}: its memory is switched off; leave --thread and --resource out")
        self._wanted = self._wanted or (memory is not None and not off)

    async def ready(self) -> str:
        """The name of the thread for the next question, made if need be; empty for none.

        Raises:
            StatusError: it can't be made, or is somebody else's.
        """
        if self._wanted and not self.name:
            metadata = {"generateName": f"{self._agent[:50]}-chat-", "namespace": self._namespace}
            spec = {"agentRef": {"name": self._agent}, **({"resourceId": self._resource} if self._resource else {})}
            body = {"apiVersion": API_VERSION, "kind": "Thread", "metadata": metadata, "spec": spec}
            made = await self._client.create(body, WriteOptions(field_manager=FIELD_MANAGER, field_validation="Strict"))
            self.name, self._owned = made.name, True
            if not self._quiet:
                say(f"this goes on with --thread {made.name}")
        elif self.name and self._resource and not self._owned:
            await own_thread(self._client, f"agent/{self._agent}", self._namespace, self.name, self._resource)
            self._owned = True
        return self.name

    def leave(self) -> None:
        """Begin another one, when something is asked."""
        self.name, self._owned = "", False

    def take(self, name: str) -> None:
        """Go on with the thread of this name from now on. Raises ValueError: no thread can have it."""
        self.name, self._owned, self._wanted = _checked(name), False, True

    async def about(self) -> str:
        """The thread and how much it holds, for people."""
        if not self.name:
            if self._wanted:
                return "no thread yet: it is made with the next question"
            return "no thread: what is said is forgotten at the end"
        count = [row async for row in self.rows()]
        whose = f", of {one_line(self._resource)}" if self._resource else ""
        return f"thread/{self.name}: {len(count)} messages{whose}"

    async def rows(self) -> AsyncIterator[Mapping[str, Any]]:
        """Its messages; none if there is no such thread (yet)."""
        try:
            async for row in messages_in(self._client, ObjectRef(f"Thread.{GROUP}", self.name, self._namespace), 0):
                yield row
        except NotFound:
            return


def _checked(name: str) -> str:
    if problems := name_problems(name, "Thread"):
        raise ValueError(f"thread {name[:100]!r}: {problems[0]}")
    return name


def lines(agent: str, messages: list[Mapping[str, Any]]) -> list[str]:
    """Messages as `/history` shows them, an entry a message."""
    found = []
    for message in messages:
        who = agent if message["role"] == "assistant" else message["role"]
        found.append(f"{who}: {said_in(message)}")
    return found or ["nothing was said"]
