"""Documents are cut where they can be, entries pass filters over their metadata, and passages are found while others come and go."""

import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest

from kastra.memory.chunking import Chunking, passages
from kastra.memory.filters import BadFilter, compiled
from kastra.memory.passages import Passages, terms
from kastra.memory.threads import Threads

# --- chunking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [200, 333, 1200])
def test_passages_hold_all_of_a_text_and_end_at_sentences(size: int) -> None:
    text = " ".join(f"Sentence number {n} says something." for n in range(200))
    found = passages(text, Chunking(size, 0))
    assert " ".join(found).split() == text.split()
    assert all(len(passage) <= size and passage.endswith(".") for passage in found)


def test_passages_overlap_and_a_text_without_any_break_is_cut_all_the_same() -> None:
    found = passages("字" * 1000, Chunking(300, 50))
    assert [len(passage) for passage in found] == [300, 300, 300, 250]
    assert passages(" \n\t ", Chunking()) == []


def test_a_section_of_markdown_begins_with_the_headings_above_it() -> None:
    text = "# A\nintro\n## B\none\n```\n# no heading\n```\n### C\n## D\ntwo\n#hashtag\n"
    assert passages(text, Chunking(), markdown=True) == [
        "A\nintro",
        "A > B\none\n```\n# no heading\n```",
        "A > D\ntwo\n#hashtag",
    ]
    assert passages(text, Chunking()) == [text.strip()]


def test_long_headings_leave_room_for_the_text_in_small_passages() -> None:
    text = f"# {'h' * 190}\n" + "word " * 300
    found = passages(text, Chunking(200, 100), markdown=True)
    assert all(passage.startswith("h") and "word" in passage and len(passage) <= 200 for passage in found)


def test_a_line_of_many_hashes_is_no_heading_and_takes_no_longer_than_any_other() -> None:
    line = f"# {'#' * 390}x"
    assert passages(f"{line}\n" * 2000, Chunking(), markdown=True)[0].startswith(line)
    assert passages("## Title ##\ntext", Chunking(), markdown=True) == ["Title\ntext"]


# --- filters ---------------------------------------------------------------------------------------------------------

ENTRY: dict[str, Any] = {"kind": "tea", "price": 4, "tags": ["green", "hot"], "maker": {"name": "Ito"}, "sold": True}


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ({}, True),
        ({"kind": "tea"}, True),
        ({"kind": "tea", "price": 5}, False),
        ({"tags": "hot"}, True),
        ({"tags": {"$in": ["cold", "hot"]}}, True),
        ({"tags": {"$nin": ["cold", "hot"]}}, False),
        ({"maker.name": "Ito"}, True),
        ({"maker": {"name": "Ito"}}, True),
        ({"price": {"$gte": 4, "$lt": 5}}, True),
        ({"price": {"$gt": "3"}}, False),
        ({"kind": {"$gt": "sea"}}, True),
        ({"sold": 1}, False),
        ({"sold": {"$gte": 1}}, False),
        ({"none": {"$exists": False}}, True),
        ({"none": {"$ne": 3}}, True),
        ({"none": None}, False),
        ({"price": {"$not": {"$gt": 5}}}, True),
        ({"$or": [{"kind": "x"}, {"price": 4}]}, True),
        ({"$nor": [{"kind": "x"}, {"price": 4}]}, False),
        ({"$and": [{"kind": "tea"}, {"$not": {"price": 4}}]}, False),
    ],
)  # fmt: skip
def test_a_filter_lets_through_what_it_says(where: dict[str, Any], fits: bool) -> None:
    assert compiled(where)(ENTRY) is fits


def deep(levels: int) -> dict[str, Any]:
    where: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        where = {"$not": where}
    return where


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"$where": "1"}, r"where\.\$where: there is no such operator"),
        ({"a": {"$regex": "(a+)+$"}}, r"where\.a\.\$regex: there is no such operator"),
        ({"a": {"$in": "x"}}, "list"),
        ({"a": {"$in": [0] * 1001}}, "1000"),
        ({"a": {"$gt": True}}, "number or a text"),
        ({"a": {"$gt": None}}, "number or a text"),
        ({"a": {"$exists": 1}}, "true or false"),
        ({"$or": []}, "list of filters"),
        ({"$or": [3]}, "must be an object"),
        (deep(20), "levels deep"),
        ({f"f{n}": 1 for n in range(300)}, "more than 200"),
    ],
)  # fmt: skip
def test_a_filter_that_makes_no_sense_says_where(where: dict[str, Any], words: str) -> None:
    with pytest.raises(BadFilter, match=words):
        compiled(where)


# --- passages --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def kept(threads: Threads) -> AsyncIterator[Passages]:
    yield Passages(threads)


async def put(kept: Passages, name: str, text: str, vector: list[float], base: str = "b", **metadata: Any) -> None:
    await kept.put(base, "0", name, text, text, metadata, [text], "m", [vector])


async def test_the_nearest_passages_are_found_while_documents_come_change_and_go(kept: Passages) -> None:
    for n in range(5):
        await put(kept, f"d{n}", f"text {n}", [1.0, n / 10])
    assert [passage.document for passage in await kept.near("b", "m", [1.0, 0.0], 2)] == ["d0", "d1"]
    await put(kept, "d0", "changed", [0.0, 1.0])
    await kept.drop("b", "0", "d1")
    found = await kept.near("b", "m", [1.0, 0.0], 2)
    assert [(passage.document, passage.text) for passage in found] == [("d2", "text 2"), ("d3", "text 3")]
    assert [passage.text for passage in await kept.near("b", "m", [0.0, 1.0], 1)] == ["changed"]
    assert await kept.near("b", "other", [1.0, 0.0], 2) == []
    assert await kept.near("b", "m", [1.0, 0.0, 0.0], 2) == []


async def test_a_search_that_nobody_waits_for_any_more_takes_nothing_in_twice(threads: Threads) -> None:
    began, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, length: int) -> None:
            self._numbers: list[int] = []

        def add(self, ids: Sequence[int], vectors: Any) -> None:
            began.set()
            assert go_on.wait(30)
            self._numbers += ids

        def search(self, vector: Any, k: int) -> list[tuple[int, float]]:
            return [(number, 1.0) for number in self._numbers][:k]

    kept = Passages(threads, Slow)
    await put(kept, "d", "text", [1.0, 0.0])
    async with anyio.create_task_group() as group:
        group.start_soon(kept.near, "b", "m", [1.0, 0.0], 5)
        assert await anyio.to_thread.run_sync(began.wait, 30)
        group.cancel_scope.cancel()
        go_on.set()
    assert [passage.document for passage in await kept.near("b", "m", [1.0, 0.0], 5)] == ["d"]


async def test_bases_do_not_see_each_other_and_one_is_erased_alone(kept: Passages) -> None:
    await put(kept, "x", "green tea", [1.0, 0.0])
    await put(kept, "x", "green paint", [1.0, 0.0], base="other")
    assert [passage.text for passage in await kept.search("b", "green", 5, "m", [1.0, 0.0])] == ["green tea"]
    await kept.erase("b")
    assert await kept.search("b", "green", 5, "m", [1.0, 0.0]) == []
    assert (await kept.tally("b")).passages == 0
    assert [passage.text for passage in await kept.search("other", "green", 5)] == ["green paint"]


async def test_words_and_meaning_together_decide_the_order(kept: Passages) -> None:
    await put(kept, "both", "green tea", [1.0, 0.0])
    await put(kept, "words", "green green green", [0.0, 1.0])
    await put(kept, "meaning", "matcha", [0.99, 0.1])
    found = await kept.search("b", "green tea", 3, "m", [1.0, 0.0])
    assert found[0].document == "both"
    assert {passage.document for passage in found} == {"both", "words", "meaning"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Green TEA, ok?", (["green", "tea"], ["ok"])),
        ("退货政策", (["退货政", "货政策"], [])),
        ("退货 policy", (["policy"], ["退货"])),
        ("カタカナ", (["カタカ", "タカナ"], [])),
        ('"*%_\\', ([], ["_"])),
        ("", ([], [])),
    ],
)  # fmt: skip
def test_what_is_looked_for_in_a_question(query: str, expected: tuple[list[str], list[str]]) -> None:
    assert terms(query) == expected
