"""Thread: a conversation that agents remember.

How a Thread is read, and the controller that keeps its row, lets go of messages that are too old, and erases everything below
it before it goes. The object says whose it is and for how long; messages are rows, read by the subresource `messages`. The
schema is `crds/threads.yaml`. Nothing is ever said here.

Read next: `kastra.memory.threads`, which holds the rows.
"""

from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from kastra.api.errors import Cause
from kastra.api.types import Reference
from kastra.clock import rfc3339
from kastra.memory.interface import ThreadKey, thread_key
from kastra.memory.threads import Threads
from kastra.runtime.declarative import Context, controller
from kastra.runtime.reconcile import Result
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import forbidden
from kastra.runtime.view_types import Duration

NEWS = 1.0
"""Seconds between looks at a thread that grows."""

_FOR_EVER = 1e9


class AgentRef(Fields):
    """The agent that goes on with it."""

    name: str


class ThreadSpec(Fields):
    """The normal form of a Thread's spec."""

    agent_ref: AgentRef | None = None
    resource_id: str | None = None
    title: str | None = None
    metadata: dict[str, Any] | None = None
    retention: Duration | None = None


class ThreadView(View, kind="Thread"):
    """A Thread, read."""

    spec: ThreadSpec = Field(default_factory=ThreadSpec)

    def references(self) -> list[Reference]:
        """None: a conversation stays although its agent goes."""
        return []

    def unsupported(self) -> list[str]:
        """Nothing: every field is acted on."""
        return []

    def key(self) -> ThreadKey:
        """As memory knows it."""
        metadata = self.metadata
        return thread_key(metadata.uid, metadata.namespace, metadata.name, self.spec.plain())


def validate_update(view: ThreadView, old: ThreadView) -> list[Cause]:
    """What is wrong with changing `old` into `view`: it would be somebody else's."""
    if old.spec.resource_id is not None and view.spec.resource_id != old.spec.resource_id:
        return [forbidden("is immutable; what was said to one is not another's", "spec.resourceId")]
    return []


@controller(ThreadView, concurrency=8)
async def reconcile(thread: ThreadView, ctx: Context) -> Result:
    """Let it take messages, let go of those that are too old, and say how many there are."""
    try:
        threads = ctx.service(Threads)
    except LookupError:
        return ctx.not_ready("NoMemory", "this server's store isn't reached from here, so nothing is remembered")
    key, again = thread.key(), None
    # A thread may grow many times a second; its object needn't.
    wait = threads.pause(key, NEWS)
    if ctx.object.status.get("observedGeneration") != ctx.object.generation:
        await threads.open(key, thread.spec.title or "")
    elif wait:
        return Result(requeue_after=wait)
    tally = await threads.tally(key.uid)
    if key.retention is not None and tally.messages:
        age = (threads.now() - tally.oldest) / 1000
        if age >= key.retention:
            await threads.expire(key, threads.now() - round(key.retention * 1000) + 1)
            tally = await threads.tally(key.uid)
        if tally.messages:
            again = max(1.0, key.retention - (threads.now() - tally.oldest) / 1000)
    ctx.status.messages = tally.messages
    ctx.status.last_message_time = rfc3339(datetime.fromtimestamp(tally.newest / 1000, UTC)) if tally.newest else None
    ctx.ready("", "Kept")
    return Result(requeue_after=again)


@reconcile.finalizer(timeout=_FOR_EVER)
async def erase(thread: ThreadView, ctx: Context) -> None:
    """Erase its messages, their vectors and index entries, and what was kept about it."""
    try:
        threads = ctx.service(Threads)
    except LookupError:
        # Whoever has the store erases it.
        raise RuntimeError("this server's store isn't reached from here") from None
    await threads.erase(thread.key())
