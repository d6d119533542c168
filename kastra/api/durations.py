"""How long is `1h30m`? Durations as manifests write them, in seconds.

Accepted: Go's form (`1h30m`, `250ms`, `1.5s`), days (`7d`), ISO 8601 (`PT1H`, `P1DT12H`), and a plain number, which counts
seconds. Years and months are refused, because they have no fixed length. Nothing here reads a clock.

Source: Go's time.ParseDuration, ISO 8601-1. Read next: `kastra.api.meta`.
"""

import math
import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TERM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h|d)")
_ISO = re.compile(
    r"P(?:([0-9]+(?:[.,][0-9]+)?)W)?(?:([0-9]+(?:[.,][0-9]+)?)D)?"
    r"(?:T(?:([0-9]+(?:[.,][0-9]+)?)H)?(?:([0-9]+(?:[.,][0-9]+)?)M)?(?:([0-9]+(?:[.,][0-9]+)?)S)?)?"
)
_ISO_SECONDS = (604800.0, 86400.0, 3600.0, 60.0, 1.0)
_LONGEST = 36500 * 86400.0


def parse_duration(value: str | float) -> float:
    """Seconds, 0 or more.

    Args:
        value: `1h30m`, `250ms`, `7d`, `PT1H`; a number is seconds.

    Raises:
        ValueError: it is no duration, negative, or longer than 36,500 days; the message quotes it and says what to write.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f'a duration is text such as "1h30m" or a number of seconds, not {type(value).__name__}')
    seconds = _parse_text(value) if isinstance(value, str) else float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"a duration can't be {value!r}; it must be 0 or more")
    if seconds > _LONGEST:
        raise ValueError(f"the duration {value!r} is longer than 36500 days")
    return seconds


def _parse_text(text: str) -> float:
    if len(text) > 64:
        raise ValueError(f'"{text[:20]}..." is no duration')
    if text == "0":
        return 0.0
    if text.startswith("-"):
        raise ValueError(f'the duration "{text}" is negative')
    if text.startswith("P"):
        return _parse_iso(text)
    total, end = 0.0, 0
    for term in _TERM.finditer(text):
        if term.start() != end:
            break
        total += float(term[1]) * _UNITS[term[2]]
        end = term.end()
    if end == len(text) and text:
        return total
    if re.fullmatch(r"[0-9.]+", text):
        raise ValueError(f'the duration "{text}" has no unit; write "{text}s" for seconds')
    raise ValueError(f'"{text}" is no duration; write one such as "1h30m", "500ms" or "PT1H"')


def _parse_iso(text: str) -> float:
    found = _ISO.fullmatch(text)
    if found is None or not any(found.groups()) or text.endswith("T"):
        hint = "; years and months have no fixed length, write days" if re.match(r"P[0-9.]+[YM]", text) else ""
        raise ValueError(f'"{text}" is no ISO 8601 duration such as "PT1H30M" or "P2D"{hint}')
    parts = zip(found.groups(), _ISO_SECONDS, strict=True)
    return sum(float(number.replace(",", ".")) * unit for number, unit in parts if number)


def format_duration(seconds: float) -> str:
    """The shortest Go-like text for `seconds`, such as `1h30m`, `1.5s` or `250ms`; `parse_duration` reads it back.

    Precise to the microsecond; 0 is `0s`.
    """
    micros = round(seconds * 1e6)
    if micros < 0:
        return "-" + format_duration(-seconds)
    if micros < 1_000_000 and micros:
        return f"{micros / 1000:g}ms" if micros >= 1000 else f"{micros}us"
    whole, fraction = divmod(micros, 1_000_000)
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        count, whole = divmod(whole, length)
        if count:
            parts.append(f"{count}{unit}")
    if whole or fraction or not parts:
        parts.append(f"{whole}.{fraction:06d}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)
