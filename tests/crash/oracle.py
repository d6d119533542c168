"""What should come of a workflow? A small interpreter of specs, written from the specification alone: it shares no code with the engine.

It runs a spec (the plain normalised form) in its head, one step after the other, without a journal, time or concurrency, and says how
the Run ends and what it does to the world:

    must        effects by idempotency key, and how often each happens when nobody is killed
    may         likewise, of branches that others' failure or success cuts short: so often at most
    received    (Run, event) of the events that are taken
    emitted     ids of the events that go out
    undone      effects by the idempotency key of the completed step that they undo

Expressions are those of `tests.crash.generated`, a corner that CEL and Python share. What can only be decided by chance is not
generated, so there is one answer to everything. Errors are compared by type and step (`plainly`), not by their text.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.crash.effects import STARTED, child_name, digest
from tests.crash.oracle_expressions import evaluated, filled

NEVER = {"validation", "authorization", "expression", "budget", "cancelled", "in_doubt"}
LEAVES = ("agent", "tool", "workflow", "network")
KINDS = (
    *LEAVES, "parallel", "branch", "loop", "forEach", "do", "sleep", "sleepUntil", "waitForEvent", "suspend", "approve", "set",
    "emit", "raise",
)  # fmt: skip
LONG = "1h"
"""A wait that never ends in a test: it is cut short by somebody else."""


class Failed(Exception):
    """A step failed."""

    def __init__(self, type_: str, retryable: bool = True) -> None:
        super().__init__(type_)
        self.type, self.retryable, self.step = type_, retryable, ""

    @property
    def problem(self) -> dict[str, Any]:
        return {"type": self.type, "step": self.step}


class Cut(Exception):
    """A branch waits for ever, and is cut short by another."""


class Cancelled(Exception):
    """The Run cancels itself."""


@dataclass
class Expected:
    """How a Run and its children end, and what they do to the world."""

    phase: str = "Succeeded"
    output: Any = None
    error: Any = None
    must: Counter[str] = field(default_factory=Counter)
    may: Counter[str] = field(default_factory=Counter)
    received: set[tuple[str, str]] = field(default_factory=set)
    emitted: set[str] = field(default_factory=set)
    undone: dict[str, Counter[str]] = field(default_factory=dict)
    once: set[str] = field(default_factory=set)
    """Effects that no crash repeats (`AtMostOnce`)."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Steps executed, by kind."""


@dataclass
class Frame:
    """One instance of a scope."""

    steps: list[dict[str, Any]]
    prefix: str = ""
    parent: "Frame | None" = None
    entry: Any = None
    names: Mapping[str, Any] = field(default_factory=dict)
    flow: str = "Sequence"
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    last: Any = None
    executed: bool = False

    def __post_init__(self) -> None:
        self.last = self.entry

    def record(self, step_id: str, status: str, output: Any = None, error: Any = None) -> None:
        self.results.pop(step_id, None)
        self.results[step_id] = {"status": status, "output": output, "error": error}
        if status != "Skipped":
            self.last, self.executed = output, True

    def outputs(self) -> dict[str, Any]:
        ids = [step["id"] for step in self.steps]
        return {i: self.results[i]["output"] for i in ids if self.results.get(i, {}).get("status") == "Succeeded"}


class Oracle:
    """Tells how one Run ends.

    Args:
        spec: of the workflow.
        children: specs of the workflows that steps call, by name.
        events: that the Run is sent, in their order, as JSON.
        answers: what it is resumed with, by stepKey.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        uid: str,
        value: Any,
        children: Mapping[str, Any],
        events: list[dict[str, Any]],
        answers: Mapping[str, Any],
    ) -> None:
        self.spec, self.uid, self.input, self.children = spec, uid, value, children
        self.events, self.answers = list(events), answers
        self.state: dict[str, Any] = dict((spec.get("state") or {}).get("initial") or {})
        self.memo: dict[tuple[int, str], Any] = {}
        self.found = Expected()
        self.completed: list[tuple[dict[str, Any], str, Any, Frame]] = []
        self.maybe: set[str] = set()
        self.cutting = 0

    def run(self) -> Expected:
        """Everything that happens."""
        spec, found = self.spec, self.found
        top = Frame(spec["steps"], entry=self.input, flow=flow_of(spec["steps"]))
        try:
            value = self.body(top)
            asked = (spec.get("output") or {}).get("as")
            found.output = value if asked is None else self.template(asked, top, output=value)
        except Failed as error:
            found.phase, found.error = "Failed", error.problem
        except Cancelled:
            found.phase = "Cancelled"
        if found.phase != "Succeeded" and spec.get("onError") == "compensate":
            for step, key, output, _ in self.completed:
                self.undo(step, key, output)
        if "finally" in spec:
            names = {"error": found.error, "outcome": found.phase}
            try:
                self.body(Frame(spec["finally"], "finally/", top, found.output, names))
            except Failed as error:
                if found.phase == "Succeeded":
                    found.phase, found.error, found.output = "Failed", error.problem, None
        return found

    def undo(self, step: Mapping[str, Any], key: str, output: Any) -> None:
        """What the compensation of a completed step does, if it was completed."""
        kept, self.found.must = self.found.must, Counter()
        self.body(Frame(step["compensate"]["steps"], f"{key}/compensate/", None, output, {"output": output}))
        undone, self.found.must = self.found.must, kept
        self.found.undone[f"{self.uid}/{key}"] = undone
        if key not in self.maybe:
            self.found.must += undone

    # --- scopes ----------------------------------------------------------------------------------------------------

    def body(self, frame: Frame) -> Any:
        if frame.flow == "DAG":
            return self.graph(frame)
        ids = [step["id"] for step in frame.steps]
        visits: Counter[str] = Counter()
        at = 0
        while at is not None and at < len(frame.steps):
            step = frame.steps[at]
            visits[step["id"]] += 1
            key = frame.prefix + step["id"] + (f"@{visits[step['id']]}" if visits[step["id"]] > 1 else "")
            jump = self.step(step, key, frame, frame.last) or step.get("next")
            at = at + 1 if jump is None else len(ids) if jump == "END" else ids.index(jump)
        return frame.last if frame.executed else None

    def graph(self, frame: Frame) -> Any:
        by_id = {step["id"]: step for step in frame.steps}
        for step in frame.steps:
            depends = step.get("dependsOn") or []
            before = re.findall(r"steps\.(\w+)\.", depends) if isinstance(depends, str) else depends
            states = [frame.results[name]["status"] for name in before]
            cut = any(
                state == "Skipped" and by_id[name].get("onSkip") == "skipDependents"
                for name, state in zip(before, states, strict=True)
            )
            if cut or (isinstance(depends, str) and not self.evaluate(depends, frame)):
                frame.record(step["id"], "Skipped")
                continue
            entry = frame.entry
            if len(before) == 1:
                entry = frame.results[before[0]]["output"] if states == ["Succeeded"] else None
            elif before:
                entry = {name: frame.outputs()[name] for name in before if name in frame.outputs()}
            self.step(step, frame.prefix + step["id"], frame, entry)
        return frame.outputs()

    # --- one step --------------------------------------------------------------------------------------------------

    def step(self, step: dict[str, Any], key: str, frame: Frame, entry: Any) -> str | None:
        """Its result is in the frame afterwards; returns where to go on, if it says so."""
        kind = next(name for name in KINDS if name in step)
        name = step["id"]
        if "when" in step and not self.evaluate(step["when"], frame, prev=entry):
            frame.record(name, "Skipped")
            return None
        self.found.kinds[kind] += 1
        value = self.template(step["input"]["with"], frame, prev=entry) if "input" in step else entry
        given = step.get("output") or {}
        slot = None
        output: Any = None
        if "memoize" in step:
            slot = (id(step), json.dumps(self.evaluate(step["memoize"]["key"], frame, prev=entry)))
        jump = None
        try:
            if slot in self.memo:
                output = self.memo[slot]
            else:
                output, jump = self.attempts(kind, step, key, frame, value)
                if slot is not None:
                    self.memo[slot] = output
            if "as" in given:
                output = self.template(given["as"], frame, output=output)
            if "export" in given:
                self.state.update(self.template(given["export"], frame, output=output))
        except Failed as error:
            error.step = error.step or key
            return self.caught(step, key, frame, error)
        if "compensate" in step:
            self.completed.append((step, key, output, frame))
            if self.cutting:
                self.maybe.add(key)
        frame.record(name, "Succeeded", output)
        return jump

    def caught(self, step: dict[str, Any], key: str, frame: Frame, error: Failed) -> str | None:
        for index, catch in enumerate(step.get("catch") or ()):
            if catch.get("errors") and error.type not in catch["errors"]:
                continue
            if "when" in catch and not self.evaluate(catch["when"], frame, error=error.problem):
                continue
            output: Any = None
            if "steps" in catch:
                names = {"error": error.problem}
                output = self.body(Frame(catch["steps"], f"{key}/catch[{index}]/", frame, error.problem, names))
            if "output" in catch:
                output = self.template(catch["output"], frame, error=error.problem)
            frame.record(step["id"], "Succeeded", output)
            next_: str | None = catch.get("next")
            return next_
        if step.get("continueOnError"):
            frame.record(step["id"], "Failed", None, error.problem)
            return None
        raise error

    def attempts(self, kind: str, step: dict[str, Any], key: str, frame: Frame, value: Any) -> tuple[Any, str | None]:
        # What a step of steps does is tried again only if it says so itself.
        given = (self.spec.get("defaults") or {}).get("retry", {}) if kind in ("agent", "tool") else {"limit": 0}
        policy = {**given, **step.get("retry", {})}
        failures = 0
        while True:
            place = key if not failures or kind in ("tool", "emit") else f"{key}~{failures + 1}"
            try:
                return self.perform(kind, step, place, frame, value, failures + 1)
            except Failed as error:
                failures += 1
                if not error.retryable or error.type in NEVER or failures > policy.get("limit", 3):
                    error.step = error.step or key
                    raise

    def perform(
        self, kind: str, step: dict[str, Any], key: str, frame: Frame, value: Any, ordinal: int
    ) -> tuple[Any, str | None]:
        body = step[kind]
        if kind == "branch":
            return self.branch(body, key, frame, value)
        if kind == "set":
            data = self.template(body, frame, prev=value)
            self.state.update(data)
            return data, None
        method: Callable[..., Any] = getattr(self, "on_" + kind)
        if kind in ("tool",):
            return method(step, key, value, ordinal), None
        return method(body, key, frame, value), None

    # --- leaves ----------------------------------------------------------------------------------------------------

    def effect(self, key: str) -> None:
        (self.found.may if self.cutting else self.found.must)[f"{self.uid}/{key}"] += 1

    def on_tool(self, step: dict[str, Any], key: str, value: Any, ordinal: int) -> Any:
        name = step["tool"]["name"]
        # An attempt has so little time that it may be over before the call begins.
        self.cutting += name == "hang"
        self.effect(key)
        self.cutting -= name == "hang"
        if step.get("delivery") == "AtMostOnce":
            self.found.once.add(f"{self.uid}/{key}")
        if name == "broken" or (name == "odd" and value["n"] % 2):
            raise Failed("tool", False)
        if name == "refuse" or (name == "flaky" and ordinal == 1):
            raise Failed("tool")
        if name == "hang":
            raise Failed("timeout")
        return {"n": digest(value)}

    def on_agent(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        # One turn that calls a tool, one that answers with its result.
        self.effect(f"{key}/turn[0]/tool[0]")
        return f"found {digest({'q': 'tea'})}"

    def on_workflow(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        name = child_name(self.uid, self.uid, key)
        child = Oracle(self.children[body["name"]], name, value, self.children, [], {}).run()
        found = self.found
        if self.cutting:
            found.may += child.must
        else:
            found.must += child.must
        found.may += child.may
        found.emitted |= child.emitted
        found.kinds += child.kinds
        found.undone.update(child.undone)
        if child.phase != "Succeeded":
            raise Failed(child.error["type"])
        return child.output

    def on_network(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        child = child_name(self.uid, self.uid, key)
        for turn, member in enumerate(("first", "second")):
            effects = self.found.may if self.cutting else self.found.must
            effects[f"{child}/turn[{turn}]/{member}/turn[0]/tool[0]"] += 1
        return f"found {digest({'q': 'tea'})}"

    def on_raise(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        raise Failed(body["type"], False)

    def on_emit(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        self.found.emitted.add(f"{self.uid}/{key}")
        source = f"/apis/mastra.ai/v1/namespaces/default/runs/{self.uid}"
        return {"id": f"{self.uid}/{key}", "source": source, "type": body["type"]}

    # --- waits -----------------------------------------------------------------------------------------------------

    def on_sleep(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        if body.get("duration") == LONG:
            raise Cut
        return value

    def on_sleepUntil(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        return value

    def on_waitForEvent(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        wanted: list[dict[str, Any]] = []
        for event in tuple(self.events):
            if len(wanted) == body.get("count", 1) or event["type"] != body["type"]:
                continue
            correlated = self.template(body.get("correlate") or {}, frame, prev=value)
            if any(str(event["data"].get(name)) != str(is_) for name, is_ in correlated.items()):
                continue
            if "filter" in body and not self.evaluate(body["filter"], frame, event=event):
                continue
            wanted.append(event)
            self.events.remove(event)
            self.found.received.add((self.uid, event["id"]))
        if len(wanted) < body.get("count", 1):
            if body.get("onTimeout") == "continue":
                return wanted if "count" in body else None
            raise Failed("timeout", False)
        return wanted if "count" in body else wanted[0]

    def on_suspend(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        if key in self.answers:
            return self.answers[key]
        if body["onTimeout"] == "cancel":
            raise Cancelled
        if body["onTimeout"] == "fail":
            raise Failed("timeout", False)
        return None

    def on_approve(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        agreed = body["message"] == "yes"
        if not agreed and body.get("onReject") != "continue":
            raise Failed("authorization", False)
        return {"approved": agreed, "by": ["ada"], "at": STARTED, "reason": ""}

    # --- steps that hold steps -------------------------------------------------------------------------------------

    def inner(self, steps: list[dict[str, Any]], prefix: str, frame: Frame, entry: Any, **names: Any) -> Frame:
        return Frame(steps, prefix, frame, entry, names, flow_of(steps))

    def on_do(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        return self.body(self.inner(body["steps"], f"{key}/", frame, value))

    def on_parallel(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        inner = Frame(body["steps"], f"{key}/", frame, value, flow="Parallel")
        join = body.get("join", "all")
        # Where a child's end cuts others short, what those do is left open; only a child that is waited for is certain.
        certain = {"all": not body.get("oneFails"), "settled": True}.get(join, False)
        failure = None
        for step in body["steps"]:
            open_ = not certain and "sure" not in step["id"]
            self.cutting += open_
            try:
                self.step(step, inner.prefix + step["id"], inner, value)
            except Failed as error:
                inner.record(step["id"], "Failed", None, error.problem)
                failure = error
            except Cut:
                pass
            finally:
                self.cutting -= open_
        if join == "all" and failure is not None:
            raise failure
        outputs = inner.outputs()
        if join == "settled":
            outputs |= {i: {"error": r["error"]} for i, r in inner.results.items() if r["status"] == "Failed"}
        return outputs

    def branch(self, body: Any, key: str, frame: Frame, value: Any) -> tuple[Any, str | None]:
        taken = [i for i, case in enumerate(body["cases"]) if self.evaluate(case["when"], frame, prev=value)]
        if body.get("mode") == "all" and taken:
            values = {}
            for index in taken:
                steps = body["cases"][index]["steps"]
                values[str(index)] = self.body(self.inner(steps, f"{key}/case[{index}]/", frame, value))
            return values, None
        case = body["cases"][taken[0]] if taken else body.get("default")
        if case is None:
            return None, None
        if "next" in case:
            return value, case["next"]
        segment = f"case[{taken[0]}]" if taken else "default"
        return self.body(self.inner(case["steps"], f"{key}/{segment}/", frame, value)), None

    def on_loop(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        previous = self.inner(body["steps"], "", frame, None, iteration=0)
        last: Any = None
        for iteration in range(1, body["maxIterations"] + 1):
            if "while" in body and not self.evaluate(body["while"], previous):
                return last
            entry = value if iteration == 1 else last
            previous = self.inner(body["steps"], f"{key}#{iteration}/", frame, entry, iteration=iteration)
            last = self.body(previous)
            if "until" in body and self.evaluate(body["until"], previous):
                return last
        if "while" in body and not self.evaluate(body["while"], previous):
            return last
        raise Failed("no_progress", False)

    def on_forEach(self, body: Any, key: str, frame: Frame, value: Any) -> Any:
        items = body["items"]
        if isinstance(items, str):
            items = self.evaluate(items, frame, prev=value)
        if size := body.get("batchSize"):
            items = [items[start : start + size] for start in range(0, len(items), size)]
        tolerated = body.get("toleratedFailures", 0)
        values: list[Any] = []
        failures: list[Failed] = []
        for index, item in enumerate(items):
            names = {body.get("as", "item"): item, **({body["indexAs"]: index} if "indexAs" in body else {})}
            try:
                values.append(self.body(self.inner(body["steps"], f"{key}[{index}]/", frame, item, **names)))
            except Failed as error:
                values.append(None)
                failures.append(error)
        if len(failures) > tolerated:
            raise failures[0]
        return values

    # --- expressions -----------------------------------------------------------------------------------------------

    def template(self, data: Any, frame: Frame, **extra: Any) -> Any:
        return filled(data, lambda name: self.variable(name, frame, extra))

    def evaluate(self, text: str, frame: Frame, **extra: Any) -> Any:
        return evaluated(text, lambda name: self.variable(name, frame, extra))

    def variable(self, name: str, frame: Frame, extra: Mapping[str, Any]) -> Any:
        known = {"input": self.input, "state": dict(self.state), **extra}
        if name in known:
            return known[name]
        around: Frame | None = frame
        results: dict[str, Any] = {}
        while around is not None:
            if name in around.names:
                return around.names[name]
            results = {**around.results, **results}
            around = around.parent
        if name == "steps":
            return results
        assert name == "prev", name
        return frame.last if frame.flow == "Sequence" else frame.entry


def flow_of(steps: list[dict[str, Any]]) -> str:
    """DAG where a step says what it depends on."""
    return "DAG" if any("dependsOn" in step for step in steps) else "Sequence"
