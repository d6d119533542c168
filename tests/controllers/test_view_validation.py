"""What a schema can't say, a kind's `validate` does: every mistake is named with its place and what to do."""

from importlib import import_module
from typing import Any

import pytest
import yaml

from kastra.runtime.discovery import discover

VALIDATORS = discover(packages=["kastra.controllers"]).validators


def findings(kind: str, spec: str) -> list[tuple[str, str]]:
    import_module(f"kastra.controllers.{kind.lower()}")
    parsed = yaml.load(spec, Loader=yaml.CSafeLoader)  # noqa: TID251 - a snippet of the test
    obj: dict[str, Any] = {"apiVersion": "mastra.ai/v1", "kind": kind, "metadata": {"name": "x"}, "spec": parsed}
    return [(cause.field, cause.message) for cause in VALIDATORS["mastra.ai", kind](obj)]


MISTAKES = [
    # models
    ("Agent", "{model: opnai/gpt-4o}", "spec.model.provider", 'Unsupported value: "opnai": supported values: '),
    ("Agent", "{model: gpt-4o}", "spec.model", 'Invalid value: "gpt-4o": must be provider/name'),
    ("Agent", "{model: {provider: openai}}", "spec.model.name", "Required value: the name of a model of openai"),
    ("Agent", "{model: {provider: openai, name: x, tempo: 1}}", "spec.model.tempo", 'unknown field "spec.model.tempo"'),
    ("Agent", "{model: {provider: openai, apiKey: k}}", "spec.model.apiKey", "Forbidden: a key is never written"),
    ("Agent", "{model: {name: x}}", "spec.model.provider", "Required value"),
    ("Agent", "{model: {provider: 3, name: x}}", "spec.model.provider", 'must be of type string: "integer"'),
    ("Agent", "{model: openai/x, modelRef: y}", "spec.modelRef", "Forbidden: exactly one of model and modelRef"),
    ("Agent", "{model: [openai/x, y]}", "spec.model[1]", 'Invalid value: "y": must be provider/name'),
    ("Agent", "{fallbacks: [opnai/x]}", "spec.fallbacks[0].provider", 'Unsupported value: "opnai"'),
    ("Agent", "{model: {provider: scripted}}", "spec.model.parameters.rules", "must be a list of at least one rule"),
    (
        "Agent",
        "{model: {provider: scripted, parameters: {rules: [{when: 'size(', reply: x}]}}}",
        "spec.model.parameters.rules[0].when",
        "Syntax error",
    ),
    (
        "Agent",
        "{model: {provider: scripted, parameters: {rules: [{reply: '${{ nobody }}'}]}}}",
        "spec.model.parameters.rules[0].reply",
        "undeclared reference to 'nobody'",
    ),
    # tools of an agent
    ("Agent", "{tools: [{name: a, tolRef: b}]}", "spec.tools[0].tolRef", 'did you mean "toolRef"?'),
    ("Agent", "{tools: [{name: a, toolRef: b, agentRef: c}]}", "spec.tools[0].agentRef", "toolRef is already given"),
    ("Agent", "{tools: [models/m]}", "spec.tools[0]", "a tool can be a Tool, an Agent or a Workflow"),
    ("Agent", "{tools: [a, {name: b, as: a}]}", "spec.tools[1].as", 'Duplicate value: "a"'),
    ("Agent", "{tools: [{requireApproval: true}]}", "spec.tools[0].name", "Required value"),
    ("Agent", "{tools: [7]}", "spec.tools[0]", 'must be of type object: "integer"'),
    # steps that wait
    (
        "Workflow",
        "{steps: [{id: a, do: {steps: [{id: b, suspend: {resumeSchema: {type: objekt}}}]}}]}",
        "spec.steps[0].do.steps[0].suspend.resumeSchema.type",
        'Unsupported value: "objekt"',
    ),
    (
        "Workflow",
        "{steps: [{id: a, waitForEvent: {type: x, onTimeout: cancel}}]}",
        "spec.steps[0].waitForEvent.onTimeout",
        "Unsupported value",
    ),
    ("Workflow", "{steps: [{id: a, approve: {timeout: soon}}]}", "spec.steps[0].approve.timeout", "is no duration"),
    # the rest of an agent
    ("Agent", "{timeout: 5 minutes}", "spec.timeout", '"5 minutes" is no duration'),
    ("Agent", "{instructions: '${{ nobody }}'}", "spec.instructions", "undeclared reference to 'nobody'"),
    ("Agent", "{instructions: a, systemPrompt: b}", "spec.systemPrompt", "another name of instructions"),
    ("Agent", "{instructions: {role: user, content: a}}", "spec.instructions.role", 'Unsupported value: "user"'),
    ("Agent", "{instructions: a, instructionsFrom: {env: P}}", "spec.instructionsFrom", "exactly one of"),
    ("Agent", "{outputSchema: {type: objekt}}", "spec.outputSchema.type", 'Unsupported value: "objekt"'),
    (
        "Agent",
        "{outputSchema: {properties: {a: {minLength: x}}}}",
        "spec.outputSchema.properties.a.minLength",
        "must be a number of 0 or more",
    ),
    ("Agent", "{memory: {lastMesages: 3}}", "spec.memory.lastMesages", 'did you mean "lastMessages"?'),
    # tools
    ("Tool", "{}", "spec", "Required value: exactly one of python, http, mcp, process, builtin, agent, workflow"),
    ("Tool", "{python: {entrypoint: 'a:b'}, agent: c}", "spec.agent", "python is already given"),
    ("Tool", "{http: {url: 'https://x/${{ output.q }}'}}", "spec.http.url", "undeclared reference to 'output.q'"),
    (
        "Tool",
        "{http: {url: u, auth: {type: basic, valueFrom: {env: P}}}}",
        "spec.http.auth.username",
        "basic authentication needs a user name",
    ),
    ("Tool", "{agent: a, onInDoubt: probe}", "spec.probe", "onInDoubt: probe needs a tool"),
    ("Tool", "{agent: a, inputSchema: {required: x}}", "spec.inputSchema.required", "must be a list of property names"),
    ("Tool", "{agent: {nme: a}}", "spec.agent.nme", 'did you mean "name"?'),
    # networks
    ("Network", "{}", "spec.agents", "a network needs at least one member"),
    ("Network", "{agents: [a, {name: a, ref: b}]}", "spec.agents[1].name", 'Duplicate value: "a"'),
    ("Network", "{agents: [END]}", "spec.agents[0].name", "is reserved"),
    ("Network", "{agents: [{name: a, maxCals: 1}]}", "spec.agents[0].maxCals", 'did you mean "maxCalls"?'),
    ("Network", "{agents: [{name: a, ref: b, spec: {}}]}", "spec.agents[0].spec", "ref is already given"),
    ("Network", "{agents: [{ref: models/m}]}", "spec.agents[0].ref.kind", 'Unsupported value: "Model"'),
    ("Network", "{agents: [a], defaultAgent: b}", "spec.defaultAgent", 'supported values: "a"'),
    ("Network", "{agents: [{name: a, canHandoffTo: [b]}]}", "spec.agents[0].canHandoffTo[0]", 'Unsupported value: "b"'),
    (
        "Network",
        "{agents: [a], router: {rules: [{when: turn > 1, next: b}]}}",
        "spec.router.rules[0].next",
        'supported values: "a", "END"',
    ),
    (
        "Network",
        "{agents: [a], router: {rules: [{when: trun > 1, next: END}]}}",
        "spec.router.rules[0].when",
        "undeclared reference to 'trun'",
    ),
    ("Network", "{agents: [a], router: {mode: expression}}", "spec.router.rules", "chooses by rules alone"),
    ("Network", "{agents: [a], router: {model: opnai/x}}", "spec.router.model.provider", "Unsupported value"),
    ("Network", "{agents: [a], state: {reducers: {k: glue}}}", "spec.state.reducers[k]", 'Unsupported value: "glue"'),
    (
        "Network",
        "{agents: [{name: a, spec: {instrctions: x}}]}",
        "spec.agents[0].spec.instrctions",
        'unknown field "spec.agents[0].spec.instrctions"; did you mean "instructions"?',
    ),
    (
        "Network",
        "{agents: [{name: a, spec: {model: opnai/x}}]}",
        "spec.agents[0].spec.model.provider",
        'Unsupported value: "opnai"',
    ),
    # systems
    (
        "System",
        "{agents: [{name: a, spec: {tolls: []}}]}",
        "spec.agents[0].spec.tolls",
        'unknown field "spec.agents[0].spec.tolls"; did you mean "tools"?',
    ),
    ("System", "{tools: [{name: t, spec: {}}]}", "spec.tools[0].spec", "exactly one of python"),
    ("System", "{tools: [{name: T, spec: {agent: a}}]}", "spec.tools[0].name", "RFC 1123 subdomain"),
    ("System", "{defaults: {model: opnai/x}}", "spec.defaults.model.provider", 'Unsupported value: "opnai"'),
    # model providers, models, runs
    ("ModelProvider", "{type: opnai}", "spec.type", 'Unsupported value: "opnai": supported values: '),
    ("ModelProvider", "{type: openai-compatible}", "spec.baseURL", "Required value"),
    ("ModelProvider", "{type: openai, headers: {A: 3}}", "spec.headers[0].value", "must be of type string"),
    ("Model", "{providerRef: p, name: m, fallbacks: [opnai/x]}", "spec.fallbacks[0].provider", "Unsupported value"),
    ("Run", "{target: {kind: Agent, name: a}, input: b, messages: c}", "spec.messages", "exactly one of"),
    ("Run", "{target: {kind: Tool, name: a}, messages: c}", "spec.messages", "a Tool takes input, not messages"),
    ("Run", "{target: {kind: Agent, name: a}, messages: [{}]}", "spec.messages[0]", "{role, content}"),
    ("Run", "{target: {kind: Agent, name: a}, timeout: soon}", "spec.timeout", '"soon" is no duration'),
]


@pytest.mark.parametrize(("kind", "spec", "field", "text"), MISTAKES)
def test_a_mistake_is_named_with_its_place(kind: str, spec: str, field: str, text: str) -> None:
    found = findings(kind, spec)
    assert [message for place, message in found if place == field and text in message], found


def test_all_mistakes_of_an_object_are_named_at_once() -> None:
    found = findings("Agent", "{model: opnai/x, fallbacks: [groc/y], tools: [a, a], outputSchema: {type: objekt}}")
    assert [field for field, _ in found] == [
        "spec.model.provider",
        "spec.fallbacks[0].provider",
        "spec.tools[1].name",
        "spec.outputSchema.type",
    ]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Agent", "{tools: [{name: a, preset: 'hunter2-secret'}]}"),
        ("Agent", "{model: {provider: openai, apiKey: hunter2-secret}}"),
        ("ModelProvider", "{type: openai, headers: {Authorization: [hunter2-secret]}}"),
        ("ModelProvider", "{type: openai, headers: {Authorization: {value: hunter2-secret, valueFrom: {env: A}}}}"),
    ],
)
def test_a_message_never_repeats_what_may_be_a_credential(kind: str, spec: str) -> None:
    found = findings(kind, spec)
    assert found
    assert "hunter2-secret" not in str(found)


def test_a_run_may_change_nothing_but_its_desired_state() -> None:
    from kastra.controllers.run import RunView, validate_update

    def run(**spec: Any) -> RunView:
        return RunView.of({"metadata": {"name": "x"}, "spec": {"target": {"kind": "Agent", "name": "a"}, **spec}})

    assert validate_update(run(input={"a": 1}, desiredState="Cancelled"), run(input={"a": 1})) == []
    changed = validate_update(run(input={"a": 2}, threadRef="t"), run(input={"a": 1}))
    assert [cause.field for cause in changed] == ["spec.input", "spec.threadRef"]
