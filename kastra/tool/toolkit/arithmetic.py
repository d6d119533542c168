"""Group `math`: arithmetic, statistics, units.

Read next: `kastra.tool.toolkit.calculator`.
"""

import math
import statistics as stat
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from kastra.tool.toolkit.builtin import Builtin, unfit
from kastra.tool.toolkit.calculator import calculate

MAX_NUMBERS = 100_000

_UNITS: Mapping[str, Mapping[str, float]] = {
    "length": {
        "mm": 0.001, "cm": 0.01, "m": 1.0, "km": 1000.0, "in": 0.0254, "ft": 0.3048, "yd": 0.9144, "mi": 1609.344, "nmi": 1852.0,
    },
    "mass": {"mg": 1e-6, "g": 0.001, "kg": 1.0, "t": 1000.0, "oz": 0.028349523125, "lb": 0.45359237, "st": 6.35029318},
    "volume": {
        "ml": 0.001, "cl": 0.01, "dl": 0.1, "l": 1.0, "m3": 1000.0, "tsp": 0.00492892159375, "tbsp": 0.01478676478125,
        "floz": 0.0295735295625, "cup": 0.2365882365, "pt": 0.473176473, "qt": 0.946352946, "gal": 3.785411784,
    },
    "area": {"cm2": 1e-4, "m2": 1.0, "ha": 1e4, "km2": 1e6, "in2": 0.00064516, "ft2": 0.09290304, "acre": 4046.8564224},
    "time": {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "week": 604800.0},
    "speed": {"m/s": 1.0, "km/h": 1 / 3.6, "mph": 0.44704, "kn": 1852 / 3600},
    "data": {
        "bit": 0.125, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
        "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3, "TiB": 1024.0**4,
    },
    "energy": {"J": 1.0, "kJ": 1e3, "Wh": 3600.0, "kWh": 3.6e6, "cal": 4.184, "kcal": 4184.0},
    "pressure": {"Pa": 1.0, "hPa": 100.0, "kPa": 1e3, "bar": 1e5, "atm": 101325.0, "psi": 6894.757293168},
}  # fmt: skip
"""By quantity, how many of the first-named base unit one of each unit is; US measures of volume."""
_TEMPERATURES = ("C", "F", "K")


def evaluate(
    expression: Annotated[str, "Such as (a + 3) * sqrt(2) ** 2; powers are **."],
    variables: Annotated[dict[str, float], "Numbers by name."] = {},  # noqa: B006 - never changed; the schema shows it
) -> dict[str, Any]:
    """Compute an arithmetic expression exactly: operators, comparisons, sqrt, log, sin, round, min, mean and the like."""
    whole = {name: int(number) if float(number).is_integer() else number for name, number in variables.items()}
    result = calculate(expression, whole)
    if isinstance(result, int) and not isinstance(result, bool) and result.bit_length() > 53:
        # Beyond what a JSON number is read back as.
        return {"result": str(result)}
    return {"result": result}


def statistics(
    numbers: list[float],
    percentiles: Annotated[list[float], "Also these, from 0 to 100."] = [],  # noqa: B006 - as above
) -> dict[str, Any]:
    """Describe numbers: count, sum, mean, median, deviation, least, greatest, percentiles."""
    if not numbers or len(numbers) > MAX_NUMBERS:
        raise unfit(f"numbers: from 1 to {MAX_NUMBERS:,}")
    if not all(math.isfinite(number) for number in numbers):
        raise unfit("numbers: must be finite")
    ordered = sorted(numbers)
    result: dict[str, Any] = {
        "count": len(ordered),
        "sum": math.fsum(ordered),
        "mean": stat.fmean(ordered),
        "median": stat.median(ordered),
        "min": ordered[0],
        "max": ordered[-1],
        "deviation": stat.stdev(ordered) if len(ordered) > 1 else 0.0,
    }
    if percentiles:
        result["percentiles"] = {f"{wanted:g}": _percentile(ordered, wanted) for wanted in percentiles[:100]}
    return result


def _percentile(ordered: list[float], wanted: float) -> float:
    if not 0 <= wanted <= 100:
        raise unfit("percentiles: from 0 to 100")
    place = (len(ordered) - 1) * wanted / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def convert(
    value: float,
    unit: Annotated[str, "Of the value, such as km, lb, F, GiB, km/h."],
    to: Annotated[str, "Wanted unit."],
) -> dict[str, Any]:
    """Convert a value between units of length, mass, volume, area, time, speed, data, energy, pressure or temperature."""
    if unit in _TEMPERATURES and to in _TEMPERATURES:
        return {"value": _tidy(_from_kelvin(_to_kelvin(value, unit), to)), "unit": to}
    for units in _UNITS.values():
        if unit in units and to in units:
            return {"value": _tidy(value * units[unit] / units[to]), "unit": to}
    known = "; ".join(f"{name}: {', '.join(units)}" for name, units in _UNITS.items())
    raise unfit(
        f"{unit[:20]} to {to[:20]}: no such conversion. Units: {known}; temperature: {', '.join(_TEMPERATURES)}"
    )


def _to_kelvin(value: float, unit: str) -> float:
    return {"C": value + 273.15, "F": (value - 32) * 5 / 9 + 273.15, "K": value}[unit]


def _from_kelvin(value: float, unit: str) -> float:
    return {"C": value - 273.15, "F": (value - 273.15) * 9 / 5 + 32, "K": value}[unit]


def _tidy(value: float) -> float:
    return float(f"{value:.12g}")


def round_number(
    value: float,
    digits: Annotated[int, "After the decimal point; negative for tens, hundreds."] = 0,
    mode: Literal["half-even", "half-up", "up", "down"] = "half-up",
) -> float:
    """Round a number in decimal, as people do."""
    from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

    if not math.isfinite(value) or abs(value) > 1e15 or not -15 <= digits <= 15:
        raise unfit("value must be below 1e15, digits from -15 to 15")
    modes = {"half-even": ROUND_HALF_EVEN, "half-up": ROUND_HALF_UP, "up": ROUND_CEILING, "down": ROUND_FLOOR}
    return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), rounding=modes[mode]))


TOOLS = (
    Builtin("math.evaluate", evaluate),
    Builtin("math.statistics", statistics),
    Builtin("math.convert", convert),
    Builtin("math.round", round_number),
)
