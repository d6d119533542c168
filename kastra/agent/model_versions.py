"""Which models have been made already? One for each version of a Model and its ModelProvider, shared by all Runs that resolved these.

What is kept holds no key: that is read at each call. Scripted models aren't kept, since they count how often a rule has answered,
and each closure begins anew with that. Read next: `kastra.agent.models`, which makes them.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kastra.api.types import ClosureObject
from kastra.model.chain import ModelEntry
from kastra.model.limits import RateLimits

_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Made:
    """A model that was made, and of what.

    Args:
        limits: of the entry's limiters, as these specs have them.
    """

    entry: ModelEntry
    limits: Sequence[RateLimits]
    model: Mapping[str, Any]
    provider: Mapping[str, Any]


class ModelVersions:
    """The models of a process, by what they were made of; those that haven't been used for longest go first."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, str, int, str, str, int, int], Made] = OrderedDict()

    def of(self, model: ClosureObject, provider: ClosureObject, retries: int, make: Callable[[], Made]) -> ModelEntry:
        """The model that `make` makes, or made for the same versions of both objects.

        Args:
            retries: how often it is asked again.
        """
        if provider["spec"]["type"] == "scripted":
            return make().entry
        version = (
            model["namespace"],
            model["name"],
            model["generation"],
            provider["namespace"],
            provider["name"],
            provider["generation"],
            retries,
        )
        found = self._made.get(version)
        # An object that was deleted and made anew has the generations of the one before.
        if found is None or not _same(found.model, model["spec"]) or not _same(found.provider, provider["spec"]):
            found = self._made[version] = make()
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
            return found.entry
        self._made.move_to_end(version)
        for limiter, limits in zip(found.entry.limiters, found.limits, strict=False):
            # Another version may have been used meanwhile; the limiter is the same.
            limiter.adopt(limits)
        return found.entry


def _same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    # Nearly always the very same one; dicts would be compared entry by entry all the same.
    return ours is theirs or ours == theirs
