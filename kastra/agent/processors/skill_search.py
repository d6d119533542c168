"""How does a model work with more skills than it should be told of? It looks for them, with `skill-search`.

Read next: `kastra.agent.skills.offering`, which adds the tools for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .settings import Wrong, below, only, share, whole


@dataclass(frozen=True, slots=True)
class SkillSearching:
    """A `skill-search`.

    Args:
        most: skills that one search gives.
        least: relevance, from 0 to 1 (the best of a search has 1), from which on it gives them.
    """

    most: int
    least: float


def skill_searching(config: Mapping[str, Any]) -> SkillSearching:
    """From its settings. Raises Wrong."""
    search = config.get("search") or {}
    if not isinstance(search, Mapping):
        raise Wrong(".search", "must be {topK, minScore}")
    only(search, ("topK", "minScore"), ".search")
    with below(".search"):
        return SkillSearching(whole(search, "topK", 5), share(search, "minScore", 0.0) or 0.0)
