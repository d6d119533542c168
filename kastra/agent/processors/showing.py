"""What may those who follow see of an answer that isn't whole yet, where processors may still change it?

With processors that take things out, text is held back and looked at: what is shown ends at a blank behind which there are at
least as many characters as anything that is looked for needs to show itself, and only where cutting there changes nothing of
what is taken out. A word is never shown before it is whole, so an address or a key of any length is either found or none.
`batch-parts` gathers small pieces into larger ones. If what was shown turns out not to be the beginning of the answer, a
`restart` says that it is void.

What is shown is never journaled. Read next: `kastra.agent.processors.asking`, the caller.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kastra.clock import Clock
from kastra.model.interface import (
    ModelChunk,
    ModelResponse,
    ReasoningDelta,
    Restart,
    TextDelta,
    ToolCallDelta,
    compact,
)

from .interface import Processor
from .patterns import readable
from .settings import flag, whole

_STRIDE = 48
"""Characters beyond the window that are waited for, so that not every piece is looked at."""
_CJK = "\u2e80"
"""From here on, texts have no blanks between words, and none of the known forms has such characters in it."""

Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Batching:
    """A `batch-parts`.

    Args:
        size: pieces of text that become one.
        longest: seconds after which the next piece ends a batch; None for no limit.
        breaks: whether anything that is no text ends a batch.
    """

    size: int
    longest: float | None
    breaks: bool


def batching(config: Mapping[str, Any]) -> Batching:
    """From its settings. Raises Wrong."""
    longest = None if config.get("maxWaitTime") is None else whole(config, "maxWaitTime") / 1000
    return Batching(whole(config, "batchSize", 5), longest, flag(config, "emitOnNonText", True))


class _Batch:
    """Gathers the pieces of text that pass through."""

    def __init__(self, batching: Batching, emit: Emit, clock: Clock) -> None:
        self._spec = batching
        self._emit = emit
        self._clock = clock
        self._texts: list[str] = []
        self._since = 0.0

    def __call__(self, delta: Mapping[str, Any]) -> None:
        kind = delta.get("type")
        if kind == "text":
            now = self._clock.monotonic()
            if not self._texts:
                self._since = now
            self._texts.append(delta["text"])
            late = self._spec.longest is not None and now - self._since >= self._spec.longest
            if late or len(self._texts) >= self._spec.size:
                self.flush()
            return
        if kind == "restart":
            self._texts.clear()
        elif self._spec.breaks:
            self.flush()
        self._emit(delta)

    def flush(self) -> None:
        """Give what was gathered."""
        if self._texts:
            texts, self._texts = self._texts, []
            self._emit({"type": "text", "text": "".join(texts)})


class _Held:
    """Text of which the end is held back until it has been looked at."""

    def __init__(self, scan: Callable[[str], str] | None, window: int) -> None:
        self._scan = scan
        self._window = window
        self._next = window + _STRIDE
        self._pending = ""
        self.shown = ""

    def add(self, text: str) -> str:
        """What can be shown now, after what was shown before."""
        if self._scan is None:
            self.shown += text
            return text
        self._pending += text
        if len(self._pending) < self._next:
            return ""
        cut = _boundary(self._pending, len(self._pending) - self._window)
        head, tail = self._pending[:cut], self._pending[cut:]
        made = self._scan(head) if cut else ""
        if not cut or made + self._scan(tail) != self._scan(self._pending):
            # Something goes across: it is waited for until it has ended, and looked at less and less often.
            self._next = len(self._pending) * 5 // 4 + _STRIDE
            return ""
        self._pending = tail
        self._next = max(len(tail), self._window) + _STRIDE
        self.shown += made
        return made


def _boundary(text: str, limit: int) -> int:
    """The last index up to `limit` at which a word begins; 0 if there is none."""
    for index in range(min(limit, len(text)), 0, -1):
        before = text[index - 1]
        if before.isspace() or before >= _CJK:
            return index
    return 0


class Showing:
    """Shows one answer as it arrives.

    Args:
        emit: publishes.
        processors: that may take something out of it; empty for none.
        instructions: for those that compare with them.
        batching: None for pieces as they come.
        clock: for batches.
    """

    def __init__(
        self,
        emit: Emit,
        processors: Sequence[Processor],
        instructions: str,
        batching: Batching | None,
        clock: Clock,
    ) -> None:
        self._batch = None if batching is None else _Batch(batching, emit, clock)
        self._emit: Emit = self._batch or emit
        self._processors = processors
        self._instructions = instructions
        self._late = any("arguments" in each.parts for each in processors)
        self._text = self._held("text")
        self._thoughts = self._held("reasoning")

    def _held(self, part: str) -> _Held:
        scans = [each.scan for each in self._processors if each.scan is not None and part in each.parts]
        window = max((each.window or 0 for each in self._processors if part in each.parts), default=0)

        def scan(text: str) -> str:
            text = readable(text)
            for one in scans:
                text = one(text, self._instructions)[0]
            return text

        return _Held(scan if scans else None, window)

    def watch(self, chunk: ModelChunk) -> None:
        """Show of a chunk what may be shown."""
        if isinstance(chunk, TextDelta):
            self._show("text", self._text, chunk.text)
        elif isinstance(chunk, ReasoningDelta):
            self._show("reasoning", self._thoughts, chunk.text)
        elif isinstance(chunk, ToolCallDelta) and not self._late:
            self._emit(_tool(chunk.index, chunk.id, chunk.name, chunk.arguments))
        elif isinstance(chunk, Restart):
            self._text, self._thoughts = self._held("text"), self._held("reasoning")
            self._emit({"type": "restart", "reason": chunk.reason})

    def _show(self, kind: str, held: _Held, text: str) -> None:
        if text := held.add(text):
            self._emit({"type": kind, "text": text})

    def end(self, response: ModelResponse) -> None:
        """Show the rest of an answer that has been looked at as a whole."""
        thoughts = "".join(thought.get("text") or "" for thought in response.reasoning)
        if not (thoughts.startswith(self._thoughts.shown) and response.text.startswith(self._text.shown)):
            self._text, self._thoughts = self._held("text"), self._held("reasoning")
            self._emit({"type": "restart", "reason": "a processor changed the answer"})
            self._late = True
        for kind, held, whole_text in (
            ("reasoning", self._thoughts, thoughts),
            ("text", self._text, response.text),
        ):
            if rest := whole_text[len(held.shown) :]:
                self._emit({"type": kind, "text": rest})
        if self._late:
            for index, call in enumerate(response.tool_calls):
                self._emit(_tool(index, call["id"], call["name"], compact(call["arguments"])))
        if self._batch is not None:
            self._batch.flush()


def _tool(index: int, id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"type": "tool", "index": index, "id": id_, "name": name, "arguments": arguments}
