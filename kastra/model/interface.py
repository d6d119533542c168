"""What is a model to the rest of Kastra? Messages in, one response out; errors that say whether another try can help.

Messages and tool calls are plain JSON-like data, because they are journaled; they belong to no provider. A model never
decides what happens with a tool call, never retries by itself and never keeps a conversation.

    ModelError   one type with a `kind`: rate_limit, timeout, unavailable (these are worth another try), malformed (the
                 answer makes no sense; too), authorization, invalid_request, refused (these are not)

Read next: `kastra.model.scripted`, the smallest implementation, then `kastra.agent.loop`, the caller.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
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


class Message(TypedDict, total=False):
    """One message of a conversation.

    An assistant's may have `toolCalls`; a tool's has `toolCallId`, `name` and `result`, any JSON value.
    """

    role: Required[Role]
    content: str
    toolCalls: list[ToolCall]
    toolCallId: str
    name: str
    result: Any


class Usage(TypedDict, total=False):
    """Tokens of one or more calls. `calls` counts the model calls that the other figures are the sum of."""

    inputTokens: int
    outputTokens: int
    cachedInputTokens: int
    reasoningTokens: int
    calls: int


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
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    object: Any = None
    usage: Usage = field(default_factory=lambda: Usage())
    finish_reason: FinishReason = "stop"
    model: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON-like data, the form that is journaled."""
        return {
            "text": self.text,
            "toolCalls": list(self.tool_calls),
            "object": self.object,
            "usage": dict(self.usage),
            "finishReason": self.finish_reason,
            "model": self.model,
        }

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
        )


class Model(Protocol):
    """Answers requests."""

    async def generate(self, request: ModelRequest) -> ModelResponse:
        """One response.

        Raises:
            ModelError: there is none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """What authenticates calls to a provider. Its representation shows nothing."""

    api_key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


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
    """

    provider: str
    name: str = ""
    base_url: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    allow_private: bool = False
    credentials: Callable[[], Awaitable[Credentials]] = no_credentials


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
