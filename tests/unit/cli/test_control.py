"""What one can do to a Run from the command line, on a store of one's own; on a server: tests/e2e/test_remote.py."""

import pytest

from .conftest import Kastra

HERE = ("-n", "default")
MANIFESTS = """\
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: greet}
spec:
  steps: [{id: greet, set: {text: '${{ "Hello, " + input.name }}'}}]
---
apiVersion: mastra.ai/v1
kind: Run
metadata: {name: held}
spec:
  target: {kind: Workflow, name: greet}
  input: {name: Ada}
"""


def test_a_held_run_is_resumed_and_repeated_with_another_input(changeable: Kastra) -> None:
    assert changeable("apply", "-f", "-", stdin=MANIFESTS).code == 0
    resumed = changeable("resume", "run/held", *HERE)
    assert (resumed.code, resumed.stdout) == (0, '{\n  "text": "Hello, Ada"\n}\n'), resumed.stderr
    assert "run/held goes on" in resumed.stderr
    again = changeable("rerun", "held", "--input", '{"name": "Grace"}', "--name", "second", *HERE)
    assert (again.code, again.stdout) == (0, '{\n  "text": "Hello, Grace"\n}\n'), again.stderr
    ended = changeable("cancel", "run/held", *HERE)
    assert (ended.code, ended.stderr) == (1, "error: run/held has ended (Succeeded)\n")


def test_a_wish_holds_when_somebody_executes(changeable: Kastra) -> None:
    assert changeable("apply", "-f", "-", stdin=MANIFESTS).code == 0
    cancelled = changeable("cancel", "run/held", *HERE)
    assert cancelled.stdout == "run/held will be cancelled when somebody executes it (kastra run, watch or serve)\n"
    assert changeable("run", "workflow/greet", "--input", '{"name": "x"}', "-q", *HERE).code == 0
    assert changeable("get", "run", "held", "-o", "jsonpath={.status.phase}", *HERE).stdout == "Cancelled"


def test_only_runs_can_be_controlled(changeable: Kastra) -> None:
    assert "Runs can: run/NAME" in changeable("cancel", "cm/prices", *HERE).stderr
    assert "not found" in changeable("suspend", "run/none", *HERE).stderr


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["resume", "run/held"], "--data"),
        (["signal", "run/held", "paid"], "--data"),
        (["rerun", "held"], "--input"),
        (["approve", "ask"], "--arguments"),
        (["chat", "agent/cook"], "--request-context"),
    ],
)
def test_a_value_that_is_no_json_is_refused_by_the_name_of_its_option(
    empty: Kastra, command: list[str], option: str
) -> None:
    ran = empty(*command, option, "{broken")
    assert (ran.code, ran.stderr.partition(":")[0]) == (1, "error")
    assert f"error: {option} is no JSON" in ran.stderr


def test_an_override_that_is_no_json_is_refused_by_its_name(empty: Kastra) -> None:
    assert "error: --override is no JSON" in empty("rerun", "held", "--override", "a={broken").stderr
