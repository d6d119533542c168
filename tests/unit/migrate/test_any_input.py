"""Whatever stands in the input: nothing raises, and what comes out is valid or reported."""

import time

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kastra.migrate.sources import Unreadable
from tests.unit.migrate.conftest import Convert

KEYS = st.sampled_from(
    [
        "agent",
        "agentId",
        "agents",
        "apiKey",
        "apiVersion",
        "auth",
        "backoff",
        "body",
        "catch",
        "code",
        "condition",
        "config",
        "coordinator",
        "createdAt",
        "defaultAgent",
        "dependsOn",
        "description",
        "directory",
        "endpoint",
        "execute",
        "file",
        "forEach",
        "function",
        "functions",
        "graph",
        "header",
        "headers",
        "id",
        "implementation",
        "includes",
        "initialStep",
        "input",
        "inputSchema",
        "inputs",
        "instructions",
        "kind",
        "language",
        "llm",
        "mapConfig",
        "maxRetries",
        "maxSteps",
        "maxTurns",
        "memory",
        "memorySettings",
        "metadata",
        "method",
        "model",
        "modelRef",
        "name",
        "namespace",
        "networks",
        "next",
        "onFalse",
        "onTrue",
        "op",
        "opts",
        "options",
        "output",
        "outputs",
        "parallel",
        "parameters",
        "path",
        "predicate",
        "predicates",
        "provider",
        "providers",
        "ref",
        "resources",
        "retryPolicy",
        "router",
        "routing",
        "security",
        "source",
        "spec",
        "step",
        "steps",
        "strategy",
        "systemPrompt",
        "then",
        "timeout",
        "tool",
        "toolId",
        "tools",
        "transitions",
        "true",
        "type",
        "url",
        "value",
        "when",
        "with",
        "workflow",
        "workflows",
    ]
)
WORDS = st.sampled_from(
    [
        "a",
        "b",
        "agent",
        "tool",
        "function",
        "condition",
        "parallel",
        "MastraPod",
        "Agent",
        "Tool",
        "Workflow",
        "Network",
        "LLM",
        "Secret",
        "openai",
        "openai/gpt-4o",
        "anthropic",
        "end",
        "END",
        "https://example.com/{a}",
        "${env.X}",
        "{{input.x}}",
        "{{steps.a.output}}",
        "$a",
        "mastra.ai/v1",
        "mastra/v1",
        "def\\",
        "f():pass",
        "./x.js",
        "python",
        "bearer",
        "sk-0123456789abcdef0123",
        "mapping",
        "loop",
        "conditional",
        "1000",
        "30s",
        "{{#if}}",
        "../../etc/passwd",
    ]
)
SCALARS = st.one_of(
    WORDS,
    st.integers(-5, 10**12),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.sampled_from("abcd"), inner, max_size=5),
    max_leaves=25,
)
SECTIONS = st.dictionaries(
    st.sampled_from(["agents", "tools", "workflows", "networks", "providers", "resources", "llms"]),
    st.dictionaries(
        st.sampled_from(["a", "b", "weatherAgent", "x y", "é"]), st.dictionaries(KEYS, VALUES, max_size=6), max_size=3
    )
    | VALUES,
    min_size=1,
    max_size=4,
)
SHAPED = st.builds(
    lambda kind, spec: {"kind": kind, "metadata": {"name": "a"}, "spec": spec},
    st.sampled_from(
        ["Agent", "Tool", "Workflow", "Network", "LLM", "MastraPod", "ModelProvider", "Secret", "System", "Model"]
    ),
    st.dictionaries(KEYS, VALUES, max_size=8),
)
STEPS = st.builds(
    lambda steps: {"kind": "Workflow", "name": "w", "steps": steps},
    st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "type",
                    "agent",
                    "next",
                    "when",
                    "dependsOn",
                    "input",
                    "steps",
                    "condition",
                    "onTrue",
                    "onFalse",
                    "tool",
                ]
            ),
            VALUES,
            min_size=1,
        ),
        min_size=1,
        max_size=5,
    )
    | st.dictionaries(st.sampled_from("abcd"), st.dictionaries(KEYS, VALUES, max_size=6), min_size=1),
)
GRAPHS = st.builds(
    lambda graph: {"id": "g", "graph": graph},
    st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "id",
                    "agentId",
                    "toolId",
                    "step",
                    "steps",
                    "predicate",
                    "predicates",
                    "mapConfig",
                    "duration",
                    "date",
                    "opts",
                ]
            ),
            VALUES,
            min_size=1,
        ),
        min_size=1,
        max_size=4,
    ),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.one_of(SECTIONS, SHAPED, STEPS, GRAPHS, VALUES))
def test_what_is_made_is_valid_and_everything_else_is_reported(convert: Convert, today, document: object) -> None:
    found = convert(text=orjson.dumps([document]).decode())
    made = [draft.to_object() for draft in found.objects]
    again = convert(text=orjson.dumps(made).decode())
    assert again.objects == []
    assert len(again.unchanged) == len(made)
    text = orjson.dumps(made).decode() + "\n".join(found.report.lines())
    assert "sk-0123456789abcdef0123" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "-:2:1: "),
        ("a: 1\na: 2", 'key "a" stands twice'),
        ("x: " + "[" * 100 + "]" * 100, "nested more than 64 levels deep"),
        ("a: &a [1]\nb: !!python/object:os.system x", "is not allowed"),
        ("- x\n" * 210_000, "more than"),
    ],
    ids=["malformed", "twice", "deep", "tag", "many"],
)
def test_what_can_not_be_read_is_refused_with_its_place(text: str, message: str, convert: Convert) -> None:
    with pytest.raises(Unreadable) as error:
        convert(text=text)
    assert message in str(error.value)


@pytest.mark.parametrize("piece", ["${{", "{{", "${", "{{#if x}}", "$a", "{{a}}", "://a:b", "Bearer ", "sk-"], ids=str)
def test_long_texts_take_no_long_time(piece: str, convert: Convert) -> None:
    text = orjson.dumps({"kind": "Agent", "name": "a", "instructions": piece * 50_000}).decode()
    before = time.perf_counter()
    convert(text=text)
    assert time.perf_counter() - before < 5
