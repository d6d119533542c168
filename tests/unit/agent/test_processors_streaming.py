"""What is shown of an answer that processors may change: never more than they would leave, and in the end all of it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kastra.agent.processors.catalogue import make
from kastra.agent.processors.showing import Showing, batching
from kastra.agent.services import AgentServices
from kastra.model.interface import ModelResponse, Restart, TextDelta
from kastra.testing.clock import VirtualClock

from .recording import Recording
from .test_guards import CANARY, agent, run, use

SECRETS = {
    "mail": CANARY,
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "phone": "+49 170 1234567",
    "jwt": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIx" * 40 + ".c2lnbmF0dXJl",
    "password": "password:   hunter2222hunter",
    "key": "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIB abcd efgh\n" * 30 + "-----END RSA PRIVATE KEY-----",
}
FILLER = "The weather is fine today and the ships sail out to sea. "


def paced(text: str, size: int, **spec: Any) -> Any:
    made = agent(**spec)
    made["objects"]["Agent/default/guarded"]["spec"]["model"]["parameters"].update(
        {"rules": [{"reply": text}], "chunkSize": size}
    )
    return made


async def shown(services: AgentServices, made: Any) -> tuple[list[dict[str, Any]], str]:
    step = Recording()
    said = await run(services, made, "x", step)
    return [dict(delta) for _, delta in step.journal.events], said


def visible(deltas: list[dict[str, Any]]) -> str:
    text = ""
    for delta in deltas:
        text = "" if delta["type"] == "restart" else text + delta.get("text", "")
    return text


@pytest.mark.parametrize("size", [1, 7, 400])
@pytest.mark.parametrize("kind", list(SECRETS))
async def test_an_answer_is_shown_as_it_arrives_without_what_is_taken_out(
    services: AgentServices, kind: str, size: int
) -> None:
    text = f"{FILLER * 6}It is {SECRETS[kind]} as you know. {FILLER * 6}"
    rules = use("regex-filter", presets=["secrets"], strategy="redact")
    made = paced(text, size, processors={"output": [use("pii-detector"), rules]})
    deltas, said = await shown(services, made)
    assert SECRETS[kind] not in said
    assert visible(deltas) == said
    assert [delta["type"] for delta in deltas] == ["text"] * len(deltas)
    assert len(deltas) > 1
    assert len(deltas[0]["text"]) < len(FILLER) * 6


@pytest.mark.parametrize(
    ("processor", "streams"),
    [
        (use("pii-detector"), True),
        (use("regex-filter", rules=["x{3}"], strategy="redact", window=20), True),
        (use("regex-filter", rules=["x{3}"], strategy="redact"), False),
        (use("moderation", words=["darn"], strategy="redact"), True),
        (use("unicode-normalizer"), True),
        (use("length-limiter", max=50, strategy="redact"), False),
        (use("system-prompt-scrubber"), False),
        (use("pii-detector", strategy="block"), False),
    ],
)
async def test_an_answer_is_shown_whole_where_pieces_of_it_would_not_be_safe(
    services: AgentServices, processor: Any, streams: bool
) -> None:
    deltas, said = await shown(services, paced(FILLER * 12, 9, processors={"output": [processor]}))
    assert (visible(deltas) == said) if streams else deltas == []


async def test_chinese_text_is_shown_as_it_arrives_too(services: AgentServices) -> None:
    text = "今天天气很好,船只出海。" * 30 + f"请写信给{CANARY}。" + "再见。" * 40
    deltas, said = await shown(services, paced(text, 5, processors={"output": [use("pii-detector")]}))
    assert CANARY not in said
    assert visible(deltas) == said
    assert len(deltas) > 3


async def test_small_pieces_are_gathered_into_larger_ones(services: AgentServices) -> None:
    deltas, said = await shown(
        services, paced("abcdefghij", 1, processors={"output": [use("batch-parts", batchSize=4)]})
    )
    assert [delta["text"] for delta in deltas] == ["abcd", "efgh", "ij"]
    assert said == "abcdefghij"


async def test_a_call_ends_a_batch_unless_that_is_not_wanted(services: AgentServices) -> None:
    code = "def step() -> str:\n    return 'on'"
    rule = [{"when": "size(results) == 0", "call": {"tool": "step"}}, {"reply": "done"}]
    for wanted in (True, False):
        config = {"batchSize": 9, "emitOnNonText": wanted}
        made = agent(*rule, tools=[("step", code)], processors={"output": [use("batch-parts", **config)]})
        deltas, _ = await shown(services, made)
        assert deltas[-1] == {"type": "text", "text": "done"}


async def test_a_batch_ends_with_the_first_piece_after_its_time(clock: VirtualClock) -> None:
    got: list[Any] = []
    batches = batching({"batchSize": 99, "maxWaitTime": 500})
    showing = Showing(got.append, [], "", batches, clock)
    showing.watch(TextDelta("a"))
    await clock.advance(0.4)
    showing.watch(TextDelta("b"))
    assert got == []
    await clock.advance(0.2)
    showing.watch(TextDelta("c"))
    assert got == [{"type": "text", "text": "abc"}]


async def test_what_was_shown_is_void_if_the_answer_begins_otherwise(clock: VirtualClock) -> None:
    got: list[Any] = []
    pii: Any = make({"id": "pii-detector"}, "p")
    showing = Showing(got.append, [pii], "", None, clock)
    showing.watch(TextDelta("One thing. " * 30))
    assert visible(got).startswith("One thing.")
    showing.watch(Restart("cut off"))
    showing.end(ModelResponse("Another thing."))
    assert visible(got) == "Another thing."
    showing = Showing(got.append, [pii], "", None, clock)
    showing.watch(TextDelta("One thing. " * 30))
    showing.end(ModelResponse("Another thing."))
    assert visible(got) == "Another thing."
    assert [delta["type"] for delta in got].count("restart") == 2


PIECES = st.lists(
    st.sampled_from(
        [*SECRETS.values(), FILLER, "ann@", "example.org ", " ", "\n", "+49 ", "170 1234567 ", "忽略", "a" * 40]
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(PIECES, st.integers(1, 90))
def test_whatever_is_shown_is_what_remains_of_the_answer(pieces: list[str], size: int) -> None:
    processors: list[Any] = [
        make({"id": "pii-detector"}, "p"),
        make({"id": "regex-filter", "config": {"presets": ["secrets"], "strategy": "redact"}}, "p"),
    ]
    text = " ".join(pieces)
    left = text
    for each in processors:
        left = each.scan(left, "")[0]
    got: list[Any] = []
    showing = Showing(got.append, processors, "", None, VirtualClock())
    for start in range(0, len(text), size):
        showing.watch(TextDelta(text[start : start + size]))
        assert left.startswith(visible(got))
    showing.end(ModelResponse(left))
    assert visible(got) == left
    assert all(delta["type"] == "text" for delta in got)
