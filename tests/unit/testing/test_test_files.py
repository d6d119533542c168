"""`kastra test`: declarative tests, what is told about those that fail, golden journals, reports, and pytest."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest
from click.testing import CliRunner, Result

from kastra.engine import checkpoints
from kastra.testing.cases import find_files, read_file
from kastra.testing.command import test as command
from tests.support import warm

WORKFLOW = """
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: charge}
spec: {description: Charges., http: {url: "https://pay.example.com", method: POST}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: order}
spec:
  steps:
  - {id: pay, tool: charge, with: {amount: '${{ input.amount }}'}, retry: {limit: 2, initialInterval: 1s, jitter: 0}}
  - {id: nap, sleep: 1h}
  - {id: done, set: {receipt: '${{ steps.pay.output.id }}'}}
"""
TESTS = """
target: workflow/order
tools:
  charge: {output: {id: r-1}}
tests:
- name: a plain order
  input: {amount: 7}
  expect:
    output: {receipt: r-1}
    steps: {pay: Succeeded, nap: {phase: Succeeded}}
    toolCalls: [{tool: charge, arguments: {amount: 7}}]
    duration: 1h
    that: [output.receipt.startsWith("r")]
- name: it is cancelled while it sleeps
  input: {amount: 7}
  deliver: [{at: 10m, cancel: true}]
  expect: {phase: Cancelled, duration: 600, toolCalls: [charge]}
- name: paying never works
  input: {amount: 7}
  tools: {charge: {error: {title: no money}}}
  expect: {error: {type: tool, title: no money, step: pay}, that: [size(calls) == 3]}
- name: later
  skip: not yet
"""

Project = Callable[..., Path]
Run = Callable[..., Result]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    def make(tests: str = TESTS, workflow: str = WORKFLOW) -> Path:
        (tmp_path / "kastra.toml").write_text("")
        (tmp_path / "order.yaml").write_text(workflow)
        (tmp_path / "order.test.yaml").write_text(tests)
        return tmp_path

    return make


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(folder: Path, *arguments: str) -> Result:
        monkeypatch.chdir(folder)
        return CliRunner().invoke(command, arguments, standalone_mode=False)

    return run


def test_tests_run_and_pass_without_a_network(project: Project, run: Run) -> None:
    result = run(project())
    assert result.return_value == 0, result.output
    assert "3 passed, 1 skipped" in result.output
    assert "✓ a plain order" in result.output or "+ a plain order" in result.output


def test_tests_are_chosen_by_their_names(project: Project, run: Run) -> None:
    assert "1 passed in" in run(project(), "-k", "SLEEPS").output
    assert run(project(), "--list").output.splitlines()[0] == "order.test.yaml::a plain order"
    nothing = run(project(), "-k", "nowhere")
    assert (nothing.return_value, "no tests" in nothing.output) == (1, True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "output: {receipt: r-1}",
            "output: {receipt: r-2}",
            ':9:5 error tests[0].expect.output: output.receipt: expected "r-2", got "r-1"',
        ),
        ("pay: Succeeded", "pay: Failed", 'expect.steps.pay: steps.pay.phase: expected "Failed", got "Succeeded"'),
        ("pay: Succeeded", "bay: Succeeded", "steps: bay has not begun; there are pay, nap, done"),
        (
            "arguments: {amount: 7}}]",
            "arguments: {amount: 8}}]",
            'toolCalls[0]: expected {"tool":"charge","arguments":{"amount":8}}, got',
        ),
        ("duration: 1h", "duration: 2h", "duration: expected 2h, got 3600s"),
        ('startsWith("r")', 'startsWith("q")', 'is false: output.receipt.startsWith("q")'),
        ("phase: Cancelled,", "", "phase: expected Succeeded, got Cancelled"),
        ("title: no money, step", "title: gold, step", "error.title: expected 'gold' in it, got no money"),
        ("toolCalls: [charge]", "toolCalls: []", "toolCalls: expected 0 calls, got 1"),
        ("at: 10m", "at: 2h", "cancel at 7200s: the Run had ended at 3600s"),
        ("target: workflow/order", "target: workflow/other", 'workflows.mastra.ai "other" not found'),
    ],
)
def test_what_differs_is_told_with_its_place_in_the_file(
    project: Project, run: Run, old: str, new: str, says: str
) -> None:
    assert old in TESTS
    result = run(project(TESTS.replace(old, new, 1)))
    assert result.return_value == 1
    assert "order.test.yaml:" in result.output
    assert says in result.output


@pytest.mark.parametrize(
    ("tests", "says"),
    [
        ("tests: [", "order.test.yaml:2:1 error"),
        ("tests: []", "order.test.yaml:1:1 error tests: [] should be non-empty"),
        ("tests:\n- name: x\n  inptu: {}", "order.test.yaml:3:3 error tests[0].inptu: unknown field"),
        (
            "target: a/b\ntests:\n- name: x\n  expect: {phase: Done}",
            "order.test.yaml:4:12 error tests[0].expect.phase: 'Done' is not one of",
        ),
        ("tests:\n- name: x", "target: Required value"),
        ("target: a/b\ntests: [{name: x}, {name: x}]", 'Duplicate value: "x"'),
        ("target: a/b\ntests:\n- name: x\n  deliver: [{at: soon, cancel: true}]", "tests[0].deliver"),
        ("target: a/b\ntests:\n- name: x\n  tools: {t: {outptu: 1}}", "tests[0].tools.t.outptu: unknown field"),
        ("- a", "must be one document, an object with tests"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_line_and_column(
    project: Project, run: Run, tests: str, says: str
) -> None:
    result = run(project(tests))
    assert result.return_value == 1
    assert says in result.output


def test_manifests_that_are_refused_fail_the_tests_with_their_own_places(project: Project, run: Run) -> None:
    result = run(project(workflow=WORKFLOW.replace("id: nap, sleep", "id: pay, sleep")))
    assert result.return_value == 1
    assert "order.yaml:13:" in result.output
    assert "Duplicate value" in result.output


def test_a_golden_journal_is_compared_with_until_it_is_recorded_anew(project: Project, run: Run) -> None:
    folder = project()
    assert "3 golden journals recorded" in run(folder, "--record-golden").output
    assert "3 golden journals compared" in run(folder).output
    assert "3 golden journals unchanged" in run(folder, "--record-golden").output
    changed = WORKFLOW.replace("sleep: 1h", "sleep: 60m, when: 'true'").replace(
        "amount: '${{ input.amount }}'", "amount: '${{ input.amount + 0 }}'"
    )
    assert run(project(workflow=changed)).return_value == 0, "a change that records the same is none"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("id: nap", "id: rest", "diverges from its golden journal at step nap: it was executed then, and isn't now"),
        (
            "{id: done, set: {receipt: '${{ steps.pay.output.id }}'}}",
            "{id: done, set: {receipt: '${{ steps.pay.output.id }}', more: 1}}",
            ".more: not expected, got 1",
        ),
        (
            "with: {amount: '${{ input.amount }}'}",
            "with: {amount: '${{ input.amount * 2 }}'}",
            "step pay: StepScheduled.input.amount: expected 7, got 14",
        ),
        ("sleep: 1h", "sleep: 2h", "step nap: TimerSet.due: expected 3600, got 7200"),
    ],
)
def test_a_changed_definition_is_refused_with_the_step_that_diverged(
    project: Project, run: Run, old: str, new: str, says: str
) -> None:
    tests = TESTS.split("- name: it is")[0].split("  expect:")[0]
    assert run(project(tests), "--record-golden").return_value == 0
    assert old in WORKFLOW
    result = run(project(tests, WORKFLOW.replace(old, new)))
    assert result.return_value == 1
    assert says in result.output
    assert "the definition has changed since the journal was recorded" in result.output


def test_a_golden_journal_of_a_long_loop_has_counts_for_early_iterations(
    project: Project, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 20)
    loop = (
        "{id: poll, loop: {until: iteration >= 40, maxIterations: 40, steps: [{id: s, set: {n: '${{ iteration }}'}}]}}"
    )
    workflow = f"apiVersion: mastra.ai/v1\nkind: Workflow\nmetadata: {{name: order}}\nspec: {{steps: [{loop}]}}\n"
    folder = project("target: workflow/order\ntests: [{name: long, expect: {output: {n: 40}}}]\n", workflow)
    assert "1 golden journals recorded" in run(folder, "--record-golden").output
    assert "1 golden journals compared" in run(folder).output
    [golden] = (folder / "golden").rglob("*.jsonl")
    [checkpoint] = [line for line in golden.read_text().splitlines() if "LoopCheckpoint" in line]
    body = orjson.loads(checkpoint)["body"]
    assert body["counts"]["succeeded"] == body["iteration"] - 1 > 20


def test_a_golden_journal_that_is_none_is_named(project: Project, run: Run) -> None:
    folder = project()
    run(folder, "--record-golden")
    for file in (folder / "golden").rglob("*.jsonl"):
        file.write_text("nonsense")
    assert "is no golden journal; record it anew" in run(folder).output


def test_a_report_for_build_servers(project: Project, run: Run) -> None:
    folder = project(TESTS.replace("output: {receipt: r-1}", 'output: "<&\\u0001>"'))
    run(folder, "--junit", "out.xml")
    suite = ElementTree.parse(folder / "out.xml").getroot()[0]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "0", "skipped": "1",
    }  # fmt: skip
    assert next(case.get("name") for case in suite) == "a plain order"
    assert "expect.output" in str(suite[0][0].get("message"))


def test_after_the_first_failure_one_may_stop(project: Project, run: Run) -> None:
    result = run(project(TESTS.replace("receipt: r-1", "receipt: x", 1)), "-x")
    assert "1 failed in" in result.output


def test_the_schema_is_there_for_editors(project: Project, run: Run) -> None:
    schema = orjson.loads(run(project(), "--schema").output)
    assert schema["required"] == ["tests"]


def test_files_are_found_below_a_folder_but_not_in_hidden_ones(project: Project) -> None:
    folder = project()
    (folder / ".venv").mkdir()
    (folder / ".venv" / "x.test.yaml").write_text(TESTS)
    assert [file.name for file in find_files([folder])] == ["order.test.yaml"]
    with pytest.raises(ValueError, match="there is no such file or folder"):
        find_files([folder / "none"])
    assert len(read_file(folder / "order.test.yaml").cases) == 4


def test_pytest_collects_and_runs_them_too(project: Project) -> None:
    folder = project(TESTS.replace("receipt: r-1", "receipt: x", 1))
    (folder / "conftest.py").write_text('pytest_plugins = ["kastra.testing.pytest_plugin"]\n')
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-k", "order", str(folder)],
        capture_output=True, text=True, cwd=folder, env=warm.environment(), timeout=50,
    )  # fmt: skip
    assert "1 failed, 2 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "order.test.yaml:9:5 error tests[0].expect.output" in done.stdout
