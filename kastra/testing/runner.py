"""Runs the tests of test files: one control plane in memory for each file, one Run for each test, in virtual time.

What a file names is applied once; between tests answers, scripts and notes are cleared. Each result is reported as it comes.
Read next: `kastra.testing.rehearsal`.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kastra.api.errors import StatusError
from kastra.config import load_settings
from kastra.manifest.problem import Problem, render

from .cases import PATTERN, Case, TestFile
from .control_plane import ApplyFailed, ControlPlane
from .expectations import Difference, differences
from .golden import divergence, golden_of, golden_path, read_golden, write_golden
from .rehearsal import Undelivered

_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(slots=True)
class Result:
    """How a test went.

    Args:
        status: passed, failed, skipped, or error where it couldn't be run.
        seconds: of real time.
        problems: what is wrong, each at its place in the file, with lines to explain it.
        golden: recorded, unchanged or compared; empty without a golden journal.
    """

    case: Case
    status: str
    seconds: float = 0.0
    problems: list[tuple[Problem, str]] = field(default_factory=list)
    golden: str = ""

    def text(self, *, color: bool = False) -> str:
        """What is wrong, as lines."""
        parts = []
        for problem, details in self.problems:
            parts.append(render(problem, color=color))
            if details:
                parts += [f"      {_printable(line)}" for line in details.splitlines()]
        return "\n".join(parts)


async def run_file(
    test_file: TestFile, cases: Iterable[Case], report: Callable[[Result], object], *, record: bool = False
) -> list[Result]:
    """Run some tests of one file.

    Args:
        report: called with each result.
        record: keep golden journals instead of comparing with them.
    """
    cases = list(cases)
    results: list[Result] = []

    def done(result: Result) -> None:
        results.append(result)
        report(result)

    settings = load_settings(test_file.file.parent)
    try:
        async with ControlPlane(settings=settings, strict=True) as env:
            await env.apply(*manifests_of(test_file.manifests))
            await env.settle()
            for case in cases:
                done(await _run_case(env, case, record=record) if not case.skip else Result(case, "skipped"))
    except (ApplyFailed, StatusError, ValueError, TimeoutError, FileNotFoundError) as error:
        problem = test_file.problem(
            ("manifests",), f"can't be used: {error}" if not isinstance(error, ApplyFailed) else "are refused:"
        )
        details = str(error) if isinstance(error, ApplyFailed) else ""
        for case in cases[len(results) :]:
            done(Result(case, "error", problems=[(problem, details)]))
    return results


def manifests_of(paths: Sequence[Path]) -> list[Path]:
    """The files to apply: of folders all manifests in them, test files and hidden ones left out."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            found[path.absolute()] = None
            continue
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path).parts
            if file.suffix not in _SUFFIXES or not file.is_file() or any(part.startswith(".") for part in inside):
                continue
            if not file.match(PATTERN):
                found[file.absolute()] = None
    return list(found)


async def _run_case(env: ControlPlane, case: Case, *, record: bool) -> Result:
    began = time.perf_counter()
    result = Result(case, "passed")
    env.doubles.clear()
    try:
        for name, answers in case.tools.items():
            env.doubles.tool_answers(name, *answers)
        for owner, turns in case.models.items():
            env.doubles.model_turns(owner, *turns)
        outcome = await env.rehearse(
            case.target,
            case.input,
            namespace=case.namespace,
            deliver=case.deliver,
            crash_after=case.crash_after,
            **case.spec,
        )
        found = differences(case.expect, outcome)
        path = golden_path(case.file.file, case.name)
        if record and not found:
            wrote = write_golden(path, golden_of(case.name, case.target, outcome))
            result.golden = "recorded" if wrote else "unchanged"
        elif (golden := read_golden(path)) is not None:
            result.golden = "compared"
            diverged = divergence(golden, outcome)
            found += [diverged] if diverged is not None else []
    except (StatusError, Undelivered, ValueError, TimeoutError) as error:
        result.status = "error"
        found = [Difference((), str(error))]
    if found:
        result.status = "failed" if result.status == "passed" else result.status
        result.problems = [
            (case.file.problem((*case.path, *one.path) if one.path else (*case.path, "name"), one.message), one.details)
            for one in found
        ]
    result.seconds = time.perf_counter() - began
    return result


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in line)
