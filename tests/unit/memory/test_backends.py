"""The index that is searched can come from an installed package; one that can't be had is no reason to stop."""

from pathlib import Path
from zlib import crc32

import pytest

from kastra.memory.backends import index_factory
from kastra.memory.interface import RecallSpec
from kastra.memory.recall import Recall
from kastra.memory.threads import Threads
from tests.support.distribution import install

from .conftest import ANN
from .test_recall import fill, found

LAST = """
class Index:
    def __init__(self, dimensions):
        self.ids = []

    def add(self, ids, vectors):
        self.ids += ids

    def search(self, vector, k):
        return [(number, 1.0) for number in reversed(self.ids)][:k]


def fails(dimensions):
    raise RuntimeError("no licence")
"""
POINTS = {"kastra.vectors": {"last": "acme_last:Index", "fails": "acme_last:fails", "text": "acme_last:__name__"}}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What fails is told once for a package and its version.
    version = f"1.{crc32(str(tmp_path).encode())}"
    monkeypatch.syspath_prepend(install(tmp_path / "site", "acme-last", {"acme_last.py": LAST}, POINTS, version))


async def test_an_index_of_a_package_is_searched(threads: Threads, package: None) -> None:
    await fill(threads, ANN, "one")
    recall = Recall(threads, index_factory("last"))
    assert await found(recall, ANN, RecallSpec(top_k=1), [1.0, 0.0, 0.0]) == ["trains"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", 'setting vectors: no installed package has the index "absent"'),
        ("fails", "RuntimeError: no licence"),
        ("text", "is no function that makes an index of (dimensions)"),
    ],
)
async def test_one_that_can_not_be_had_is_told_and_replaced(
    name: str, said: str, threads: Threads, package: None, caplog: pytest.LogCaptureFixture
) -> None:
    await fill(threads, ANN, "one")
    recall = Recall(threads, index_factory(name))
    assert await found(recall, ANN, RecallSpec(top_k=1), [1.0, 0.0, 0.0]) == ["apples"]
    assert said in caplog.text
