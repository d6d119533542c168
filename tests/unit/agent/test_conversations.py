"""Which thread an agent below goes on with, and what keeps it from one."""

from collections.abc import Mapping
from typing import Any

import pytest

from kastra.agent.belonging import belonging
from kastra.agent.calls import ModelEntry
from kastra.agent.conversations import thread_below, thread_given
from kastra.agent.loop import Agent
from kastra.agent.memory import AgentMemory
from kastra.agent.services import AgentServices
from kastra.api.errors import Forbidden, ServiceUnavailable, StatusError
from kastra.cel import Template, environment
from kastra.engine.step import StepError
from kastra.memory.interface import MemorySpec, ThreadDirectory, ThreadKey
from kastra.netguard import Guard, Policy
from kastra.testing.clock import VirtualClock

from .recording import Recording

ABOVE = ThreadKey("uid", "default", "t", "ann", "boss")


class _NoSecrets:
    async def read(self, value_from: Mapping[str, Any], namespace: str) -> str:
        raise LookupError("there is none")


def services(error: StatusError | None = None) -> AgentServices:
    async def find(namespace: str, name: str, spec: Mapping[str, Any], owner: ThreadKey | None) -> ThreadKey:
        if error is not None:
            raise error
        return ThreadKey(f"{name} of {owner.name if owner else ''}", namespace, name, spec.get("resourceId", ""))

    return AgentServices(Guard(Policy()), VirtualClock(), _NoSecrets(), threads=ThreadDirectory(find))


def agent(memory: MemorySpec | None = None) -> Agent:
    made = AgentMemory(memory) if memory is not None else None
    return Agent("a", Template.compile("", environment()), list[ModelEntry](), memory=made)


async def test_it_is_named_after_the_one_above_and_journaled() -> None:
    step = Recording()
    with belonging(ABOVE.plain()):
        found = await thread_below(services(), step, agent(MemorySpec()), "a", "default")
    assert found == ThreadKey("t.a of t", "default", "t.a", "ann")
    assert step.journal.performed == ["thread"]
    with belonging(ABOVE.plain()):
        again = await thread_below(services(Forbidden("no")), step, agent(MemorySpec()), "a", "default")
    assert again == found, "a Run that is taken up again doesn't look for it"


@pytest.mark.parametrize(
    ("memory", "namespace", "above"),
    [
        (None, "default", ABOVE),
        (MemorySpec(enabled=False), "default", ABOVE),
        (MemorySpec(), "other", ABOVE),
        (MemorySpec(), "default", None),
    ],
    ids=["no-memory", "switched-off", "other-namespace", "nothing-above"],
)
async def test_there_is_none(memory: MemorySpec | None, namespace: str, above: ThreadKey | None) -> None:
    with belonging(None if above is None else above.plain()):
        assert await thread_below(services(), Recording(), agent(memory), "a", namespace) is None


@pytest.mark.parametrize(
    ("error", "type_", "retryable"),
    [(Forbidden("you can't create threads"), "authorization", False), (ServiceUnavailable("busy"), "tool", True)],
    ids=["forbidden", "unavailable"],
)
async def test_who_may_not_make_it_is_told_so(error: StatusError, type_: str, retryable: bool) -> None:
    with pytest.raises(StepError) as refused:
        await thread_given(services(error), Recording(), {"thread": "t"}, "a", "default", None)
    assert (refused.value.type, refused.value.retryable) == (type_, retryable)


async def test_without_a_store_nothing_is_remembered() -> None:
    bare = AgentServices(Guard(Policy()), VirtualClock(), _NoSecrets())
    with pytest.raises(StepError, match="nothing is remembered here"):
        await thread_given(bare, Recording(), {"thread": "t"}, "a", "default", None)
