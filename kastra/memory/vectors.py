"""Which vectors are nearest to this one? Exactly, by numpy, while they are few; with annoy's trees above a number of them.

An annoy index never changes once it is built (what is added to a built one is lost without a word), so it is the base, and
what came since is a delta that numpy searches; what was removed is left out of the answers. When the delta exceeds a tenth,
a new base is built on a thread of its own and takes the old one's place when it is done. Where annoy isn't installed
everything is exact.

The rows of the database are the truth; this is a cache of them that can be thrown away at any time. Imports numpy, so it is
imported when somebody searches. Read next: `kastra.memory.recall`, which fills it.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

EXACT_BELOW = 20_000
"""Vectors up to which a search is exact."""

TREES = 50
SEARCH_K = 1500
"""Nodes of the trees that one search looks at; measured, see docs/benchmarks.md."""

_DELTA = 0.1
_OVERFETCH = 3
_log = logging.getLogger("kastra.memory")


@dataclass(frozen=True, slots=True)
class _Base:
    """Trees over the first vectors; `count` of them."""

    index: Any
    count: int


def normalized(vectors: Sequence[Sequence[float]]) -> Vectors:
    """The vectors as rows of length 1; one of nothing but zeros stays."""
    matrix = np.asarray(vectors, dtype=np.float32).reshape(len(vectors), -1)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(lengths == 0, 1, lengths), dtype=np.float32)


def packed(vector: Vectors) -> bytes:
    """A vector as a row of the database holds it: 32-bit floats, least significant byte first."""
    return bytes(vector.astype("<f4").tobytes())


class VectorIndex:
    """Vectors of one length, by number. Used from one thread at a time; builds trees on others.

    Args:
        dimensions: of every vector.
        exact_below: up to how many vectors a search is exact.
        start: starts what builds trees; a thread by default.
    """

    def __init__(
        self, dimensions: int, exact_below: int = EXACT_BELOW, start: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        self.dimensions = dimensions
        self._exact_below = exact_below
        self._start = start or _in_thread
        self._matrix: Vectors = np.empty((0, dimensions), dtype=np.float32)
        self._ids: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._count = 0
        self._gone: set[int] = set()
        self._base: _Base | None = None
        self._building = False
        self._version = 0

    def __len__(self) -> int:
        return self._count - len(self._gone)

    @property
    def approximate(self) -> bool:
        """Whether trees are searched at present."""
        return self._base is not None

    def add(self, ids: Sequence[int], vectors: Vectors) -> None:
        """Add vectors of length 1 under numbers that are not there yet."""
        if not len(ids):
            return
        needed = self._count + len(ids)
        if needed > len(self._ids):
            size = max(needed, 2 * len(self._ids), 64)
            matrix, numbers = np.empty((size, self.dimensions), dtype=np.float32), np.empty(size, dtype=np.int64)
            matrix[: self._count], numbers[: self._count] = self._matrix[: self._count], self._ids[: self._count]
            self._matrix, self._ids = matrix, numbers
        self._matrix[self._count : needed] = vectors
        self._ids[self._count : needed] = ids
        self._count = needed
        self._consider()

    def remove(self, ids: Iterable[int]) -> None:
        """Leave vectors out of every answer from now on; one that isn't there is no matter."""
        present = set(self._ids[: self._count].tolist())
        self._gone |= present.intersection(ids)
        if len(self._gone) > max(64, self._count // 2):
            self._compact()

    def search(self, vector: Vectors, k: int) -> list[tuple[int, float]]:
        """The numbers of the nearest vectors and their cosine similarity, the nearest first; at most `k`."""
        if k < 1 or not len(self):
            return []
        base = self._base
        if base is None:
            return self._top(vector, np.arange(self._count), k)
        wanted = k if not self._gone else k * _OVERFETCH
        near = base.index.get_nns_by_vector(vector.tolist(), wanted, SEARCH_K)
        rows = np.concatenate([np.asarray(near, dtype=np.int64), np.arange(base.count, self._count)])
        return self._top(vector, rows, k)

    def _top(self, vector: Vectors, rows: NDArray[np.int64], k: int) -> list[tuple[int, float]]:
        if self._gone:
            rows = rows[~np.isin(self._ids[rows], list(self._gone))]
        whole = len(rows) == self._count
        scores = (self._matrix[: self._count] if whole else self._matrix[rows]) @ vector
        if len(scores) > k:
            best = np.argpartition(scores, -k)[-k:]
            best = best[np.argsort(scores[best])[::-1]]
        else:
            best = np.argsort(scores)[::-1]
        return [(int(self._ids[rows[place]]), float(scores[place])) for place in best]

    def _compact(self) -> None:
        keep = ~np.isin(self._ids[: self._count], list(self._gone))
        self._matrix, self._ids = self._matrix[: self._count][keep], self._ids[: self._count][keep]
        self._count = len(self._ids)
        self._gone.clear()
        # Trees know rows by place, and every place has changed.
        self._base, self._version = None, self._version + 1
        self._consider()

    def _consider(self) -> None:
        """Build trees if there are enough vectors that no tree holds."""
        held = self._base.count if self._base is not None else 0
        if self._building or self._count <= self._exact_below or self._count - held <= held * _DELTA:
            return
        try:
            from annoy import AnnoyIndex
        except ImportError:
            return
        self._building = True
        count, version, vectors = self._count, self._version, self._matrix[: self._count].copy()

        def build() -> None:
            try:
                index = AnnoyIndex(self.dimensions, "angular")
                index.set_seed(1)
                for row in range(count):
                    index.add_item(row, vectors[row])
                index.build(TREES, 1)
                if version == self._version:
                    self._base = _Base(index, count)
            except Exception:  # noqa: BLE001 - a cache that cannot be built is no reason to stop
                _log.exception("the vector index can't be built; searches stay exact")
            finally:
                self._building = False

        self._start(build)


def _in_thread(build: Callable[[], None]) -> None:
    threading.Thread(target=build, name="kastra-vectors", daemon=True).start()
