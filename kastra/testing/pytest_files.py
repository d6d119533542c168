"""Test files (`*.test.yaml`) as pytest tests: collected, selected and reported as any other.

The tests of a file that pytest has selected run together when the first of them is asked for, on one control plane; each is
reported as an item of its own. Read next: `kastra.testing.runner`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.manifest.problem import render

from .cases import Case, TestFile, read_file
from .runner import Result, run_file


class CaseFailed(Exception):
    """A test of a file failed; the message shows everything that is wrong, with its place."""


class KastraFile(pytest.File):
    """One test file."""

    _results: dict[str, Result] | None = None
    _read: TestFile | None = None

    def collect(self) -> Iterator["KastraItem"]:
        """An item for each test, or one that fails for a file that is wrong."""
        read = self._read = read_file(self.path)
        read.shown = str(_below(self.path, self.config.rootpath))
        if read.problems:
            yield KastraItem.from_parent(self, name="file", case=None)
        for case in read.cases:
            yield KastraItem.from_parent(self, name=case.name, case=case)

    def result(self, case: Case | None) -> Result:
        """How a test went. Raises CaseFailed for a file that is wrong."""
        read = self._read
        assert read is not None
        if case is None:
            raise CaseFailed("\n".join(render(problem) for problem in read.problems))
        if self._results is None or case.name not in self._results:
            wanted = [item.case for item in self.session.items if isinstance(item, KastraItem) and item.parent is self]
            cases = [one for one in wanted if one is not None]
            found = anyio.run(_run, read, cases if case in cases else [case])
            self._results = {result.case.name: result for result in found}
        return self._results[case.name]


class KastraItem(pytest.Item):
    """One test of a test file."""

    def __init__(self, *, case: Case | None, **given: Any) -> None:
        super().__init__(**given)
        self.case = case

    def runtest(self) -> None:
        """Run it. Raises CaseFailed."""
        assert isinstance(self.parent, KastraFile)
        result = self.parent.result(self.case)
        if result.status == "skipped":
            pytest.skip(result.case.skip)
        if result.status != "passed":
            raise CaseFailed(result.text())

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """The text of a failed test as it is; of anything else pytest's own."""
        if isinstance(excinfo.value, CaseFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **kwargs)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the test stands."""
        line = None
        if self.case is not None:
            place, _ = self.case.file.positions.find(self.case.path)
            line = place.key.line - 1
        return self.path, line, self.name


async def _run(read: TestFile, cases: list[Case]) -> list[Result]:
    return await run_file(read, cases, lambda result: None)


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
