"""A process that runs one LangGraph graph on Kastra's checkpointer and can be killed at any commit.

    python -m tests.crash.langgraph_workload

Jobs come to the fork server of `tests.crash.forks`. Every node appends its name to `effects` before it returns. What the
file holds of finished nodes when a job begins is appended to `found`, as one line of names; the graph's last state is
written to `output`.
"""

import json
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from kastra import failpoint
from kastra.langgraph import KastraSaver
from tests.crash.forks import serve

THREAD: Any = {"configurable": {"thread_id": "t"}}


@dataclass(frozen=True)
class Job:
    """One process; `failpoints` kills it, as `kastra.failpoint.arm` takes it."""

    folder: str
    failpoints: str = ""


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    answer: str


def graph_of(effects: Path) -> StateGraph[Any, Any, Any, Any]:
    """Three nodes, three at once, a question, two nodes of a subgraph."""

    def effect(name: str) -> State:
        with effects.open("a") as file:
            file.write(name + "\n")
        return {"log": [name]}

    def ask(state: State) -> State:
        answer = interrupt("go on?")
        return {"answer": answer, **effect("ask")}

    inner = StateGraph(State)
    inner.add_node("x", lambda state: effect("x"))
    inner.add_node("y", lambda state: effect("y"))
    inner.add_edge(START, "x")
    inner.add_edge("x", "y")

    builder = StateGraph(State)
    for name in "abc":
        builder.add_node(name, lambda state, name=name: effect(name))
    builder.add_node("one", effect)
    builder.add_node("ask", ask)
    compiled = inner.compile()
    builder.add_node("inner", lambda state: {"log": compiled.invoke({"log": []})["log"]})
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    builder.add_edge("b", "c")
    builder.add_conditional_edges("c", lambda state: [Send("one", f"one{number}") for number in range(3)])
    builder.add_edge("one", "ask")
    builder.add_edge("ask", "inner")
    builder.add_edge("inner", END)
    return builder


def finished(saver: KastraSaver) -> list[str]:
    """The nodes whose results the file holds, those of subgraphs included."""
    names: list[str] = []
    for found in saver.list(THREAD):
        names += found.checkpoint["channel_values"].get("log", [])
        for _, channel, value in found.pending_writes or ():
            names += value if channel == "log" else []
    return sorted(set(names))


def run(job: Job) -> None:
    """Bring the graph to its end."""
    folder = Path(job.folder)
    with KastraSaver(folder / "g.db") as saver:
        with (folder / "found").open("a") as file:
            file.write(" ".join(finished(saver)) + "\n")
        graph = graph_of(folder / "effects").compile(checkpointer=saver)
        begun = saver.get_tuple(THREAD) is not None
        failpoint.arm(job.failpoints)
        # Without an input LangGraph goes on from the last checkpoint; a question that is open is asked again.
        done: Any = graph.invoke(None if begun else {"log": []}, THREAD, durability="sync")
        if "__interrupt__" in done:
            done = graph.invoke(Command(resume="yes"), THREAD, durability="sync")
    failpoint.arm("")
    (folder / "output").write_text(json.dumps({"log": done["log"], "answer": done["answer"]}))


if __name__ == "__main__":
    serve(Job, run)
