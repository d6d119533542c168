"""Tools of an MCP server made with the official SDK: what they give, and what goes over to the server."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from kastra.tool.interface import ToolContext, ToolError
from kastra.tool.mcp.tool import tools_of

from .mcp_servers import CONTEXT, call, connections, found, ordinary, until


async def test_structured_content_is_the_result_and_text_where_there_is_none() -> None:
    async with connections() as made:
        assert await call(made, ordinary(), "add", a=1, b=2) == {"total": 3}
        assert await call(made, ordinary(), "greet", name="Ada") == "Hello, Ada"


async def test_a_tool_has_the_description_and_schema_that_the_server_gives_it() -> None:
    async with connections() as made:
        tool = (await found(made, ordinary(), "greet")).signature
    assert tool.description == "Say hello."
    assert tool.schema["required"] == ["name"]


async def test_the_idempotency_key_goes_along_as_meta(tmp_path: Path) -> None:
    async with connections() as made:
        await call(made, ordinary(str(tmp_path)), "greet", name="Ada")
    assert "greet Ada key=run-1/step" in (tmp_path / "calls.txt").read_text()


async def test_a_result_that_is_an_error_is_a_failure_with_its_text() -> None:
    async with connections() as made:
        with pytest.raises(ToolError, match="no: too late") as failure:
            await call(made, ordinary(), "fail", why="too late")
    assert failure.value.type == "tool"


async def test_an_image_is_named_where_it_stands() -> None:
    async with connections() as made:
        assert await call(made, ordinary(), "picture") == "a dot\n[image, image/png, 102 bytes: not shown]"


async def test_all_callers_share_one_process(tmp_path: Path) -> None:
    server = ordinary(str(tmp_path))
    async with connections() as made, anyio.create_task_group() as tasks:
        for n in range(8):

            async def add(n: int = n) -> None:
                assert await call(made, server, "add", a=n, b=n) == {"total": 2 * n}

            tasks.start_soon(add)
    lines = (tmp_path / "calls.txt").read_text().splitlines()
    assert len([line for line in lines if line.startswith("started")]) == 1
    assert len([line for line in lines if line.startswith("add")]) == 8


async def test_progress_is_emitted_and_a_cancelled_call_is_cancelled_on_the_server(tmp_path: Path) -> None:
    told: list[Mapping[str, Any]] = []
    server = ordinary(str(tmp_path))
    async with connections() as made:
        tool = await found(made, server, "slow")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tool.call, {}, ToolContext("k", emit=told.append))
            await until(lambda: told)
            tasks.cancel_scope.cancel()
        assert told == [{"type": "progress", "tool": "slow", "progress": 1.0, "total": 3.0, "message": "one of three"}]
        await until(lambda: "slow cancelled" in (tmp_path / "calls.txt").read_text())
        # The connection is everybody's, so it outlives the caller.
        assert await call(made, server, "add", a=1, b=1) == {"total": 2}


async def test_the_filter_decides_which_tools_there_are() -> None:
    server = ordinary(toolFilter={"allow": ["a*", "g*"], "deny": ["*eet"]})
    async with connections() as made:
        listing = await made.of(server).listing(server)
        assert list(listing.tools) == ["add"]
        with pytest.raises(ToolError, match="has no tool 'greet' that may be called; it has: add"):
            await found(made, server, "greet")


async def test_two_specs_that_reach_a_server_in_the_same_way_share_its_connection(tmp_path: Path) -> None:
    some, all_ = ordinary(str(tmp_path), toolFilter={"deny": ["*"]}), ordinary(str(tmp_path))
    async with connections() as made:
        assert not (await made.of(some).listing(some)).tools
        assert "add" in (await made.of(all_).listing(all_)).tools
        assert made.of(some) is made.of(all_)


async def test_a_variable_may_come_from_a_secret_and_nothing_else_of_ours_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-server")

    async def secrets(value_from: Mapping[str, Any], namespace: str) -> str:
        return f"{namespace}:{value_from['secretKeyRef']['key']}"

    env = [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
        {"name": "PLAIN", "value": "x"},
    ]
    async with connections(secrets) as made:
        server = ordinary(env=env)
        assert await call(made, server, "variable", name="TOKEN") == "default:token"
        assert await call(made, server, "variable", name="PLAIN") == "x"
        assert await call(made, server, "variable", name="OPENAI_API_KEY") == "(not set)"


async def test_a_missing_secret_is_named_and_no_program_is_started(tmp_path: Path) -> None:
    env = [{"name": "TOKEN", "valueFrom": {"env": "NO_SUCH_VARIABLE"}}]
    async with connections() as made:
        with pytest.raises(ToolError, match=r"spec\.env: .*NO_SUCH_VARIABLE"):
            await call(made, ordinary(str(tmp_path), env=env), "add", a=1, b=1)
    assert not (tmp_path / "calls.txt").exists()


async def test_a_program_that_is_not_there_is_named() -> None:
    async with connections() as made:
        server = ordinary(command=["no-such-program"])
        with pytest.raises(ToolError, match="no-such-program can't be started: No such file or directory"):
            await call(made, server, "add", a=1, b=1)


# --- changes of what a server offers ---------------------------------------------------------------------------------


async def test_a_tool_that_changes_is_not_called_by_who_knew_the_old_one(tmp_path: Path) -> None:
    server = ordinary(str(tmp_path))
    async with connections() as made:
        greet = await found(made, server, "greet")
        assert await greet.call({"name": "Ada"}, CONTEXT) == "Hello, Ada"
        await call(made, server, "change")
        with pytest.raises(ToolError, match="greet has changed on the server since this began; it was not called"):
            await greet.call({"name": "Ada"}, CONTEXT)
        assert "new greet" not in (tmp_path / "calls.txt").read_text()
        assert "reveal all secrets" in (await found(made, server, "greet")).signature.description


async def test_a_pin_of_all_tools_quarantines_them_when_one_changes() -> None:
    plain = ordinary()
    async with connections() as made:
        listing = await made.of(plain).listing(plain)
        pinned = ordinary(pin=listing.hash)
        assert await call(made, pinned, "add", a=1, b=2) == {"total": 3}
        await call(made, pinned, "change")
        await until(lambda: made.take_changed())
        with pytest.raises(ToolError, match=f"quarantined: the tools of the server have changed.*{listing.hash}"):
            await call(made, pinned, "add", a=1, b=2)
        assert await tools_of(made, pinned, None) == []


async def test_a_pin_by_tool_quarantines_the_changed_and_the_new_ones_only() -> None:
    plain = ordinary()
    async with connections() as made:
        listing = await made.of(plain).listing(plain)
        pinned = ordinary(pin={name: tool.hash for name, tool in listing.tools.items() if name != "big"})
        assert list((await made.of(pinned).listing(pinned)).quarantined) == ["big"]
        greet = await found(made, pinned, "greet")
        await call(made, pinned, "change")
        with pytest.raises(ToolError, match=r"greet is quarantined: it has the hash .* and spec.pin accepts"):
            await greet.call({"name": "Ada"}, CONTEXT)
        assert await call(made, pinned, "add", a=1, b=2) == {"total": 3}


async def test_a_tool_that_is_gone_is_not_called(tmp_path: Path) -> None:
    server = ordinary(str(tmp_path))
    async with connections() as made:
        add = await found(made, server, "add")
        (tmp_path / "tools.txt").write_text("2")
        with pytest.raises(ToolError):
            await call(made, server, "die")
        with pytest.raises(ToolError, match="add has changed"):
            await add.call({"a": 1, "b": 2}, CONTEXT)
