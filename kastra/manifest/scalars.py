"""What does a plain YAML scalar mean? The answer that kubectl gives.

kubectl reads manifests with sigs.k8s.io/yaml (go-yaml v2, YAML 1.1): `yes`, `on` and `y` are booleans, `0755` is octal,
`1_000` is a number; unlike PyYAML, `1:30` and `2024-01-01` stay text. Values without a JSON form are refused.

Source: go-yaml v2 resolve.go. Read next: `kastra.manifest.decode`.
"""

import math
import re

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_PLAIN_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NUMBER_START = frozenset("0123456789+-.")
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|[1-9][0-9]*|0)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 64


class NotResolved(ValueError):
    """The scalar means something that JSON can't hold."""


def resolve_plain(text: str) -> tuple[str | int | float | bool | None, bool]:
    """The value of an unquoted scalar, and whether the reading may surprise its author.

    Raises:
        NotResolved: infinity, not-a-number, or a number beyond 64 bits.
    """
    if text in _PLAIN_BOOLEANS:
        return _PLAIN_BOOLEANS[text], False
    if text in _NULL:
        return None, False
    if text in _BOOLEANS:
        return _BOOLEANS[text], True
    if text[0] not in _NUMBER_START:
        return text, False
    number = text.replace("_", "")
    if _INTEGER.fullmatch(number):
        return _integer(number), _has_leading_zero(number)
    if _FLOAT.fullmatch(number):
        value = float(number) if len(number) <= _MAX_DIGITS * 6 else math.inf
        if not math.isfinite(value):
            raise NotResolved(f"number {text[:40]} is out of range; quote it if text is meant")
        return value, False
    if _NOT_FINITE.fullmatch(text):
        raise NotResolved(f"{text} has no JSON form; quote it if text is meant")
    return text, False


def _has_leading_zero(number: str) -> bool:
    digits = number.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()


def _integer(number: str) -> int:
    # Longer texts can't be in range, and converting them costs time that grows with the square of their length.
    if len(number) <= _MAX_DIGITS + 4:
        text = re.sub(r"^([-+]?)0([0-7])", r"\g<1>0o\2", number)
        value = int(text, 0)
        if -(2**63) <= value < 2**64:
            return value
    raise NotResolved(f"integer {number[:40]} does not fit 64 bits; quote it if text is meant")


def needs_quotes(text: str) -> bool:
    """Whether `text`, written plain, would be read as something other than this text."""
    if not text:
        return True
    try:
        return resolve_plain(text)[0] is not text
    except NotResolved:
        return True
