"""How is one model call made, with processors around it? Found again, asked, asked again, shown, looked at.

All of it is one effect: what is journaled is the answer after the processors of the output have looked at it, wherever it came
from. Read next: `kastra.agent.calls`, the effect; `kastra.agent.processors.guards`, which looks.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from kastra.agent.deltas import alive, published
from kastra.clock import Clock
from kastra.engine.step import Effect
from kastra.model.chain import ModelEntry
from kastra.model.interface import ModelChunk, ModelRequest, ModelResponse, chunks_of, collected

from .interface import Tripwire
from .recovery import recovered
from .showing import Showing

if TYPE_CHECKING:
    from .guards import Guards

Ask = Callable[[Effect, Sequence[ModelEntry], ModelRequest], Awaitable[dict[str, Any]]]
"""Makes a model call; gives what is journaled of it. Raises ModelError."""


def asking(guards: "Guards", instructions: str, clock: Clock, shown: bool) -> Ask:
    """What makes the model calls of an agent with processors.

    Args:
        instructions: of the agent, for processors that compare with them.
        shown: whether those who follow see answers as they arrive, as far as `guards` let them.
    """
    visible = shown and guards.lets_stream

    async def ask(effect: Effect, entries: Sequence[ModelEntry], request: ModelRequest) -> dict[str, Any]:
        showing = None
        if visible and guards.shapes_stream:
            showing = Showing(effect.emit, guards.takes_out, instructions, guards.batching, clock)
        cache, key = guards.cache, ""
        if cache is not None:
            key = cache.store.key(cache.spec, cache.owner, instructions, entries, request)
            found = None if cache.spec.bust else cache.store.get(key)
            if found is not None:
                if visible:
                    _show(ModelResponse.of(found), published(effect))
                return found
        watch: Callable[[ModelChunk], None]
        if showing is not None:
            watch = showing.watch
        else:
            watch = published(effect) if visible else alive(effect)
        chunks = recovered(guards.recovery, entries, request, clock, effect.idempotency_key)
        response = await collected(chunks, watch)
        response, noted = guards.finished(response, instructions)
        if showing is not None:
            showing.end(response)
        plain = {**response.plain(), "guard": noted} if noted else response.plain()
        if cache is not None:
            cache.store.put(key, plain, cache.spec.ttl)
        return plain

    return ask


def _show(response: ModelResponse, watch: Callable[[ModelChunk], None]) -> None:
    for chunk in chunks_of(response):
        watch(chunk)


def feedback(trip: Tripwire) -> str:
    """What a model is told whose answer wasn't accepted."""
    return f"Your answer was not accepted: {trip.reason}. Answer again, without that."
