"""Which conversation, and what of it shall be remembered? The values that memory is asked with; plain data, no calls.

A thread is an object (`Thread`), the truth about who and what; its messages are rows below its uid. What an agent's manifest
says of memory becomes a `MemorySpec`.

Source: threads, resources, working memory and semantic recall as in Mastra. Read next: `kastra.memory.threads`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kastra.api.durations import parse_duration

LAST_MESSAGES = 10
"""Messages of the thread that an agent sees where its manifest says nothing."""

MOST_MESSAGES = 1000
"""Messages that are looked at where only tokens limit them."""

TOP_K = 4


class ThreadRefused(Exception):
    """The thread can't be used for this; the message says why."""


@dataclass(frozen=True, slots=True)
class ThreadKey:
    """A thread, as everything below the API knows it.

    Args:
        uid: of the object; rows hang on it.
        resource: whom it belongs to; empty for nobody in particular.
        agent: the only one that goes on with it; empty for any.
        retention: seconds for which messages are kept; None for as long as the thread is.
    """

    uid: str
    namespace: str
    name: str
    resource: str = ""
    agent: str = ""
    retention: float | None = None

    def plain(self) -> dict[str, Any]:
        """As it is journaled; `of` reads it back."""
        return {
            "uid": self.uid,
            "namespace": self.namespace,
            "name": self.name,
            "resource": self.resource,
            "agent": self.agent,
            "retention": self.retention,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "ThreadKey":
        """From its plain form."""
        return cls(**plain)


def thread_key(uid: str, namespace: str, name: str, spec: Mapping[str, Any]) -> ThreadKey:
    """The key of a Thread with this spec."""
    agent, retention = spec.get("agentRef") or {}, spec.get("retention")
    return ThreadKey(
        uid,
        namespace,
        name,
        spec.get("resourceId") or "",
        (agent if isinstance(agent, str) else agent.get("name")) or "",
        None if retention is None else parse_duration(retention),
    )


class ThreadDirectory:
    """Finds threads by name, and makes those that aren't there yet.

    Args:
        find: given namespace, name, the spec of a new one and the thread that a new one goes with; gives the thread that is
            there then, with its row. Raises ThreadRefused.
    """

    def __init__(self, find: Callable[[str, str, Mapping[str, Any], ThreadKey | None], Awaitable[ThreadKey]]) -> None:
        self._find = find

    async def open(
        self,
        namespace: str,
        name: str,
        *,
        agent: str = "",
        resource: str = "",
        retention: Any = None,
        title: str = "",
        owner: ThreadKey | None = None,
    ) -> ThreadKey:
        """The thread of this name; a new one belongs to `agent` and to `resource`.

        Args:
            agent: who goes on with it.
            resource: whom it must belong to; empty for whomever.
            retention: of a new one.
            title: of a new one.
            owner: a thread with which a new one is erased.

        Raises:
            ThreadRefused: it is another agent's or another resource's, or is being deleted, or can't be made.
        """
        spec: dict[str, Any] = {"agentRef": {"name": agent}} if agent else {}
        given = {"resourceId": resource, "retention": retention, "title": title}
        spec |= {field: value for field, value in given.items() if value not in ("", None)}
        key = await self._find(namespace, name, spec, owner)
        if agent and key.agent not in ("", agent):
            raise ThreadRefused(f"thread {namespace}/{name} is one of agent {key.agent}, not of {agent}")
        if resource and key.resource != resource:
            raise ThreadRefused(f"thread {namespace}/{name} belongs to another resource than {resource[:100]!r}")
        return key


@dataclass(frozen=True, slots=True)
class WorkingSpec:
    """Working memory: a Markdown template to fill in, or a JSON Schema; kept by `thread` or by `resource`."""

    template: str = ""
    schema: Mapping[str, Any] | None = None
    scope: str = "thread"


@dataclass(frozen=True, slots=True)
class RecallSpec:
    """Messages found by meaning: how many, how many around each, and where they are looked for."""

    top_k: int = TOP_K
    before: int = 0
    after: int = 0
    scope: str = "thread"


@dataclass(frozen=True, slots=True)
class MemorySpec:
    """What an agent remembers.

    Args:
        last_messages: at most so many of the thread; 0 for none.
        max_tokens: of these messages together, as estimated; None for no limit.
        remove_tokens: when `max_tokens` is exceeded, so much more is left out at once.
        ttl: retention of threads that are made for the agent.
        read_only: whether nothing is written.
        enabled: whether it goes on with threads at all.
    """

    last_messages: int = LAST_MESSAGES
    max_tokens: int | None = None
    remove_tokens: int = 0
    working: WorkingSpec | None = None
    recall: RecallSpec | None = None
    ttl: Any = None
    read_only: bool = False
    enabled: bool = True

    @classmethod
    def of(cls, spec: Mapping[str, Any], *, compacted: bool = False) -> "MemorySpec":
        """From the plain `spec.memory` of an Agent; `compacted` if what is older is summed up."""
        history = spec.get("messageHistory") or {}
        last = spec.get("lastMessages")
        most = history.get("maxTokens")
        if last is None:
            last = LAST_MESSAGES if most is None and not compacted else MOST_MESSAGES
        working, recall = spec.get("workingMemory"), spec.get("semanticRecall")
        around = (recall or {}).get("messageRange") or {}
        return cls(
            min(int(last), MOST_MESSAGES),
            most,
            int(history.get("atMaxRemoveTokens") or 0),
            None
            if working is None or working.get("enabled") is False
            else WorkingSpec(working.get("template") or "", working.get("schema"), working.get("scope") or "thread"),
            None
            if recall is None or recall.get("enabled") is False
            else RecallSpec(
                int(recall.get("topK") or TOP_K),
                int(around.get("before") or 0),
                int(around.get("after") or 0),
                recall.get("scope") or "thread",
            ),
            spec.get("ttl"),
            bool(spec.get("readOnly")),
            spec.get("enabled") is not False,
        )
