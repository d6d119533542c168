"""How does a streamed answer become chunks, whichever wire it comes over?

Events arrive, a `Gathering` of the wire makes chunks of each and the response of all of them. What every wire has in common is here:
an event that is no JSON object, text that is none, too much of it, and when a connection that breaks does no harm any more.

Read next: `kastra.model.openai_answer`, `kastra.model.anthropic_answer`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from kastra.netguard import Answer
from kastra.telemetry import without_secrets

from .interface import Credentials, ModelChunk, ModelError, ModelPieces, ModelResponse, Usage, chunks_of
from .structured import Asked
from .wire import MAX_ANSWER, Endpoint, Timeouts


class Gathers(Protocol):
    """Makes chunks of a wire's events."""

    @property
    def done(self) -> bool:
        """Whether the provider said that nothing follows."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the model said why it stopped."""
        ...

    def feed(self, data: bytes) -> list[ModelChunk]:
        """The chunks in one event. Raises ModelError: it makes no sense, or tells of an error."""
        ...

    def end(self) -> list[ModelChunk]:
        """The last chunk, once the stream is over. Raises ModelError: it was over too early."""
        ...


class GatheringBase:
    """What gathering has in common on all wires.

    Attributes:
        done: whether the provider said that nothing follows.
    """

    def __init__(self, asked: Asked, endpoint: Endpoint, secret: Credentials) -> None:
        self.done = False
        self._asked = asked
        self._endpoint = endpoint
        self._secret = secret
        self._back = {wire: name for name, wire in asked.names.items()}
        self._size = 0
        self._reason: Any = None
        self._usage: Usage | None = None
        self._model = ""

    @property
    def finished(self) -> bool:
        """Whether the model said why it stopped."""
        return self._reason is not None

    def _malformed(self, what: str) -> ModelError:
        return ModelError("malformed", f"{self._endpoint.who}: malformed stream: {what}")

    def _too_early(self) -> ModelError:
        return ModelError("unavailable", f"{self._endpoint.who}: the stream ended before the answer was complete")

    def _event(self, data: bytes) -> dict[str, Any]:
        """The object that an event is. Raises ModelError."""
        try:
            event = orjson.loads(data)
        except ValueError:
            raise self._malformed("an event is not JSON in UTF-8") from None
        if not isinstance(event, dict):
            raise self._malformed("an event is not a JSON object")
        return event

    def _more(self, text: Any, into: list[str]) -> str:
        """Put a piece of text, without secrets, with those that came before it. Raises ModelError."""
        if not isinstance(text, str):
            raise self._malformed("a delta is not text")
        self._bound(len(text))
        shown: str = without_secrets(text)
        into.append(shown)
        return shown

    def _bound(self, more: int) -> None:
        self._size += more
        if self._size > MAX_ANSWER:
            raise self._malformed(f"more than {MAX_ANSWER} characters")

    def _error(self, error: Any) -> tuple[str, str]:
        """What to say of an error that ended the stream, and its code."""
        said, code = self._endpoint.told(error, self._secret)
        return f"{self._endpoint.who}: the stream ended with an error{f': {said}' if said else ''}", code


@dataclass(frozen=True, slots=True)
class StreamedCall:
    """A call that is about to be made.

    Args:
        headers: with the key.
        secret: what they hold, so that no error shows it.
        gathering: of this call alone.
        read: the response in a whole answer, from a provider that doesn't stream.
    """

    headers: Mapping[str, str]
    body: Mapping[str, Any]
    timeouts: Timeouts
    secret: Credentials
    gathering: Gathers
    read: Callable[[Answer], ModelResponse]


async def gathered(endpoint: Endpoint, path: str, prepare: Callable[[], Awaitable[StreamedCall]]) -> ModelPieces:
    """Make a streamed call; its chunks in the pieces in which they arrive.

    Raises:
        ModelError: see `kastra.model.interface`.
    """
    call = await prepare()
    gathering = call.gathering
    events = await endpoint.events(path, call.headers, call.body, call.timeouts, call.secret)
    if isinstance(events, Answer):
        yield chunks_of(call.read(events))
        return
    try:
        while not gathering.done and (arrived := await events.read()):
            chunks: list[ModelChunk] = []
            broken: ModelError | None = None
            try:
                for data in arrived:
                    chunks += gathering.feed(data)
            except ModelError as error:
                # What came before it has been said.
                broken = error
            if chunks:
                yield chunks
            if broken is not None:
                raise broken
        if gathering.done:
            await events.drain()
    except ModelError as error:
        # A connection that breaks once the answer has been given costs at most the count of its tokens.
        if error.kind != "unavailable" or not gathering.finished:
            raise
    finally:
        await events.aclose()
    yield gathering.end()
