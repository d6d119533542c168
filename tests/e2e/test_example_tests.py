"""The tests that come with the examples pass, and their Runs still record what their golden journals say."""

from pathlib import Path

import pytest

from kastra.testing.cases import find_files, read_file
from kastra.testing.golden import golden_path
from kastra.testing.runner import run_file

FILES = find_files([Path(__file__).parent.parent.parent / "manifests"])


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
async def test_the_tests_of_an_example_pass_and_its_golden_journals_hold(file: Path) -> None:
    read = read_file(file)
    assert not read.problems
    results = await run_file(read, read.cases, lambda result: None)
    assert [result.text() for result in results if result.status != "passed"] == []
    assert [result.golden for result in results] == ["compared"] * len(results)
    kept = set(golden_path(file, "x").parent.iterdir())
    assert kept == {golden_path(file, case.name) for case in read.cases}, "a golden journal belongs to no test"
