"""Texts become vectors: in batches, in order, checked."""

import math
from collections.abc import Sequence

import orjson
import pytest

from kastra.model import testing as fake
from kastra.model.embedding import BATCH, Embedder, create_embedder
from kastra.model.interface import Credentials, ModelConfig, ModelError, ModelServices
from kastra.netguard import Guard

from .conftest import KEY, FrozenClock


@pytest.fixture
def embedder(provider: fake.FakeProvider, guard: Guard) -> Embedder:
    async def credentials() -> Credentials:
        return Credentials(KEY)

    config = ModelConfig("openai", "e-1", provider.url, {"dimensions": 2}, allow_private=True, credentials=credentials)
    return create_embedder(config, ModelServices(guard, FrozenClock()))


async def test_many_texts_are_sent_in_batches_and_keep_their_order(
    embedder: Embedder, provider: fake.FakeProvider
) -> None:
    def respond(request: fake.Received) -> fake.Scripted:
        texts = request.json["input"]
        data = [{"index": i, "embedding": [float(text), 1.0]} for i, text in enumerate(texts)]
        return fake.raw(orjson.dumps({"data": data[::-1], "usage": {"prompt_tokens": len(texts)}}))

    provider.always(respond)
    result = await embedder.embed([str(number) for number in range(BATCH + 10)])
    assert [vector[0] for vector in result.vectors] == list(range(BATCH + 10))
    assert result.usage == {"inputTokens": BATCH + 10, "calls": 2}
    assert provider.requests[0].path == "/v1/embeddings"
    assert provider.requests[0].json["dimensions"] == 2


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b'{"data": []}',
        b'{"data": [{"index": 0, "embedding": []}]}',
        b'{"data": [{"index": 3, "embedding": [1]}]}',
        b'{"data": [{"index": 0, "embedding": ["1"]}]}',
        b'{"data": [7]}',
    ],
)
async def test_answers_that_make_no_sense_are_malformed(
    embedder: Embedder, provider: fake.FakeProvider, body: bytes
) -> None:
    provider.answer(fake.raw(body))
    with pytest.raises(ModelError) as caught:
        await embedder.embed(["x"])
    assert caught.value.kind == "malformed"


async def test_an_empty_text_is_refused_before_a_call(embedder: Embedder, provider: fake.FakeProvider) -> None:
    with pytest.raises(ModelError, match="text 1 is empty"):
        await embedder.embed(["x", ""])
    assert provider.requests == []


async def test_the_scripted_embedder_puts_texts_with_common_words_near_each_other(guard: Guard) -> None:
    embedder = create_embedder(ModelConfig("scripted"), ModelServices(guard, FrozenClock()))
    near, far, asked = (await embedder.embed(["eggs and cheese", "stars at night", "cheese and eggs?"])).vectors

    def likeness(a: Sequence[float], b: Sequence[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert likeness(asked, near) > likeness(asked, far)
    assert math.isclose(likeness(near, near), 1.0)


async def test_providers_without_embeddings_say_so(guard: Guard) -> None:
    with pytest.raises(ValueError, match="offers no embeddings"):
        create_embedder(ModelConfig("anthropic", "x"), ModelServices(guard, FrozenClock()))
