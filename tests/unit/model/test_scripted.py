"""The scripted provider says what its rules say, and makes nothing up."""

from pathlib import Path
from typing import Any

import pytest

from kastra.clock import SystemClock
from kastra.model.interface import Message, ModelConfig, ModelError, ModelRequest, ModelServices, ToolDefinition
from kastra.model.providers import create, provider_types, suggestion
from kastra.model.scripted import ScriptedModel
from kastra.netguard import Guard, Policy

FINDER = ToolDefinition("recipe-finder", "finds recipes", {"type": "object"})
RULES = [
    {
        "when": 'size(results) == 0 && "recipe-finder" in tools',
        "call": {"tool": "recipe-finder", "arguments": {"ingredients": "${{ input.ingredients }}"}},
    },
    {"when": "size(results) > 0", "reply": "Try ${{ results[0].name }}."},
]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


async def test_a_rule_calls_a_tool_with_templated_arguments_and_the_next_one_replies_with_its_result() -> None:
    model = ScriptedModel(RULES)
    asked: list[Message] = [{"role": "system", "content": "You cook."}, user('{"ingredients":["eggs"]}')]
    first = await model.generate(ModelRequest(asked, [FINDER], input={"ingredients": ["eggs"]}, first=2))
    assert [(call["name"], call["arguments"]) for call in first.tool_calls] == [
        ("recipe-finder", {"ingredients": ["eggs"]})
    ]
    assert first.finish_reason == "tool-calls"
    answered: Message = {
        "role": "tool",
        "toolCallId": "call_0_0",
        "name": "recipe-finder",
        "result": {"name": "omelette"},
    }
    messages: list[Message] = [*asked, {"role": "assistant", "toolCalls": list(first.tool_calls)}, answered]
    second = await model.generate(ModelRequest(messages, [FINDER], turn=1, first=2))
    assert (second.text, second.finish_reason) == ("Try omelette.", "stop")


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ("hello", [user("hello")]),
        (None, [user("hello")]),
        ({"messages": [user("before"), user("hello")]}, [user("before"), user("hello")]),
    ],
)
async def test_an_input_that_is_text_or_messages_is_seen_as_its_text(given: Any, messages: list[Message]) -> None:
    model = ScriptedModel([{"reply": "${{ input.text }} on turn ${{ turn }}"}])
    response = await model.generate(ModelRequest(messages, input=given, first=len(messages)))
    assert response.text == "hello on turn 0"


async def test_only_results_of_this_generation_count() -> None:
    earlier: Message = {"role": "tool", "toolCallId": "x", "name": "t", "result": 1}
    model = ScriptedModel([{"reply": "${{ size(results) }}"}])
    assert (await model.generate(ModelRequest([earlier, user("hi")], first=2))).text == "0"


async def test_several_tools_can_be_called_at_once() -> None:
    model = ScriptedModel([{"call": [{"tool": "a"}, {"tool": "b", "arguments": {"n": "${{ 1 + 1 }}"}}]}])
    calls = (await model.generate(ModelRequest([user("go")]))).tool_calls
    assert [(call["name"], call["arguments"]) for call in calls] == [("a", {}), ("b", {"n": 2})]
    assert len({call["id"] for call in calls}) == 2


async def test_an_object_answers_structured_output() -> None:
    model = ScriptedModel([{"object": {"score": "${{ 0.5 }}", "label": "x-${{ turn }}"}}])
    response = await model.generate(ModelRequest([user("go")], output_schema={"type": "object"}))
    assert response.object == {"score": 0.5, "label": "x-0"}
    assert response.text == '{"score":0.5,"label":"x-0"}'


async def test_no_matching_rule_is_an_error_that_shows_what_the_rules_saw() -> None:
    model = ScriptedModel([{"when": "turn > 5", "reply": "late"}])
    with pytest.raises(ModelError, match=r'none of its 1 rules matches; input = \{"q":"tea"\}') as caught:
        await model.generate(ModelRequest([user("go")], [FINDER], input={"q": "tea"}))
    assert 'tools = ["recipe-finder"]; turn = 0' in caught.value.message
    assert not caught.value.retryable


async def test_a_missing_path_is_an_expression_error_that_no_retry_helps() -> None:
    model = ScriptedModel([{"reply": "${{ input.nope }}"}])
    with pytest.raises(ModelError, match="nope") as caught:
        await model.generate(ModelRequest([user("go")], input={"q": 1}))
    assert (caught.value.kind, caught.value.retryable) == ("expression", False)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (None, "model.parameters.rules: must be a list"),
        ([], "model.parameters.rules: must be a list"),
        ([{"when": "true"}], r"rules\[0\]: needs exactly one of call, reply, object"),
        ([{"reply": "a", "object": {}}], r"rules\[0\]: needs exactly one"),
        ([{"reply": "a"}, {"when": "1 +", "reply": "b"}], r"rules\[1\]\.when: "),
        ([{"reply": "${{ inptu.x }}"}], r"rules\[0\]\.reply: .*inptu"),
        ([{"call": {"arguments": {}}}], r"rules\[0\]\.call: must be {tool, arguments}"),
        ([{"call": [{"tool": "a"}, "b"]}], r"rules\[0\]\.call\[1\]: must be"),
        ([{"say": "a"}], r"rules\[0\]\.say: unknown field"),
    ],
)
def test_rules_that_make_no_sense_are_refused_with_their_path(rules: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScriptedModel(rules)


def test_provider_types_are_known_by_name_with_a_suggestion_for_a_typo() -> None:
    assert {"scripted", "openai", "ollama"} <= set(provider_types())
    assert suggestion("opnai") == "openai"
    services = ModelServices(Guard(Policy()), SystemClock())
    with pytest.raises(ValueError, match="did you mean 'openai'"):
        create(ModelConfig("opnai", "gpt-4o"), services)
    assert isinstance(create(ModelConfig("scripted", parameters={"rules": [{"reply": "hi"}]}), services), ScriptedModel)


async def test_an_installed_package_adds_a_provider_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "kastra_test_echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kastra-test-echo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[kastra.models]\necho = kastra_test_echo:create\nopenai = kastra_test_echo:create\n"
    )
    (tmp_path / "kastra_test_echo.py").write_text(
        "from kastra.model.interface import ModelResponse\n"
        "class Echo:\n    async def generate(self, request):\n        return ModelResponse('echo')\n"
        "def create(config, services):\n    return Echo()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    services = ModelServices(Guard(Policy()), SystemClock())
    assert "echo" in provider_types()
    assert (await create(ModelConfig("echo"), services).generate(ModelRequest([user("x")]))).text == "echo"
    # A built-in name stays what it is.
    assert type(create(ModelConfig("openai", "gpt-4o"), services)).__name__ == "OpenAIModel"
