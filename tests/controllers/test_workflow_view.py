"""A Workflow is read into one normal form whatever shape it is written in, and what is wrong with it is named with its place."""

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from kastra.controllers.workflow import WorkflowView, validate
from kastra.runtime.view_errors import causes


def view(text: str) -> WorkflowView:
    return WorkflowView.of({"metadata": {"name": "w"}, "spec": yaml.load(text, Loader=yaml.CSafeLoader)})  # noqa: TID251


def plain(text: str) -> dict[str, Any]:
    return view(text).spec.plain()


def step(text: str) -> dict[str, Any]:
    found: dict[str, Any] = plain(f"steps: [{text}]")["steps"][0]
    del found["id"]
    return found


def findings(text: str) -> list[tuple[str, str]]:
    try:
        found = validate(view(text))
    except ValidationError as error:
        found = causes(error)
    return [(cause.field, cause.message) for cause in found]


T = {"tool": {"name": "t"}}
SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("{id: a, agent: x}", {"agent": {"name": "x"}}),
    ("{id: a, agent: n.x}", {"agent": {"name": "n.x"}}),
    ("{id: a, network: {name: x, namespace: n}}", {"network": {"name": "x", "namespace": "n"}}),
    ("{id: a, tool: t, input: {type: user-input}}", {**T, "input": {"from": ["user-input"]}}),
    ("{id: a, tool: t, input: {type: text, from: b}}", {**T, "input": {"from": ["b"]}}),
    ("{id: a, tool: t, input: [b, c]}", {**T, "input": {"from": ["b", "c"]}}),
    ("{id: a, tool: t, input: {schema: {type: object}}, with: {q: 1}}", {**T, "input": {"schema": {"type": "object"}, "with": {"q": 1}}}),
    ("{id: a, agent: t, input: {from: b, prompt: 'Say ${{ value }}'}}", {"agent": {"name": "t"}, "input": {"from": ["b"], "prompt": "Say ${{ value }}"}}),
    ("{id: a, tool: t, output: {as: null}}", {**T, "output": {"as": None}}),
    ("{id: a, tool: t, output: {type: x, sensitive: true}}", {**T, "output": {"type": "x", "sensitive": True}}),
    ("{id: a, tool: t, timeout: {attempt: 5, total: 1m}}", {**T, "timeout": {"attempt": "5s", "total": "1m"}}),
    ("{id: a, tool: t, retries: 2, retryDelayMs: 50}", {**T, "retry": {"limit": 2, "initialInterval": "50ms", "backoff": 1}}),
    ("{id: a, tool: t, onError: continue}", {**T, "continueOnError": True}),
    ("{id: a, tool: t, dependsOn: 'steps.b.status == \"Failed\"'}", {**T, "dependsOn": 'steps.b.status == "Failed"'}),
    ("{id: a, sleep: 90}", {"sleep": {"duration": "90s"}}),
    ("{id: a, sleep: state.pause}", {"sleep": {"expression": "state.pause"}}),
    ("{id: a, python: {entrypoint: 'm:f'}}", {"python": {"entrypoint": "m:f"}}),
    ("{id: a, forEach: {items: [1], as: x, steps: [{id: b, tool: t}]}}", {"forEach": {"items": [1], "as": "x", "steps": [{"id": "b", **T}]}}),
    ("{id: a, branch: {cases: [{when: 'true', next: END}], default: {steps: [{id: b, tool: t, after: [c]}]}}}",
     {"branch": {"cases": [{"when": "true", "next": "END"}], "default": {"steps": [{"id": "b", **T, "dependsOn": ["c"]}]}}}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "normal"), SHAPES)
def test_a_step_is_read_into_its_normal_form(text: str, normal: dict[str, Any]) -> None:
    assert step(text) == normal


@pytest.mark.parametrize("text", [text for text, _ in SHAPES])
def test_the_normal_form_reads_as_itself(text: str) -> None:
    once = plain(f"{{timeout: 1h, inputSchema: {{type: object}}, steps: [{text}]}}")
    assert WorkflowView.of({"spec": once}).spec.plain() == once


def test_a_bare_timeout_limits_the_attempt_of_a_step_and_the_whole_of_a_workflow() -> None:
    read = plain("{timeout: 1h, defaults: {timeout: 30}, steps: [{id: a, tool: t, timeout: 5s}]}")
    assert (read["timeout"], read["defaults"]["timeout"], read["steps"][0]["timeout"]) == (
        {"total": "1h"},
        {"attempt": "30s"},
        {"attempt": "5s"},
    )


def test_references_stand_where_the_steps_do_at_any_depth() -> None:
    text = """
    defaults: {namespace: team}
    steps:
    - {id: a, agent: x}
    - id: b
      do: {steps: [{id: c, parallel: {steps: [{id: d, tool: {name: t, namespace: n}}, {id: e, network: net}]}}]}
    - id: f
      branch: {cases: [{when: 'true', steps: [{id: g, workflow: w}]}], default: {steps: [{id: h, tool: u}]}}
    - id: i
      loop: {until: 'true', maxIterations: 1, steps: [{id: j, agent: y, catch: [{steps: [{id: k, tool: v}]}]}]}
    """
    assert [(r.path, r.kind, r.name, r.namespace) for r in view(text).references()] == [
        ("spec.steps[0].agent", "Agent", "x", "team"),
        ("spec.steps[1].do.steps[0].parallel.steps[0].tool", "Tool", "t", "n"),
        ("spec.steps[1].do.steps[0].parallel.steps[1].network", "Network", "net", "team"),
        ("spec.steps[2].branch.cases[0].steps[0].workflow", "Workflow", "w", "team"),
        ("spec.steps[2].branch.default.steps[0].tool", "Tool", "u", "team"),
        ("spec.steps[3].loop.steps[0].agent", "Agent", "y", "team"),
        ("spec.steps[3].loop.steps[0].catch[0].steps[0].tool", "Tool", "v", "team"),
    ]


MISTAKES = [
    ("{steps: []}", "spec.steps", ""),
    ("{steps: [{id: a, agnt: x}]}", "spec.steps[0].agnt", 'did you mean "agent"?'),
    ("{steps: [{id: a, do: {steps: [{id: b, tool: t, dependson: [c]}]}}]}", "spec.steps[0].do.steps[0].dependson", 'did you mean "dependsOn"?'),
    ("{steps: [{id: a, tool: {nam: t}}]}", "spec.steps[0].tool.nam", 'did you mean "name"?'),
    ("{steps: [{id: a, tool: t, input: {form: x}}]}", "spec.steps[0].input.form", 'did you mean "from"?'),
    ("{steps: [{id: a, tool: t, input: b, with: {c: 1}}]}", "spec.steps[0].with", "exactly one of input and with"),
    ("{steps: [{id: a, tool: t, input: {from: b, with: {c: 1}}}]}", "spec.steps[0].input.with", "exactly one of from and with"),
    ("{steps: [{id: a, tool: t, dependsOn: [b], after: [c]}]}", "spec.steps[0].after", "another name of dependsOn"),
    ("{steps: [{id: a, tool: t, retry: 1, retries: 2}]}", "spec.steps[0].retries", "another way to write retry"),
    ("{steps: [{id: a, tool: t, timeout: soon}]}", "spec.steps[0].timeout.attempt", "is no duration"),
    ("{steps: [{id: a, sleep: 5 minutes}]}", "spec.steps[0].sleep", "is no duration"),
    ("{steps: [{id: a, loop: {until: 'true', steps: [{id: b, tool: t}]}}]}", "spec.steps[0].loop.maxIterations", "Required value"),
    ("{inputSchema: {}, input: {schema: {}}, steps: [{id: a, tool: t}]}", "spec.inputSchema", "another name of input.schema"),
    ("{steps: [{id: a, tool: t, next: b}]}", "spec.steps[0].next", 'there is no step "b"'),
    ("{steps: [{id: a, tool: t}], output: {schema: {type: objekt}}}", "spec.output.schema.type", "objekt"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "field", "message"), MISTAKES)
def test_a_mistake_is_named_with_its_place(text: str, field: str, message: str) -> None:
    found = findings(text)
    assert any(where == field and message in what for where, what in found), found


def test_what_is_not_executed_by_this_version_is_named() -> None:
    text = "{streaming: {events: [a]}, steps: [{id: b, tool: t, queue: slow}]}"
    assert sorted(view(text).unsupported()) == ["spec.steps[0].queue", "spec.streaming"]
