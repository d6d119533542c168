"""The index of vectors: exact while they are few, trees with a delta above, and what is removed stays out."""

from collections.abc import Callable

import numpy as np
import pytest

from kastra.memory.vectors import VectorIndex, Vectors, normalized


def cloud(count: int, dimensions: int = 16, seed: int = 1) -> Vectors:
    return normalized(np.random.default_rng(seed).standard_normal((count, dimensions)).tolist())


def nearest(vectors: Vectors, query: Vectors, k: int) -> list[int]:
    return [int(row) for row in np.argsort(vectors @ query)[::-1][:k]]


def test_a_search_of_few_vectors_is_exact() -> None:
    vectors, index = cloud(500), VectorIndex(16)
    index.add(range(500), vectors)
    for query in cloud(20, seed=2):
        assert [number for number, _ in index.search(query, 5)] == nearest(vectors, query, 5)
    assert not index.approximate


def test_an_empty_index_finds_nothing() -> None:
    assert VectorIndex(4).search(cloud(1, 4)[0], 3) == []


@pytest.mark.parametrize("removed", [1, 300], ids=["one", "most"])
def test_what_is_removed_is_not_found(removed: int) -> None:
    vectors, index = cloud(400), VectorIndex(16, exact_below=100, start=lambda build: build())
    index.add(range(400), vectors)
    query = vectors[0]
    gone = nearest(vectors, query, removed)
    index.remove([*gone, 9999])
    assert len(index) == 400 - removed
    found = [number for number, _ in index.search(query, 5)]
    assert len(found) == 5
    assert not set(found) & set(gone)


def test_above_the_threshold_trees_are_built_aside_and_what_comes_meanwhile_is_found() -> None:
    waiting: list[Callable[[], None]] = []
    vectors, index = cloud(300), VectorIndex(16, exact_below=200, start=waiting.append)
    index.add(range(250), vectors[:250])
    assert len(waiting) == 1
    assert not index.approximate
    assert index.search(vectors[3], 1)[0][0] == 3
    index.add(range(250, 260), vectors[250:260])
    waiting.pop()()
    assert index.approximate
    assert index.search(vectors[3], 1)[0][0] == 3
    assert index.search(vectors[255], 1)[0][0] == 255, "what the trees don't hold is searched beside them"
    index.add(range(260, 300), vectors[260:])
    assert len(waiting) == 1, "a delta of more than a tenth leads to new trees"
    waiting.pop()()
    assert index.search(vectors[299], 1)[0][0] == 299


def test_trees_find_nearly_everything() -> None:
    centres = np.random.default_rng(3).standard_normal((60, 32))
    noise = np.random.default_rng(4).standard_normal((3000, 32)) * 0.5
    vectors = normalized((centres[np.arange(3000) % 60] + noise).tolist())
    index = VectorIndex(32, exact_below=1000, start=lambda build: build())
    index.add(range(3000), vectors)
    assert index.approximate
    hits = sum(
        len({number for number, _ in index.search(query, 10)} & set(nearest(vectors, query, 10)))
        for query in vectors[:50]
    )
    assert hits >= 0.95 * 500
