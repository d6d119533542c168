"""kill -9 over workflows made at random out of every kind of step: they end as the oracle says, and nothing is lost or repeated."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.campaign import POINTS, Counts, campaign, expected_of, made
from tests.crash.forks import Serve, server
from tests.crash.oracle import KINDS
from tests.crash.report import page

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600)]
SEEDS = range(1, 41)
BATCHES = 12
"""A seed, in the full campaign."""
KILLS = 9
"""A batch at most: a step that a crash has ended eleven times fails, as is promised."""


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    with server("generated_workload") as found:
        yield found


def test_workflows_survive_any_number_of_kills(
    serve: Serve, tmp_path: Path, crash_full: bool, request: pytest.FixtureRequest
) -> None:
    counts, begun = Counts(), time.monotonic()
    if not crash_full:
        campaign(serve, 101, 2, KILLS, counts, tmp_path)
        assert counts.kills
        return
    for first in SEEDS:
        campaign(serve, first, BATCHES, KILLS, counts, tmp_path)
        if counts.kills > 1050 and all(counts.points[point] for point in POINTS):
            break
    assert counts.kills >= 1000
    assert not [point for point in POINTS if not counts.points[point]], "a failpoint killed nobody"
    report = request.config.getoption("--crash-report")
    if report:
        Path(report).write_text(page(counts, time.monotonic() - begun), encoding="utf-8")


def test_every_kind_of_step_is_generated_and_known_to_the_oracle() -> None:
    found = {kind for batch in made(5, 12) for each in expected_of(batch).values() for kind in each.kinds}
    assert found == set(KINDS)
