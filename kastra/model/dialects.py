"""How do providers differ that speak the same wire? As data: one `Dialect` per provider type, nothing special-cased elsewhere.

A ModelProvider may correct any of it (`spec.dialect`), for a server that nobody here has heard of. Read next:
`kastra.model.openai` and `kastra.model.anthropic`, which ask.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

Structured = Literal["json_schema", "json_object", "tool", "prompt"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """A provider's way of speaking.

    Args:
        base_url: where it is served; empty if only a ModelProvider can say.
        wire: `openai` (chat completions) or `anthropic` (messages).
        max_tokens: the field that bounds the answer.
        structured: how an answer by a schema is asked for: a response format with the schema, one without it (the schema goes
            into the prompt), a tool that must be called, or the prompt alone.
        needs_key: whether calls without a key are pointless.
        local: whether the built-in address is on this machine.
        stream_usage: whether a stream must be asked to tell usage (`stream_options`).
        usage_at: further places of the usage in a streamed event, outermost first, such as `x_groq.usage`.
        reasoning: fields of a message in which reasoning arrives.
        reasoning_back: whether the reasoning of the current turn is handed back with its tool calls.
        images: whether messages may hold images: `url` and data, `data` only, or none (empty).
        files: whether messages may hold files.
        embeddings: whether there is `/embeddings`.
        malformed_codes: error codes by which it says that the model, not the request, was wrong; worth another try.
        ignores: parameters that it doesn't know and that are therefore not sent.
    """

    base_url: str
    wire: Literal["openai", "anthropic"] = "openai"
    max_tokens: str = "max_tokens"
    structured: Structured = "json_schema"
    needs_key: bool = True
    local: bool = False
    stream_usage: bool = True
    usage_at: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ("reasoning_content", "reasoning")
    reasoning_back: bool = False
    images: Literal["url", "data", ""] = "url"
    files: bool = False
    embeddings: bool = True
    malformed_codes: frozenset[str] = frozenset()
    ignores: frozenset[str] = field(default_factory=lambda: frozenset({"topK", "promptCache"}))


DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect("https://api.openai.com/v1", max_tokens="max_completion_tokens", files=True, reasoning=()),
    "openai-compatible": Dialect("", needs_key=False, files=True, ignores=frozenset({"promptCache"})),
    "deepseek": Dialect(
        "https://api.deepseek.com/v1",
        structured="json_object",
        reasoning=("reasoning_content",),
        reasoning_back=True,
        images="",
        embeddings=False,
    ),
    "groq": Dialect(
        "https://api.groq.com/openai/v1",
        max_tokens="max_completion_tokens",
        reasoning=("reasoning",),
        usage_at=("x_groq", "usage"),
        embeddings=False,
        malformed_codes=frozenset({"tool_use_failed", "json_validate_failed"}),
    ),
    "ollama": Dialect(
        "http://127.0.0.1:11434/v1", needs_key=False, local=True, reasoning=("reasoning",), images="data"
    ),
    "openrouter": Dialect(
        "https://openrouter.ai/api/v1", reasoning=("reasoning",), files=True, ignores=frozenset({"promptCache"})
    ),
    "vllm": Dialect("", needs_key=False, ignores=frozenset({"promptCache"})),
    "anthropic": Dialect(
        "https://api.anthropic.com/v1",
        wire="anthropic",
        structured="tool",
        stream_usage=False,
        reasoning=(),
        reasoning_back=True,
        files=True,
        embeddings=False,
        ignores=frozenset({"temperature", "topP", "topK", "presencePenalty", "frequencyPenalty", "seed"}),
    ),
}

_CORRECTABLE = {
    "maxTokensField": "max_tokens",
    "structuredOutput": "structured",
    "streamUsage": "stream_usage",
    "reasoningFields": "reasoning",
    "reasoningBack": "reasoning_back",
    "images": "images",
    "files": "files",
    "ignoredParameters": "ignores",
}
"""What `spec.dialect` of a ModelProvider may say, and which field that is."""


def dialect_of(provider: str, corrections: Mapping[str, Any] | None = None) -> Dialect:
    """The dialect of a provider type, corrected.

    Args:
        provider: a key of `DIALECTS`.
        corrections: `spec.dialect` of a ModelProvider.

    Raises:
        ValueError: a correction makes no sense; the message begins with its field.
    """
    dialect = DIALECTS[provider]
    changes: dict[str, Any] = {}
    for name, value in (corrections or {}).items():
        if value is None:
            continue
        if name not in _CORRECTABLE:
            raise ValueError(f"dialect.{name}: unknown field; known: {', '.join(sorted(_CORRECTABLE))}")
        present = getattr(dialect, _CORRECTABLE[name])
        if isinstance(present, frozenset | tuple):
            value = type(present)(value)
        elif name == "images":
            value = "" if value in ("none", "") else value
        changes[_CORRECTABLE[name]] = value
    return replace(dialect, **changes) if changes else dialect


def ignored(provider: str, parameters: Mapping[str, Any], corrections: Mapping[str, Any] | None = None) -> list[str]:
    """Which of these parameters the provider would not be sent, sorted; none for types that aren't built in."""
    if provider not in DIALECTS:
        return []
    return sorted(dialect_of(provider, corrections).ignores & set(parameters))


def plain(dialect: Dialect) -> dict[str, Any]:
    """A dialect as a table's row, by field, for the documentation."""
    return {one.name: getattr(dialect, one.name) for one in fields(dialect)}
