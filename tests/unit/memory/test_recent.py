"""What one answer leaves of a thread to the next one: never anything else than the thread holds."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from kastra.agent.loop import Agent
from kastra.agent.memory import AgentMemory, converse
from kastra.cel import Template, environment
from kastra.clock import SystemClock
from kastra.engine.direct import DirectContext
from kastra.memory import rows
from kastra.memory.interface import MemorySpec, RecallSpec, ThreadKey
from kastra.memory.recall import Recall
from kastra.memory.recent import MOST_BYTES, MOST_OF_ONE, Kept, Recent
from kastra.memory.threads import Threads
from kastra.model.chain import ModelEntry
from kastra.model.embedding import Embedded
from kastra.model.interface import Message, ModelError, ModelRequest, ModelResponse

from .conftest import ANN, BOB

NOTE: list[Message] = [{"role": "user", "content": "from elsewhere"}]


@dataclass
class Listening:
    """A model that remembers what it was shown, and lets something happen meanwhile."""

    meanwhile: Callable[[], Awaitable[None]] | None = None
    shown: list[list[str]] = field(default_factory=list)

    async def generate(self, request: ModelRequest) -> ModelResponse:
        self.shown.append([str(message.get("content")) for message in request.messages])
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            await happens()
        return ModelResponse(text=f"answer {len(self.shown)}")


@dataclass
class Counting:
    """Makes equal vectors, unless it is broken and asked for several."""

    broken: bool = False
    asked: list[int] = field(default_factory=list)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        self.asked.append(len(texts))
        if self.broken and len(texts) > 1:
            raise ModelError("unavailable", "the embedder is being repaired")
        return Embedded([[1.0, 0.0] for _ in texts], {})


@pytest.fixture
def model() -> Listening:
    return Listening()


async def ask(
    threads: Threads,
    model: Listening,
    text: str,
    thread: ThreadKey = ANN,
    last_messages: int = 4,
    embedder: Counting | None = None,
) -> None:
    spec = MemorySpec(last_messages, recall=None if embedder is None else RecallSpec())
    remembers = AgentMemory(spec, embedder=embedder, model="e")
    agent = Agent("a", Template.compile("", environment()), [ModelEntry("m", model)], memory=remembers)
    await converse(agent, DirectContext(commit=threads.commit), text, SystemClock(), Recall(threads), thread)


async def said(threads: Threads, uid: str = ANN.uid) -> list[tuple[int, str]]:
    return [(row["seq"], row["message"]["content"]) for row in await threads.page(uid, 0, 100)]


async def test_what_is_known_of_a_thread_is_what_would_be_read(threads: Threads, model: Listening) -> None:
    for text in ("one", "two", "three", "four"):
        await ask(threads, model, text)
    assert model.shown[-1] == ["two", "answer 2", "three", "answer 3", "four"]
    kept = threads.recent.take(ANN.uid)
    read = await threads.load(ANN, 4)
    assert kept == read
    assert [seq for seq, _ in await said(threads)] == list(range(1, 9))


async def test_what_is_added_from_elsewhere_is_seen_by_the_next_answer(threads: Threads, model: Listening) -> None:
    await ask(threads, model, "one")
    await threads.add(ANN, NOTE, "elsewhere")
    await ask(threads, model, "two")
    assert model.shown[-1] == ["one", "answer 1", "from elsewhere", "two"]


async def test_what_is_added_during_an_answer_comes_before_it_and_is_not_forgotten(
    threads: Threads, model: Listening
) -> None:
    await ask(threads, model, "one")
    model.meanwhile = lambda: threads.add(ANN, NOTE, "elsewhere")
    await ask(threads, model, "two")
    assert await said(threads) == list(enumerate(["one", "answer 1", "from elsewhere", "two", "answer 2"], 1))
    await ask(threads, model, "three")
    assert model.shown[-1] == ["from elsewhere", "two", "answer 2", "three"]


async def test_what_is_written_unseen_by_this_process_costs_no_message_its_place(
    threads: Threads, model: Listening
) -> None:
    await ask(threads, model, "one")
    entries = [rows.Entry(rows.message_uid("late", "", 0), NOTE[0])]
    await threads.commit(rows.appended(ANN.uid, entries, "late", "", threads.now()))
    await ask(threads, model, "two")
    assert await said(threads) == list(enumerate(["one", "answer 1", "from elsewhere", "two", "answer 2"], 1))
    await ask(threads, model, "three", last_messages=5)
    assert model.shown[-1] == ["one", "answer 1", "from elsewhere", "two", "answer 2", "three"]


async def test_an_erased_thread_is_not_remembered_and_takes_nothing_more(threads: Threads, model: Listening) -> None:
    await ask(threads, model, "one")
    model.meanwhile = lambda: threads.erase(ANN)
    await ask(threads, model, "two")
    assert await said(threads) == []
    await threads.open(ANN)
    await ask(threads, model, "three")
    assert model.shown[-1] == ["three"]


async def test_messages_that_expired_are_not_seen_again(threads: Threads, model: Listening) -> None:
    await ask(threads, model, "one")
    await threads.expire(ANN, threads.now() + 1000)
    await ask(threads, model, "two")
    assert model.shown[-1] == ["two"]
    assert await said(threads) == [(3, "two"), (4, "answer 2")]


async def test_an_answer_that_fails_leaves_nothing_to_the_next(threads: Threads, model: Listening) -> None:
    async def fail() -> None:
        raise OSError("the model's machine is gone")

    await ask(threads, model, "one")
    model.meanwhile = fail
    with pytest.raises(OSError, match="machine is gone"):
        await ask(threads, model, "two")
    assert threads.recent.take(ANN.uid) is None
    await ask(threads, model, "three")
    assert model.shown[-1] == ["one", "answer 1", "three"]


async def test_threads_are_told_apart_and_more_messages_are_read(threads: Threads, model: Listening) -> None:
    await ask(threads, model, "one")
    await ask(threads, model, "two", BOB)
    assert model.shown[-1] == ["two"]
    await ask(threads, model, "three", last_messages=6)
    assert model.shown[-1] == ["one", "answer 1", "three"]


async def test_every_message_gets_its_vector_also_what_failed_or_came_from_elsewhere(
    threads: Threads, model: Listening
) -> None:
    embedder, recall = Counting(), Recall(threads)
    await ask(threads, model, "one", embedder=embedder)
    await ask(threads, model, "two", embedder=embedder)
    embedder.broken = True
    await ask(threads, model, "three", embedder=embedder)
    assert [text for _, text in await recall.without(ANN, "e", 9)] == ["answer 3", "three"]
    embedder.broken = False
    await ask(threads, model, "four", embedder=embedder)
    assert embedder.asked == [1, 2, 1, 2, 1, 2, 1, 4]
    await threads.add(ANN, NOTE, "elsewhere")
    await ask(threads, model, "five", embedder=embedder)
    assert embedder.asked[-1] == 3
    assert await recall.without(ANN, "e", 9) == []


def test_it_keeps_so_much_and_what_was_used_longest_ago_goes_first() -> None:
    recent = Recent()
    recent.keep("huge", Kept([(1, b"x" * MOST_OF_ONE)], {}, 1, 10), recent.version)
    assert recent.take("huge") is None
    size = MOST_OF_ONE // 2
    names = [str(number) for number in range(2 * MOST_BYTES // MOST_OF_ONE + 2)]
    for name in names:
        recent.keep(name, Kept([(1, bytes(size))], {}, 1, 10), recent.version)
    found = [name for name in names if recent.take(name)]
    assert 0 < len(found) < len(names)
    assert found == names[-len(found) :]


def test_what_was_read_before_something_was_voided_is_not_kept() -> None:
    recent = Recent()
    version = recent.version
    recent.void("other")
    recent.keep("t", Kept([(1, b"{}")], {}, 1, 10), version)
    assert recent.take("t") is None
