"""Workflows out of every kind of step and every field that says how a step goes, made by hypothesis.

A `Batch` is several Runs that one process executes together, and what the outside world does to them. Nothing in it hangs on chance:
where branches go on at the same time, either none ends the others, or which one does is certain. So `tests.crash.oracle` can say what
comes of it, and only what a branch that was cut short has got done is left open.
"""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.crash.oracle import LONG

Step = dict[str, Any]
TIME = "2020-01-01T00:00:00Z"
SOON = "4ms"
RETRY = {"limit": 1, "initialInterval": "1ms", "backoff": 1, "jitter": 0}


@dataclass
class Batch:
    """Runs, and what happens to them.

    Args:
        specs: of the Runs' workflows, by uid.
        inputs: by uid.
        events: `{run, event, how}` in their order; `how` is early, late (once the Run waits for it), twice, or signal.
        answers: by uid what its steps are resumed with, by stepKey.
    """

    specs: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)


def tool(step_id: str, name: str = "t", **fields: Any) -> Step:
    return {"id": step_id, "tool": {"name": name}, **fields}


CHILDREN: dict[str, Any] = {
    "plain": {
        "steps": [tool("a", compensate={"steps": [tool("undo")]}), {"id": "nap", "sleep": {"duration": SOON}}, tool("b")],
        "finally": [tool("clean")],
    },
    "fails": {
        "onError": "compensate",
        "steps": [tool("a", compensate={"steps": [tool("undo")]}), tool("no", "broken", retry={"limit": 0})],
    },
    "tells": {"steps": [{"id": "tell", "emit": {"type": "told", "data": {"n": 1}}}, tool("a")], "output": {"as": {"all": "${{ output }}"}}},
}  # fmt: skip
"""Workflows that `workflow` steps call."""


@dataclass
class Place:
    """Where a step is generated.

    Args:
        depth: scopes that may still be opened below.
        alone: whether nothing else of the Run goes on at the same time.
        again: whether the step may be executed more than once.
        sure: ids of tool steps that have run for certain and can be seen.
        names: numbers that expressions can use.
        key: prefix of the stepKeys here; None where there is none for certain.
    """

    depth: int
    alone: bool = True
    again: bool = False
    sure: tuple[str, ...] = ()
    names: tuple[str, ...] = ("input.n",)
    key: str | None = ""

    def inside(self, **changes: Any) -> "Place":
        return Place(**{**self.__dict__, "depth": self.depth - 1, "key": None, **changes})


class Maker:
    """Makes one Run of a batch."""

    def __init__(self, draw: st.DrawFn, uid: str, batch: Batch) -> None:
        self.draw, self.uid, self.batch = draw, uid, batch
        self.count = 0

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def flip(self, out_of: int = 2) -> bool:
        return bool(self.draw(st.integers(0, out_of - 1)) == out_of - 1)

    def id(self, prefix: str = "s") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def number(self, place: Place) -> str:
        """An expression that is a number."""
        return str(self.pick(*place.names, *(f"steps.{name}.output.n" for name in place.sure)))

    def condition(self, place: Place) -> str:
        divisor = self.pick(2, 3)
        return f"{self.number(place)} % {divisor} == {self.draw(st.integers(0, divisor - 1))}"

    # --- scopes ----------------------------------------------------------------------------------------------------

    def body(self, place: Place, least: int = 1, most: int = 3) -> list[Step]:
        """The steps of a Sequence."""
        found: list[Step] = []
        for _ in range(self.draw(st.integers(least, most))):
            made = self.steps(place)
            found += made
            sure = tuple(
                step["id"]
                for step in made
                if "tool" in step and not {"when", "catch", "output", "continueOnError"} & set(step)
            )
            place = Place(**{**place.__dict__, "sure": (*place.sure, *sure)[-3:]})
        return found

    def steps(self, place: Place) -> list[Step]:
        """A step of any kind, or two that belong together."""
        kinds = ["tool", "tool", "agent", "sleep", "sleepUntil", "set", "emit", "event", "hold", "ask", "caught", "timeout", "workflow", "network"]  # fmt: skip
        if place.depth > 0:
            kinds += ["do", "graph", "parallel", "cut", "branch", "loop", "each", "tolerant", "again"] * 2
        if place.alone and place.depth > 0:
            kinds += ["cycle", "memo", "jump"]
        made = getattr(self, "a_" + self.draw(st.sampled_from(kinds)))(place)
        return made if isinstance(made, list) else [made]

    # --- leaves ----------------------------------------------------------------------------------------------------

    def a_tool(self, place: Place) -> Step:
        step = tool(self.id())
        way = self.pick("plain", "plain", "when", "shaped", "exported", "undone", "flaky", "once", "held")
        if self.flip():
            step["input"] = {
                "with": {"v": self.pick("${{ prev }}", f"${{{{ {self.number(place)} + 1 }}}}"), "k": self.count}
            }
        if way == "when":
            step["when"] = self.condition(place)
        elif way == "shaped":
            step["output"] = {"as": {"n": "${{ output.n % 100 }}", "all": "${{ output }}"}}
        elif way == "exported":
            step["output"] = {"export": {step["id"]: "${{ output.n }}"}}
        elif way == "undone":
            undo = tool(self.id(), input={"with": {"n": "${{ output.n }}"}})
            step["compensate"] = {"steps": [undo, tool(self.id())]}
        elif way == "flaky":
            step["tool"] = {"name": "flaky"}
        elif way in ("once", "held"):
            step |= {"delivery": "AtMostOnce", "onInDoubt": "probe" if way == "once" else "suspend"}
        return step

    def a_agent(self, place: Place) -> Step:
        return {"id": self.id(), "agent": {"name": "a"}, "input": {"with": "go"}}

    def a_network(self, place: Place) -> Step:
        return {"id": self.id(), "network": {"name": "n"}, "input": {"with": "go"}}

    def a_workflow(self, place: Place) -> Step:
        name = self.pick("plain", "plain", "tells", "fails")
        step: Step = {
            "id": self.id(),
            "workflow": {"name": name},
            "input": {"with": {"n": f"${{{{ {self.number(place)} }}}}"}},
        }
        return step | ({"catch": [{"output": {"type": "${{ error.type }}"}}]} if name == "fails" else {})

    def a_sleep(self, place: Place) -> Step:
        return {"id": self.id(), "sleep": {"duration": self.pick("1ms", SOON)}}

    def a_sleepUntil(self, place: Place) -> Step:
        return {"id": self.id(), "sleepUntil": TIME}

    def a_set(self, place: Place) -> Step:
        step_id = self.id()
        return {"id": step_id, "set": {step_id: self.pick("${{ prev }}", 7, f"${{{{ {self.number(place)} }}}}")}}

    def a_emit(self, place: Place) -> Step:
        return {"id": self.id(), "emit": {"type": "told", "data": {"v": "${{ prev }}"}}}

    # --- waits -----------------------------------------------------------------------------------------------------

    def send(self, type_: str, how: str, **data: Any) -> None:
        number = len(self.batch.events)
        event = {"specversion": "1.0", "id": f"e{number}", "source": "/shop", "type": type_, "time": TIME, "data": data}
        self.batch.events.append({"run": self.uid, "event": event, "how": how})

    def a_event(self, place: Place) -> Step:
        step_id = self.id()
        type_ = f"{self.uid}.{step_id}"
        wait: dict[str, Any] = {"type": type_}
        if place.again or self.flip(5):
            # Nobody sends one; what comes too late isn't taken.
            wait |= {"timeout": SOON, "onTimeout": "continue"}
        else:
            how = self.pick("early", "late", "twice", "signal")
            wait["timeout"] = "1h"
            if self.flip(3):
                wait["count"] = 2
                self.send(type_, how, n=1)
            elif self.flip(3):
                wait["filter"] = "event.data.n == 2"
                self.send(type_, "early" if how == "late" else how, n=1)
            elif self.flip(3):
                wait["correlate"] = {"n": "2"}
            self.send(type_, how, n=2)
        return {"id": step_id, "waitForEvent": wait}

    def a_hold(self, place: Place) -> Step:
        step_id = self.id()
        hold: dict[str, Any] = {"reason": "why not", "timeout": SOON, "onTimeout": "continue"}
        if place.key is not None and not place.again and not self.flip(4):
            hold["timeout"] = "1h"
            self.batch.answers[self.uid][place.key + step_id] = {"n": self.count}
        return {"id": step_id, "suspend": hold}

    def a_ask(self, place: Place) -> Step:
        answer = self.pick("yes", "yes", "no")
        asked = {"message": answer, "timeout": "1h", "onReject": self.pick("continue", "fail")}
        step: Step = {"id": self.id(), "approve": asked}
        return step | ({"catch": [{"errors": ["authorization"], "steps": [tool(self.id())]}]} if answer == "no" else {})

    # --- failures --------------------------------------------------------------------------------------------------

    def failing(self, place: Place) -> Step:
        """A step that fails, whatever is done."""
        kind = self.pick("broken", "refuse", "raise", "loop", "child", "event", "hold")
        if kind in ("broken", "refuse"):
            return tool(self.id(), kind, retry={"limit": self.pick(0, 1)})
        if kind == "raise":
            return {"id": self.id(), "raise": {"type": self.pick("tool", "too-much"), "title": "no"}}
        if kind == "loop":
            return {
                "id": self.id(),
                "loop": {"until": "iteration >= 9", "maxIterations": 2, "steps": [tool(self.id())]},
            }
        if kind == "child":
            return {"id": self.id(), "workflow": {"name": "fails"}}
        if kind == "event":
            return {"id": self.id(), "waitForEvent": {"type": "never", "timeout": SOON}}
        return {"id": self.id(), "suspend": {"timeout": SOON, "onTimeout": "fail"}}

    def a_caught(self, place: Place) -> Step:
        step = self.failing(place)
        way = self.pick("steps", "output", "goes on", "when")
        if way == "goes on":
            return step | {"continueOnError": True}
        catch: dict[str, Any] = {"output": {"caught": "${{ error.type }}"}}
        if way == "steps":
            catch = {
                "as": "problem",
                "steps": [tool(self.id(), input={"with": {"e": "${{ error }}"}}), tool(self.id())],
            }
        elif way == "when":
            return step | {"catch": [{"when": 'error.type == "nothing"', "output": 1}, {**catch, "errors": []}]}
        return step | {"catch": [catch]}

    def a_timeout(self, place: Place) -> Step:
        catch = [{"errors": ["timeout"], "output": {"late": True}}]
        return tool(self.id(), "hang", timeout={"attempt": "8ms"}, retry={"limit": self.pick(0, 1)}, catch=catch)

    def a_again(self, place: Place) -> Step:
        """A step of steps that fails, is tried again as a whole, and is caught."""
        refuse = tool(self.id(), "refuse", retry={"limit": 0})
        catch = [{"output": "${{ error.type }}"}]
        step: Step = {"id": self.id(), "retry": RETRY, "catch": catch}
        undone = tool(self.id(), compensate={"steps": [tool(self.id())]})
        if self.flip():
            return step | {"do": {"steps": [undone, refuse]}}
        return step | {"parallel": {"oneFails": True, "steps": [undone, refuse, tool(self.id())]}}

    # --- steps that hold steps -------------------------------------------------------------------------------------

    def a_do(self, place: Place) -> Step:
        step_id = self.id()
        key = None if place.key is None else f"{place.key}{step_id}/"
        return {"id": step_id, "do": {"steps": self.body(place.inside(key=key, again=place.again))}}

    def a_graph(self, place: Place) -> Step:
        inner = place.inside(alone=False)
        found: list[Step] = []
        for number in range(self.pick(2, 3, 4)):
            step = (
                self.a_tool(inner)
                if self.flip()
                else self.pick(self.a_agent, self.a_sleep, self.a_emit, self.a_set)(inner)
            )
            known = [other["id"] for other in found]
            if number == 1 or (known and self.flip()):
                step["dependsOn"] = list(self.draw(st.sets(st.sampled_from(known), min_size=1, max_size=2)))
                step["dependsOn"].sort(key=known.index)
                if len(step["dependsOn"]) == 1 and self.flip(3):
                    step["dependsOn"] = f'steps.{step["dependsOn"][0]}.status == "Succeeded"'
            if "when" in step and self.flip():
                step["onSkip"] = "skipDependents"
            found.append(step)
        return {"id": self.id(), "do": {"flow": "DAG", "steps": found}}

    def a_parallel(self, place: Place) -> Step:
        inner = place.inside(alone=False)
        join = self.pick("all", "settled", "settled")
        steps = [step for _ in range(self.pick(2, 3)) for step in self.steps(inner)[:1]]
        if join == "settled":
            steps.append(tool(self.id(), "broken", retry={"limit": 0}))
        body: dict[str, Any] = {"join": join, "steps": steps}
        if self.flip(3):
            body["maxConcurrency"] = 2
        return {"id": self.id(), "parallel": body}

    def a_cut(self, place: Place) -> Step:
        """A parallel that ends before its children have."""
        never = {"id": self.id(), "sleep": {"duration": LONG}}
        broken = tool(self.id(), "broken", retry={"limit": 0})
        sure = [tool(self.id("sure")) for _ in range(self.pick(1, 2))]
        steps = [never, *sure] if self.flip() else [broken, *sure, never]
        return {"id": self.id(), "parallel": {"join": "any" if len(sure) == 1 else len(sure), "steps": steps}}

    def a_branch(self, place: Place) -> Step:
        mode = self.pick("first", "all")
        inner = place.inside(alone=place.alone and mode == "first")
        cases = [{"when": self.condition(place), "steps": self.body(inner, 1, 2)} for _ in range(self.pick(1, 2))]
        body: dict[str, Any] = {"mode": mode, "cases": cases}
        if self.flip():
            body["default"] = {"steps": self.body(place.inside(), 1, 2)}
        return {"id": self.id(), "branch": body}

    def a_loop(self, place: Place) -> Step:
        inner = place.inside(again=True, names=(*place.names, "iteration"))
        often = self.pick(2, 3)
        ends: dict[str, Any] = self.pick({"until": f"iteration >= {often}"}, {"while": f"iteration < {often}"})
        body = {**ends, "maxIterations": 4, "steps": self.body(inner, 1, 2)}
        if self.flip():
            body["delay"] = "1ms"
        return {"id": self.id(), "loop": body}

    def a_each(self, place: Place) -> Step:
        alone = place.alone and self.flip()
        body: dict[str, Any] = {"items": self.pick([1, 2, 3], "[1, input.n]", [4, 5])}
        names: tuple[str, ...] = ("at",)
        if self.flip(3):
            body["batchSize"] = 2
        else:
            names = ("at", "item")
        body |= {"indexAs": "at", "concurrency": 1 if alone else self.pick(2, 3)}
        inner = place.inside(alone=alone, again=True, names=(*place.names, *names))
        if "item" in names and self.flip(3):
            # Each item has an event of its own.
            type_ = f"{self.uid}.{self.id('ev')}"
            if not place.again:
                body |= {"items": [1, 2]}
                for number in (1, 2):
                    self.send(type_, self.pick("early", "twice"), n=number)
                wait = {"type": type_, "correlate": {"n": "${{ item }}"}, "timeout": "1h"}
                body["steps"] = [{"id": self.id(), "waitForEvent": wait}, tool(self.id())]
        body.setdefault("steps", self.body(inner, 1, 2))
        return {"id": self.id(), "forEach": body}

    def a_tolerant(self, place: Place) -> Step:
        odd = tool(self.id(), "odd", input={"with": {"n": "${{ item }}"}}, retry={"limit": 0})
        body = {
            "items": [1, 2, 3, 4],
            "concurrency": self.pick(1, 3),
            "toleratedFailures": 2,
            "steps": [odd, tool(self.id())],
        }
        return {"id": self.id(), "forEach": body}

    def a_memo(self, place: Place) -> Step:
        work = tool(self.id(), memoize={"key": "item", "scope": "run"}, input={"with": {"n": "${{ item }}"}})
        return {"id": self.id(), "forEach": {"items": [1, 2, 1, 2], "concurrency": 1, "steps": [work]}}

    def a_cycle(self, place: Place) -> Step:
        """Steps that are visited again along `next`."""
        count, again = self.id("c"), self.id()
        add = {"id": count, "set": {count: f"${{{{ state.{count} + 1 }}}}"}}
        branch = {"cases": [{"when": f"state.{count} < 3", "next": count}], "default": {"steps": [tool(self.id())]}}
        begin = {"id": self.id(), "set": {count: 0}}
        return {"id": self.id(), "do": {"steps": [begin, add, tool(self.id()), {"id": again, "branch": branch}]}}

    def a_jump(self, place: Place) -> Step:
        """Steps that are passed over, or not."""
        last = self.id()
        branch = {
            "cases": [{"when": self.condition(place), "next": self.pick(last, "END")}],
            "default": {"steps": [tool(self.id())]},
        }
        steps = [{"id": self.id(), "branch": branch}, tool(self.id()), tool(last)]
        return {"id": self.id(), "do": {"steps": steps}}

    # --- the workflow ----------------------------------------------------------------------------------------------

    def workflow(self) -> dict[str, Any]:
        place = Place(depth=3)
        steps = self.body(place, 3, 5)
        ends = self.pick("well", "well", "well", "badly", "cancelled")
        if ends == "badly":
            bad = self.failing(place)
            steps.append({"id": self.id(), "do": {"steps": [bad]}, "retry": {"limit": 0}} if self.flip() else bad)
        elif ends == "cancelled":
            steps.append({"id": self.id(), "suspend": {"timeout": SOON, "onTimeout": "cancel"}})
        spec: dict[str, Any] = {"defaults": {"retry": RETRY}, "steps": steps}
        if self.flip():
            spec["onError"] = "compensate"
            spec["compensation"] = {"order": self.pick("reverse", "parallel")}
        if self.flip():
            clean = tool(self.id(), input={"with": {"n": "${{ size(outcome) }}", "e": "${{ error }}"}})
            spec["finally"] = [clean, self.pick(tool(self.id()), {"id": self.id(), "set": {"over": True}})]
        if self.flip(4):
            spec["output"] = {"as": {"all": "${{ output }}", "state": "${{ state }}"}}
        return spec


@st.composite
def batches(draw: st.DrawFn, runs: int = 5) -> Batch:
    """Runs for one process."""
    batch = Batch()
    for number in range(runs):
        uid = f"r{number}"
        batch.answers[uid] = {}
        batch.inputs[uid] = {"n": draw(st.integers(0, 9))}
        batch.specs[uid] = Maker(draw, uid, batch).workflow()
    return batch
