"""`kastra test [PATH]`: run the test files of a project. Listed among the verbs by `kastra.cli.main`.

Exit codes: 0 all passed, 1 something failed or a file is wrong, 2 wrong usage. Read next: `kastra.testing.runner`.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from .cases import Case, TestFile
    from .runner import Result

_EXAMPLES = """\b
Examples:
  kastra test                             every *.test.yaml below this folder
  kastra test tests/order.test.yaml -k refund
  kastra test --junit results.xml
  kastra test --record-golden"""
_SIGNS = {"passed": "✓", "failed": "✗", "error": "✗", "skipped": "-"}
_PLAIN_SIGNS = {"passed": "+", "failed": "x", "error": "x", "skipped": "-"}
_SHADES = {"passed": "\x1b[32m", "failed": "\x1b[31m", "error": "\x1b[31m", "skipped": "\x1b[2m"}
_END = "\x1b[0m"


@click.command(epilog=_EXAMPLES)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "-k", "selected", multiple=True, metavar="TEXT", help="Only tests with this in their name; can be repeated."
)
@click.option("--junit", "report", type=click.Path(path_type=Path, dir_okay=False), help="Write a JUnit report.")
@click.option("--record-golden", is_flag=True, help="Keep the journals of tests that pass, to be compared with later.")
@click.option("--list", "listed", is_flag=True, help="Name the tests and run none.")
@click.option("-x", "--exit-first", is_flag=True, help="Stop after the first test that fails.")
@click.option("-q", "--quiet", is_flag=True, help="Only what failed, and the sum.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of test files, for editors.")
def test(
    paths: tuple[str, ...],
    selected: tuple[str, ...],
    report: Path | None,
    record_golden: bool,
    listed: bool,
    exit_first: bool,
    quiet: bool,
    schema: bool,
) -> int:
    """Run tests of workflows, agents and tools, without a network and in virtual time."""
    if schema:
        import orjson

        from .case_schema import SCHEMA

        click.echo(orjson.dumps(SCHEMA, option=orjson.OPT_INDENT_2).decode())
        return 0
    import anyio

    from kastra.manifest.problem import render

    from .cases import find_files, read_file

    files = [read_file(file) for file in find_files(paths or (".",))]
    if not files:
        raise click.ClickException("there are no test files (*.test.yaml) here")
    chosen = [(one, [case for case in one.cases if _is_selected(case, selected)]) for one in files]
    if listed:
        for _, cases in chosen:
            for case in cases:
                click.echo(case.id)
    for one in files:
        for problem in one.problems:
            click.echo(render(problem, color=_color(sys.stderr)), err=True)
    broken = any(one.problems for one in files)
    if listed:
        return int(broken)
    show = _Progress(quiet=quiet)
    results = anyio.run(_run, chosen, show, record_golden, exit_first)
    if report is not None:
        from .junit import junit

        report.write_text(junit(results), encoding="utf-8")
    return show.summary(broken=broken)


async def _run(
    chosen: "Sequence[tuple[TestFile, list[Case]]]", show: "_Progress", record: bool, exit_first: bool
) -> "list[tuple[TestFile, list[Result]]]":
    from .runner import run_file

    found: list[tuple[TestFile, list[Result]]] = []
    for one, cases in chosen:
        results: list[Result] = []
        # With --exit-first each test has a control plane of its own, so that none after it is begun.
        for group in [[case] for case in cases] if exit_first else [cases]:
            if group and not (exit_first and show.failed):
                show.begin(one)
                results += await run_file(one, group, show, record=record)
        found.append((one, results))
    return found


def _is_selected(case: "Case", selected: Sequence[str]) -> bool:
    return not selected or any(text.lower() in case.id.lower() for text in selected)


def _color(stream: object) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)()) and not os.environ.get("NO_COLOR")


class _Progress:
    """Shows results as they come, and what they sum up to."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._color = _color(sys.stdout)
        self._signs = _SIGNS if "utf" in (getattr(sys.stdout, "encoding", "") or "").lower() else _PLAIN_SIGNS
        self._counts = dict.fromkeys(_SIGNS, 0)
        self._golden = {"recorded": 0, "unchanged": 0, "compared": 0}
        self._seconds = 0.0
        self._shown = ""

    @property
    def failed(self) -> bool:
        """Whether something has."""
        return bool(self._counts["failed"] or self._counts["error"])

    def begin(self, one: "TestFile") -> None:
        """The tests of a file follow."""
        if not self._quiet and self._shown != one.shown:
            click.echo(one.shown)
        self._shown = one.shown

    def __call__(self, result: "Result") -> None:
        """One test is done."""
        self._counts[result.status] += 1
        self._seconds += result.seconds
        if result.golden:
            self._golden[result.golden] += 1
        bad = result.status in ("failed", "error")
        if self._quiet and not bad:
            return
        sign = self._shade(self._signs[result.status], result.status)
        took = f"  {result.seconds * 1000:.0f}ms" if result.status != "skipped" else f"  {result.case.skip}"
        name = "".join(char if char.isprintable() else "?" for char in result.case.name)
        click.echo(f"  {sign} {name}{took}")
        if bad:
            click.echo("\n".join(f"    {line}" for line in result.text(color=self._color).splitlines()))

    def summary(self, *, broken: bool) -> int:
        """Print the sum; returns the exit code."""
        bad = self._counts["failed"] + self._counts["error"]
        parts = [f"{count} {status}" for status, count in self._counts.items() if count] or ["no tests"]
        golden = [f"{count} golden journals {what}" for what, count in self._golden.items() if count]
        text = f"{', '.join([*parts, *golden])} in {self._seconds:.2f}s"
        click.echo(self._shade(text, "failed" if bad or broken else "passed"))
        return int(bool(bad) or broken or not any(self._counts.values()))

    def _shade(self, text: str, status: str) -> str:
        return f"{_SHADES[status]}{text}{_END}" if self._color else text
