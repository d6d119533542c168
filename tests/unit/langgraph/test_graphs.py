"""Real graphs of LangGraph's on Kastra's checkpointer: interrupts, subgraphs, time travel, forks, delta channels, many at once."""

import asyncio
import operator
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

import kastra
from kastra.config import Settings
from kastra.langgraph import KastraSaver


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    answer: str


def ten_steps(ran: list[str]) -> StateGraph[Any, Any, Any, Any]:
    builder = StateGraph(State)
    previous = START
    for number in range(10):

        def node(state: State, number: int = number) -> State:
            ran.append(f"s{number}")
            return {"log": [f"s{number}"]}

        builder.add_node(f"s{number}", node)
        builder.add_edge(previous, f"s{number}")
        previous = f"s{number}"
    builder.add_edge(previous, END)
    return builder


def asking() -> StateGraph[Any, Any, Any, Any]:
    builder = StateGraph(State)
    builder.add_node("before", lambda state: {"log": ["before"]})
    builder.add_node("ask", lambda state: {"answer": interrupt({"question": "Publish?"}), "log": ["ask"]})
    builder.add_edge(START, "before")
    builder.add_edge("before", "ask")
    return builder


def config(thread: str, **more: str) -> Any:
    return {"configurable": {"thread_id": thread, **more}}


def test_a_graph_that_asks_goes_on_in_another_process_with_the_answer(tmp_path: Path) -> None:
    with KastraSaver(tmp_path / "g.db") as saver:
        graph = asking().compile(checkpointer=saver)
        asked = graph.invoke({"log": []}, config("t"), durability="sync")
        assert asked["__interrupt__"][0].value == {"question": "Publish?"}

    with KastraSaver(tmp_path / "g.db") as saver:
        graph = asking().compile(checkpointer=saver)
        assert graph.get_state(config("t")).next == ("ask",)

        done = graph.invoke(Command(resume="yes"), config("t"), durability="sync")

    assert done == {"log": ["before", "ask"], "answer": "yes"}


async def test_the_asynchronous_interface_does_the_same(tmp_path: Path) -> None:
    async with KastraSaver(tmp_path / "g.db") as saver:
        graph = asking().compile(checkpointer=saver)
        await graph.ainvoke({"log": []}, config("t"))
        assert await graph.ainvoke(Command(resume="no"), config("t")) == {"log": ["before", "ask"], "answer": "no"}
        steps = [found.metadata["step"] async for found in graph.aget_state_history(config("t")) if found.metadata]

    assert steps == [2, 1, 0, -1]


def test_a_subgraph_keeps_its_own_state_and_its_own_question() -> None:
    inner = asking().compile()
    outer = StateGraph(State)
    outer.add_node("inner", inner)
    outer.add_edge(START, "inner")
    with KastraSaver(":memory:") as saver:
        graph = outer.compile(checkpointer=saver)
        graph.invoke({"log": []}, config("t"), durability="sync")
        waiting = graph.get_state(config("t"), subgraphs=True)
        assert waiting.tasks[0].state.values["log"] == ["before"]  # type: ignore[union-attr]

        done = graph.invoke(Command(resume="ok"), config("t"), durability="sync")

        namespaces = {found.config["configurable"]["checkpoint_ns"].split(":")[0] for found in saver.list(config("t"))}

    assert done["answer"] == "ok"
    assert namespaces == {"", "inner"}


def test_a_thread_can_go_back_in_time_and_branch() -> None:
    with KastraSaver(":memory:") as saver:
        graph = ten_steps([]).compile(checkpointer=saver)
        graph.invoke({"log": []}, config("t"), durability="sync")
        history = list(graph.get_state_history(config("t")))
        third = next(found for found in history if found.next == ("s3",))

        branched = graph.update_state(third.config, {"log": ["elsewhere"]})
        done = graph.invoke(None, branched, durability="sync")

        original = graph.get_state(history[0].config)

    assert original.values["log"] == [f"s{number}" for number in range(10)]
    assert done["log"] == ["s0", "s1", "s2", "elsewhere", *(f"s{number}" for number in range(3, 10))]


def test_a_step_stores_what_it_changed_and_no_more(tmp_path: Path) -> None:
    class Large(TypedDict, total=False):
        document: str
        count: Annotated[int, operator.add]

    builder = StateGraph(Large)
    builder.add_node("count", lambda state: {"count": 1})
    builder.add_edge(START, "count")
    builder.add_conditional_edges("count", lambda state: END if state["count"] >= 20 else "count")
    with KastraSaver(tmp_path / "g.db") as saver:
        done = builder.compile(checkpointer=saver).invoke(
            {"document": "x" * 200_000, "count": 0}, config("t"), durability="sync"
        )

    assert done["count"] == 20
    assert (tmp_path / "g.db").stat().st_size < 5 * 200_000


def test_delta_channels_survive_pruning() -> None:
    from langgraph.channels.delta import DeltaChannel

    def extended(found: list[str] | None, writes: Any) -> list[str]:
        return [*(found or ()), *(item for write in writes for item in write)]

    class Growing(TypedDict, total=False):
        log: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=4)]

    builder = StateGraph(Growing)
    builder.add_node("more", lambda state: {"log": [f"n{len(state['log'])}"]})
    builder.add_edge(START, "more")
    builder.add_conditional_edges("more", lambda state: END if len(state["log"]) >= 11 else "more")
    with KastraSaver(":memory:") as saver:
        graph = builder.compile(checkpointer=saver)
        before = graph.invoke({"log": []}, config("t"), durability="sync")["log"]
        count = len(list(saver.list(config("t"))))

        saver.prune(["t"])

        assert graph.get_state(config("t")).values["log"] == before
        assert len(before) == 11
        assert len(list(saver.list(config("t")))) < count


def test_a_failed_node_is_run_again_and_its_finished_neighbour_is_not() -> None:
    ran: list[str] = []

    def good(state: State) -> State:
        ran.append("good")
        return {"log": ["good"]}

    def bad(state: State) -> State:
        ran.append("bad")
        if ran.count("bad") == 1:
            # Fails when its neighbour's result is on the disk.
            deadline = time.monotonic() + 20
            while not any(write[2] == ["good"] for write in saver.get_tuple(config("t")).pending_writes or ()):  # type: ignore[union-attr]
                assert time.monotonic() < deadline
                threading.Event().wait(0.005)
            raise ConnectionError("no network")
        return {"log": ["bad"]}

    builder = StateGraph(State)
    builder.add_node("good", good)
    builder.add_node("bad", bad)
    builder.add_edge(START, "good")
    builder.add_edge(START, "bad")
    with KastraSaver(":memory:") as saver:
        graph = builder.compile(checkpointer=saver)
        with pytest.raises(ConnectionError):
            graph.invoke({"log": []}, config("t"), durability="sync")
        done = graph.invoke(None, config("t"), durability="sync")

    assert sorted(done["log"]) == ["bad", "good"]
    assert sorted(ran) == ["bad", "bad", "good"]


def test_a_fan_out_of_a_hundred_ends_in_order() -> None:
    builder = StateGraph(State)
    builder.add_node("work", lambda item: {"log": [item]})
    builder.add_conditional_edges(START, lambda state: [Send("work", f"{number:03}") for number in range(100)])
    with KastraSaver(":memory:") as saver:
        done = builder.compile(checkpointer=saver).invoke({"log": []}, config("t"), durability="sync")

    assert done["log"] == [f"{number:03}" for number in range(100)]


@pytest.mark.timeout(120)
def test_many_threads_share_one_checkpointer(tmp_path: Path) -> None:
    with KastraSaver(tmp_path / "g.db") as saver:
        graph = ten_steps([]).compile(checkpointer=saver)

        def run(number: int) -> list[str]:
            found: list[str] = graph.invoke({"log": []}, config(f"t{number}"), durability="sync")["log"]
            return found

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(run, range(24)))
        assert len(list(saver.list(None))) == 24 * 12

    assert all(result == [f"s{number}" for number in range(10)] for result in results)


async def test_graphs_share_the_file_of_an_open_kastra(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path, data=tmp_path)
    async with kastra.open(tmp_path / "k.db", settings=settings, reconcile=False, execute=False) as k:
        saver = await k.checkpointer()
        graph = ten_steps([]).compile(checkpointer=saver)
        done = await asyncio.gather(*(graph.ainvoke({"log": []}, config(f"t{number}")) for number in range(20)))
        assert all(len(one["log"]) == 10 for one in done)

        with pytest.raises(RuntimeError, match="use the graph's asynchronous methods"):
            graph.get_state(config("t0"))
        elsewhere = await asyncio.to_thread(graph.get_state, config("t0"))
        assert len(elsewhere.values["log"]) == 10

    async with kastra.open(tmp_path / "k.db", settings=settings, reconcile=False, execute=False) as k:
        again = ten_steps([]).compile(checkpointer=await k.checkpointer())
        assert len((await again.aget_state(config("t7"))).values["log"]) == 10


def test_one_checkpointer_serves_several_event_loops_at_once() -> None:
    with KastraSaver(":memory:") as saver:
        graph = ten_steps([]).compile(checkpointer=saver)
        results: dict[str, Any] = {}

        def loop(name: str) -> None:
            results[name] = asyncio.run(graph.ainvoke({"log": []}, config(name)))

        threads = [threading.Thread(target=loop, args=(f"loop{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [len(results[f"loop{number}"]["log"]) for number in range(4)] == [10] * 4
