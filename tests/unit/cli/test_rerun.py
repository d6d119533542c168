"""`kastra history --points` and `kastra rerun --from`: which steps a Run can be repeated from, and doing so."""

import json

import pytest

from .conftest import Kastra

HERE = ("-n", "default")
MANIFESTS = """\
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: sum}
spec:
  steps:
  - {id: first, set: {count: '${{ input.count }}'}}
  - {id: each, forEach: {items: '[1, 2]', steps: [{id: keep, set: {kept: '${{ item }}'}}]}}
  - {id: last, set: {sum: '${{ steps.first.output.count + 1 }}'}}
  finally: [{id: note, set: {done: true}}]
"""


@pytest.fixture
def ran(changeable: Kastra) -> Kastra:
    """A store in which the Run `old` has ended."""
    assert changeable("apply", "-f", "-", stdin=MANIFESTS).code == 0
    result = changeable("run", "workflow/sum", "--input", '{"count": 1}', "--name", "old", "-q", *HERE)
    assert result.code == 0, result.stderr
    return changeable


def test_the_points_are_the_steps_at_the_top_in_order(ran: Kastra) -> None:
    lines = ran("history", "run/old", "--points", *HERE).lines
    assert lines[0].split() == ["STEP", "KIND", "PHASE", "STARTED", "REPEAT", "FROM", "HERE"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["first", "set", "Succeeded"],
        ["each", "forEach", "Succeeded"],
        ["last", "set", "Succeeded"],
    ]
    assert lines[3].endswith("kastra rerun run/old --from last")
    rows = [json.loads(line) for line in ran("history", "old", "--points", "-o", "json", *HERE).lines]
    assert rows[0]["rerun"] == "kastra rerun run/old --from first"


def test_a_run_is_repeated_from_a_step_with_another_output_before_it(ran: Kastra) -> None:
    again = ran(
        "rerun", "old", "--from", "last", "--override", 'first={"count": 41}', "--keep-keys", "--name", "new", *HERE
    )
    assert (again.code, again.stdout) == (0, '{\n  "sum": 42\n}\n'), again.stderr
    spec = json.loads(ran("get", "run", "new", "-o", "json", *HERE).stdout)["spec"]
    assert spec["rerunOf"] == {
        "name": "old",
        "fromStep": "last",
        "overrides": {"first": {"count": 41}},
        "keepKeys": True,
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--from", "lsat"), 'did you mean "last"'),
        (("--override", "first"), "write STEP=JSON"),
        (("--override", "nope=1"), 'there is no step "nope"'),
    ],
)
def test_what_makes_no_sense_is_refused(ran: Kastra, options: tuple[str, ...], says: str) -> None:
    result = ran("rerun", "old", *options, *HERE)
    assert result.code != 0
    assert says in result.stderr
