"""What a chat does when the server doesn't give what it is asked for: the question may suffer, the chat goes on."""

from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kastra.api.errors import Forbidden
from kastra.api.meta import ObjectRef
from kastra.app.operations import Operations
from kastra.cli.chat_input import Interrupted, PlainInput
from kastra.cli.conversing import Talk
from kastra.cli.lines_in import LinesIn
from kastra.client.interface import Client
from kastra.client.transport import Unreachable
from kastra.testing import ControlPlane

AGENT = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Agent",
    "metadata": {"name": "helper", "namespace": "default"},
    "spec": {
        "model": {
            "provider": "scripted",
            "parameters": {"rules": [{"reply": '${{ messages.map(m, m.content).join("|") }}'}]},
        }
    },
}


MAIL = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Tool",
    "metadata": {"name": "mail", "namespace": "default"},
    "spec": {"requireApproval": True, "python": {"inline": "def mail() -> str:\n    return 'sent'"}},
}
POSTER = {
    **AGENT,
    "metadata": {"name": "helper", "namespace": "default"},
    "spec": {
        "tools": ["mail"],
        "model": {"provider": "scripted", "parameters": {"rules": [{"call": {"tool": "mail", "arguments": {}}}]}},
    },
}


class Leaving(PlainInput):
    """Somebody who types Ctrl-C when asked for a decision."""

    async def answer(self, prompt: str, given: str = "") -> str | None:
        raise Interrupted(typed=False)


class Refusing:
    """A client whose server refuses one subresource."""

    def __init__(self, client: Client, subresource: str, error: Exception) -> None:
        self._client, self._subresource, self._error = client, subresource, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def connect(self, ref: ObjectRef, subresource: str, *given: Any) -> AsyncIterator[Mapping[str, Any]]:
        if subresource == self._subresource:
            raise self._error
        async for record in self._client.connect(ref, subresource, *given):
            yield record


@pytest.mark.parametrize("error", [Unreachable("no server"), Forbidden("no right")], ids=["unreachable", "forbidden"])
async def test_an_answer_whose_history_cannot_be_read_is_remembered_by_itself(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ControlPlane() as env:
        await env.apply(AGENT)
        await env.settle()
        client = Refusing(env.client, "history", error)
        source = PlainInput(cast("LinesIn", None), person=False)
        talk = Talk(cast("Operations", SimpleNamespace(client=client)), "helper", "default", None, source)
        assert await talk.ask("one")
        assert await talk.ask("two")
    said = capsys.readouterr()
    assert said.out == "one\none|one|two\n"
    assert said.err.splitlines() == [f"what tools gave isn't remembered: {error}"] * 2
    assert talk.failures == 0


async def test_an_answer_is_left_also_where_the_server_cannot_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    async with ControlPlane() as env:
        await env.apply(MAIL, POSTER)
        await env.settle()
        client = Refusing(env.client, "cancel", Unreachable("no server"))
        source = Leaving(cast("LinesIn", None), person=False)
        talk = Talk(cast("Operations", SimpleNamespace(client=client)), "helper", "default", None, source)
        assert await talk.ask("mail")
    assert capsys.readouterr().err.splitlines()[-1] == "cancelled"
