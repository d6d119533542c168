"""Columns are aligned as kubectl aligns them."""

from kastra.cli.layout import Layout, aligned, one_line


def test_columns_stand_three_blanks_apart_and_lines_end_without_blanks() -> None:
    assert aligned([("NAME", "READY", "AGE"), ("recipe-finder", "True", "1s"), ("x", "False", "")]) == [
        "NAME            READY   AGE",
        "recipe-finder   True    1s",
        "x               False",
    ]


def test_a_column_is_at_least_six_characters_wide() -> None:
    assert aligned([("A", "B"), ("1", "2")]) == ["A     B", "1     2"]


def test_rows_that_come_later_keep_the_widths() -> None:
    layout = Layout()
    layout.lines([("a-long-name", "x")])
    assert layout.lines([("b", "y")]) == ["b             y"]


def test_a_cell_is_cut_at_a_line_break_and_shows_no_control_characters() -> None:
    assert one_line("first\nsecond") == "first..."
    assert one_line("\x1b[31mred\x07") == "^[[31mred^G"
