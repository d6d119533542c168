"""Benchmarks: what Kastra promises in figures, measured.

`python -m bench` runs every module of this folder that has a `NAME` and a `run() -> list[Row]`; `python -m bench store`
runs one. Figures depend on the machine, so the conditions are printed with them, and ratios count more than absolutes.
Modules say in their docstring what they measure and what they leave out.
"""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Args:
        what: was measured.
        value: that was found; None if it could not be measured here, `note` says why.
        unit: of value and target.
        target: to be reached; None for a figure that only serves comparison.
        at_most: whether the target is an upper limit (latency, memory) rather than a lower one (throughput).
        note: conditions of this figure alone.
    """

    what: str
    value: float | None
    unit: str
    target: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """`ok` or `MISSED` against the target; empty without one."""
        if self.target is None or self.value is None:
            return ""
        reached = self.value <= self.target if self.at_most else self.value >= self.target
        return "ok" if reached else "MISSED"


def syncs_per_second(folder: Path, seconds: float = 0.5) -> int:
    """How often per second the disk of `folder` can be made to keep 4 KB."""
    with tempfile.TemporaryFile(dir=folder) as file:
        descriptor = file.fileno()
        os.pwrite(descriptor, bytes(1 << 20), 0)
        os.fsync(descriptor)
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            os.pwrite(descriptor, b"k" * 4096, count % 256 * 4096)
            os.fdatasync(descriptor)
            count += 1
        return int(count / (time.perf_counter() - started))


def percentile(values: list[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def memory(name: str = "VmHWM") -> float:
    """Megabytes of this process, by the kernel's name for them: the most there were, unless another is asked for.

    `ru_maxrss` would say as well how large the process was that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)
