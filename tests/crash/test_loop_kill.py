"""kill -9 while loops put checkpoints in the place of their records: nothing is repeated, nothing of what was done is lost."""

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from kastra.engine.records import is_before
from tests.crash.forks import Case, Serve, server
from tests.crash.loop_workload import EVERY, WORKFLOWS

POINTS = {"loop.before_checkpoint": 16, "loop.after_checkpoint": 16}
"""Where a process is killed, and how often it comes past at least."""

_ROWS = (
    "SELECT r.uid, j.seq, j.type, j.step_key, COALESCE(j.body, b.data) FROM journal j JOIN runs r ON r.id = j.run "
    "LEFT JOIN blobs b ON b.sha256 = j.blob ORDER BY j.run, j.seq"
)
_ORPHANS = "SELECT sha256 FROM blobs WHERE sha256 NOT IN (SELECT blob FROM journal WHERE blob IS NOT NULL)"
_COMPLETED, _CHECKPOINT = 4, 27

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def served() -> Iterator[Serve]:
    """Runs a job in a process of its own; gives how it ended."""
    with server("loop_workload") as found:
        yield found


class LoopCase(Case):
    """A case whose journals don't keep all of their records."""

    def run(self, failpoints: str = "") -> int:
        """One process; checks that it repeats nothing that was completed before, folded or not."""
        before, done = self.effects, self._done()
        status = super().run(failpoints)
        repeated = [effect for effect in self.effects[len(before) :] if done(effect)]
        assert not repeated, f"done again although completed: {repeated}"
        return status

    def _done(self) -> Callable[[str], bool]:
        """Whether the journals say that an effect is completed: by its record, or by a checkpoint that stands for it."""
        completed, folded = set[str](), list[tuple[str, int]]()
        for uid, _, kind, key, body in self.table(_ROWS):
            if kind == _COMPLETED:
                completed.add(f"{uid}/{key}")
            elif kind == _CHECKPOINT:
                folded.append((f"{uid}/{key}", orjson.loads(body or b"")["iteration"]))

        def done(effect: str) -> bool:
            if effect in completed:
                return True
            # The undoing of a folded step comes later.
            return "/compensate/" not in effect and any(is_before(loop, first, effect) for loop, first in folded)

        return done

    def check(self, expected: dict[str, object]) -> None:
        """Every Run ended as it would have, with a small journal in which every record is there or counted."""
        assert self.outputs == expected
        kept, folded, last = Counter[str](), Counter[str](), dict[str, int]()
        for uid, seq, kind, _, body in self.table(_ROWS):
            kept[uid] += 1
            last[uid] = seq
            if kind == _CHECKPOINT:
                folded[uid] += orjson.loads(body or b"")["records"]
        for uid in WORKFLOWS:
            # What is neither there nor counted are checkpoints that were folded into later ones.
            assert 0 <= last[uid] - kept[uid] - folded[uid] < last[uid] / EVERY + 1
        assert kept["long"] < 4 * EVERY
        assert not self.rows(_ORPHANS)
        undone = [effect for effect in self.effects if effect.endswith("/compensate/u")]
        numbers = [int(effect.partition("#")[2].partition("/")[0]) for effect in dict.fromkeys(undone)]
        assert numbers == list(range(15, 0, -1))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, served: Serve) -> dict[str, object]:
    """How the Runs end in a process that nothing happens to."""
    case = LoopCase(tmp_path_factory.mktemp("unkilled"), served)
    assert case.run() == 0
    case.check(case.outputs)
    assert len(case.effects) == len(set(case.effects))
    return case.outputs


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_a_checkpoint_loses_and_repeats_nothing(
    tmp_path: Path, point: str, served: Serve, expected: dict[str, object], crash_full: bool
) -> None:
    every = range(1, POINTS[point] + 1)
    for at in every if crash_full else sorted(random.Random(point).sample(every, 3)):
        case = LoopCase(tmp_path / f"{at}", served)
        assert case.run(f"{point}=kill@{at}") == -signal.SIGKILL
        assert case.run() == 0
        case.check(expected)


def test_a_process_killed_anywhere_and_again_while_it_recovers_loses_and_repeats_nothing(
    tmp_path: Path, served: Serve, expected: dict[str, object], crash_full: bool
) -> None:
    luck = random.Random(27)
    points = ("journal.before_append", "journal.after_append", "sql.before_commit", "sql.after_commit")
    for number in range(200 if crash_full else 4):
        case = LoopCase(tmp_path / f"{number}", served)
        for _ in range(luck.randrange(1, 4)):
            case.run(f"{luck.choice(points)}=kill@{luck.randrange(1, 400)}")
        assert case.run() == 0
        case.check(expected)
