"""What goes on in a chat: one question after the other, each a Run that is followed, with approvals asked on the way.

Keeps what was said, and what it has used. Read next: `kastra.cli.answer_view`, which writes answers, and `kastra.cli.deciding`.
"""

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from typing import Any

import anyio
import click

from kastra.api.errors import StatusError
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.app.conversation import messages_of
from kastra.app.operations import Operations
from kastra.app.running import create_run
from kastra.app.streaming import Chunk, stream_run

from .answer_view import AnswerView
from .chat_input import ChatInput, Interrupted
from .chat_thread import ChatThread, lines
from .deciding import Deciding
from .layout import one_line
from .not_begun import ReasonTold
from .run import output_text
from .session import say

_ENDING = 5.0
"""Seconds that a cancelled answer is given to end."""
_ENDS = "/quit or Ctrl-D ends the chat"
_KEPT = "24h"
"""How long the Run of a question stays after it has ended."""


class Talk:
    """A conversation with one Agent.

    Args:
        operations: the store or server where it is.
        agent: its name.
        context: of every request; None for none.
        source: what the other side says.
        quiet: whether nothing is said about tools.
        thread: to go on with; empty for none, or for one that is made for an agent with memory.
        resource: whom the thread belongs to.
    """

    def __init__(
        self,
        operations: Operations,
        agent: str,
        namespace: str,
        context: Mapping[str, Any] | None,
        source: ChatInput,
        *,
        quiet: bool = False,
        thread: str = "",
        resource: str = "",
    ) -> None:
        self.thread = ChatThread(operations.client, agent, namespace, thread, resource, quiet=quiet)
        self.agent = agent
        self.failures = 0
        self.waits = False
        self._client = operations.client
        self._namespace = namespace
        self._context = context
        self._source = source
        self._resource = resource
        self._quiet = quiet
        self._deciding = Deciding(operations.client, namespace, source)
        self._messages: list[dict[str, Any]] = []
        self._used: dict[str, float] = {}
        self._scope: anyio.CancelScope | None = None

    @property
    def _ref(self) -> ObjectRef:
        return ObjectRef("agents.mastra.ai", self.agent, self._namespace)

    async def check(self) -> None:
        """Say what keeps the agent from answering. Raises NotFound if there is no such agent."""
        agent = await self._client.get(self._ref)
        self.thread.agent_is(agent.spec)
        self._tell(agent)

    async def take(self, agent: str) -> None:
        """Talk to another agent from now on, anew. Raises NotFound if there is no such agent, and leaves all as it is."""
        found = await self._client.get(ObjectRef("agents.mastra.ai", agent, self._namespace))
        thread = ChatThread(self._client, agent, self._namespace, "", self._resource, quiet=self._quiet)
        thread.agent_is(found.spec)
        self.agent, self.thread = agent, thread
        self._messages.clear()
        self._tell(found)

    def _tell(self, agent: Object) -> None:
        ready = agent.condition("Ready")
        if ready is not None and ready.get("status") == "False":
            say(f"agent/{self.agent} isn't Ready: {one_line(str(ready.get('message') or ready.get('reason') or ''))}")

    async def question(self) -> str | None:
        """What is said next, without line breaks at its end; empty after Ctrl-C; None at the end."""
        try:
            line = await self._source.question()
        except Interrupted as interrupted:
            if not interrupted.typed:
                say(_ENDS)
            return ""
        return None if line is None else line.rstrip("\n")

    def forget(self) -> None:
        """Begin anew."""
        self._messages.clear()
        self.thread.leave()

    async def history(self) -> list[str]:
        """What was said, an entry a message."""
        if self.thread.name:
            return lines(self.agent, [row["message"] async for row in self.thread.rows()])
        return lines(self.agent, list(self._messages))

    async def tools(self) -> list[str]:
        """The agent's tools, as its status has them, a line each."""
        tools = (await self._client.get(self._ref)).status.get("tools") or []
        width = max((len(tool["name"]) for tool in tools), default=0)
        return [one_line(f"{tool['name']:<{width}}  {tool.get('resolved') or 'not found'}") for tool in tools] or [
            "no tools"
        ]

    async def tool_names(self) -> list[str]:
        """The names by which the agent knows its tools."""
        return [tool["name"] for tool in (await self._client.get(self._ref)).status.get("tools") or []]

    async def agent_names(self, most: int) -> list[str]:
        """Agents of the namespace, so many at most."""
        page = await self._client.list("agents.mastra.ai", self._namespace, limit=most)
        return [agent.name for agent in page.items]

    async def thread_names(self, most: int) -> list[str]:
        """Threads with the agent, of so many at most."""
        page = await self._client.list("threads.mastra.ai", self._namespace, limit=most)
        return [found.name for found in page.items if (found.spec.get("agentRef") or {}).get("name") == self.agent]

    def usage(self) -> str:
        """What this conversation has used."""
        used = self._used
        dollars = f", ${used['costUSD']:.6f}" if used.get("costUSD") else ""
        counted = [f"{used.get(name, 0):g}" for name in ("inputTokens", "outputTokens", "calls")]
        return f"{counted[0]} tokens in, {counted[1]} out, {counted[2]} model calls{dollars}"

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C end the answer that is being given, and nothing else."""
        loop = asyncio.get_running_loop()
        taken = False
        # There are no signals outside of the main thread.
        with suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(signal.SIGINT, self._interrupt)
            taken = True
        try:
            yield
        finally:
            if taken:
                loop.remove_signal_handler(signal.SIGINT)

    def _interrupt(self) -> None:
        if self._source.interrupt():
            return
        if self._scope is not None:
            self._scope.cancel()
        else:
            say(f"\n{_ENDS}")
            if self._source.person:
                click.echo("> ", nl=False)

    async def ask(self, text: str) -> bool:
        """Ask, and write the answer; False if nothing more can be asked, since an approval is left undecided."""
        asked = [*self._messages, {"role": "user", "content": text}]
        value: dict[str, Any] = {"messages": asked}
        if self._context is not None:
            value["context"] = dict(self._context)
        view = AnswerView(_write, say, color=sys.stderr.isatty(), quiet=self._quiet)
        spec: dict[str, Any] = {"ttlAfterFinished": _KEPT}
        run: Object | None = None
        last: Chunk | None = None
        cancelled = False
        with anyio.CancelScope() as self._scope:
            try:
                if thread := await self.thread.ready():
                    # The rest is in the thread.
                    spec["threadRef"] = {"name": thread}
                    value["messages"] = asked[-1:]
                run = await create_run(
                    self._client,
                    f"agent/{self.agent}",
                    value,
                    namespace=self._namespace,
                    spec=spec,
                )
                last = await self._follow(run, view)
            except Interrupted:
                cancelled = True
            except StatusError as error:
                self._failed(error.message)
            except ConnectionError as error:
                self._failed(str(error))
        cancelled, self._scope = cancelled or self._scope.cancelled_caught, None
        view.close()
        if cancelled:
            # On a terminal the line begins with the ^C that was typed.
            say("\rcancelled" if self._source.person else "cancelled")
            if run is not None:
                await self._cancel(run)
            return True
        if last is None:
            return not self.waits
        for name, amount in last["usage"].items():
            if isinstance(amount, (int, float)):
                self._used[name] = self._used.get(name, 0) + amount
        if last["type"] == "error":
            problem = last["error"]
            kind = f"{problem['type']}: " if problem.get("type") else ""
            self._failed(f"{kind}{problem.get('title', '')}")
            return True
        view.finish(output_text(last["output"], "text"))
        assert run is not None
        if "threadRef" in spec:
            return True
        self._messages = [*asked, *await self._added(run, last["output"])]
        return True

    async def _added(self, run: Object, output: Any) -> list[dict[str, Any]]:
        """What an answer adds to the conversation; where what its tools gave can't be read, the answer alone."""
        try:
            return await messages_of(self._client, run.ref, output)
        except (StatusError, ConnectionError) as error:
            say(f"what tools gave isn't remembered: {one_line(str(error))}")
            return [{"role": "assistant", "content": output_text(output, "text").rstrip("\n")}]

    def _failed(self, message: str) -> None:
        self.failures += 1
        say(f"error: {one_line(message)}")

    async def _follow(self, run: Object, view: AnswerView) -> Chunk | None:
        """The last chunk; None if it waits for a decision that nobody makes."""
        chunk: Chunk = {}
        async with aclosing(stream_run(self._client, run)) as chunks, ReasonTold(self._client, run):
            async for chunk in chunks:
                view.chunk(chunk)
                if chunk["type"] == "approval":
                    view.close()
                    self.waits = not await self._deciding.decide(chunk["name"])
                    if self.waits:
                        return None
        return chunk

    async def _cancel(self, run: Object) -> None:
        # Without the server the Run goes on, and so does the chat.
        with anyio.move_on_after(_ENDING), suppress(StatusError, ConnectionError):
            async for _ in self._client.connect(run.ref, "cancel", {}):
                pass


def _write(text: str) -> None:
    click.echo(text, nl=False)
    sys.stdout.flush()
