"""What was typed in earlier chats: a file of the user's own, bounded, shared by several chats, and never a reason to fail."""

import os
import stat
from pathlib import Path

import pytest

from kastra.cli.line_history import LineHistory, history_file


def history(path: Path, keep: int = 100) -> LineHistory:
    return LineHistory(path / "made" / "lines", keep)


def test_what_was_kept_is_there_the_next_time_the_latest_last(tmp_path: Path) -> None:
    first = history(tmp_path)
    for text in ("one", "two\nlines", "grüße \U0001f600", "half \udcff"):
        first.add(text)
    assert history(tmp_path).entries() == ["one", "two\nlines", "grüße \U0001f600", "half ?"]


def test_nobody_else_can_read_it_not_even_what_was_open_before(tmp_path: Path) -> None:
    history(tmp_path).add("one")
    file = tmp_path / "made" / "lines"
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    file.chmod(0o644)
    assert history(tmp_path).entries() == ["one"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_more_than_so_many_are_kept_and_the_file_stays_short(tmp_path: Path) -> None:
    lines = history(tmp_path, 10)
    for number in range(57):
        lines.add(str(number))
    assert history(tmp_path, 10).entries() == [str(number) for number in range(47, 57)]
    assert len((tmp_path / "made" / "lines").read_bytes().splitlines()) <= 13


def test_two_chats_at_a_time_lose_nothing_of_each_other(tmp_path: Path) -> None:
    one, other = history(tmp_path, 8), history(tmp_path, 8)
    for number in range(12):
        one.add(f"a{number}")
        other.add(f"b{number}")
    assert history(tmp_path, 8).entries() == [f"{who}{number}" for number in range(8, 12) for who in "ab"]


@pytest.mark.parametrize(
    "text", ["", "  ", " a secret", "\tx", "x" * (64 << 10)], ids=["none", "blank", "led", "tab", "long"]
)
def test_what_begins_with_a_blank_or_is_very_long_is_not_kept(tmp_path: Path, text: str) -> None:
    lines = history(tmp_path)
    lines.add(text)
    assert lines.entries() == []


def test_lines_that_are_none_are_passed_over(tmp_path: Path) -> None:
    lines = history(tmp_path)
    lines.add("one")
    with (tmp_path / "made" / "lines").open("ab") as file:
        file.write(b'\xff\xfe\n{"an": "object"}\n12\n"half of')
    assert lines.entries() == ["one"]


def test_a_pipe_or_a_folder_in_its_place_is_an_error_and_nothing_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        LineHistory(tmp_path / "pipe", 10).entries()
    with pytest.raises(OSError):
        LineHistory(tmp_path, 10).entries()


def test_it_is_in_the_users_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert history_file({"XDG_STATE_HOME": "/var/state"}) == Path("/var/state/kastra/chat-history")
    assert (
        history_file({})
        == history_file({"XDG_STATE_HOME": "relative"})
        == tmp_path / ".local/state/kastra/chat-history"
    )
