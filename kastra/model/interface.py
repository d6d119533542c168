"""What is a model to the rest of Kastra? Messages in, one response out; errors that say whether another try can help.

Messages and tool calls are plain JSON-like data, because they are journaled; they belong to no provider. A model never
decides what happens with a tool call, never retries by itself and never keeps a conversation.

    ModelError   one type with a `kind`: rate_limit, timeout, unavailable (these are worth another try), malformed (the
                 answer makes no sense; too), authorization, invalid_request, refused (these are not)
    stream()     any model's response as it arrives: deltas, then one `End` that holds the whole response. The deltas are for
                 people who watch; what counts, and is journaled, is the response in `End`.

Read next: `kastra.model.scripted`, the smallest implementation, then `kastra.agent.loop`, the caller.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NotRequired, Protocol, Required, TypedDict

import orjson

from kastra.clock import Clock
from kastra.netguard import Guard

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool-calls", "content-filter", "error", "other"]
ErrorKind = Literal[
    "rate_limit", "timeout", "unavailable", "malformed", "authorization", "invalid_request", "refused", "expression"
]


class ToolCall(TypedDict):
    """A tool that the model wants called.

    `invalid` says why the arguments could not be read; `arguments` is then empty and the tool must not run.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    invalid: NotRequired[str]


class Part(TypedDict, total=False):
    """A piece of a user's message, in the order in which the model is to read it.

    `text` has `text`; `image` and `file` have either `data` (base64) with its `mediaType`, or a `url` that the provider
    fetches; a file may have a `filename`. `kastra.model.parts` reads them from what people write.
    """

    type: Required[Literal["text", "image", "file"]]
    text: str
    data: str
    url: str
    mediaType: str
    filename: str


class Reasoning(TypedDict, total=False):
    """A stretch of what a model thought before it answered.

    `signature` is the provider's proof that it thought so, `redacted` a thought that only the provider can read. Both are
    handed back to it unchanged with the assistant's message, which some providers insist on.
    """

    text: str
    signature: str
    redacted: str


class Message(TypedDict, total=False):
    """One message of a conversation.

    An assistant's may have `toolCalls` and `reasoning`; a tool's has `toolCallId`, `name` and `result`, any JSON value. A
    user's may have `parts`; `content` is then their text. `cache: true` marks the end of a beginning that later calls will
    share, for providers that want to be told.
    """

    role: Required[Role]
    content: str
    parts: list[Part]
    reasoning: list[Reasoning]
    cache: bool
    toolCalls: list[ToolCall]
    toolCallId: str
    name: str
    result: Any


class Usage(TypedDict, total=False):
    """Tokens of one or more calls. `calls` counts the model calls that the other figures are the sum of.

    `inputTokens` includes those read from a provider's cache (`cachedInputTokens`) and those written to it
    (`cacheWriteInputTokens`), `outputTokens` those spent on reasoning (`reasoningTokens`), whatever the provider counts.
    """

    inputTokens: int
    outputTokens: int
    cachedInputTokens: int
    cacheWriteInputTokens: int
    reasoningTokens: int
    calls: int
    costUSD: float


class ModelError(Exception):
    """A model call did not yield a response.

    Args:
        kind: see the module's page.
        message: for people; never holds a key.
        retryable: whether the same call may succeed later.
        retry_after: seconds that the provider asked to wait, if it did.
    """

    def __init__(
        self, kind: ErrorKind, message: str, *, retryable: bool | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.message = message
        self.retryable = kind in _WORTH_RETRYING if retryable is None else retryable
        self.retry_after = retry_after


_WORTH_RETRYING = frozenset({"rate_limit", "timeout", "unavailable", "malformed"})


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool as the model is told of it; `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model.

    Args:
        messages: the conversation, instructions first.
        tools: that may be called.
        tool_choice: `auto`, `none`, `required`, or the name of a tool as `{"tool": name}`.
        output_schema: JSON Schema that the answer must satisfy; the model returns it as `object`.
        parameters: settings such as temperature, maxTokens, topP, stop; those of the provider pass through.
        input: what the agent was given, before it became a message. Providers on a wire have no use for it.
        turn: 0 for the first call of a generation.
        first: index in `messages` of the first one that this generation produced; earlier ones were given to it.
    """

    messages: Sequence[Message]
    tools: Sequence[ToolDefinition] = ()
    tool_choice: str | Mapping[str, str] = "auto"
    output_schema: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    input: Any = None
    turn: int = 0
    first: int = 0


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """What the model said.

    Args:
        text: its answer; may be empty beside tool calls.
        tool_calls: in the order asked for.
        object: the answer as a JSON value where a schema was asked for and the text is JSON; not validated.
        usage: tokens, as far as known.
        finish_reason: why it stopped.
        model: the name under which the provider answered.
        reasoning: what it thought before, where the provider tells.
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    object: Any = None
    usage: Usage = field(default_factory=lambda: Usage())
    finish_reason: FinishReason = "stop"
    model: str = ""
    reasoning: Sequence[Reasoning] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON-like data, the form that is journaled."""
        plain = {
            "text": self.text,
            "toolCalls": list(self.tool_calls),
            "object": self.object,
            "usage": dict(self.usage),
            "finishReason": self.finish_reason,
            "model": self.model,
        }
        if self.reasoning:
            plain["reasoning"] = list(self.reasoning)
        return plain

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "ModelResponse":
        """From what `plain` gave."""
        return cls(
            plain["text"],
            plain["toolCalls"],
            plain["object"],
            plain["usage"],
            plain["finishReason"],
            plain["model"],
            plain.get("reasoning", ()),
        )


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks before it answers; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a tool call.

    Args:
        index: of the call among those of this response; calls may arrive interleaved.
        id: of the call, once it is known.
        name: of the tool, known from a call's first delta on.
        arguments: more of their JSON text; empty in a call's first delta.
    """

    index: int
    id: str
    name: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class UsageUpdate:
    """The tokens used as far as the provider has counted; a later one replaces it."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Restart:
    """All that came before is void: it broke off, and another attempt or another model begins from the start.

    Models don't send it; `kastra.model.chain` does, which tries again.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """The last chunk of a stream: the whole response. A stream without one has raised a ModelError."""

    response: ModelResponse


ModelChunk = TextDelta | ReasoningDelta | ToolCallDelta | UsageUpdate | Restart | End
ModelStream = AsyncGenerator[ModelChunk, None]
ModelPieces = AsyncGenerator[Sequence[ModelChunk], None]
"""A stream in the pieces in which it arrives; none is empty, and an `End` is the last of its piece."""


class Model(Protocol):
    """Answers requests."""

    async def generate(self, request: ModelRequest) -> ModelResponse:
        """One response.

        Raises:
            ModelError: there is none.
        """
        ...


class StreamingModel(Model, Protocol):
    """A model that can also answer piece by piece. Callers use the function `stream`, which takes any model."""

    def stream(self, request: ModelRequest) -> ModelStream:
        """The response as it arrives; closing the generator ends the call and its connection.

        Raises:
            ModelError: at any chunk; what came before it is then no response.
        """
        ...


class PiecewiseModel(StreamingModel, Protocol):
    """A model that hands on at once what arrived at once, as those over a wire do."""

    def pieces(self, request: ModelRequest) -> ModelPieces:
        """As `stream`, with the same chunks."""
        ...


def stream(model: Model, request: ModelRequest) -> ModelStream:
    """The response of any model as it arrives; one that only generates gives everything at its end.

    The last chunk is an `End` with the whole response. Use it under `contextlib.aclosing`, or hand it to `collected`:
    a generator that isn't closed keeps its connection.

    Raises:
        ModelError: at any chunk; what came before it is then no response.
    """
    own: Callable[[ModelRequest], ModelStream] | None = getattr(model, "stream", None)
    return own(request) if own is not None else one_by_one(_at_once(model, request))


def pieces(model: Model, request: ModelRequest) -> ModelPieces:
    """As `stream`, with what arrived at once in one piece: less work, where somebody reads all of it anyway."""
    own: Callable[[ModelRequest], ModelPieces] | None = getattr(model, "pieces", None)
    if own is not None and _are_its_own(type(model)):
        return own(request)
    streams: Callable[[ModelRequest], ModelStream] | None = getattr(model, "stream", None)
    return _at_once(model, request) if streams is None else _each(streams(request))


@lru_cache(maxsize=64)
def _are_its_own(kind: type) -> bool:
    """Whether the pieces of a class are those of its stream: a subclass may have replaced the stream alone."""
    return next(
        (name == "pieces" for base in kind.__mro__ for name in ("pieces", "stream") if name in vars(base)), True
    )


async def one_by_one(arriving: ModelPieces) -> ModelStream:
    """The chunks of all pieces, one after the other."""
    async with aclosing(arriving):
        async for piece in arriving:
            for chunk in piece:
                yield chunk


async def _each(chunks: ModelStream) -> ModelPieces:
    async with aclosing(chunks):
        async for chunk in chunks:
            yield (chunk,)


async def _at_once(model: Model, request: ModelRequest) -> ModelPieces:
    yield chunks_of(await model.generate(request))


def chunks_of(response: ModelResponse) -> list[ModelChunk]:
    """A whole response as the shortest stream that says the same."""
    chunks: list[ModelChunk] = []
    chunks += [ReasoningDelta(text) for thought in response.reasoning if (text := thought.get("text"))]
    if response.text:
        chunks.append(TextDelta(response.text))
    for index, call in enumerate(response.tool_calls):
        chunks.append(ToolCallDelta(index, call["id"], call["name"]))
        chunks.append(ToolCallDelta(index, call["id"], call["name"], compact(call["arguments"])))
    if response.usage:
        chunks.append(UsageUpdate(response.usage))
    chunks.append(End(response))
    return chunks


async def collected(chunks: ModelStream, watch: Callable[[ModelChunk], None] | None = None) -> ModelResponse:
    """The whole response of a stream; `watch` is called with every chunk before the last. Closes the stream in any case.

    Raises:
        ModelError: as the stream does; also if it ends without a response.
    """
    async with aclosing(chunks):
        async for chunk in chunks:
            if isinstance(chunk, End):
                return chunk.response
            if watch is not None:
                watch(chunk)
    raise ModelError("malformed", "the model's stream ended without a response")


async def collected_pieces(arriving: ModelPieces, watch: Callable[[ModelChunk], None]) -> ModelResponse:
    """As `collected`, of pieces."""
    async with aclosing(arriving):
        async for piece in arriving:
            for chunk in piece:
                if isinstance(chunk, End):
                    return chunk.response
                watch(chunk)
    raise ModelError("malformed", "the model's stream ended without a response")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What authenticates calls to a provider. Its representation shows nothing.

    Args:
        api_key: sent as the provider wants it.
        headers: sent as they are.
        authorities: certificates (PEM) of those who may vouch for the provider, instead of the system's.
    """

    api_key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authorities: str = field(default="", repr=False)


class CredentialsMissing(Exception):
    """A Secret, variable or file that should hold a key isn't there; the message names it."""


async def no_credentials() -> Credentials:
    """For providers that need none."""
    return Credentials()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a provider needs to make a model.

    Args:
        provider: the provider type, such as `openai`.
        name: of the model, such as `gpt-4o`; `scripted` needs none.
        base_url: replaces the provider's own.
        parameters: defaults for every call; those of a request go before them.
        allow_private: whether `base_url` may be a private address.
        credentials: asked at every call, so that a changed Secret is used at once. Raises CredentialsMissing.
        proxy: URL of the HTTP proxy that calls go through; empty for none.
        capabilities: what the model can do, as its Model says; empty if nobody said, and then everything is tried.
        dialect: corrections of how the provider speaks; see `kastra.model.dialects`.
    """

    provider: str
    name: str = ""
    base_url: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    allow_private: bool = False
    credentials: Callable[[], Awaitable[Credentials]] = no_credentials
    proxy: str = ""
    capabilities: frozenset[str] = frozenset()
    dialect: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelServices:
    """What models are made with."""

    guard: Guard
    clock: Clock


ModelFactory = Callable[[ModelConfig, ModelServices], Model]
"""Makes a model. Raises ValueError, naming the field, where the configuration makes none."""


def text_of(message: Message) -> str:
    """A message's text; a tool's result is text as it is, or compact JSON."""
    if "result" not in message:
        return message.get("content", "")
    result = message["result"]
    return result if isinstance(result, str) else compact(result)


def compact(value: Any) -> str:
    """A JSON value as text without blanks, the form in which models are given data."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
