"""A campaign of kills over generated workflows: makes batches, has them executed by processes that die, compares with the oracle, counts.

    python -m tests.crash.campaign SEED BATCHES [KILLS]      runs a part of it, and prints the counts

Each batch is executed twice: by a process that nothing happens to, and by many, each of which is killed at a failpoint, also while it
takes up what the one before left. Both have to end as `tests.crash.oracle` says. Read next: `tests.crash.test_generated_kill`.
"""

import json
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.crash.effects import plainly
from tests.crash.forks import Case, Serve, server
from tests.crash.generated import CHILDREN, Batch, batches
from tests.crash.oracle import Expected, Oracle

EVERYWHERE = ("journal.before_append", "journal.after_append")
COMMITS = ("sql.before_begin", "sql.before_commit", "sql.after_commit")
RARE = (
    "approvals.after_create", "approvals.after_decision", "approvals.before_create", "approvals.before_decision",
    "compensation.after_step", "compensation.before_step", "conclusion.after_outcome", "conclusion.before_end",
    "conclusion.before_outcome", "holds.after_answer", "holds.before_answer", "mailroom.after_commit", "mailroom.after_listener",
    "mailroom.before_commit", "mailroom.before_listener", "memo.before_store", "waiting.after_emit", "waiting.after_received",
    "waiting.before_emit", "waiting.before_received",
)  # fmt: skip
RAREST = tuple(point for point in RARE if not point.startswith(("mailroom", "approvals")))
RECOVERY = "pool.before_recovery"
POINTS = (*EVERYWHERE, *COMMITS, *RARE, RECOVERY)
"""Where processes are killed."""

# A step that had begun and not ended, by Run, with its kind.
UNDER_WAY = """
SELECT DISTINCT json_extract(CAST(s.body AS TEXT), '$.kind') FROM journal s JOIN runs r ON r.id = s.run
WHERE s.type = 2 AND NOT EXISTS (SELECT 1 FROM journal e WHERE e.run = s.run AND e.type IN (22, 23, 24))
AND NOT EXISTS (SELECT 1 FROM journal e WHERE e.run = s.run AND e.step_key = s.step_key
                AND (e.type IN (4, 6) OR (e.type = 5 AND json_extract(CAST(e.body AS TEXT), '$.final'))))
"""
RECEIVED = """
SELECT r.uid, json_extract(CAST(j.body AS TEXT), '$.event.id') FROM journal j JOIN runs r ON r.id = j.run WHERE j.type = 11
"""


@dataclass
class Counts:
    """What a campaign comes to."""

    seeds: list[int] = field(default_factory=list)
    batches: int = 0
    runs: int = 0
    processes: int = 0
    kills: int = 0
    in_recovery: int = 0
    in_flight: int = 0
    """Effects that were under way in a crash and were executed once more, as at-least-once delivery promises."""
    effects: int = 0
    events: int = 0
    answers: int = 0
    points: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    """Kills while a step of the kind was under way."""
    executed: Counter[str] = field(default_factory=Counter)
    """Steps that the workflows execute, by kind."""

    def plain(self) -> dict[str, Any]:
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}


def expected_of(batch: Batch) -> dict[str, Expected]:
    """What the oracle says of each Run."""
    found = {}
    for uid, spec in batch.specs.items():
        events = [entry["event"] for entry in batch.events if entry["run"] == uid]
        found[uid] = Oracle(spec, uid, batch.inputs[uid], CHILDREN, events, batch.answers[uid]).run()
    return found


class BatchCase(Case):
    """A batch in a folder of its own."""

    def __init__(self, folder: Path, serve: Serve, batch: Batch, counts: Counts) -> None:
        super().__init__(folder, serve)
        self._batch = batch
        self._counts = counts
        self._kills = 0
        (folder / "batch.json").write_text(json.dumps(asdict(batch)))

    def live(self, failpoints: Mapping[str, int]) -> bool:
        """One process; whether it was killed."""
        (self.folder / "passed").unlink(missing_ok=True)
        again = (self.folder / "k.db").exists()
        status = self.run(";".join(f"{name}=kill@{at}" for name, at in failpoints.items()))
        counts = self._counts
        counts.processes += 1
        if status == 0:
            return False
        assert status == -signal.SIGKILL, "the process failed or hung"
        passed = (self.folder / "passed").read_text().split()
        counts.points[passed[-1].removesuffix("=kill")] += 1
        counts.kinds.update(self.rows(UNDER_WAY))
        counts.kills += 1
        counts.in_recovery += again
        self._kills += 1
        return True

    def check(self, expected: Mapping[str, Expected]) -> None:
        """Everything happened as the oracle says."""
        self.check_numbers()
        outputs = self.outputs
        for uid, wanted in expected.items():
            found = outputs[uid]
            assert found["phase"] == wanted.phase, f"{uid}: {found} instead of {wanted.phase} {wanted.error}"
            if wanted.phase == "Succeeded":
                assert plainly(found["output"]) == wanted.output, f"{uid} gave {found['output']}, not {wanted.output}"
            elif wanted.phase == "Failed":
                assert plainly(found["error"]) == wanted.error, f"{uid} failed by {found['error']}, not {wanted.error}"
        assert all(run["phase"] in ("Succeeded", "Failed", "Cancelled") for run in outputs.values())
        self._check_effects(expected)
        self._check_events(expected)
        self._check_order()

    def _check_effects(self, expected: Mapping[str, Expected]) -> None:
        """What had to happen did, and so often; more often only by the crashes that came between."""
        done = Counter(line for line in self.effects if not line.startswith("listened/"))
        for wanted in expected.values():
            for key, often in wanted.must.items():
                # A crash in place of a failure spares the repetition that the failure would have led to.
                assert done[key] >= (often if not self._kills else 1), f"{key} was lost"
            for key in wanted.once:
                assert done[key] <= 1, f"{key} happened again, though at most once was asked for"
        most: Counter[str] = Counter()
        for wanted in expected.values():
            for key, often in (wanted.must | wanted.may).items():
                most[key] = max(most[key], often)
            for undone in wanted.undone.values():
                most |= undone
        unknown = set(done) - set(most)
        assert not unknown, f"nobody asked for {unknown}"
        for key, often in done.items():
            assert often <= most[key] + self._kills, f"{key} happened {often} times"
            self._counts.in_flight += max(0, often - most[key])
        self._counts.effects += len(done)

    def _check_events(self, expected: Mapping[str, Expected]) -> None:
        received = [(uid, event) for uid, event in self.table(RECEIVED)]
        assert len(received) == len(set(received)), "an event was taken twice"
        wanted = {pair for each in expected.values() for pair in each.received}
        assert set(received) == wanted, f"lost: {wanted - set(received)}; taken: {set(received) - wanted}"
        inbox = Counter(self.rows("SELECT event_id FROM inbox WHERE type = 'default/told'"))
        emitted = {event for each in expected.values() for event in each.emitted}
        assert set(inbox) == emitted, "what goes out is not what was emitted"
        assert not emitted or max(inbox.values()) == 1, "an event went out twice"
        heard = {line.removeprefix("listened/") for line in self.effects if line.startswith("listened/")}
        sent = {e["event"]["id"] for e in self._batch.events if e["how"] != "signal"} & self._acknowledged()
        assert heard >= emitted | sent, f"nobody was told of {(emitted | sent) - heard}"
        self._counts.events += len(wanted) + len(emitted)
        self._counts.answers += sum(len(answers) for answers in self._batch.answers.values())

    def _acknowledged(self) -> set[str]:
        path = self.folder / "acknowledged"
        return set(path.read_text().split()) if path.exists() else set()

    def _check_order(self) -> None:
        """What was undone was undone wholly, and where that is asked for, in the reverse order of its completion."""
        rows = self.table(
            "SELECT r.uid, j.step_key, json_extract(CAST(j.body AS TEXT), '$.compensate') IS NOT NULL "
            "FROM journal j JOIN runs r ON r.id = j.run WHERE j.type = 4 ORDER BY r.uid, j.seq"
        )
        for uid, outcome in self.outputs.items():
            spec = self._batch.specs.get(uid, CHILDREN["fails"])
            asked = spec.get("onError") == "compensate" and outcome["phase"] != "Succeeded"
            done = [key for run, key, can in rows if run == uid and can]
            undone = [key for run, key, _ in rows if run == uid and re.search(r"/compensate/[^/]*$", key)]
            order = list(dict.fromkeys(key.rpartition("/compensate/")[0] for key in undone))
            if not asked:
                assert uid not in self._batch.specs or not undone, f"{uid} was undone without a reason"
            elif (spec.get("compensation") or {}).get("order") == "parallel":
                assert sorted(order) == sorted(done), f"{uid}: not all of it was undone"
            else:
                assert order == done[::-1], f"{uid} was undone in another order than it was done"


def plans(luck: random.Random, kills: int) -> Iterator[dict[str, int]]:
    """For each process the failpoints that kill it, at the n-th pass; the first that is reached does."""
    for number in range(kills):
        way = luck.random()
        if number and way < 0.05:
            yield {RECOVERY: 1}
        elif way < 0.3:
            yield {luck.choice(EVERYWHERE): luck.choice((luck.randint(1, 8), luck.randint(5, 45)))}
        elif way < 0.45:
            yield {luck.choice(COMMITS): luck.randint(1, 12)}
        else:
            # Where little happens, so that it is met at all; the journal's are reached by every process that does anything.
            sparse = luck.sample(RARE, 9) if luck.random() < 0.5 else luck.sample(RAREST, 5)
            yield {**{point: luck.randint(1, 2) for point in sparse}, luck.choice(EVERYWHERE): luck.randint(20, 60)}


def made(first: int, examples: int) -> list[Batch]:
    """So many batches from a seed, always the same."""
    found: list[Batch] = []

    @seed(first)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
        phases=[Phase.generate],
    )
    @given(batches())
    def keep(batch: Batch) -> None:
        found.append(batch)

    keep()
    return found


def campaign(serve: Serve, first: int, examples: int, kills: int, counts: Counts, folder: Path) -> None:
    """Execute the batches of a seed; each is killed up to `kills` times. What has gone well leaves nothing behind."""
    counts.seeds.append(first)
    for number, batch in enumerate(made(first, examples), 1):
        place = folder / f"{first}-{number}"
        expected = expected_of(batch)
        try:
            alone = BatchCase(place.with_suffix(".alone"), serve, batch, counts)
            assert not alone.live({})
            alone.check(expected)
            case = BatchCase(place, serve, batch, counts)
            if all(case.live(plan) for plan in plans(random.Random(f"{first}/{number}"), kills)):
                assert not case.live({})
            case.check(expected)
        except BaseException as error:
            error.add_note(f"seed {first}, batch {number}, kept in {place}*")
            raise
        shutil.rmtree(place)
        shutil.rmtree(alone.folder)
        counts.batches += 1
        counts.runs += len(batch.specs)
        for each in expected.values():
            counts.executed += each.kinds


def main(arguments: list[str]) -> None:
    """Run a part, in a folder that stays if something is wrong."""
    first, examples = int(arguments[0]), int(arguments[1])
    counts = Counts()
    folder = Path(tempfile.mkdtemp(prefix="kastra-crash-"))
    with server("generated_workload") as serve:
        campaign(serve, first, examples, int(arguments[2]) if len(arguments) > 2 else 9, counts, folder)
    print(json.dumps(counts.plain(), indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
