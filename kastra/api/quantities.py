"""How much is `500Mi`? Kubernetes quantities as exact numbers.

A quantity is a decimal number with a suffix: binary (`Ki` to `Ei`), decimal (`n u m k M G T P E`) or an exponent (`e3`).
Values are exact fractions, so that comparing never rounds.

Source: apimachinery/pkg/api/resource. Read next: `kastra.schema.formats`, which checks them.
"""

import re
from fractions import Fraction

_SUFFIXES = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15),
    "E": Fraction(10**18), "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40),
    "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([eE][+-]?[0-9]{1,3})|([KMGTPE]i|[numkMGTPE])|)")


def parse_quantity(text: str) -> Fraction:
    """The number that a quantity means.

    Raises:
        ValueError: it is no quantity; the message quotes it.
    """
    found = _QUANTITY.fullmatch(text) if len(text) <= 64 else None
    if found is None:
        raise ValueError(f'"{text[:64]}" is no quantity; write one such as "500m", "2", "1.5Gi" or "1e3"')
    sign, digits, exponent, suffix = found.groups()
    value = Fraction(digits if digits[-1] != "." else digits[:-1])
    value = value * Fraction(10) ** int(exponent[1:]) if exponent else value * _SUFFIXES[suffix or ""]
    return -value if sign == "-" else value


def format_quantity(value: Fraction) -> str:
    """A plain decimal text for `value`; exact to nine decimal places, which is as fine as quantities go."""
    scaled = round(value * 10**9)
    whole, fraction = divmod(abs(scaled), 10**9)
    text = f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if scaled < 0 else text
