"""An Agent or Network answers a direct call without a Run object."""

from pathlib import Path

import pytest

import kastra
from kastra.api.errors import BadRequest
from kastra.api.meta import ObjectRef
from kastra.config import Settings

AGENT = """\
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: echo}
spec:
  model:
    provider: scripted
    name: x
    parameters: {rules: [{when: 'input.text != "nothing"', reply: 'You said ${{ input.text }}.'}]}
"""


async def test_generate_answers_at_once_and_leaves_no_run(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(AGENT)
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=())
    async with kastra.open(":memory:", settings=settings) as k:
        await k.apply(tmp_path / "a.yaml")
        ref = ObjectRef("agents", "echo", "default")
        [answer] = [record async for record in k.client.connect(ref, "generate", {"input": "hi"})]
        assert (answer["text"], answer["finishReason"]) == ("You said hi.", "stop")
        assert not (await k.client.list("runs")).items
        for body, says in (({}, "needs input or messages"), ({"input": "nothing"}, "none of its 1 rules matches")):
            with pytest.raises(BadRequest, match=says):
                [record async for record in k.client.connect(ref, "generate", body)]
        assert "generate" in k.client.scheme.find("agents").subresources


CONTEXT = """\
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: polite}
spec:
  instructions: 'Address ${{ has(context.user) ? context.user : "everybody" }}.'
  guardrails: [{id: length-limiter, config: {max: 60}}]
  model: {provider: scripted, parameters: {rules: [{reply: '${{ messages[0].content }} ${{ input.text }}'}]}}
"""


async def test_generate_takes_a_context_and_tells_a_tripwire(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CONTEXT)
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=())
    async with kastra.open(":memory:", settings=settings) as k:
        await k.apply(tmp_path / "a.yaml")
        ref = ObjectRef("agents", "polite", "default")

        async def ask(**body: object) -> dict[str, object]:
            [answer] = [record async for record in k.client.connect(ref, "generate", body)]
            return dict(answer)

        assert (await ask(input="hi", context={"user": "Ann"}))["text"] == "Address Ann. hi"
        assert (await ask(messages=["hi"], context={"user": "Bob"}))["text"] == "Address Bob. hi"
        assert (await ask(input="hi"))["text"] == "Address everybody. hi"
        stopped = await ask(input="x" * 61)
        assert (stopped["finishReason"], stopped["text"]) == ("other", "")
        assert "length-limiter" in str(stopped["tripwire"])
        for body, says in (
            ({"input": {"a": 1}, "context": {}}, "goes with messages"),
            ({"input": "hi", "context": 3}, "must be an object"),
        ):
            with pytest.raises(BadRequest, match=says):
                await ask(**body)
