"""A Run that waits for people and events, on a store of one's own: every command executes it until it waits again."""

import orjson
import pytest

from .conftest import Kastra, Result

HERE = ("-n", "default")
MANIFESTS = """\
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: publish}
spec:
  steps:
  - id: review
    approve: {message: 'Publish ${{ input.doc }}?', onReject: continue}
  - id: done
    set: {approved: '${{ steps.review.output.approved }}', why: '${{ steps.review.output.reason }}'}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: amount}
spec:
  steps:
  - id: amount
    suspend: {resumeSchema: {type: object, required: [euros], properties: {euros: {type: integer}}}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: paid}
spec:
  steps:
  - id: paid
    waitForEvent: {type: payment.ok, count: 2}
  output: {as: '${{ output.map(event, event.id) }}'}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: brief}
spec:
  steps:
  - id: maybe
    waitForEvent: {type: never, timeout: 200ms, onTimeout: continue}
  output: {as: nobody came}
---
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: refund}
spec:
  requireApproval: true
  description: Gives money back.
  inputSchema: {type: object, required: [euros], properties: {euros: {type: integer, maximum: 100}}}
  python: {inline: "def refund(euros: int) -> str:\\n    return f'{euros} euros'"}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: clerk}
spec:
  instructions: Refund what is asked.
  model:
    provider: scripted
    parameters:
      rules:
      - {when: size(results) == 0, call: {tool: refund, arguments: {euros: 90}}}
      - {when: size(results) > 0, reply: 'Result: ${{ results[0] }}'}
  tools: [refund]
"""


@pytest.fixture
def kastra(changeable: Kastra) -> Kastra:
    applied = changeable("apply", "-f", "-", *HERE, stdin=MANIFESTS)
    assert applied.code == 0, applied.stderr
    return changeable


def approval(kastra: Kastra) -> str:
    return kastra("get", "approvals", "-o", "jsonpath={.items[*].metadata.name}", *HERE).stdout.split()[-1]


def started(kastra: Kastra, target: str = "workflow/publish") -> Result:
    value = '{"doc": "d1", "euros": 5}' if not target.startswith("agent") else "go"
    return kastra("run", target, "--input", value, "--name", "r", *HERE)


def test_a_run_that_asks_is_listed_and_goes_on_when_it_is_approved(kastra: Kastra) -> None:
    waits = started(kastra)
    name = approval(kastra)
    assert waits.code == 3, waits.stderr
    assert f"run/r waits:\n  review: for approval/{name}; kastra approve {name}\n" in waits.stderr
    listed = kastra("approve", *HERE)
    assert listed.code == 0
    assert name in listed.stdout
    assert "Publish d1?" in listed.stderr
    approved = kastra("approve", name, "--reason", "fine", *HERE)
    assert approved.code == 0, approved.stderr
    first, _, rest = approved.stdout.partition("\n")
    assert (first, orjson.loads(rest)) == (f"approval/{name} approved", {"approved": True, "why": "fine"})
    assert "nothing waits" in kastra("approve", *HERE).stderr


def test_a_run_that_is_suspended_goes_on_with_the_right_answer(kastra: Kastra) -> None:
    waits = started(kastra, "workflow/amount")
    assert waits.code == 3, waits.stderr
    assert "kastra resume run/r --step amount --data ..." in waits.stderr
    wrong = kastra("resume", "run/r", "--data", '{"euros": "x"}', *HERE)
    assert wrong.code == 1
    assert "data.euros: Invalid value: 'x' is not of type 'integer'" in wrong.stderr
    resumed = kastra("resume", "run/r", "--data", '{"euros": 7}', *HERE)
    assert (resumed.code, orjson.loads(resumed.stdout)) == (0, {"euros": 7}), resumed.stderr


def test_a_run_that_waits_for_events_takes_each_signal_once(kastra: Kastra) -> None:
    waits = started(kastra, "workflow/paid")
    assert waits.code == 3, waits.stderr
    assert "kastra signal run/r payment.ok" in waits.stderr
    for _ in range(2):
        again = kastra("signal", "run/r", "payment.ok", "--id", "p1", "--data", "{}", *HERE)
        assert (again.code, again.stdout) == (3, "run/r signalled\n"), again.stderr
    ended = kastra("signal", "run/r", "payment.ok", "--id", "p2", *HERE)
    assert ended.code == 0, ended.stderr
    assert orjson.loads(ended.stdout.partition("\n")[2]) == ["p1", "p2"]


def test_a_wait_that_ends_by_itself_soon_is_waited_for(kastra: Kastra) -> None:
    ended = started(kastra, "workflow/brief")
    assert (ended.code, ended.stdout) == (0, "nobody came\n"), ended.stderr


def test_what_was_rejected_is_told_to_the_run(kastra: Kastra) -> None:
    started(kastra)
    name = approval(kastra)
    rejected = kastra("approve", f"approval/{name}", "--reject", "--reason", "no", *HERE)
    assert rejected.code == 0, rejected.stderr
    assert orjson.loads(rejected.stdout.partition("\n")[2]) == {"approved": False, "why": "no"}
    final = kastra("approve", name, *HERE)
    assert final.code == 1
    assert "is decided (reject by kastra-admin); a decision is final" in final.stderr


def test_the_arguments_of_a_tool_are_edited_within_its_schema(kastra: Kastra) -> None:
    waits = started(kastra, "agent/clerk")
    assert waits.code == 3, waits.stderr
    name = approval(kastra)
    shown = kastra("get", "approval", name, "-o", "wide", *HERE).stdout
    assert "refund" in shown
    assert 'Agent clerk wants to call refund with {"euros":90}' in shown
    wrong = kastra("approve", name, "--arguments", '{"euros": 1000}', *HERE)
    assert wrong.code == 1
    assert "status.decision.args.euros: Invalid value: 1000 is greater than the maximum of 100" in wrong.stderr
    edited = kastra("approve", name, "--arguments", '{"euros": 10}', *HERE)
    assert edited.code == 0, edited.stderr
    assert edited.stdout == f"approval/{name} approved with other arguments\nResult: 10 euros\n"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("approve", "--reject"), "say which"),
        (("approve", "x", "--reject", "--arguments", "{}"), "exclude each other"),
        (("approve", "x", "--arguments", "[1]"), "an object of named arguments"),
        (("approve", "none"), "not found"),
        (("signal", "run/none", "x"), "not found"),
    ],
)
def test_wrong_usage_is_refused(changeable: Kastra, command: tuple[str, ...], says: str) -> None:
    refused = changeable(*command, *HERE)
    assert refused.code != 0
    assert says in refused.stderr
