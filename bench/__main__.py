"""Run the benchmarks and print a table: `python -m bench [NAME ...]`. Ends with 1 if a target was missed."""

import os
import platform
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from . import Row, syncs_per_second


def modules() -> dict[str, str]:
    """Module names by benchmark name."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        if not file.name.startswith("_"):
            module = import_module(f"bench.{file.stem}")
            if hasattr(module, "NAME") and hasattr(module, "run"):
                found[module.NAME] = module.__name__
    return found


def conditions() -> str:
    """What the figures depend on."""
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} cores, load {load:.1f}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {syncs_per_second(Path(tempfile.gettempdir()))} fsyncs/s"
    )


def line(row: Row) -> str:
    """A row of the table."""
    value = "-" if row.value is None else f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:,.2f}"
    target = "" if row.target is None else f"{'<=' if row.at_most else '>='} {row.target:,.10g}"
    return f"  {row.what:<58} {value:>10} {row.unit:<6} {target:>12}  {row.verdict:<6} {row.note}".rstrip()


def main(names: list[str]) -> int:
    """Run what is named, everything if nothing is."""
    known = modules()
    for name in names:
        if name not in known:
            print(f"unknown benchmark {name!r}: choose from {', '.join(known)}", file=sys.stderr)
            return 2
    print(conditions())
    missed = 0
    for name in names or known:
        print(f"{name}", flush=True)
        for row in import_module(known[name]).run():
            print(line(row), flush=True)
            missed += row.verdict == "MISSED"
    print(conditions())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
