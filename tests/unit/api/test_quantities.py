"""Quantities are exact, whatever their suffix."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.api.quantities import format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", Fraction(1, 2)), ("2", 2), ("1.5Gi", 3 * 2**29), ("1e3", 1000), ("1E", 10**18), ("1E-2", Fraction(1, 100)),
     ("-3k", -3000), ("+1", 1), (".5", Fraction(1, 2)), ("5.", 5), ("1n", Fraction(1, 10**9))],
)  # fmt: skip
def test_suffixes_multiply_exactly(text: str, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "abc", "1 Gi", "1gi", "Gi", "1.2.3", "--1", "1KiB", "9" * 80, "1e9999"])
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity; write one such as"):
        parse_quantity(text)


@given(st.integers(min_value=-(10**20), max_value=10**20))
def test_what_is_written_reads_back(scaled: int) -> None:
    value = Fraction(scaled, 10**9)
    assert parse_quantity(format_quantity(value)) == value
