"""Which processors look at no text, but shape how a model is asked? By id: where each may stand, what it takes, what it makes.

Read next: `kastra.agent.processors.catalogue`, those that look at texts; `kastra.agent.guarding`, which puts all together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .agents_md import Injecting, injecting
from .caching import Caching, caching
from .cost import CostLimit, cost_limit
from .memory_filter import MemoryFilter, memory_filter
from .recovery import SETTINGS, ErrorProcessor, error_processor
from .searching import Searching, searching
from .selection import Selecting, selecting
from .settings import Wrong
from .showing import Batching, batching
from .skill_search import SkillSearching, skill_searching
from .structuring import Structuring, structuring

Shape = (
    Caching
    | CostLimit
    | ErrorProcessor
    | Searching
    | Selecting
    | Batching
    | Structuring
    | SkillSearching
    | Injecting
    | MemoryFilter
)
"""What a declaration becomes."""


@dataclass(frozen=True, slots=True)
class Shaper:
    """One id.

    Args:
        sides: the lists in which it may stand: `input`, `output`, `error`, or `guardrails`.
        settings: names of its settings.
        make: from its settings. Raises Wrong.
    """

    sides: tuple[str, ...]
    settings: frozenset[str]
    make: Callable[[Mapping[str, Any]], Shape]


def _error(id_: str) -> Callable[[Mapping[str, Any]], Shape]:
    return lambda config: error_processor(id_, config)


SHAPERS: Mapping[str, Shaper] = {
    "token-cost-control": Shaper(
        ("input", "guardrails"), frozenset({"limits", "scope", "strategy", "message"}), cost_limit
    ),
    "model-selection": Shaper(
        ("input",), frozenset({"model", "choices", "instructions", "minProbability", "scope"}), selecting
    ),
    "tool-search": Shaper(("input",), frozenset({"search", "always"}), searching),
    "skill-search": Shaper(("input",), frozenset({"search"}), skill_searching),
    "agents-md-injector": Shaper(("input",), frozenset({"maxTokens", "reminderText", "folder"}), injecting),
    "memory-input-filter": Shaper(("input",), frozenset({"retainFullInput"}), memory_filter),
    "response-cache": Shaper(("input",), frozenset({"ttl", "scope", "bust"}), caching),
    "structured-output": Shaper(
        ("output",), frozenset({"schema", "model", "instructions", "errorStrategy", "fallbackValue"}), structuring
    ),
    "batch-parts": Shaper(("output",), frozenset({"batchSize", "maxWaitTime", "emitOnNonText"}), batching),
    "stream-error-retry": Shaper(("error",), SETTINGS["stream-error-retry"], _error("stream-error-retry")),
    "prefill-error-handler": Shaper(("error",), SETTINGS["prefill-error-handler"], _error("prefill-error-handler")),
    "provider-history-compat": Shaper(
        ("error",), SETTINGS["provider-history-compat"], _error("provider-history-compat")
    ),
}
SINGLE = frozenset(
    {
        "model-selection", "tool-search", "skill-search", "agents-md-injector", "memory-input-filter", "response-cache",
        "structured-output", "batch-parts",
    }
)  # fmt: skip
"""Those of which an agent has one at most."""


def shape(use: Mapping[str, Any], path: str, side: str) -> Shape:
    """What a declaration of one of `SHAPERS` means.

    Args:
        side: the list in which it stands.

    Raises:
        ValueError: it means nothing; the message begins with the path of what is wrong.
    """
    id_, config = use["id"], use.get("config") or {}
    shaper = SHAPERS[id_]
    if side not in shaper.sides:
        places = " or ".join(
            "spec.guardrails" if each == "guardrails" else f"spec.processors.{each}" for each in shaper.sides
        )
        raise ValueError(f"{path}.id: {id_} has no meaning here; it is a processor of {places}")
    settings = shaper.settings - {"strategy"} if side == "guardrails" else shaper.settings
    for name in config:
        if name not in settings:
            known = ", ".join(sorted(settings)) or "none"
            raise ValueError(f"{path}.config.{name}: {id_} has no such setting; it has: {known}")
    try:
        return shaper.make(config)
    except Wrong as error:
        raise ValueError(f"{path}.config{error.path}: {error.what}") from None
