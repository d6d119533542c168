"""A Run on a terminal: its steps as a tree that is drawn in place, is never wider or higher than the terminal, and obeys nobody."""

import re
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from kastra.cli.run_tree import RunTree
from kastra.cli.run_view import RunView
from kastra.cli.text_width import columns, fit
from kastra.testing.clock import VirtualClock

from .conftest import Kastra


def event(type_: str, key: str = "", attempt: int = 1, /, **data: Any) -> dict[str, Any]:
    return {"type": type_, "attempt": attempt, "data": data, **({"key": key} if key else {})}


STORY = [
    event("run.started", kind="Workflow", name="x"),
    event("step.scheduled", "gather", kind="do"),
    event("step.scheduled", "gather/fetch", kind="tool"),
    event("step.completed", "gather/fetch"),
    event("step.completed", "gather"),
    event("step.scheduled", "talk", kind="agent"),
    event("tool.call", "talk/turn[0]/tool[0]", tool="search"),
]


class Screen:
    """A terminal of a given size, as far as the view uses one."""

    def __init__(self, width: int = 80, height: int = 24, **options: Any) -> None:
        self.width, self.height = width, height
        self.clock = VirtualClock()
        self.written: list[str] = []
        self.view = RunView("run/x", self.written.append, lambda: (self.width, self.height), self.clock, **options)

    def rows(self) -> list[str]:
        """What stands there, with the cursor moves obeyed."""
        rows: list[str] = []
        for text in self.written:
            back = re.match(r"\x1b\[(\d+)F", text)
            if back:
                rows = rows[: len(rows) - int(back[1])]
                text = text[back.end() :]
            rows += re.sub(r"\x1b\[[0-9;]*[mKJ]", "", text).split("\n")[:-1]
        return rows


def told(story: list[dict[str, Any]], **screen: Any) -> Screen:
    made = Screen(**{"color": False, **screen})
    for one in story:
        made.view.event(one)
    made.view.draw()
    return made


def test_steps_hang_where_their_keys_say_and_show_what_they_do() -> None:
    rows = told(STORY).rows()
    assert rows[0] == "run/x  Running  0.0s  2 done"
    assert [" ".join(row.split()) for row in rows[1:]] == [
        "✓ gather do 0.0s",
        "✓ fetch tool 0.0s",
        "• talk agent 0.0s calls search",
    ]
    assert rows[2].index("fetch") > rows[1].index("gather")


def test_the_next_drawing_takes_the_place_of_the_one_before() -> None:
    screen = told(STORY)
    screen.view.event(event("step.completed", "talk"))
    screen.view.event(event("run.completed"))
    screen.view.draw(final=True)
    rows = screen.rows()
    assert len(rows) == 4
    assert rows[0].startswith("run/x  Succeeded")
    assert rows[3].split()[0] == "✓"


def test_how_long_a_step_took_is_what_its_events_say_however_late_they_are_read() -> None:
    times = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T00:01:05.5Z")
    story = [event("run.started", name="x"), event("step.scheduled", "a", kind="tool"), event("step.completed", "a")]
    rows = told([{**one, "time": time} for one, time in zip(story, times, strict=True)]).rows()
    assert "1m04s" in rows[1]


@pytest.mark.parametrize("width", [20, 21, 40, 80, 200])
def test_no_line_is_as_wide_as_the_terminal(width: int) -> None:
    long = [
        event("step.scheduled", f"{'深' * 40}/{'b' * 70}", kind="agent"),
        event("step.failed", "a", error={"title": "é" * 300}),
    ]
    screen = told([*STORY, *long, event("step.output.delta", "talk", text="word " * 500)], width=width)
    assert all(columns(row) < width for row in screen.rows())


@pytest.mark.parametrize("height", [4, 10, 24])
def test_the_drawing_is_never_higher_than_the_terminal_and_keeps_what_is_under_way(height: int) -> None:
    story = [*STORY, *(event("step.scheduled", f"s{n}", kind="tool") for n in range(50))]
    rows = told(story, height=height).rows()
    assert len(rows) < height
    assert "s49" in rows[-1]
    assert "more above" in rows[1]


def test_many_items_are_counted_and_those_that_failed_stay_in_sight() -> None:
    story = [event("run.started", kind="Workflow", name="x"), event("step.scheduled", "fan", kind="forEach")]
    for n in range(10_000):
        story.append(event("step.scheduled", f"fan[{n}]/w", kind="tool"))
        story.append(
            event("step.failed" if n == 3 else "step.completed", f"fan[{n}]/w", error={"type": "tool", "title": "boom"})
        )
    screen = told(story)
    text = "\n".join(screen.rows())
    assert "9999 done" in text
    assert "✗ w" in text
    assert "tool: boom" in text
    assert sum(1 for _ in screen.view.tree.root.walk()) < 200


@pytest.mark.parametrize("evil", ["\x1b[2J\x1b[31mowned", "a\rb", "\x9b31m", "x\x07", "a\u202eb", "line\nbreak"])
def test_names_and_outputs_cannot_steer_the_terminal(evil: str) -> None:
    story = [
        *STORY,
        event("step.scheduled", evil, kind=evil),
        event("step.output.delta", "talk", text=evil),
        event("step.failed", evil, error={"type": evil, "title": evil}),
        event("run.failed", error={"type": evil, "title": evil}),
    ]
    screen = told(story)
    written = "".join(screen.written)
    for allowed in (r"\x1b\[\d+F", r"\x1b\[K", r"\x1b\[J", "\n"):
        written = re.sub(allowed, "", written)
    assert written.isprintable()


def test_colours_and_signs_are_used_only_where_they_are_understood() -> None:
    plain = "".join(told(STORY, color=False, unicode=False).written)
    assert plain.replace("\x1b[K", "").replace("\x1b[J", "").isascii()
    assert "\x1b[3" not in plain
    assert "\x1b[32m" in "".join(told(STORY, color=True).written)


async def test_it_is_drawn_when_something_happens_but_not_more_than_ten_times_a_second() -> None:
    screen = Screen(color=False)
    async with screen.view.drawing():
        for n in range(1000):
            screen.view.event(event("step.scheduled", f"s{n}"))
            if n % 100 == 0:
                await screen.clock.advance(0.01)
        await screen.clock.advance(0.5)
        assert 2 <= len(screen.written) <= 5
        await screen.clock.advance(10)
        assert len(screen.written) <= 16


async def test_what_goes_wrong_meanwhile_is_told_as_it_is_below_the_tree() -> None:
    screen = told(STORY)
    with pytest.raises(ZeroDivisionError):
        async with screen.view.drawing():
            raise ZeroDivisionError
    assert screen.rows()[-1].split()[1] == "talk"


def test_retries_recoveries_waits_and_doubts_are_told() -> None:
    tree = RunTree()
    steps: list[tuple[Mapping[str, Any], str, str]] = [
        (
            event("step.retrying", "a", 1, error={"type": "rate_limit", "title": "slow down"}),
            "Retrying",
            "rate_limit: slow down",
        ),
        (event("step.started", "a", 2), "Running", ""),
        (event("step.reset", "a", 3), "Running", "begins again after a crash"),
        (event("run.waiting", "a", due=1), "Waiting", ""),
        (event("run.suspended", "a", reason="InDoubt"), "Suspended", "InDoubt"),
        (event("step.indoubt", "a"), "InDoubt", "InDoubt"),
    ]
    tree.apply(event("step.scheduled", "a", kind="tool"), 0.0)
    for one, phase, note in steps:
        tree.apply(one, 1.0)
        assert (tree.root.children["a"].phase, tree.root.children["a"].note) == (phase, note)


def test_loops_attempts_and_visits_find_their_places() -> None:
    tree = RunTree()
    for key in ("poll", "poll#0/check", "poll#1/check", "a", "a~2/turn[0]", "review", "review@2", "pick/case[0]/x"):
        tree.apply(event("step.scheduled", key, kind="tool"), 0.0)
    assert list(tree.root.children) == ["poll", "a", "review", "review@2", "pick"]
    assert list(tree.root.children["poll"].children) == ["#0", "#1"]
    assert list(tree.root.children["pick"].children) == ["case[0]"]


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("深深", 4, "深深"), ("深深深", 4, "深…"), ("ab", 0, "")],
)
def test_texts_are_cut_by_the_columns_they_take(text: str, room: int, shown: str) -> None:
    assert fit(text, room) == shown


def test_elsewhere_than_on_a_terminal_there_are_lines(changeable: Kastra) -> None:
    result = changeable("run", "workflow/dinner", "-n", "kitchen", "-f", "--input", '{"ingredients": ["egg"]}')
    assert result.code == 0, result.stderr
    assert "run completed" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_tree_that_is_asked_for_needs_a_terminal(kitchen: Kastra) -> None:
    for arguments, says in ((("--tree",), "--tree needs a terminal"), (("--tree", "-o", "json"), "exclude each other")):
        result = kitchen("logs", "run/first", "-n", "kitchen", *arguments)
        assert (result.code, says in result.stderr) == (2, True)


async def test_the_whole_tree_stays_when_the_run_has_ended() -> None:
    screen = Screen(color=False, height=10)
    async with screen.view.drawing():
        for n in range(40):
            screen.view.event(event("step.scheduled", f"s{n}", kind="set"))
            screen.view.event(event("step.completed", f"s{n}"))
        await anyio.lowlevel.checkpoint()
    assert len(screen.rows()) == 41
