"""A problem is shown, never obeyed: what a file holds can't command the terminal."""

from kastra.manifest.position import Mark
from kastra.manifest.problem import Problem, render


def test_control_characters_of_a_file_do_not_reach_the_terminal() -> None:
    evil = "kind: \x1b]0;title\x07\x9b31m\u202eEvil"
    problem = Problem("error", "a\x1b.yaml", Mark(1, 7), "kind", f"no {evil}", evil, Mark(1, 7), 4, f"use {evil}")
    for shown in (render(problem), render(Problem("error", "a", Mark(1, 1), "", evil, suggestion=evil))):
        assert not set("\x1b\x07\x9b\u202e") & set(shown)
        assert "Evil" in shown
