"""Recall by meaning: over rows that are the truth, in a thread or in all of a resource's, never of what is erased."""

from collections.abc import Sequence

from kastra.memory import rows
from kastra.memory.interface import RecallSpec, ThreadKey
from kastra.memory.recall import Recall, vector_rows
from kastra.memory.threads import Threads

from .conftest import ANN, BOB

MODEL = "m"
TEXTS = ["apples", "pears", "cars", "trains"]
VECTORS = [[1.0, 0.1, 0.0], [0.9, 0.3, 0.0], [0.0, 0.1, 1.0], [0.1, 0.0, 0.9]]
NEVER = 1 << 50


async def fill(threads: Threads, thread: ThreadKey, source: str, places: Sequence[int] = range(4)) -> None:
    messages = [{"role": "user", "content": TEXTS[place]} for place in places]
    entries = [rows.Entry(rows.message_uid(source, "", n), message) for n, message in enumerate(messages)]
    statements = rows.appended(thread.uid, entries, source, "", threads.now())
    vectors = vector_rows(MODEL, [entry.uid for entry in entries], [VECTORS[place] for place in places])
    await threads.commit([*statements, *vectors])


async def found(
    recall: Recall, thread: ThreadKey, spec: RecallSpec, vector: Sequence[float], newest: int = NEVER
) -> list[str]:
    return [row["message"]["content"] for row in await recall.similar(thread, spec, MODEL, vector, newest)]


async def test_the_nearest_messages_come_in_the_order_in_which_they_were_said(threads: Threads) -> None:
    await fill(threads, ANN, "one")
    recall = Recall(threads)
    assert await found(recall, ANN, RecallSpec(top_k=2), [0.8, 0.6, 0.0]) == ["apples", "pears"]
    assert await found(recall, ANN, RecallSpec(top_k=1), [0.0, 0.2, 1.0]) == ["cars"]
    assert await found(recall, BOB, RecallSpec(), [1.0, 0.0, 0.0]) == []


async def test_messages_around_one_come_with_it(threads: Threads) -> None:
    await fill(threads, ANN, "one")
    spec = RecallSpec(top_k=1, before=1, after=1)
    assert await found(Recall(threads), ANN, spec, [0.0, 0.2, 1.0]) == ["pears", "cars", "trains"]


async def test_what_is_sent_anyway_is_left_out(threads: Threads) -> None:
    await fill(threads, ANN, "one")
    assert await found(Recall(threads), ANN, RecallSpec(top_k=1), [1.0, 0.0, 0.0], newest=1) == []
    assert await found(Recall(threads), ANN, RecallSpec(top_k=1), [0.0, 0.3, 1.0], newest=3) == ["pears"]


async def test_a_resource_shares_its_threads_and_nobody_elses(threads: Threads) -> None:
    other = ThreadKey("uid-c", "default", "c", "ann")
    await threads.open(other)
    await fill(threads, other, "c", [0])
    await fill(threads, BOB, "b", [0, 1])
    recall = Recall(threads)
    assert await found(recall, ANN, RecallSpec(scope="resource"), [1.0, 0.0, 0.0]) == ["apples"]
    assert await found(recall, ANN, RecallSpec(scope="thread"), [1.0, 0.0, 0.0]) == []


async def test_new_messages_are_found_and_erased_ones_are_not(threads: Threads) -> None:
    recall = Recall(threads)
    await fill(threads, ANN, "one", [0])
    assert await found(recall, ANN, RecallSpec(), [1.0, 0.0, 0.0]) == ["apples"]
    await fill(threads, ANN, "two", [1])
    assert await found(recall, ANN, RecallSpec(), [1.0, 0.0, 0.0]) == ["apples", "pears"]
    await threads.erase(ANN)
    assert await found(recall, ANN, RecallSpec(), [1.0, 0.0, 0.0]) == []
    await threads.open(ANN)
    await fill(threads, ANN, "three", [1])
    assert await found(recall, ANN, RecallSpec(), [1.0, 0.0, 0.0]) == ["pears"]


async def test_vectors_of_another_model_or_length_are_not_compared(threads: Threads) -> None:
    await fill(threads, ANN, "one")
    recall = Recall(threads)
    assert await recall.similar(ANN, RecallSpec(), "another", [1.0, 0.0, 0.0], NEVER) == []
    assert await recall.similar(ANN, RecallSpec(), MODEL, [1.0, 0.0], NEVER) == []


async def test_messages_without_a_vector_are_known(threads: Threads) -> None:
    await fill(threads, ANN, "one", [0])
    await threads.add(ANN, [{"role": "user", "content": "later"}, {"role": "tool", "content": "", "result": 1}], "two")
    assert [text for _, text in await Recall(threads).without(ANN, MODEL, 9)] == ["later"]
