"""What has each effect of a Run consumed? A fold over its journal: reservations, and what they were settled with.

Read next: `kastra.engine.budget`, which limits it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .records import Record, RecordType

FIELDS = ("maxTokens", "maxCostUSD", "maxModelCalls", "maxToolCalls")
"""The limits there are, in the order of `Amount`."""

CONSUMING = frozenset(
    {
        RecordType.RESERVED,
        RecordType.MODEL_TURN,
        RecordType.TOOL_RESULT,
        RecordType.STEP_COMPLETED,
        RecordType.STEP_FAILED,
    }
)
"""Types of records that say something about it."""

_BELOW = "/~[#"


class Amount(NamedTuple):
    """So much of everything that is limited; tokens are input and output together."""

    tokens: float = 0.0
    cost: float = 0.0
    model_calls: float = 0.0
    tool_calls: float = 0.0

    def plus(self, other: "Amount") -> "Amount":
        """This and another."""
        return Amount(*(mine + its for mine, its in zip(self, other, strict=True)))

    def minus(self, other: "Amount") -> "Amount":
        """This without another."""
        return Amount(*(mine - its for mine, its in zip(self, other, strict=True)))

    def plain(self) -> dict[str, float]:
        """As journaled; what is zero is left out."""
        return {name: value for name, value in zip(self._fields, self, strict=True) if value}


def consumed(usage: Mapping[str, Any]) -> tuple[float, float]:
    """(tokens, dollars) of what a call or a child Run reports."""
    tokens = float(usage.get("inputTokens") or 0) + float(usage.get("outputTokens") or 0)
    return tokens, float(usage.get("costUSD") or 0.0)


class Consumption:
    """What each effect of a Run has consumed, by stepKey: a fold over its journal."""

    def __init__(self) -> None:
        self.amounts: dict[str, Amount] = {}
        self._open: dict[str, Amount] = {}

    def apply(self, record: Record) -> None:
        """Take a record into account."""
        kind, key, body = record.type, record.key or "", record.body
        if kind == RecordType.RESERVED:
            self._open[key] = amount = Amount(**body["amount"])
            self.add(key, amount)
        elif kind == RecordType.STEP_FAILED:
            reserved = self._open.pop(key, None)
            if reserved is not None and releases(str(body["error"].get("type"))):
                self.add(key, Amount(-reserved.tokens, -reserved.cost))
        elif "usage" in body or key in self._open:
            reserved = self._open.pop(key, None)
            tokens, cost = consumed(body.get("usage") or {})
            calls = float((body.get("usage") or {}).get("calls") or 0)
            if reserved is not None:
                self.add(key, Amount(tokens - reserved.tokens, cost - reserved.cost))
            else:
                self.add(key, Amount(tokens, cost, calls or float(kind == RecordType.MODEL_TURN)))

    def add(self, key: str, amount: Amount) -> None:
        """So much more was consumed at a stepKey."""
        self.amounts[key] = self.amounts.get(key, Amount()).plus(amount)

    def below(self, place: str) -> Amount:
        """Everything consumed at a place and below it."""
        total = Amount()
        for key, amount in self.amounts.items():
            if covers(place, key):
                total = total.plus(amount)
        return total


def covers(place: str, key: str) -> bool:
    """Whether an effect at `key` happens at `place` or below it; the empty place is the whole Run."""
    return not place or key == place or (key.startswith(place) and key[len(place)] in _BELOW)


def releases(error_type: str) -> bool:
    """Whether a failed call gives its tokens back: not if it may have been answered all the same."""
    return error_type not in ("timeout", "cancelled", "in_doubt")
