"""What does a Network ask for that is accepted and not done? Its controller says so, and its Runs refuse it.

Read next: `kastra.agent.network`.
"""

from collections.abc import Mapping
from typing import Any


def unsupported(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Fields of a plain Network spec that are accepted and not acted on: (path, what it would do)."""
    router, termination = spec.get("router") or {}, spec.get("termination") or {}
    budget, stall = spec.get("budget") or {}, termination.get("stall") or {}
    checks = [
        ("spec.router.allowParallel", "several members at once", router.get("allowParallel")),
        ("spec.termination.onLimit", "suspending at a limit", termination.get("onLimit") == "suspend"),
        ("spec.termination.stall.action", "suspending at a stall", stall.get("action") == "suspend"),
        ("spec.budget.onExceeded", "suspending at a limit", budget.get("onExceeded") == "suspend"),
        ("spec.state.scope", "state per thread", (spec.get("state") or {}).get("scope") == "thread"),
    ]
    checks += [
        (f"spec.{name}", f"{name} of a network", spec.get(name))
        for name in ("memory", "approval", "streaming", "transcript", "retry", "budgetRef")
    ]
    checks += [
        (f"{member['path']}.canHandoffTo", "handing off in another mode than handoff", member.get("canHandoffTo"))
        for member in spec.get("members") or ()
        if router.get("mode") != "handoff"
    ]
    return [(path, feature) for path, feature, given in checks if given]
