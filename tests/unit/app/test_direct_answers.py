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
