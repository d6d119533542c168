"""Golden journals: what a Run recorded once, kept in git, and compared with what it records now.

A journal is normalised before it is kept: times, uids and generated names, which differ each time, are left out or replaced, and
what happened at one stepKey is compared in its order, since parallel steps may take turns differently. A Run that records
something else than it did (a step that is new, gone, has another input, another outcome, another number of attempts) has
diverged, and the message names the first step where it did.

Source: replay tests as in Temporal. Read next: `kastra.testing.runner`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from .expectations import Difference, places
from .rehearsal import Outcome

FOLDER = "golden"
_DROPPED = frozenset({"retryAt", "closure", "holder", "epoch"})
_RELATIVE = frozenset({"due", "until"})
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAMELESS = re.compile(r"[^a-z0-9]+")
_LONGEST = 160


def golden_path(file: Path, test: str) -> Path:
    """Where the golden journal of a test is kept: `golden/FILE/TEST.jsonl` beside its file."""
    name = _NAMELESS.sub("-", test.lower()).strip("-")[:60] or "test"
    # Names that are alike in letters and digits are told apart.
    return (
        file.parent
        / FOLDER
        / file.name.removesuffix(".test.yaml")
        / f"{name}-{sha256(test.encode()).hexdigest()[:6]}.jsonl"
    )


def golden_of(test: str, target: str, outcome: Outcome) -> dict[str, Any]:
    """What is kept of a Run: `{test, target, definition, journal}`."""
    return {"test": test, "target": target, "definition": _definition(outcome), "journal": _normal(outcome)}


def write_golden(path: Path, golden: Mapping[str, Any]) -> bool:
    """Keep a golden journal; False if it is kept already as it is."""
    head = {name: value for name, value in golden.items() if name != "journal"}
    # A line a record, so that a change is a change of few lines.
    lines = [orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in (head, *golden["journal"])]
    data = b"\n".join([*lines, b""])
    if path.is_file() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return True


def read_golden(path: Path) -> Mapping[str, Any] | None:
    """The golden journal of a test; None if there is none.

    Raises:
        ValueError: the file isn't one.
    """
    if not path.is_file():
        return None
    try:
        head, *journal = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        if not isinstance(head["definition"], str) or not all(isinstance(record["type"], str) for record in journal):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: is no golden journal; record it anew with kastra test --record-golden") from None
    return {**head, "journal": journal}


def divergence(golden: Mapping[str, Any], outcome: Outcome) -> Difference | None:
    """Where a Run recorded something else than its golden journal; None if nowhere."""
    first = next(_divergences(golden["journal"], _normal(outcome)), None)
    if first is None:
        return None
    changed = golden["definition"] != _definition(outcome)
    why = (
        "the definition has changed since the journal was recorded; a Run of the old one, continued on the new one, would go wrong here"
        if changed
        else "the definition is the recorded one, so what executes it, or the test, has changed"
    )
    hint = "if that is meant, record it anew: kastra test --record-golden"
    return Difference((), f"diverges from its golden journal at {first}", f"{why}\n{hint}")


def _divergences(recorded: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    before, after = _by_step(recorded), _by_step(now)
    for key in dict.fromkeys([*before, *after]):
        where = f"step {key}" if key else "the Run itself"
        if key not in after:
            yield f"{where}: it was executed then, and isn't now"
        elif key not in before:
            yield f"{where}: it is executed now, and wasn't then"
        elif before[key] != after[key]:
            then, told = before[key], after[key]
            for index in range(max(len(then), len(told))):
                one = then[index] if index < len(then) else None
                other = told[index] if index < len(told) else None
                if one != other:
                    yield f"{where}: {_difference(one, other)}"
                    break


def _by_step(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault(record.get("step") or "", []).append(record)
    # The Run's own records last: they say how it ended, and a step says why.
    if "" in found:
        found[""] = found.pop("")
    return found


def _difference(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> str:
    if one is not None and other is not None and one["type"] == other["type"]:
        first = next(places(one.get("body"), other.get("body"), str(one["type"])), "")
        if first:
            return first
    return f"recorded {_shown(one)}, now {_shown(other)}"


def _shown(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "nothing more"
    rest = {key: value for key, value in record.items() if key not in ("type", "step")}
    text = f"{record['type']} {orjson.dumps(rest).decode()}" if rest else str(record["type"])
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _definition(outcome: Outcome) -> str:
    """`sha256:` of what a Run executes: the normal form of its target and what that refers to, without uids."""
    found = outcome.definition
    objects = sorted(f"{obj['kind']}/{obj['namespace']}/{obj['name']}" for obj in found.get("objects") or ())
    body = {"kind": found.get("kind"), "spec": found.get("spec"), "objects": objects}
    return "sha256:" + sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _normal(outcome: Outcome) -> list[dict[str, Any]]:
    """The records of a journal without what differs each time."""
    names: dict[str, str] = {}
    for record in outcome.records:
        name = (record.get("body") or {}).get("name")
        if record["type"] in ("ChildStarted", "Suspended") and isinstance(name, str):
            names[name] = f"<{record['stepKey']}>"
    names[outcome.name] = "<run>"  # last, since the others begin with it
    return [_record(record, names) for record in outcome.records]


def _record(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {"type": record["type"]}
    if record.get("stepKey") is not None:
        made["step"] = record["stepKey"]
    if (record.get("attempt") or 1) != 1:
        made["attempt"] = record["attempt"]
    if record["type"] == "LoopCheckpoint":
        # The rest is times, and numbers of records that differ with the turns that branches take.
        made["body"] = {key: record["body"][key] for key in ("iteration", "counts")}
        return made
    body = {
        key: round((value - record["time"]) / 1000)
        if key in _RELATIVE and isinstance(value, int)
        else _value(value, names)
        for key, value in (record.get("body") or {}).items()
        if key not in _DROPPED
    }
    if body:
        made["body"] = body
    return made


def _value(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        if value[:1] in ("{", "["):
            # The order of fields in JSON as text, as a model writes it, says nothing.
            with suppress(orjson.JSONDecodeError):
                parsed = _value(orjson.loads(value), names)
                return orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS).decode()
        for name, stands in names.items():
            value = value.replace(name, stands)
        return _UID.sub("<uid>", _TIME.sub("<time>", value))
    if isinstance(value, Mapping):
        return {key: _value(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_value(inner, names) for inner in value]
    return value
