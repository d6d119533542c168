"""A cassette answers as the model once did, without it; what it doesn't know it says, with a diff; and it holds no secret."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from kastra.model.cassette import Cassette, CassetteModel, Cassettes, Mode
from kastra.model.interface import (
    ModelChunk,
    ModelError,
    ModelRequest,
    ModelResponse,
    TextDelta,
    ToolDefinition,
    collected,
)
from kastra.model.scripted import ScriptedModel
from kastra.telemetry import register_secret

LOOKUP = ToolDefinition("lookup", "looks up", {"type": "object"})


class Asked:
    """A scripted model that counts."""

    def __init__(self, *rules: dict[str, Any]) -> None:
        self.model = ScriptedModel(list(rules), "s", pace={"chunkSize": 3})
        self.count = 0

    async def generate(self, request: ModelRequest) -> ModelResponse:
        return await collected(self.stream(request))

    def stream(self, request: ModelRequest) -> Any:
        self.count += 1
        return self.model.stream(request)


def ask(text: str, **parameters: Any) -> ModelRequest:
    return ModelRequest([{"role": "user", "content": text}], [LOOKUP], parameters=parameters)


def on(path: Path, mode: Mode, model: Any = None) -> CassetteModel:
    return CassetteModel(model, Cassette(path, mode), "openai/m")


async def stream(model: CassetteModel, request: ModelRequest) -> tuple[list[ModelChunk], ModelResponse]:
    seen: list[ModelChunk] = []
    response = await collected(model.stream(request), seen.append)
    return seen, response


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cassettes" / "m.json"


async def test_what_was_recorded_is_replayed_chunk_by_chunk_without_the_model(path: Path) -> None:
    model = Asked({"when": 'input.text == "Hi"', "reply": "Hello you", "reasoning": "hm", "usage": {"inputTokens": 5}})
    seen, response = await stream(on(path, "record", model), ask("Hi"))
    again, replayed = await stream(on(path, "replay"), ask("Hi"))
    assert again == [chunk for chunk in seen if type(chunk).__name__ != "UsageUpdate"]
    assert [chunk.text for chunk in again if isinstance(chunk, TextDelta)] == ["Hel", "lo ", "you"]
    assert replayed == ModelResponse.of(response.plain())
    assert model.count == 1


async def test_tool_calls_are_replayed_too(path: Path) -> None:
    model = Asked({"call": {"tool": "lookup", "arguments": {"id": 7}}})
    await on(path, "record", model).generate(ask("Hi"))
    response = await on(path, "replay").generate(ask("Hi"))
    assert list(response.tool_calls) == [{"id": "call_0_0", "name": "lookup", "arguments": {"id": 7}}]


async def test_a_request_that_is_not_on_the_cassette_is_an_error_with_a_diff(path: Path) -> None:
    model = Asked({"reply": "Hello"})
    await on(path, "record", model).generate(ask("What is the weather in Rome?", temperature=0.5))
    with pytest.raises(ModelError) as caught:
        await on(path, "replay", model).generate(ask("What is the weather in Oslo?", temperature=0.5))
    assert (caught.value.kind, caught.value.retryable) == ("invalid_request", False)
    lines = str(caught.value).splitlines()
    assert any(line.startswith("-") and "Rome" in line for line in lines)
    assert any(line.startswith("+") and "Oslo" in line for line in lines)
    assert model.count == 1


async def test_a_cassette_that_is_not_there_says_how_to_make_it(path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not exist; record it: kastra record"):
        await on(path, "replay").generate(ask("Hi"))


async def test_auto_asks_only_for_what_is_not_there(path: Path) -> None:
    model = Asked({"reply": "Hello"})
    for _ in range(2):
        await on(path, "auto", model).generate(ask("Hi"))
    await on(path, "auto", model).generate(ask("Ho"))
    assert model.count == 2


async def test_recording_again_replaces_what_was_there_for_the_same_request(path: Path) -> None:
    await on(path, "record", Asked({"reply": "old"})).generate(ask("Hi"))
    await on(path, "record", Asked({"reply": "other"})).generate(ask("Ho"))
    await on(path, "record", Asked({"reply": "new"})).generate(ask("Hi"))
    assert (await on(path, "replay").generate(ask("Hi"))).text == "new"
    assert (await on(path, "replay").generate(ask("Ho"))).text == "other"


async def test_the_same_request_twice_is_answered_in_order_and_then_as_at_last(path: Path) -> None:
    recording = on(path, "record", Asked({"reply": "one", "times": 1}, {"reply": "two"}))
    for _ in range(2):
        await recording.generate(ask("Hi"))
    replaying = on(path, "replay")
    assert [(await replaying.generate(ask("Hi"))).text for _ in range(3)] == ["one", "two", "two"]


async def test_secrets_never_reach_the_file(path: Path) -> None:
    register_secret("canary-in-cassette-4711")
    model = Asked({"reply": "your key is canary-in-cassette-4711"})
    _, response = await stream(on(path, "record", model), ask("my key is canary-in-cassette-4711"))
    assert "canary" in response.text
    assert b"canary-in-cassette" not in path.read_bytes()
    assert (await on(path, "replay").generate(ask("my key is canary-in-cassette-4711"))).finish_reason == "stop"


async def test_a_failure_is_not_recorded(path: Path) -> None:
    with pytest.raises(ModelError):
        await on(path, "record", Asked({"error": {"kind": "unavailable", "after": 3}})).generate(ask("Hi"))
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is no cassette"),
        (b'{"version": 2}', "version"),
        (b'{"version": 1, "entries": [7]}', r"entries\[0\] has no request"),
        (b'{"version": 1, "entries": [{"request": {}, "response": {}}]}', r"entries\[0\]\.response is not whole"),
    ],
)
async def test_a_damaged_file_says_where(path: Path, content: bytes, says: str) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ModelError, match=says):
        await on(path, "replay").generate(ask("Hi"))


async def test_the_file_can_be_read_and_edited_by_people(path: Path) -> None:
    await on(path, "record", Asked({"reply": "Hello"})).generate(ask("Hi"))
    plain = orjson.loads(path.read_bytes())
    assert plain["entries"][0]["request"]["messages"] == [{"role": "user", "content": "Hi"}]
    plain["entries"][0]["response"]["text"] = "edited"
    del plain["entries"][0]["chunks"]
    path.write_bytes(orjson.dumps(plain))
    assert (await on(path, "replay").generate(ask("Hi"))).text == "edited"


def test_a_cassette_lies_below_the_project_folder(tmp_path: Path) -> None:
    cassettes = Cassettes(tmp_path)
    found = cassettes.of({"mode": "replay", "path": "tests/x.json"}, "m")
    assert found is not None
    assert found.path == tmp_path / "tests" / "x.json"
    assert cassettes.of({"mode": "off"}, "m") is None
    assert cassettes.of(None, "m") is None
    with pytest.raises(ValueError, match="outside the project"):
        cassettes.of({"mode": "replay", "path": "../x.json"}, "m")
    with pytest.raises(ValueError, match="no files"):
        Cassettes(None).of({"mode": "replay"}, "m")


def test_a_setting_overrides_what_every_model_says(tmp_path: Path) -> None:
    replaying = Cassettes(tmp_path, "replay").of(None, "openai-m")
    assert replaying is not None
    assert (replaying.mode, replaying.path.name) == ("replay", "openai-m.json")
    assert Cassettes(tmp_path, "off").of({"mode": "record"}, "m") is None
