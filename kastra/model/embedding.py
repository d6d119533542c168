"""How do texts become vectors? Over the OpenAI-compatible `/embeddings` wire, in batches, with the failures of any model call.

    embedder = create_embedder(config, services)
    result = await embedder.embed(["a text", "another"])      # result.vectors: one per text, all of one length

Texts are sent in batches that providers accept; the answer is checked: as many vectors as texts, in their order, finite and
of one length. `scripted` has an embedder that needs no network: it counts words, so that texts with common words are near
each other, which is enough to try things out and nothing more.

Read next: `kastra.model.wire`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from .dialects import dialect_of
from .interface import ModelConfig, ModelError, ModelServices, Usage
from .openai import headers
from .openai_answer import usage_of
from .wire import Endpoint, Timeouts

BATCH = 96
"""Texts of one call."""
MAX_TEXT = 1_000_000
"""Characters of one text."""
_WORD = re.compile(r"\w+")
_SCRIPTED_DIMENSIONS = 64


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors, one per text and in their order, and the tokens that they took."""

    vectors: Sequence[Sequence[float]]
    usage: Usage = field(default_factory=lambda: Usage())


class Embedder(Protocol):
    """Makes vectors of texts."""

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of these texts.

        Raises:
            ModelError: there are none.
        """
        ...


def create_embedder(config: ModelConfig, services: ModelServices) -> Embedder:
    """The embedder that a model's configuration describes; `dimensions` is a parameter of it.

    Raises:
        ValueError: providers of this type offer none, or the name or the base URL is missing.
    """
    if config.provider == "scripted":
        return ScriptedEmbedder(int(config.parameters.get("dimensions", _SCRIPTED_DIMENSIONS)))
    try:
        dialect = dialect_of(config.provider, config.dialect)
    except KeyError:
        raise ValueError(f"provider {config.provider}: no embeddings are made with this type of provider") from None
    if not dialect.embeddings:
        raise ValueError(f"provider {config.provider}: it offers no embeddings")
    if not config.name:
        raise ValueError(f"model.name: required for provider {config.provider}")
    if not (config.base_url or dialect.base_url):
        raise ValueError(f"spec.baseURL: required for provider {config.provider}")
    return OpenAIEmbedder(config, services)


class OpenAIEmbedder:
    """A model behind an embeddings endpoint."""

    def __init__(self, config: ModelConfig, services: ModelServices) -> None:
        self._config = config
        self._endpoint = Endpoint(config, dialect_of(config.provider, config.dialect), services)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of these texts, in as many calls as that takes.

        Raises:
            ModelError: a call fails, or a text is empty or too long.
        """
        for index, text in enumerate(texts):
            if not text or len(text) > MAX_TEXT:
                said = "is empty" if not text else f"has more than {MAX_TEXT:,} characters"
                raise ModelError("invalid_request", f"{self._endpoint.who}: text {index} {said}")
        vectors: list[Sequence[float]] = []
        usage: Usage = {"inputTokens": 0, "calls": 0}
        for at in range(0, len(texts), BATCH):
            part, spent = await self._batch(texts[at : at + BATCH])
            vectors += part
            usage["inputTokens"] = usage.get("inputTokens", 0) + spent.get("inputTokens", 0)
            usage["calls"] = usage.get("calls", 0) + 1
        if len({len(vector) for vector in vectors}) > 1:
            raise self._malformed("vectors of several lengths")
        return Embedded(vectors, usage)

    def _malformed(self, what: str) -> ModelError:
        return ModelError("malformed", f"{self._endpoint.who}: malformed answer: {what}")

    async def _batch(self, texts: Sequence[str]) -> tuple[list[Sequence[float]], Usage]:
        parameters = dict(self._config.parameters)
        timeouts = Timeouts.of(parameters.pop("timeout", None))
        body: dict[str, Any] = {
            **parameters,
            "model": self._config.name,
            "input": list(texts),
            "encoding_format": "float",
        }
        secret = await self._endpoint.credentials()
        answer = await self._endpoint.whole("POST", "/embeddings", headers(secret), body, timeouts, secret)
        try:
            plain = answer.json()
        except ValueError:
            raise self._malformed("not JSON in UTF-8") from None
        data = plain.get("data") if isinstance(plain, dict) else None
        if not isinstance(data, list) or len(data) != len(texts):
            raise self._malformed(f"data is not a list of {len(texts)} vectors")
        found: list[Sequence[float] | None] = [None] * len(texts)
        for position, entry in enumerate(data):
            index = entry.get("index", position) if isinstance(entry, dict) else None
            if not isinstance(index, int) or not 0 <= index < len(texts) or found[index] is not None:
                raise self._malformed(f"data[{position}].index makes no sense")
            found[index] = self._vector(entry.get("embedding"), position)
        return [vector for vector in found if vector is not None], usage_of(plain.get("usage"))

    def _vector(self, given: Any, position: int) -> Sequence[float]:
        if not isinstance(given, list) or not given:
            raise self._malformed(f"data[{position}].embedding is not a vector")
        for number in given:
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise self._malformed(f"data[{position}].embedding has something in it that is no number")
        return given


class ScriptedEmbedder:
    """Vectors that count words by their hashes, of length 1; equal texts have equal vectors, on every machine."""

    def __init__(self, dimensions: int = _SCRIPTED_DIMENSIONS) -> None:
        if not 1 <= dimensions <= 4096:
            raise ValueError("model.parameters.dimensions: must be from 1 to 4096")
        self._dimensions = dimensions

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of these texts."""
        return Embedded([self._vector(text) for text in texts], {"calls": 1})

    def _vector(self, text: str) -> Sequence[float]:
        vector = [0.0] * self._dimensions
        for word in _WORD.findall(text.lower()):
            number = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big")
            vector[number % self._dimensions] += 1.0 if number >> 63 else -1.0
        length = math.sqrt(sum(value * value for value in vector))
        return [value / length for value in vector] if length else vector
