"""How the steps of a Run went, put into the picture of what it executes.

Rows are those of the subresource `runs/steps`: one a step, those of items and iterations counted together. Visits of a cycle
and further attempts count with their step. Read next: `kastra.engine.steps`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .model import Box, Diagram

_NUMBERS = re.compile(r"(?<!case)(?<!catch)\[(?:\d+|\*)\]|#(?:\d+|\*)|[@~]\d+")
_WORST = (
    "Failed",
    "InDoubt",
    "Suspended",
    "Waiting",
    "Retrying",
    "Running",
    "Pending",
    "Abandoned",
    "Succeeded",
    "Skipped",
)
_MEMBER = re.compile(r"turn\[(?P<turn>\d+)\]/(?P<member>[^/\[]+)")


def overlay(diagram: Diagram, rows: Iterable[Mapping[str, Any]], phase: str) -> None:
    """Set the states of a diagram's boxes from the steps of a Run, and of its end from the Run's phase."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        found = counts.setdefault(_NUMBERS.sub("", str(row["key"])), Counter())
        if row.get("counts"):
            found.update(row["counts"])
        else:
            found[str(row.get("phase", ""))] += 1
    for box in diagram.group.walk():
        if box.key in counts:
            _mark(box, counts[box.key])
        elif box.kind == "start" and counts:
            box.state = "Succeeded"
        elif box.kind == "end" and phase in ("Succeeded", "Failed", "Cancelled"):
            box.state = "Failed" if phase == "Cancelled" else phase


def overlay_network(diagram: Diagram, keys: Iterable[str], phase: str) -> None:
    """Mark the members that acted in a network's Run, with how often.

    Args:
        keys: stepKeys of its journal; what a member does in turn n is at `turn[n]/<member>`.
    """
    turns = {(match["turn"], match["member"]) for key in keys if (match := _MEMBER.match(key))}
    counts = Counter(member for _, member in turns)
    for box in diagram.group.walk():
        name = box.key.removeprefix("member/")
        if box.key != name and counts[name]:
            box.state, box.note = "Succeeded", f"{counts[name]}x"
        elif box.kind == "end" and phase in ("Succeeded", "Failed", "Cancelled"):
            box.state = "Failed" if phase == "Cancelled" else phase


def _mark(box: Box, counts: Counter[str]) -> None:
    box.state = next((state for state in _WORST if counts[state]), next(iter(counts), ""))
    if counts.total() > 1:
        box.note = ", ".join(f"{number} {state.lower()}" for state, number in sorted(counts.items()))
