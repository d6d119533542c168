"""With which thread does an agent go on that is a step of a Workflow, a member of a Network, or called as a tool?

A step names one (`memory: {thread, resource}`). What works in a thread hands it down: an agent below it that has `memory` goes on
with a thread of its own, `<thread>.<agent>`, of the same resource. That belongs to the one above and is erased with it. So each
agent remembers what it was told itself, and nobody's windows, summaries and working memory get in the way of another's.

Which thread it is, is one effect (`thread`): a Run that is taken up again goes on with the same one. Read next:
`kastra.agent.memory`, which goes on with it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kastra.api.errors import Forbidden, StatusError
from kastra.engine.context import Place
from kastra.engine.step import Effect, StepContext, StepError
from kastra.memory.interface import ThreadKey, ThreadRefused

from .belonging import current_thread
from .loop import Agent

if TYPE_CHECKING:
    from .services import AgentServices

_FIELDS = ("uid", "namespace", "name", "resource", "agent", "retention")


def thread_above() -> ThreadKey | None:
    """The thread in which whoever calls is at work; None for none."""
    told = current_thread()
    return None if told is None else ThreadKey(**{field: told[field] for field in _FIELDS})


async def thread_below(
    services: "AgentServices", step: StepContext, agent: Agent, name: str, namespace: str
) -> ThreadKey | None:
    """The thread that is handed down to an agent; None if there is none above it, or it has no memory, or another namespace.

    Args:
        step: where the agent answers.
        name: of the agent, or of the member that is written inline.

    Raises:
        StepError: the thread can't be used.
    """
    above = thread_above()
    if above is None or agent.memory is None or not agent.memory.spec.enabled or above.namespace != namespace:
        return None
    ttl = agent.memory.spec.ttl
    return await _opened(services, step, f"{above.name}.{name}", namespace, name, above.resource, ttl, above)


async def thread_given(
    services: "AgentServices", step: StepContext, given: Any, name: str, namespace: str, ttl: Any, *, owned: bool = True
) -> ThreadKey | None:
    """The thread that a step names by `memory`, made if it isn't there; None if it names none.

    Args:
        given: `{thread, resource}`, its expressions evaluated; a thread that is null is none.
        name: of the agent or network that goes on with it, and `namespace` its own.
        ttl: retention of a new one.
        owned: whether it is that agent's alone.

    Raises:
        StepError: it isn't said as it must be, or the thread can't be used.
    """
    if given is None or given.get("thread") is None:
        return None
    thread, resource = given["thread"], given.get("resource")
    if not isinstance(thread, str) or not thread:
        raise _wrong(f"memory.thread: must be the name of a Thread, not {_kind(thread)}")
    if resource is not None and not isinstance(resource, str):
        raise _wrong(f"memory.resource: must be a text, not {_kind(resource)}")
    at = step.execution.namespace if isinstance(step, Place) else namespace
    if at != namespace:
        raise _wrong(f"memory.thread: {name} is in namespace {namespace}, the thread would be in {at}")
    found = await _opened(services, step, thread, at, name if owned else "", resource or "", ttl, None)
    if not owned and found.agent:
        raise _wrong(f"thread {at}/{thread} is one of agent {found.agent}, not of network {name}")
    return found


async def _opened(
    services: "AgentServices",
    step: StepContext,
    name: str,
    namespace: str,
    agent: str,
    resource: str,
    ttl: Any,
    above: ThreadKey | None,
) -> ThreadKey:
    if services.threads is None:
        raise _wrong("nothing is remembered here: that takes a store")
    directory = services.threads

    async def find(effect: Effect) -> dict[str, Any]:
        try:
            found = await directory.open(namespace, name, agent=agent, resource=resource, retention=ttl, owner=above)
        except ThreadRefused as error:
            raise _wrong(str(error)) from error
        except Forbidden as error:
            raise StepError("authorization", error.message, retryable=False) from error
        except StatusError as error:
            raise StepError("tool", f"thread {namespace}/{name}: {error.message}") from error
        return found.plain()

    plain: Mapping[str, Any] = await step.call("thread", find)
    return ThreadKey.of(plain)


def _wrong(message: str) -> StepError:
    return StepError("validation", message, retryable=False)


def _kind(value: Any) -> str:
    return "an empty text" if value == "" else type(value).__name__
