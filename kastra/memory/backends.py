"""Which index searches the vectors of messages? The built-in one, or that of an installed package (`kastra.vectors`).

An index is a cache: the rows of the database are the truth, and whatever holds one is made anew from them. So an index that
can't be had is no reason to stop: its defect is logged once, and the built-in one takes its place.

Read next: `kastra.memory.vectors`, the built-in one; `kastra.plugins`.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kastra.plugins import PluginError, failed, installed, load, reason_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GROUP = "kastra.vectors"
"""The group of entry points: functions from the length of the vectors to an `Index`."""
BUILT_IN = "builtin"

_log = logging.getLogger("kastra.memory")


class Index(Protocol):
    """Vectors of one length, by number. Used from one thread at a time."""

    def add(self, ids: Sequence[int], vectors: "NDArray[np.float32]") -> None:
        """Add vectors of length 1, a row each, under numbers that are not there yet."""
        ...

    def search(self, vector: "NDArray[np.float32]", k: int) -> list[tuple[int, float]]:
        """The numbers of the nearest vectors and their cosine similarity, the nearest first; at most `k`."""
        ...


IndexFactory = Callable[[int], Index]
"""From the length of the vectors to an empty index."""


def built_in(dimensions: int) -> Index:
    """The index that comes with Kastra."""
    from .vectors import VectorIndex

    return VectorIndex(dimensions)


def index_factory(name: str) -> IndexFactory:
    """What makes indexes, by its name in the settings; looked for, and imported, when the first index is made."""
    if name in ("", BUILT_IN):
        return built_in

    def make(dimensions: int) -> Index:
        plugin = next((found for found in installed(GROUP, reserved=(BUILT_IN,)) if found.name == name), None)
        if plugin is None:
            _log.error('setting vectors: no installed package has the index "%s"; the built-in one is used', name)
            return built_in(dimensions)
        try:
            factory: IndexFactory = load(plugin, problem)
            return factory(dimensions)
        except PluginError:
            return built_in(dimensions)
        except Exception as error:  # noqa: BLE001 - somebody else's defect, noted; the rows are still there
            failed(plugin, reason_of(error, plugin.module))
            return built_in(dimensions)

    return make


def problem(factory: Any) -> str:
    """What is wrong with the object of an entry point; empty if nothing is."""
    return "" if callable(factory) else "is no function that makes an index of (dimensions)"
