"""Several models in a row: who is asked when, what a watcher sees of it, and what it costs."""

from contextlib import aclosing
from typing import Any

import pytest

from kastra.model.chain import ModelEntry, answers, priced
from kastra.model.interface import End, ModelChunk, ModelError, ModelRequest, Restart, TextDelta, collected
from kastra.model.scripted import ScriptedModel
from kastra.testing import VirtualClock

ASK = ModelRequest([{"role": "user", "content": "Hi"}])


def scripted(*rules: dict[str, Any], size: int = 2) -> ScriptedModel:
    return ScriptedModel(list(rules), pace={"chunkSize": size})


async def chunks(*entries: ModelEntry) -> list[ModelChunk]:
    clock = VirtualClock()
    clock.auto_advance = True
    async with aclosing(answers(entries, ASK, clock, "seed")) as pieces:
        return [chunk async for chunk in pieces]


async def test_the_first_model_that_answers_does() -> None:
    down = scripted({"error": {"kind": "unavailable", "message": "down"}})
    found = await chunks(ModelEntry("a", down), ModelEntry("b", scripted({"reply": "Hello"})))
    assert [chunk.text for chunk in found if isinstance(chunk, TextDelta)] == ["He", "ll", "o"]
    assert isinstance(found[-1], End)
    assert not any(isinstance(chunk, Restart) for chunk in found)


async def test_an_answer_that_breaks_off_is_said_to_be_void_before_the_next_begins() -> None:
    breaks = scripted({"error": {"kind": "unavailable", "message": "cut", "after": 4}})
    found = await chunks(ModelEntry("a", breaks), ModelEntry("b", scripted({"reply": "Hi"})))
    kinds = [type(chunk).__name__ for chunk in found]
    assert kinds == ["TextDelta", "TextDelta", "Restart", "TextDelta", "UsageUpdate", "End"]
    assert isinstance(found[2], Restart)
    assert "cut" in found[2].reason


async def test_a_retry_after_a_break_is_announced_too() -> None:
    model = scripted({"error": {"kind": "unavailable", "after": 2, "retryAfter": 0}, "times": 1}, {"reply": "Hi"})
    found = await chunks(ModelEntry("a", model, max_retries=1))
    assert [type(chunk).__name__ for chunk in found] == ["TextDelta", "Restart", "TextDelta", "UsageUpdate", "End"]


async def test_all_failures_are_told_and_the_last_one_decides_what_can_help() -> None:
    one = scripted({"error": {"kind": "unavailable", "message": "first"}})
    two = scripted({"error": {"kind": "rate_limit", "message": "second", "retryAfter": 120}})
    with pytest.raises(ModelError, match=r"first; then .*second") as caught:
        await chunks(ModelEntry("a", one), ModelEntry("b", two))
    assert (caught.value.kind, caught.value.retryable, caught.value.retry_after) == ("rate_limit", True, 120)


async def test_without_a_model_there_is_no_answer() -> None:
    with pytest.raises(ModelError, match="no model to ask"):
        await chunks()


@pytest.mark.parametrize("kind", ["authorization", "invalid_request", "refused"])
async def test_what_cannot_be_helped_by_trying_again_is_not_tried_again(kind: str) -> None:
    model = scripted({"error": {"kind": kind}, "times": 1}, {"reply": "Hi"})
    with pytest.raises(ModelError) as caught:
        await chunks(ModelEntry("a", model, max_retries=5))
    assert caught.value.kind == kind


async def test_the_price_is_put_on_the_response() -> None:
    model = scripted({"reply": "Hi", "usage": {"inputTokens": 1000, "outputTokens": 100, "cachedInputTokens": 400}})
    price = {"in": 2.0, "out": 10.0, "cached": 0.5}
    clock = VirtualClock()
    response = await collected(answers([ModelEntry("a", model, price=price)], ASK, clock, ""))
    assert response.usage.get("costUSD") == pytest.approx((600 * 2 + 400 * 0.5 + 100 * 10) / 1e6)


@pytest.mark.parametrize(
    ("usage", "price", "dollars"),
    [
        ({"inputTokens": 1_000_000}, {"in": 3}, 3.0),
        ({"inputTokens": 1_000_000, "cachedInputTokens": 500_000}, {"in": 3}, 3.0),
        ({"inputTokens": 1_000_000, "cacheWriteInputTokens": 1_000_000}, {"in": 3, "cacheWrite": 3.75}, 3.75),
        ({"outputTokens": 1_000_000, "reasoningTokens": 900_000}, {"out": 15}, 15.0),
        ({}, {"in": 3}, 0.0),
    ],
)
def test_every_sort_of_token_has_its_price(usage: Any, price: dict[str, float], dollars: float) -> None:
    assert priced(usage, price).get("costUSD") == pytest.approx(dollars)


def test_without_prices_there_is_no_cost() -> None:
    assert "costUSD" not in priced({"inputTokens": 5}, {})
