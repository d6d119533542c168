"""What a campaign of kills came to, as the page docs/crash-report.md. `make crash` writes it; nobody else does."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from tests.crash.campaign import POINTS, Counts
from tests.crash.oracle import KINDS


def page(counts: Counts, seconds: float) -> str:
    """The page.

    Args:
        seconds: that the campaign took.
    """
    now = datetime.now(UTC)
    return f"""# Crash report

<!-- Written by `make crash`. -->

{now:%d %B %Y}, Kastra {version("kastra")}, Python {platform.python_version()}, stores in libSQL's library,
{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {seconds / 60:.0f} minutes.

Workflows are made at random out of every kind of step, executed by processes that are killed with `kill -9` at a failpoint, mostly
again while they take up what the one before left, and compared with an interpreter that shares no code with the engine
(`tests/crash/oracle.py`). A line that says 0 is not counted but demanded: the first exception ends the campaign, and there is no report.

| | |
|---|---|
| workflows, in batches of one process each | {counts.runs:,}, {counts.batches:,} |
| processes | {counts.processes:,} |
| **kills** | **{counts.kills:,}** |
| of them of a process that was taking up what another had left | {counts.in_recovery:,} |
| **completed steps, turns and calls that were executed again** | **0** |
| **outputs, errors and phases other than without a kill** | **0** |
| **events, signals and answers lost or taken twice** | **0** of {counts.events + counts.answers:,} |
| calls with `delivery: AtMostOnce` made twice | 0 |
| what had completed and was not undone, or undone in another order | 0 |
| effects on the world | {counts.effects:,} |
| of them executed once more because they were under way in a crash, as promised | {counts.in_flight:,} |
| seeds | {", ".join(map(str, counts.seeds))} |

One of them again: `python -m tests.crash.campaign SEED BATCHES`.

Not in it, but in kill tests of their own: budgets, repetitions, loops of thousands of iterations, threads, triggers, sinks, tools that act on
Kastra. Not killed at random yet: a cancellation that comes from outside, `timeout` of steps that hold steps, `memoize` across Runs.

## By failpoint

| Failpoint | Kills |
|---|---|
{_rows({point: counts.points[point] for point in POINTS}, code=True)}

## By kind of step

Kills while a step of that kind was under way (several may be), and how many steps of it the workflows have. `set` and `raise` are
over within one transaction, so that no kill meets them half done; nor does one meet a `sleepUntil` whose time has come.

| Kind | Kills | Steps |
|---|---|---|
{_rows({kind: f"{counts.kinds[kind]:,} | {counts.executed[kind]:,}" for kind in KINDS}, code=True)}
"""


def _rows(values: Mapping[str, object], code: bool) -> str:
    return "\n".join(f"| {f'`{name}`' if code else name} | {value} |" for name, value in values.items())
