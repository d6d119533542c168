"""On what terms are people asked about the call of a tool? Who may decide, until when, and what happens then.

A Tool's own terms hold wherever it is called from, so that nobody gets round them; what it leaves open an Agent may say for all its
tools. Read next: `kastra.agent.approvals`, which asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kastra.api.durations import parse_duration


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of an approval.

    Args:
        approvers: `users`, `groups`, `count`; empty for whoever has the permission.
        seconds: until the deadline; None for none.
        on_timeout: approve, reject or fail; empty where that is left open.
    """

    approvers: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    on_timeout: str = ""

    @classmethod
    def of(cls, approval: Mapping[str, Any] | None) -> "Terms":
        """Those of the plain `approval` of a Tool or Agent."""
        if not approval:
            return NO_TERMS
        timeout = approval.get("timeout")
        seconds = None if timeout is None else parse_duration(timeout)
        approvers = {name: value for name, value in (approval.get("approvers") or {}).items() if value}
        return cls(approvers, seconds, approval.get("onTimeout") or "")

    def filled(self, other: "Terms") -> "Terms":
        """These, and those of `other` where they leave something open. Deadline and what follows it go together."""
        timed = self if self.seconds is not None else other
        return Terms(self.approvers or other.approvers, timed.seconds, timed.on_timeout or other.on_timeout)


NO_TERMS = Terms()
