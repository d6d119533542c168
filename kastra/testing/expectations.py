"""Is what came of a Run what a test expects? Every difference, with the field of the test file that says otherwise.

Objects are compared as data. A difference says where in a value it is, and long values are shown as a diff.
Read next: `kastra.testing.cases`.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kastra.api.durations import parse_duration
from kastra.cel import CelError, environment
from kastra.manifest.position import PathTuple

from .rehearsal import Outcome

_SHORT = 60
_MOST_LINES = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that isn't as expected.

    Args:
        path: of the expectation, below the test.
        message: what is different.
        details: a diff, or what happened, line by line.
    """

    path: PathTuple
    message: str
    details: str = ""


def differences(expect: Mapping[str, Any], outcome: Outcome) -> list[Difference]:
    """Everything in which an outcome isn't what was expected; empty if nothing."""
    return list(_differences(expect, outcome))


def _differences(expect: Mapping[str, Any], outcome: Outcome) -> Iterator[Difference]:
    phase = expect.get("phase") or ("Failed" if "error" in expect else "Succeeded")
    if outcome.phase != phase:
        where: PathTuple = ("expect", "phase") if "phase" in expect else ("expect",)
        yield Difference(where, f"phase: expected {phase}, got {outcome.phase}", _why(outcome))
        if phase == "Succeeded":
            return  # everything else would say the same again
    if "output" in expect:
        yield from _equal(("expect", "output"), "output", expect["output"], outcome.output)
    if "outputIncludes" in expect:
        yield from _included(("expect", "outputIncludes"), "output", expect["outputIncludes"], outcome.output)
    yield from _error(expect.get("error") or {}, outcome)
    for key, wanted in (expect.get("steps") or {}).items():
        yield from _step(key, wanted, outcome)
    if "toolCalls" in expect:
        yield from _calls(expect["toolCalls"], outcome)
    if "waitingFor" in expect:
        keys = sorted(str(wait.get("stepKey")) for wait in outcome.waiting_for)
        yield from _equal(("expect", "waitingFor"), "waitingFor", sorted(expect["waitingFor"]), keys)
    if "duration" in expect and abs(outcome.duration - parse_duration(expect["duration"])) >= 1.0:
        yield Difference(("expect", "duration"), f"duration: expected {expect['duration']}, got {outcome.duration:g}s")
    for index, condition in enumerate(expect.get("that") or ()):
        yield from _holds(("expect", "that", index), condition, outcome)


def _error(wanted: Mapping[str, Any], outcome: Outcome) -> Iterator[Difference]:
    error = outcome.error or {}
    found = {"type": error.get("type"), "step": (error.get("details") or {}).get("step")}
    for name in ("type", "step"):
        if name in wanted and found[name] != wanted[name]:
            message = f"error.{name}: expected {wanted[name]}, got {found[name] or 'none'}"
            yield Difference(("expect", "error", name), message, _why(outcome))
    if "title" in wanted and wanted["title"] not in str(error.get("title") or ""):
        message = f"error.title: expected {wanted['title']!r} in it, got {error.get('title') or 'none'}"
        yield Difference(("expect", "error", "title"), message)


def _step(key: str, wanted: Any, outcome: Outcome) -> Iterator[Difference]:
    path: PathTuple = ("expect", "steps", key)
    row = outcome.steps.get(key)
    if row is None:
        known = ", ".join(outcome.steps) or "none"
        yield Difference(path, f"steps: {key} has not begun; there are {known}")
        return
    wanted = {"phase": wanted} if isinstance(wanted, str) else wanted
    for name, value in wanted.items():
        if name == "phase" and "counts" in row and value != row.get("phase"):
            if set(row["counts"]) != {value}:
                yield Difference(path, f"steps.{key}: expected {value}, got {_short(row['counts'])}")
        elif name == "error":
            yield from _included((*path, name), f"steps.{key}.error", value, row.get("error"))
        else:
            yield from _equal(path if name == "phase" else (*path, name), f"steps.{key}.{name}", value, row.get(name))


def _calls(wanted: Sequence[Any], outcome: Outcome) -> Iterator[Difference]:
    made = [{"tool": call.tool, "arguments": dict(call.arguments), "attempt": call.attempt} for call in outcome.calls]
    for index, (one, call) in enumerate(zip(wanted, made, strict=False)):
        one = {"tool": one} if isinstance(one, str) else one
        shown = {name: call[name] for name in one}
        if shown != one:
            yield Difference(
                ("expect", "toolCalls", index),
                f"toolCalls[{index}]: expected {_short(one)}, got {_short(shown)}",
                _list(made),
            )
            return
    if len(wanted) != len(made):
        message = f"toolCalls: expected {len(wanted)} calls, got {len(made)}"
        yield Difference(("expect", "toolCalls"), message, _list(made))


def _holds(path: PathTuple, condition: str, outcome: Outcome) -> Iterator[Difference]:
    values = {
        "output": outcome.output,
        "error": outcome.error,
        "phase": outcome.phase,
        "steps": {key: dict(row) for key, row in outcome.steps.items()},
        "calls": [{"tool": call.tool, "arguments": dict(call.arguments)} for call in outcome.calls],
        "duration": outcome.duration,
    }
    try:
        if not environment(*values).compile(condition).test(values):
            yield Difference(path, f"is false: {condition}", f"output = {_short(outcome.output, 400)}")
    except CelError as error:
        yield Difference(path, f"{condition}: {error}")


def _equal(path: PathTuple, what: str, wanted: Any, found: Any) -> Iterator[Difference]:
    if _plain(wanted) == _plain(found):
        return
    first = next(places(wanted, found, what), what)
    yield Difference(path, f"{first}", _diff(wanted, found))


def _included(path: PathTuple, what: str, wanted: Any, found: Any) -> Iterator[Difference]:
    for place in places(wanted, found, what, partly=True):
        yield Difference(path, place, _diff(wanted, found))
        return


def places(wanted: Any, found: Any, where: str, *, partly: bool = False) -> Iterator[str]:
    """Where two values differ, in words.

    Args:
        where: what they are called.
        partly: what is only in `found` is no difference.
    """
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            if key not in found:
                yield f"{where}.{key}: expected {_short(value)}, got nothing"
            else:
                yield from places(value, found[key], f"{where}.{key}", partly=partly)
        if not partly:
            for key in found.keys() - wanted.keys():
                yield f"{where}.{key}: not expected, got {_short(found[key])}"
    elif isinstance(wanted, list) and isinstance(found, list):
        for index, (one, other) in enumerate(zip(wanted, found, strict=False)):
            yield from places(one, other, f"{where}[{index}]", partly=partly)
        if len(wanted) != len(found):
            yield f"{where}: expected {len(wanted)} items, got {len(found)}"
    elif _plain(wanted) != _plain(found):
        yield f"{where}: expected {_short(wanted)}, got {_short(found)}"


def _plain(value: Any) -> bytes:
    """Equal for equal JSON; true isn't 1, but 1.0 is."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, Mapping):
        return b"{%b}" % b",".join(orjson.dumps(str(key)) + b":" + _plain(value[key]) for key in sorted(value))
    if isinstance(value, list | tuple):
        return b"[%b]" % b",".join(map(_plain, value))
    return orjson.dumps(value)


def _short(value: Any, longest: int = _SHORT) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _diff(wanted: Any, found: Any) -> str:
    one, other = (_pretty(value) for value in (wanted, found))
    if len(one) == 1 and len(other) == 1 and len(one[0]) + len(other[0]) <= 2 * _SHORT:
        return ""
    lines = list(difflib.unified_diff(one, other, "expected", "got", lineterm="", n=2))
    return "\n".join([*lines[:_MOST_LINES], *(["…"] if len(lines) > _MOST_LINES else [])])


def _pretty(value: Any) -> list[str]:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode().splitlines()


def _list(made: Sequence[Mapping[str, Any]]) -> str:
    return (
        "\n".join(["the calls were:", *(f"  {_short(call, 160)}" for call in made)]) if made else "there were no calls"
    )


def _why(outcome: Outcome) -> str:
    """What a Run came to, step by step."""
    lines = []
    if outcome.error:
        kind = outcome.error.get("type") or "error"
        lines.append(f"{kind}: {outcome.error.get('title') or ''}".rstrip())
    for key, row in outcome.steps.items():
        state = row.get("phase") or _short(row.get("counts"))
        lines.append(f"  {key}: {state}")
    lines += [f"  waits for {wait.get('kind')} at {wait.get('stepKey')}" for wait in outcome.waiting_for]
    return "\n".join(lines)
