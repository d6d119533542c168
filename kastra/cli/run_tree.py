"""The steps of a Run as a tree, made from its events as they come.

stepKeys say where a step hangs: `gather/fetch` below `gather`. Items of a forEach and iterations of a loop would be without
number, so of them only those that are under way or failed are kept, and the rest is counted. What happens inside a leaf (model
turns, tool calls, tokens) is one line of text at that leaf.

Knows nothing of terminals. Source: the stepKey grammar. Read next: `kastra.cli.run_view`, which draws it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_INDEXED = re.compile(r"^(?P<base>[^\[\]#]+)(?:\[(?P<item>\d+)\]|#(?P<turn>\d+))(?:[@~]\d+)?$")
_INSIDE = frozenset({"turn", "tool", "route"})
"""Segments below a leaf."""
_PLAIN = frozenset({"case", "catch"})
"""Segments with a number that are neither items nor iterations."""
_KEPT_TEXT = 400
_KEPT_ITEMS = 50

DONE = frozenset({"Succeeded", "Skipped"})
OVER = frozenset({*DONE, "Failed", "Cancelled"})


@dataclass(slots=True)
class Node:
    """One step, or a group of steps.

    Args:
        name: its segment of the stepKey.
        phase: as in `kastra.engine.steps`; empty for a group that is no step.
        note: what it does, or why it failed.
        gone: items or iterations that succeeded and are not kept any more.
    """

    name: str
    kind: str = ""
    phase: str = ""
    note: str = ""
    attempt: int = 1
    began: float | None = None
    ended: float | None = None
    children: dict[str, "Node"] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    @property
    def is_done(self) -> bool:
        """Whether every step known here and below has succeeded or was skipped."""
        return all(node.phase in DONE for _, node in self.walk() if node.phase)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "Node"]]:
        """This and everything below, each with its depth, in the order in which they began."""
        yield depth, self
        for child in self.children.values():
            yield from child.walk(depth + 1)


class RunTree:
    """The tree of one Run. Feed it events in order."""

    def __init__(self) -> None:
        self.root = Node("")
        self.phase = "Pending"
        self.note = ""
        self.usage: Mapping[str, Any] = {}
        self.began: float | None = None
        self.ended: float | None = None
        self.steps: Counter[str] = Counter()
        """How many steps ended how."""

    def apply(self, event: Mapping[str, Any], now: float) -> None:
        """Take one event into account.

        Args:
            now: when it happened, in seconds of any clock.
        """
        kind: str = event.get("type", "")
        data: Mapping[str, Any] = event.get("data") or {}
        key = event.get("key")
        if kind == "usage":
            self.usage = data
        elif kind.startswith("run.") and (not key or kind in _RUN_ENDS):
            self._apply_to_run(kind, data, now)
        elif key is not None:
            self._apply_to_step(kind, str(key), event, data, now)

    def _apply_to_run(self, kind: str, data: Mapping[str, Any], now: float) -> None:
        if kind == "run.started":
            self.began, self.phase = now, "Running"
            self.root.name = str(data.get("name", ""))
        elif kind in _RUN_ENDS:
            self.phase, self.ended = _RUN_ENDS[kind], now
            self.note = _problem(data)
            for _, node in self.root.walk():
                if node.phase and node.phase not in OVER:
                    node.phase, node.ended = "Cancelled" if kind == "run.cancelled" else "Abandoned", now
        elif kind == "run.suspended":
            self.phase, self.note = "Suspended", str(data.get("reason") or "")
        elif kind in ("run.resumed", "run.recovered"):
            self.phase, self.note = "Running", "recovered" if kind == "run.recovered" else ""

    def _apply_to_step(
        self, kind: str, key: str, event: Mapping[str, Any], data: Mapping[str, Any], now: float
    ) -> None:
        node, inside = self._find(key, create=kind in ("step.scheduled", "step.skipped"))
        if node is self.root and key:
            return  # of something whose beginning was not seen
        if inside or kind in ("step.output.delta", "step.progress", "model.turn", "tool.call", "tool.result"):
            node.note = _activity(kind, data, node.note)
            return
        node.attempt = event.get("attempt") or node.attempt
        if kind == "step.scheduled":
            node.kind, node.phase, node.note = str(data.get("kind") or ""), "Running", ""
            node.began, node.ended = now, None
        elif kind in ("step.completed", "step.failed", "step.skipped"):
            node.phase, node.ended = _STEP_ENDS[kind], now
            node.note = _problem(data) if kind == "step.failed" else str(data.get("reason") or "")
            self.steps[node.phase] += 1
        elif kind == "step.retrying":
            node.phase, node.note = "Retrying", _problem(data)
        elif kind in ("step.started", "step.reset", "run.resumed"):
            node.phase, node.note = "Running", "begins again after a crash" if kind == "step.reset" else ""
        elif kind == "run.waiting":
            node.phase, node.note = "Waiting", _waiting(data)
        elif kind == "run.suspended":
            node.phase, node.note = "Suspended", str(data.get("reason") or "")
        elif kind == "step.indoubt":
            node.phase = "InDoubt"

    def _find(self, key: str, *, create: bool) -> tuple[Node, bool]:
        """The node of a stepKey, or of the leaf around it, and whether the key is inside that leaf."""
        node = self.root
        segments = key.split("/") if key else []
        for position, segment in enumerate(segments):
            if _base(segment) in _INSIDE:
                return node, True
            for name in _steps_to(segment):
                child = node.children.get(name)
                if child is None:
                    if not create:
                        return node, position < len(segments) - 1
                    child = node.children[name] = Node(name)
                    node.gone.discard(name)
                    _prune(node)
                node = child
        return node, False


def _prune(node: Node) -> None:
    """Let go of the oldest items or iterations that have succeeded, if there are many; their number stays."""
    if len(node.children) <= _KEPT_ITEMS:
        return
    for name, child in list(node.children.items()):
        if len(node.children) <= _KEPT_ITEMS // 2:
            return
        if name.startswith(("[", "#")) and child.is_done:
            node.gone.add(name)
            del node.children[name]


_RUN_ENDS = {"run.completed": "Succeeded", "run.failed": "Failed", "run.cancelled": "Cancelled"}
_STEP_ENDS = {"step.completed": "Succeeded", "step.failed": "Failed", "step.skipped": "Skipped"}


def _base(segment: str) -> str:
    return segment.split("[", 1)[0]


def _steps_to(segment: str) -> tuple[str, ...]:
    """`fan[3]` hangs as `[3]` below `fan`, `poll#2` as `#2` below `poll`; attempts (`a~2`) are the step itself."""
    match = _INDEXED.match(segment)
    if match is None or match["base"] in _PLAIN:
        return (segment.partition("~")[0],)
    return match["base"], f"[{match['item']}]" if match["item"] is not None else f"#{match['turn']}"


def _problem(data: Mapping[str, Any]) -> str:
    error = data.get("error")
    if not isinstance(error, Mapping):
        return ""
    title = str(error.get("title") or "")
    return f"{error['type']}: {title}" if error.get("type") else title


def _waiting(data: Mapping[str, Any]) -> str:
    if data.get("name"):
        return f"for {data.get('kind', '')} {data['name']}"
    if data.get("type"):
        return f"for {data['type']}"
    return ""


def _activity(kind: str, data: Mapping[str, Any], before: str) -> str:
    """What a leaf is doing, in words."""
    if kind == "step.output.delta":
        text = data.get("text")
        return (before + text)[-_KEPT_TEXT:] if isinstance(text, str) else before
    if kind == "tool.call":
        return f"calls {data.get('tool') or data.get('name') or 'a tool'}"
    if kind == "router.decision":
        value = data.get("value")
        chosen = value.get("next") if isinstance(value, Mapping) else value
        return f"next: {chosen}" if isinstance(chosen, str) else before
    if kind == "step.progress":
        said = data.get("message") or data.get("text")
        return str(said)[:_KEPT_TEXT] if said else before
    if kind == "step.failed":
        return _problem(data)
    return "" if kind in ("model.turn", "tool.result") else before
