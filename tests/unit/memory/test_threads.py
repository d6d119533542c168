"""Threads: what is added is there once and in order, what is looked for is found, what is erased is gone."""

from dataclasses import replace

import anyio
import pytest

from kastra.memory import rows
from kastra.memory.threads import Threads
from kastra.memory.windows import MAX_BODY

from .conftest import ANN, BOB

HELLO = [{"role": "user", "content": "Hello Bob"}, {"role": "assistant", "content": "你好，运行时很好"}]


async def said(threads: Threads, uid: str = ANN.uid) -> list[object]:
    return [row["message"].get("content") for row in await threads.page(uid, 0, 100)]


async def test_messages_are_kept_in_order_and_read_from_any_number_on(threads: Threads) -> None:
    await threads.add(ANN, HELLO, "one")
    await threads.add(ANN, [{"role": "user", "content": "again"}], "two")
    assert await said(threads) == ["Hello Bob", "你好，运行时很好", "again"]
    assert [row["seq"] for row in await threads.page(ANN.uid, 1, 1)] == [2]
    kept = await threads.load(ANN, 2)
    assert [seq for seq, _ in kept.messages] == [2, 3]
    assert (await threads.tally(ANN.uid)).messages == 3


async def test_the_same_messages_of_the_same_source_are_added_once(threads: Threads) -> None:
    for _ in range(3):
        await threads.add(ANN, HELLO, "one")
    assert len(await said(threads)) == 2


async def test_writers_at_the_same_time_get_numbers_of_their_own(threads: Threads) -> None:
    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(threads.add, ANN, HELLO, f"source {number}")
    assert [row["seq"] for row in await threads.page(ANN.uid, 0, 100)] == list(range(1, 81))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("bob", [1]),
        ("HELLO bob", [1]),
        ("运行", [2]),
        ("运行时", [2]),
        ("好", [2]),
        ("lo", [1]),
        ("bob 运行", []),
        ('"', []),
        ("%", []),
    ],
    ids=["case", "words", "two-signs", "three-signs", "one-sign", "two-letters", "both-words", "quote", "wildcard"],
)
async def test_a_search_finds_every_word_in_any_script(threads: Threads, query: str, found: list[int]) -> None:
    await threads.add(ANN, HELLO, "one")
    assert [row["seq"] for row in await threads.search(ANN.uid, query)] == found
    assert await threads.search(BOB.uid, query) == []


async def test_a_search_for_nothing_is_refused(threads: Threads) -> None:
    with pytest.raises(ValueError, match="say what to look for"):
        await threads.search(ANN.uid, " \0 ")


async def test_a_message_that_is_too_long_is_shortened_and_says_so(threads: Threads) -> None:
    await threads.add(ANN, [{"role": "user", "content": "x" * (10 * MAX_BODY)}], "one")
    (text,) = await said(threads)
    assert isinstance(text, str)
    assert "are more than memory keeps" in text
    assert len(text) < MAX_BODY


async def test_text_with_a_zero_byte_is_kept_whole_and_found(threads: Threads) -> None:
    await threads.add(ANN, [{"role": "user", "content": "before\0after"}], "one")
    assert await said(threads) == ["before\0after"]
    assert len(await threads.search(ANN.uid, "after")) == 1


async def test_a_copy_has_everything_and_goes_on_by_itself(threads: Threads) -> None:
    await threads.add(ANN, HELLO, "one")
    for _ in range(2):
        await threads.clone(ANN.uid, BOB.uid)
    await threads.add(BOB, [{"role": "user", "content": "more"}], "two")
    assert await said(threads, BOB.uid) == ["Hello Bob", "你好，运行时很好", "more"]
    assert len(await said(threads)) == 2
    await threads.erase(ANN)
    assert [row["seq"] for row in await threads.search(BOB.uid, "运行时")] == [2]


async def test_what_is_erased_is_gone_from_rows_and_index(threads: Threads) -> None:
    await threads.add(ANN, [{"role": "user", "content": "the password is xyzzyplugh"}], "one")
    await threads.commit([rows.valued(ANN, rows.thread_scope(ANN.uid), "working", "xyzzyplugh", threads.now())])
    assert (await threads.load(ANN, 1)).values
    await threads.erase(ANN)
    assert (await threads.load(ANN, 1)).values == {}
    assert (await threads.read(("SELECT count(*) FROM messages", ())))[0] == [(0,)]
    assert (await threads.read(("SELECT count(*) FROM messages_fts WHERE messages_fts MATCH 'xyzzy'", ())))[0] == [(0,)]
    assert (await threads.read(("SELECT count(*) FROM embeddings", ())))[0] == [(0,)]


async def test_an_erased_thread_takes_no_message_any_more(threads: Threads) -> None:
    await threads.erase(ANN)
    await threads.add(ANN, HELLO, "late")
    assert await said(threads) == []
    assert (await threads.read(("SELECT count(*) FROM messages", ())))[0] == [(0,)]


async def test_many_messages_are_erased_in_portions(threads: Threads) -> None:
    for number in range(3):
        await threads.add(ANN, [{"role": "user", "content": str(index)} for index in range(400)], f"source {number}")
    await threads.erase(ANN)
    assert (await threads.read(("SELECT count(*) FROM messages", ())))[0] == [(0,)]


async def test_nobody_waits_at_the_end_for_a_thread_that_is_erased(threads: Threads) -> None:
    threads.news = lambda _namespace, _name: None
    await threads.add(ANN, HELLO, "one")
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(threads.looked_at)
            await anyio.wait_all_tasks_blocked()
            await threads.erase(ANN)


async def test_the_memory_of_a_resource_goes_with_its_last_thread(threads: Threads) -> None:
    other = replace(BOB, resource="ann")
    await threads.open(other)
    scope = rows.scope_of(ANN, "resource")
    await threads.commit([rows.valued(ANN, scope, "working", "likes tea", threads.now())])
    await threads.erase(ANN)
    assert (await threads.load(other, 1)).values == {(scope, "working"): "likes tea"}
    await threads.erase(other)
    assert (await threads.read(("SELECT count(*) FROM kv", ())))[0] == [(0,)]


async def test_messages_that_are_too_old_are_erased_and_the_rest_stays(threads: Threads) -> None:
    await threads.add(ANN, HELLO, "one")
    newest = (await threads.tally(ANN.uid)).newest
    await threads.expire(ANN, newest)
    assert len(await said(threads)) == 2
    await threads.expire(ANN, newest + 1)
    assert await said(threads) == []
    await threads.add(ANN, HELLO, "two")
    assert [row["seq"] for row in await threads.page(ANN.uid, 0, 9)] == [3, 4]


async def test_turns_with_a_thread_are_taken_one_after_the_other(threads: Threads) -> None:
    order: list[int] = []

    async def go_on(number: int) -> None:
        turn = threads.turn(ANN.uid)
        await turn.take()
        order.append(number)
        await anyio.lowlevel.checkpoint()
        order.append(number)
        turn.release()

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(go_on, number)
    assert order == [0, 0, 1, 1, 2, 2]
    assert threads.turn(ANN.uid).free
