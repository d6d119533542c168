"""Every short shape in which a manifest can be written is stored as written, and read as its one normal form."""

import copy
from functools import cache
from importlib import import_module
from typing import Any

import pytest
import yaml

from kastra.runtime.view_inline import view_of_kind
from kastra.schema import CompiledSchema, compile_schema
from tests.contract.views import definition

PLURALS = {
    "Agent": "agents",
    "Tool": "tools",
    "Workflow": "workflows",
    "Network": "networks",
    "System": "systems",
    "Model": "models",
    "ModelProvider": "modelproviders",
    "Run": "runs",
}


@cache
def schema_of(kind: str) -> CompiledSchema:
    return compile_schema(definition(PLURALS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def load(kind: str, spec: str) -> dict[str, Any]:
    parsed = yaml.load(spec, Loader=yaml.CSafeLoader)  # noqa: TID251 - a snippet of the test
    return {"apiVersion": "mastra.ai/v1", "kind": kind, "metadata": {"name": "x", "namespace": "n"}, "spec": parsed}


def plain(kind: str, spec: str) -> dict[str, Any]:
    import_module(f"kastra.controllers.{kind.lower()}")
    view: Any = view_of_kind(kind)
    found: dict[str, Any] = view.of(load(kind, spec)).spec.plain()
    return found


AS_WRITTEN = [
    ("Agent", "{instructions: Be brief.}"),
    ("Agent", "{systemPrompt: Be brief., name: Brief}"),
    ("Agent", "{instructions: [Be brief., {role: system, content: Be kind.}]}"),
    ("Agent", "{model: openai/gpt-4o, tools: [a, n.b, agents/c], memory: true, timeout: 30}"),
    ("Agent", "{model: {provider: openai, model: gpt-4o}, tools: [{name: a, refName: n.b}]}"),
    ("Agent", "{model: [openai/gpt-4o, {modelRef: spare, maxRetries: 2}], tools: {find: n.finder}}"),
    ("Agent", "{modelRef: fast, fallbacks: [groq/llama, {modelRef: {name: spare}}]}"),
    ("Tool", "{python: {entrypoint: 'a.b:c'}, retry: 3, timeout: 30}"),
    ("Tool", "{agent: helper}"),
    ("Tool", "{workflow: {name: w, namespace: n}}"),
    ("Tool", "{http: {url: 'https://x.org', headers: {Accept: text/plain}}}"),
    ("Tool", "{mcp: {serverRef: files, tool: read}}"),
    ("Tool", "{process: {command: [sh, -c, cat]}}"),
    ("Workflow", "{steps: [{id: a, agent: x}]}"),
    (
        "Workflow",
        "{steps: [{id: a, agent: {name: x, namespace: n}, input: {type: user-input}, output: {type: draft}}]}",
    ),
    ("Workflow", "{steps: [{id: a, agent: x}, {id: b, agent: y, input: {from: a}, output: {type: text}}]}"),
    ("Workflow", "{initialStep: a, steps: [{id: a, tool: x, next: b}, {id: b, tool: y, next: END}]}"),
    ("Workflow", "{steps: [{id: a, tool: x, timeout: 5, retry: 2}, {id: b, tool: y, dependsOn: [a]}]}"),
    ("Workflow", "{steps: [{id: a, tool: x}, {id: b, tool: y, after: [a]}, {id: c, sleep: 1m}]}"),
    ("Workflow", "{steps: [{id: a, tool: x, retries: 2, retryDelayMs: 100}, {id: b, sleep: state.pause}]}"),
    ("Workflow", '{steps: [{id: a, tool: x}, {id: b, tool: y, dependsOn: \'steps["a"].status == "Succeeded"\'}]}'),
    ("Workflow", "{steps: [{id: a, approval: {message: 'Go on?'}}, {id: b, network: n.team, input: a, output: done}]}"),
    ("Workflow", "{schedule: {cron: '0 9 * * *'}, steps: [{id: a, agent: x}]}"),
    ("Workflow", "{schedule: [{every: 1h}], steps: [{id: a, agent: x}]}"),
    ("Network", "{instructions: Go., agents: [{name: a, ref: default.a}], router: {model: openai/gpt-4o}}"),
    ("Network", "{agents: [a, {name: b, ref: {name: b, namespace: n}}, {name: c, agentRef: {name: c}}]}"),
    ("Network", "{agents: [{name: a, spec: {instructions: Be brief.}}], state: {persistence: true, ttl: 3600}}"),
    ("System", "{agents: [{name: a, spec: {instructions: Be brief.}}, {name: b, spec: {model: openai/gpt-4o}}]}"),
    ("System", "{defaults: {model: openai/gpt-4o}, workflows: [{name: w, spec: {steps: [{id: a, agent: a}]}}]}"),
    ("Model", "{providerRef: openai, name: gpt-4o, cassette: {mode: off}}"),
    ("ModelProvider", "{type: openai, apiKeyFrom: {secretKeyRef: {name: openai, key: api-key}}}"),
    ("Run", "{target: {kind: Agent, name: a}, input: hello, timeout: 60, ttlAfterFinished: 1h}"),
    ("Run", "{target: {kind: Agent, name: a}, messages: [hello, {role: user, content: again}], threadRef: t}"),
]


@pytest.mark.parametrize(("kind", "spec"), AS_WRITTEN)
def test_a_short_shape_is_accepted_and_stored_as_written(kind: str, spec: str) -> None:
    written = load(kind, spec)
    stored = copy.deepcopy(written)
    admitted = schema_of(kind).admit(stored)
    assert (admitted.causes, admitted.pruned) == ((), ())
    assert stored == written


def test_status_in_a_manifest_may_leave_out_times_and_reasons() -> None:
    written = load("Agent", "{instructions: Be brief.}")
    written["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    assert schema_of("Agent").admit(written).causes == ()


X, NX = {"name": "x"}, {"name": "x", "namespace": "n"}
TOOL = {"preset": {}}

NORMAL = [
    # Agent: instructions
    ("Agent", "{instructions: a}", "instructions", ["a"]),
    ("Agent", "{instructions: [a, b]}", "instructions", ["a", "b"]),
    ("Agent", "{instructions: {role: system, content: a}}", "instructions", ["a"]),
    ("Agent", "{instructions: {role: system, content: [{type: text, text: a}, b]}}", "instructions", ["a", "b"]),
    ("Agent", "{instructions: [{role: system, content: [{text: a}, {text: b}]}, c]}", "instructions", ["ab", "c"]),
    ("Agent", "{systemPrompt: a}", "instructions", ["a"]),
    ("Agent", "{name: a}", "displayName", "a"),
    # Agent: model
    ("Agent", "{model: openai/gpt-4o}", "model", {"provider": "openai", "name": "gpt-4o", "parameters": {}}),
    ("Agent", "{model: openrouter/a/b}", "model", {"provider": "openrouter", "name": "a/b", "parameters": {}}),
    ("Agent", "{model: {provider: groq, model: x}}", "model", {"provider": "groq", "name": "x", "parameters": {}}),
    (
        "Agent",
        "{model: {provider: groq, name: x, temperature: 1, parameters: {topP: 2}}}",
        "model",
        {"provider": "groq", "name": "x", "parameters": {"temperature": 1, "topP": 2}},
    ),
    ("Agent", "{model: [{modelRef: x}, openai/y]}", "modelRef", X),
    (
        "Agent",
        "{model: [{provider: a, name: b}, {provider: openai, name: y, enabled: false}], fallbacks: [{modelRef: n/x}]}",
        "fallbacks",
        [{"provider": "openai", "name": "y", "parameters": {}, "enabled": False}, {"modelRef": {"name": "n/x"}}],
    ),
    ("Agent", "{model: [{provider: a, name: b, maxRetries: 2}]}", "maxRetries", 2),
    ("Agent", "{modelRef: x}", "modelRef", X),
    ("Agent", "{modelRef: {name: x, namespace: n}}", "modelRef", NX),
    # Agent: tools
    ("Agent", "{tools: [x]}", "tools", [{"name": "x", "toolRef": X, **TOOL}]),
    ("Agent", "{tools: [n.x]}", "tools", [{"name": "x", "toolRef": {"name": "n.x"}, **TOOL}]),
    ("Agent", "{tools: [n/x]}", "tools", [{"name": "x", "toolRef": {"name": "n/x"}, **TOOL}]),
    ("Agent", "{tools: [tools/x]}", "tools", [{"name": "x", "toolRef": X, **TOOL}]),
    ("Agent", "{tools: [agents/x]}", "tools", [{"name": "x", "agentRef": X, **TOOL}]),
    ("Agent", "{tools: [{name: a, refName: workflows/x}]}", "tools", [{"name": "a", "workflowRef": X, **TOOL}]),
    ("Agent", "{tools: [{name: x}]}", "tools", [{"name": "x", "toolRef": X, **TOOL}]),
    ("Agent", "{tools: [{toolRef: {name: x, namespace: n}}]}", "tools", [{"name": "x", "toolRef": NX, **TOOL}]),
    ("Agent", "{tools: [{agentRef: x, as: ask}]}", "tools", [{"name": "x", "agentRef": X, "as": "ask", **TOOL}]),
    (
        "Agent",
        "{tools: [{name: a, toolRef: x, preset: {q: 1}, requireApproval: true}]}",
        "tools",
        [{"name": "a", "toolRef": X, "preset": {"q": 1}, "requireApproval": True}],
    ),
    (
        "Agent",
        "{tools: [{mcp: {server: x, tools: [read]}}]}",
        "tools",
        [{"name": "x", "mcp": {"server": X, "tools": ["read"]}, **TOOL}],
    ),
    ("Agent", "{tools: {a: x}}", "tools", [{"name": "a", "toolRef": X, **TOOL}]),
    ("Agent", "{tools: {a: {agentRef: x}}}", "tools", [{"name": "a", "agentRef": X, **TOOL}]),
    # Agent: the rest
    ("Agent", "{memory: true}", "memory", {"enabled": True}),
    ("Agent", "{memory: false}", "memory", {"enabled": False}),
    ("Agent", "{memory: {lastMessages: false, ttl: 60}}", "memory", {"enabled": True, "lastMessages": 0, "ttl": "60s"}),
    (
        "Agent",
        "{memory: {semanticRecall: {messageRange: 2}, workingMemory: true}}",
        "memory",
        {
            "enabled": True,
            "semanticRecall": {"enabled": True, "messageRange": {"before": 2, "after": 2}},
            "workingMemory": {"enabled": True},
        },
    ),
    ("Agent", "{timeout: 30}", "timeout", "30s"),
    ("Agent", "{timeout: PT1H}", "timeout", "PT1H"),
    ("Agent", "{}", "maxSteps", 5),
    ("Agent", "{}", "scaling", {"minReplicas": 1, "maxReplicas": 10}),
    ("Agent", "{scaling: {minReplicas: 20}}", "scaling", {"minReplicas": 20, "maxReplicas": 20}),
    ("Agent", "{scorers: [bias]}", "scorers", [{"scorer": "bias"}]),
    (
        "Agent",
        "{processors: {input: [moderation]}}",
        "processors",
        {"input": [{"id": "moderation", "config": {}}], "output": [], "error": []},
    ),
    # Tool
    ("Tool", "{agent: x}", "agent", X),
    ("Tool", "{workflow: {name: x, namespace: n}}", "workflow", NX),
    ("Tool", "{agent: x, retry: 3}", "retry", {"limit": 3}),
    ("Tool", "{agent: x, timeout: 5}", "timeout", "5s"),
    ("Tool", "{mcp: {serverRef: x, tool: t}}", "mcp", {"serverRef": X, "tool": "t"}),
    (
        "Tool",
        "{http: {url: u, headers: {A: b, K: {valueFrom: {env: E}}}}}",
        "http",
        {"url": "u", "headers": [{"name": "A", "value": "b"}, {"name": "K", "valueFrom": {"env": "E"}}]},
    ),
    # Network
    ("Network", "{agents: [x]}", "members[0].ref", {"kind": "Agent", "name": "x"}),
    ("Network", "{agents: [{name: a, ref: n.x}]}", "members[0].ref", {"kind": "Agent", "name": "n.x"}),
    ("Network", "{agents: [{name: a, ref: agents/x}]}", "members[0].ref", {"kind": "Agent", "name": "x"}),
    ("Network", "{agents: [{name: a, ref: {name: x, namespace: n}}]}", "members[0].ref", {"kind": "Agent", **NX}),
    ("Network", "{agents: [{name: a, agentRef: {name: x}}]}", "members[0].ref", {"kind": "Agent", "name": "x"}),
    ("Network", "{agents: [{agentRef: n.x}]}", "members[0].name", "x"),
    ("Network", "{agents: [{name: a, spec: {instructions: hi}}]}", "members[0].spec.instructions", ["hi"]),
    ("Network", "{agents: [a], tools: [{name: t, ref: tools/t}]}", "members[1].kind", "Tool"),
    ("Network", "{agents: [a], workflows: [w]}", "members[1].path", "spec.workflows[0]"),
    ("Network", "{agents: [{name: a, responsibilities: find}]}", "members[0].responsibilities", ["find"]),
    ("Network", "{agents: [a, b, c]}", "router.maxSteps", 8),
    ("Network", "{agents: [a], router: {maxSteps: 9}, termination: {maxSteps: 3}}", "router.maxSteps", 3),
    ("Network", "{agents: [a]}", "router.mode", "router"),
    ("Network", "{agents: [a], router: {strategy: ai}}", "router.mode", "router"),
    ("Network", "{agents: [a], router: {strategy: sequential}}", "router.mode", "roundRobin"),
    ("Network", "{agents: [a], router: {strategy: round-robin}}", "router.mode", "roundRobin"),
    ("Network", "{agents: [a], router: {strategy: graph}}", "router.mode", "expression"),
    ("Network", "{agents: [a], router: {terminate: turn > 3}}", "termination.when", "turn > 3"),
    ("Network", "{agents: [a], state: {ttl: 3600}}", "state.ttl", "3600s"),
    ("Network", "{agents: [a], instructions: [b, c]}", "instructions", "b\n\nc"),
    # Workflow
    ("Workflow", "{steps: [{id: a, agent: x}]}", "steps[0].agent", X),
    ("Workflow", "{steps: [{id: a, tool: {name: x, namespace: n}}]}", "steps[0].tool", NX),
    ("Workflow", "{steps: [{id: a, tool: x, input: {type: user-input}}]}", "steps[0].input", {"from": ["user-input"]}),
    ("Workflow", "{steps: [{id: a, tool: x, input: b}]}", "steps[0].input", {"from": ["b"]}),
    ("Workflow", "{steps: [{id: a, tool: x, input: {from: b}}]}", "steps[0].input", {"from": ["b"]}),
    ("Workflow", "{steps: [{id: a, tool: x, with: {q: 1}}]}", "steps[0].input", {"with": {"q": 1}}),
    ("Workflow", "{steps: [{id: a, tool: x, input: {with: {q: 1}}}]}", "steps[0].input", {"with": {"q": 1}}),
    ("Workflow", "{steps: [{id: a, tool: x, output: {type: label}}]}", "steps[0].output", {"type": "label"}),
    ("Workflow", "{steps: [{id: a, tool: x, output: label}]}", "steps[0].output", {"type": "label"}),
    ("Workflow", "{steps: [{id: a, tool: x, timeout: 5}]}", "steps[0].timeout", {"attempt": "5s"}),
    ("Workflow", "{steps: [{id: a, tool: x, retry: 2}]}", "steps[0].retry", {"limit": 2}),
    ("Workflow", "{steps: [{id: a, tool: x, after: [b]}]}", "steps[0].dependsOn", ["b"]),
    ("Workflow", "{steps: [{id: a, sleep: 1m}]}", "steps[0].sleep", {"duration": "1m"}),
    ("Workflow", "{steps: [{id: a, approval: {message: m}}]}", "steps[0].approve", {"message": "m"}),
    ("Workflow", "{steps: [{id: a, tool: x, next: END}]}", "steps[0].next", "END"),
    ("Workflow", "{inputSchema: {type: object}, steps: [{id: a, tool: x}]}", "input.schema", {"type": "object"}),
    # System, Model, Run
    ("System", "{defaults: {model: {modelRef: x}}}", "defaults", {"modelRef": X}),
    ("System", "{agents: [{name: a, spec: {instructions: hi}}]}", "agents[0].spec", {"instructions": "hi"}),
    ("Model", "{providerRef: x, name: m}", "providerRef", X),
    ("Model", "{providerRef: x, name: m, cassette: {mode: off}}", "cassette.mode", "off"),
    ("Run", "{target: {kind: Tool, name: t}}", "desiredState", "Running"),
    ("Run", "{target: {kind: Tool, name: t}, timeout: 90}", "timeout", "90s"),
]


@pytest.mark.parametrize(("kind", "spec", "path", "expected"), NORMAL)
def test_a_short_shape_has_one_normal_form(kind: str, spec: str, path: str, expected: Any) -> None:
    import_module("kastra.controllers.agent")
    value: Any = plain(kind, spec)
    for part in path.replace("[", ".[").split("."):
        value = value[int(part[1:-1])] if part.startswith("[") else value[part]
    assert value == expected


REFERENCES = [
    ("Agent", "{modelRef: m, tools: [a, {agentRef: {name: b, namespace: n}}], fallbacks: [{modelRef: s}]}",
     [("spec.modelRef", "Model", "m", ""), ("spec.fallbacks[0].modelRef", "Model", "s", ""),
      ("spec.tools[0]", "Tool", "a", ""), ("spec.tools[1]", "Agent", "b", "n")]),
    ("Agent", "{instructionsFrom: {configMapKeyRef: {name: c, key: k}}}",
     [("spec.instructionsFrom.configMapKeyRef", "ConfigMap", "c", "")]),
    ("Tool", "{workflow: w, probe: {toolRef: p}}",
     [("spec.workflow", "Workflow", "w", ""), ("spec.probe.toolRef", "Tool", "p", "")]),
    ("Network", "{agents: [a, {name: i, spec: {tools: [t]}}], workflows: [w], router: {modelRef: m}}",
     [("spec.router.modelRef", "Model", "m", ""), ("spec.agents[0]", "Agent", "a", ""),
      ("spec.agents[1].spec.tools[0]", "Tool", "t", ""), ("spec.workflows[0]", "Workflow", "w", "")]),
    ("Model", "{providerRef: n/p, name: m}", [("spec.providerRef", "ModelProvider", "n/p", "")]),
    ("ModelProvider", "{type: openai, apiKeyFrom: {secretKeyRef: {name: s, key: k}}}",
     [("spec.apiKeyFrom.secretKeyRef", "Secret", "s", "")]),
    ("Run", "{target: {kind: Network, name: t, namespace: n}}", [("spec.target", "Network", "t", "n")]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spec", "expected"), REFERENCES)
def test_references_carry_their_place_and_what_they_mean(kind: str, spec: str, expected: Any) -> None:
    import_module(f"kastra.controllers.{kind.lower()}")
    view: Any = view_of_kind(kind)
    found = view.of(load(kind, spec)).references()
    assert [(r.path, r.kind, r.name, r.namespace) for r in found] == expected
