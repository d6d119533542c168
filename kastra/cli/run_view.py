"""A Run on a terminal while it goes on: its tree of steps, drawn in place, a few times a second at most.

    run/kitchen-sink-x7k2p  Running  12s  4 done
      ✓ gather                 1.2s
      • fan          forEach   3.1s  17 done
          • [17]
              • w    tool      0.4s  calls search
      ↻ poll         tool     2 tries  rate_limit: too many requests

What is shown comes from names and outputs of strangers: control characters never reach the terminal, and no line is longer than
it is wide. At the end the whole tree stays. Read next: `kastra.cli.run_tree`.
"""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TextIO

import anyio

from kastra.clock import Clock, SystemClock, parse_rfc3339

from .layout import one_line
from .run_tree import DONE, OVER, Node, RunTree
from .text_width import columns, fit

EVERY = 0.1
"""Seconds between two drawings, at least."""
_BEAT = 1.0
"""Seconds after which the times are drawn anew though nothing happened."""
_INDENT = "  "
_DEEPEST = 12
_NAME = 24
_LONGEST_END = 400
_RED, _GREEN, _YELLOW, _DIM, _END = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_SIGNS = {
    "Succeeded": ("✓", "+", _GREEN),
    "Failed": ("✗", "x", _RED),
    "Cancelled": ("✗", "x", _RED),
    "Abandoned": ("✗", "x", _DIM),
    "Skipped": ("-", "-", _DIM),
    "Running": ("•", "*", ""),
    "Retrying": ("↻", "~", _YELLOW),
    "Waiting": ("…", ".", _YELLOW),
    "Suspended": ("‖", "|", _YELLOW),
    "InDoubt": ("?", "?", _RED),
}


class RunView:
    """Draws the tree of one Run.

    Args:
        title: what stands first, such as `run/x`.
        write: puts text out, at once.
        size: of the terminal as it is at the moment, (columns, rows).
        clock: the time.
        color: whether it may be coloured.
        unicode: whether the terminal shows more than ASCII.
    """

    def __init__(
        self,
        title: str,
        write: Callable[[str], object],
        size: Callable[[], tuple[int, int]],
        clock: Clock,
        *,
        color: bool = True,
        unicode: bool = True,
    ) -> None:
        self.tree = RunTree()
        self._title = one_line(title)
        self._write = write
        self._size = size
        self._clock = clock
        self._color = color
        self._unicode = unicode
        self._drawn = 0
        self._news = anyio.Event()

    @asynccontextmanager
    async def drawing(self) -> AsyncIterator["RunView"]:
        """Draw while the block runs; its end leaves the whole tree."""
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._draw_always)
            # What goes wrong in the caller's block must reach the caller as it is, not in a group.
            try:
                yield self
            except Exception as error:  # noqa: BLE001 - raised again below, outside the task group
                failure = error
            finally:
                tasks.cancel_scope.cancel()
                self.draw(final=True)
        if failure is not None:
            raise failure

    def event(self, event: Mapping[str, Any]) -> None:
        """Something happened; it shows with the next drawing."""
        told = event.get("time")
        self.tree.apply(event, parse_rfc3339(told).timestamp() if told else self._now())
        self._news.set()

    def _now(self) -> float:
        return self._clock.now().timestamp()

    async def _draw_always(self) -> None:
        while True:
            self.draw()
            self._news = anyio.Event()
            async with anyio.create_task_group() as tasks:

                async def beat() -> None:
                    await self._clock.sleep(_BEAT)
                    self._news.set()

                tasks.start_soon(beat)
                await self._clock.sleep(EVERY)
                await self._news.wait()
                tasks.cancel_scope.cancel()

    def draw(self, *, final: bool = False) -> None:
        """Put the tree in the place of the one that was drawn before."""
        width, height = self._size()
        width = max(20, width)
        lines = self.lines(width, None if final else max(3, height - 1))
        # Up to the first line of the last drawing, then line over line, then nothing below.
        back = f"\x1b[{self._drawn}F" if self._drawn else ""
        body = "".join(f"{line}\x1b[K\n" for line in lines)
        self._write(f"{back}{body}\x1b[J")
        self._drawn = len(lines)

    def lines(self, width: int, height: int | None) -> list[str]:
        """The tree as lines of at most `width - 1` columns, and at most `height` of them; None for no limit."""
        nodes = [(depth - 1, node) for depth, node in self.tree.root.walk() if depth]
        if self.tree.root.phase:
            nodes.insert(0, (0, self.tree.root))
        room = (height or _LONGEST_END) - 1
        if len(nodes) > room:
            nodes = list(_open(self.tree.root))
        hidden = max(0, len(nodes) - room + 1) if len(nodes) > room else 0
        shown = nodes[hidden:] if hidden else nodes
        lines = [self._header(width)]
        if hidden:
            lines.append(self._shade(f"{_INDENT}{hidden} more above"[: width - 1], _DIM))
        name = min(_NAME, max((columns(_name(node)) + 2 * depth for depth, node in shown), default=0))
        return lines + [self._line(depth, node, width, name) for depth, node in shown]

    def _header(self, width: int) -> str:
        tree, now = self.tree, self._now()
        done = sum(tree.steps[phase] for phase in DONE)
        parts = [self._title, tree.phase]
        if tree.began is not None:
            parts.append(_took((tree.ended if tree.ended is not None else now) - tree.began))
        parts.append(f"{done} done" + (f", {tree.steps['Failed']} failed" if tree.steps["Failed"] else ""))
        if tree.usage.get("inputTokens") or tree.usage.get("outputTokens"):
            parts.append(f"{tree.usage.get('inputTokens', 0) + tree.usage.get('outputTokens', 0):g} tokens")
        if tree.note:
            parts.append(one_line(tree.note))
        text = fit("  ".join(parts), width - 1)
        return self._shade(text, _SIGNS.get(tree.phase, ("", "", ""))[2])

    def _line(self, depth: int, node: Node, width: int, name: int) -> str:
        sign, plain, shade = _SIGNS.get(node.phase, (" ", " ", ""))
        indent = _INDENT * (min(depth, _DEEPEST) + 1)
        head = f"{indent}{sign if self._unicode else plain} "
        label = fit(_name(node), max(4, width - 1 - columns(head)))
        parts = [label + " " * (name - columns(label) - 2 * depth), f"{one_line(node.kind):<8}" if node.kind else ""]
        if node.began is not None:
            ended = node.ended if node.ended is not None else self._now()
            parts.append(f"{_took(ended - node.began):>6}")
        if node.attempt > 1:
            parts.append(f"attempt {node.attempt}")
        items = len(node.gone) + sum(
            name.startswith(("[", "#")) and child.is_done for name, child in node.children.items()
        )
        if items:
            parts.append(f"{items} done")
        if node.note:
            # Of what streams the end is news, of anything else the beginning.
            note = one_line(" ".join(node.note.split()))
            parts.append(_tail(note, width // 2) if node.phase == "Running" else note)
        text = fit("  ".join(filter(None, parts)).rstrip(), max(4, width - 1 - columns(head)))
        return f"{self._shade(head, shade)}{self._shade(text, _DIM if node.phase in DONE else '')}"

    def _shade(self, text: str, shade: str) -> str:
        return f"{shade}{text}{_END}" if self._color and shade else text


def view_on(stream: TextIO, title: str) -> RunView | None:
    """A view on a stream; None if that is no terminal on which one can draw."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    return RunView(
        title,
        write,
        lambda: shutil.get_terminal_size()[:2],
        SystemClock(),
        color=not os.environ.get("NO_COLOR"),
        unicode="utf" in (stream.encoding or "").lower(),
    )


def _open(node: Node, depth: int = -1) -> "list[tuple[int, Node]]":
    """The nodes worth showing when there is no room for all: nothing of what lies below something that is done."""
    found = [(depth, node)] if depth >= 0 else []
    if depth < 0 or node.phase not in OVER:
        for child in node.children.values():
            if depth >= 0 and child.is_done and child.name.startswith(("[", "#")):
                continue
            found += _open(child, depth + 1)
    return found


def _name(node: Node) -> str:
    return one_line(node.name) or "(the Run)"


def _tail(text: str, room: int) -> str:
    return text if columns(text) <= room else "…" + text[-max(1, room // 2) :]


def _took(seconds: float) -> str:
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{whole:02}s" if minutes else f"{whole}s"
