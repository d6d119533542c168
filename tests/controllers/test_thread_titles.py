"""Titles of threads that a model makes: after the first answer, beside everything else, once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.agent.titles import MOST, title_of
from kastra.app.running import create_run
from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane
from tests.controllers.test_thread import ECHO, agent, apply, ask, thread

USED = {"inputTokens": 30, "outputTokens": 4}
TITLED = {"when": 'messages[0].content.startsWith("Give the")', "reply": '"A trip in June"\nor so', "usage": USED}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
        yield plane


async def title(env: ControlPlane, name: str = "t") -> Any:
    await env.advance(1)
    return (await env.get("Thread", name)).spec.get("title")


def titler(*rules: dict[str, Any], **memory: Any) -> dict[str, Any]:
    return agent(rules=[*rules, *ECHO], memory={"generateTitle": True, **memory})


async def test_a_thread_gets_a_title_after_the_first_answer_and_its_usage_is_counted(env: ControlPlane) -> None:
    await apply(env, titler(TITLED))
    assert await ask(env, "one") == "user:one"
    assert await title(env) == "A trip in June"
    assert (await env.get("Thread", "t")).status["usage"] == {**USED, "calls": 1}
    await ask(env, "two")
    await env.advance(1)
    assert (await env.get("Thread", "t")).status["usage"]["calls"] == 1, "one is enough"


async def test_in_a_run_too_whose_usage_is_its_own(env: ControlPlane) -> None:
    await apply(env, titler(TITLED))
    result = await env.result(await create_run(env.client, "agent/a", "one", spec={"threadRef": "t"}))
    assert result.usage["calls"] == 1
    assert await title(env) == "A trip in June"


async def test_a_title_that_takes_long_holds_up_no_answer(env: ControlPlane) -> None:
    slow = {"provider": "scripted", "parameters": {"delay": "30s", "rules": [{"reply": "Slow"}]}}
    await apply(env, agent(memory={"generateTitle": {"model": slow}}))
    assert await ask(env, "one") == "user:one"
    result = await env.result(await create_run(env.client, "agent/a", "two", spec={"threadRef": "t"}))
    assert result.phase == "Succeeded"
    assert await title(env) is None
    await env.advance(31)
    assert await title(env) == "Slow"


async def test_a_title_that_cannot_be_made_is_made_after_the_next_answer(env: ControlPlane) -> None:
    fails = {**TITLED, "times": 1, "error": {"kind": "unavailable"}}
    del fails["reply"], fails["usage"]
    await apply(env, titler(fails, TITLED))
    assert await ask(env, "one") == "user:one"
    assert await title(env) is None
    await ask(env, "two")
    assert await title(env) == "A trip in June"


async def test_a_title_that_people_gave_stays(env: ControlPlane) -> None:
    await apply(env, titler(TITLED), thread("t", title="Mine"))
    await ask(env, "one")
    assert await title(env) == "Mine"
    assert "usage" not in (await env.get("Thread", "t")).status


async def test_it_may_wait_for_more_messages_and_be_told_otherwise(env: ControlPlane) -> None:
    rule = {"when": 'messages[0].content == "In French."', "reply": "Un voyage"}
    await apply(env, titler(rule, generateTitle={"minMessages": 3, "instructions": "In French."}))
    await ask(env, "one")
    assert await title(env) is None
    await ask(env, "two")
    assert await title(env) == "Un voyage"


@pytest.mark.parametrize("memory", [{"generateTitle": False}, {"readOnly": True}], ids=["off", "read-only"])
async def test_none_is_made_where_none_is_wanted(env: ControlPlane, memory: dict[str, Any]) -> None:
    await apply(env, titler(TITLED, **memory))
    await ask(env, "one")
    assert await title(env) is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"minMessages": 0}, "minMessages"),
        ({"model": "opnai/x"}, r"spec\.memory\.generateTitle\.model.*opnai"),
        ({"style": "short"}, "style"),
    ],
    ids=["none", "model", "field"],
)
async def test_what_makes_no_sense_is_refused(env: ControlPlane, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ApplyFailed, match=says):
        await env.apply(agent(memory={"generateTitle": given}))


def test_a_title_is_one_short_line_without_control_characters() -> None:
    assert title_of('\n  **"A \x1b[2Jtitle"**\nmore') == "A [2Jtitle"
    assert len(title_of("word " * 100)) <= MOST
    with pytest.raises(ValueError, match="empty"):
        title_of(' \n""')
