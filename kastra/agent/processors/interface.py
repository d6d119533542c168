"""What is a processor? A function over texts that leaves them, changes them, or finds something in them.

Each has a strategy for what it finds: `block` ends the call with a tripwire, `redact` takes it out, `warn` only notes it. A
finding names a rule and a number, never the text that was found.

Source: processors and tripwires as in Mastra. Read next: `kastra.agent.processors.catalogue`, the ids.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .judging import Judge

Strategy = Literal["block", "redact", "warn"]
Found = Mapping[str, int]
"""How often each rule was met, by its name."""

Scan = Callable[[str, str], tuple[str, Found]]
"""`(text, instructions)` to the text without what was found, and what was found."""


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor as one agent has it.

    Args:
        id: from the catalogue.
        path: where it is declared, such as `spec.guardrails[0]`.
        strategy: what becomes of a text in which something is found.
        scan: looks into a text; None for one that does something else.
        rewrites: whether its changes are no findings (a normaliser): they are made and not noted.
        tokens: the most that is sent to the model; None for no limit.
        hidden_tools: tools whose calls are taken out of the given messages; `*` for all.
        judge: a model that judges; None for none.
        retry: whether the model is asked again for an answer that is blocked.
        parts: of an answer that are looked at: `text`, `reasoning`, `arguments` (of tool calls).
        window: characters within which whatever is found shows itself, blanks included; None where that isn't known.
        reason: for people, instead of what was found.
    """

    id: str
    path: str
    strategy: Strategy = "block"
    scan: Scan | None = None
    rewrites: bool = False
    tokens: int | None = None
    hidden_tools: frozenset[str] = frozenset()
    judge: "Judge | None" = None
    retry: bool = False
    parts: frozenset[str] = frozenset({"text"})
    window: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tripwire:
    """Why a call was ended.

    Args:
        processor: id of the processor that did.
        reason: for people; never holds what was found.
        phase: `input`, `tool` or `output`.
        found: how often which rule was met.
        retry: whether the model may be asked again.
    """

    processor: str
    reason: str
    phase: str
    found: Found = field(default_factory=dict)
    retry: bool = False

    def plain(self) -> dict[str, Any]:
        """As it is journaled and answered."""
        return {
            "processorId": self.processor,
            "reason": self.reason,
            "phase": self.phase,
            "metadata": {"found": dict(self.found)},
            **({"retry": True} if self.retry else {}),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Tripwire":
        """From what `plain` gave."""
        return cls(
            plain["processorId"], plain["reason"], plain["phase"], plain["metadata"]["found"], bool(plain.get("retry"))
        )
