"""May another model be asked? What one answer has used so far, and what the next call may come to, against limits.

Asked before each model call, so that what would go over is not spent. Counted is one answer of an agent, with all its turns;
budgets of Runs are the engine's. Read next: `kastra.engine.budget`, which counts across agents.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .interface import Tripwire
from .settings import Wrong, amount, below, one_of, only, text, whole

LIMITS = ("maxTotalTokens", "maxInputTokens", "maxOutputTokens", "maxCost")
_MESSAGE = "{limitType} would be exceeded ({usage} of {limit})"


@dataclass(frozen=True, slots=True)
class CostLimit:
    """A `token-cost-control`.

    Args:
        limits: by name, see `LIMITS`; tokens, or US dollars.
        blocks: whether it ends the call, or only notes.
        message: the reason, with `{limitType}`, `{usage}` and `{limit}`.
    """

    limits: Mapping[str, float]
    blocks: bool
    message: str

    def exceeded(self, used: Mapping[str, float], next_call: Mapping[str, float]) -> tuple[str, float, float] | None:
        """The first limit that the next call would exceed: (its name, what would be used, the limit); None if none.

        Args:
            used: usage of the answer so far.
            next_call: what the next call may come to: `sent` and `tokens` (with the answer), and `cost` in US dollars.
        """
        given, answered = used.get("inputTokens", 0), used.get("outputTokens", 0)
        reached = {
            "maxTotalTokens": given + answered + next_call["tokens"],
            "maxInputTokens": given + next_call["sent"],
            "maxOutputTokens": answered + next_call["tokens"] - next_call["sent"],
            "maxCost": used.get("costUSD", 0) + next_call["cost"],
        }
        for name in LIMITS:
            limit = self.limits.get(name)
            # What was used up to the very end leaves nothing for another call, however little it would take.
            if limit is not None and (reached[name] > limit or _spent(name, used) >= limit):
                return name, reached[name], limit
        return None

    def tripwire(self, name: str, usage: float, limit: float) -> Tripwire:
        """Why the call ends."""
        said = (
            self.message.replace("{limitType}", name).replace("{usage}", f"{usage:g}").replace("{limit}", f"{limit:g}")
        )
        return Tripwire("token-cost-control", f"token-cost-control: {said}", "input", {name: 1})


def _spent(name: str, used: Mapping[str, float]) -> float:
    given, answered = used.get("inputTokens", 0), used.get("outputTokens", 0)
    return {
        "maxTotalTokens": given + answered,
        "maxInputTokens": given,
        "maxOutputTokens": answered,
        "maxCost": used.get("costUSD", 0),
    }[name]


def cost_limit(config: Mapping[str, Any]) -> CostLimit:
    """From its settings. Raises Wrong."""
    limits = config.get("limits")
    if not isinstance(limits, Mapping) or not any(limits.get(name) is not None for name in LIMITS):
        raise Wrong(".limits", f"needs at least one of {', '.join(LIMITS)}")
    only(limits, LIMITS, ".limits")
    with below(".limits"):
        found = {
            name: amount(value, f".{name}") if name == "maxCost" else float(whole(limits, name))
            for name, value in limits.items()
            if value is not None
        }
    if config.get("scope", "run") != "run":
        raise Wrong(".scope", "must be run: what one answer uses; budgets of Runs count more")
    blocks = one_of(config, "strategy", ("block", "warn"), "block") == "block"
    return CostLimit(found, blocks, text(config, "message", _MESSAGE))
