"""When does a command that executes a Run itself stop, although the Run has not ended? When it waits for somebody.

Nobody else can reach the store while this process has it, so waiting on would be for ever. The Run stays where it is, in the
store; what brings it on is said, and the exit code is 3. With a server the command goes on waiting. Read next:
`kastra.cli.approve`.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from .session import say

if TYPE_CHECKING:
    from kastra.api.object import Object

WAITS = 3
"""Exit code of a command whose Run waits for somebody."""

_SHORT = 60.0
"""Seconds until a deadline that are waited for."""

_OUTSIDE = frozenset({"Approval", "Resume", "Event"})


def rests(answered: Collection[str] = (), since: int = 0) -> "Callable[[Object], bool]":
    """Whether a Run has ended, or does nothing before somebody acts.

    Args:
        answered: step keys and names of Approvals that were just answered; while one of them is waited for, the answer is on
            its way.
        since: number of the record of which the status must know.
    """

    def satisfied(run: "Object") -> bool:
        if run.is_condition_true("Complete"):
            return True
        if (run.status.get("journal") or {}).get("lastSeq", 0) < since:
            return False
        waits = run.status.get("waitingFor") or []
        if run.status.get("phase") not in ("Suspended", "Waiting") or not waits:
            return False
        if any(wait.get("name") in answered or wait.get("stepKey") in answered for wait in waits):
            return False
        return all(wait.get("kind") in _OUTSIDE and not _soon(wait.get("until")) for wait in waits)

    return satisfied


def _soon(until: str | None) -> bool:
    """Whether a wait ends by itself before anybody would mind."""
    if until is None:
        return False
    from kastra.clock import SystemClock, parse_rfc3339

    return (parse_rfc3339(until) - SystemClock().now()).total_seconds() < _SHORT


def tell(run: "Object") -> int:
    """Say what a Run waits for and how to bring it on; gives the exit code."""
    namespace = "" if run.namespace == "default" else f" -n {run.namespace}"
    say(f"run/{run.name} waits:")
    for wait in run.status.get("waitingFor") or ():
        kind, key = wait["kind"], wait["stepKey"]
        if kind == "Approval":
            say(f"  {key}: for approval/{wait['name']}; kastra approve {wait['name']}{namespace}")
        elif kind == "Event":
            say(
                f"  {key}: for an event; kastra signal run/{run.name} {wait.get('eventType', '')} --data ...{namespace}"
            )
        else:
            say(f"  {key}: to be resumed; kastra resume run/{run.name} --step {key} --data ...{namespace}")
    return WAITS
