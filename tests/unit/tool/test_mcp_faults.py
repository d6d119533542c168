"""MCP servers that hang, die, lie, flood and cling: each call ends with an error that says why, and nothing is left running."""

import resource
import time
from pathlib import Path

import anyio
import pytest

from kastra.telemetry import register_secret
from kastra.testing.clock import VirtualClock
from kastra.tool.interface import ToolError
from kastra.tool.mcp.connection import LONGEST_PAUSE
from kastra.tool.mcp.errors import ServerUnavailable

from .mcp_servers import CONTEXT, alive, call, connections, found, raw, until


async def test_a_server_that_hangs_in_a_call_is_given_up_at_its_timeout() -> None:
    async with connections() as made:
        server = raw("hang", timeout="1s")
        with pytest.raises(ToolError, match="act: no answer within 1s") as failure:
            await call(made, server, "act")
        assert failure.value.type == "timeout"
        # Only the call is given up: the server may have others to answer.
        assert made.of(server).problem is None


async def test_a_server_that_hangs_in_the_handshake_is_given_up_too() -> None:
    async with connections() as made:
        server = raw("hang-handshake", timeout="500ms")
        with pytest.raises(ServerUnavailable) as failure:
            await call(made, server, "act")
        assert failure.value.reason == "TimedOut"


async def test_a_caller_that_goes_away_leaves_the_handshake_to_the_others() -> None:
    async with connections() as made:
        server = raw("ok")
        with anyio.CancelScope() as first:
            first.cancel()
            await call(made, server, "act")
        assert await call(made, server, "act") == "ok"


async def test_a_server_that_dies_in_a_call_is_told_of_with_its_last_words_but_not_its_secrets() -> None:
    register_secret("sk-very-secret")
    async with connections() as made:
        server = raw("die")
        with pytest.raises(ToolError, match="whether act had an effect is not known") as failure:
            await call(made, server, "act")
        assert "exit code 7; it said: out of cheese" in failure.value.message
        assert "sk-very-secret" not in failure.value.message
        problem = made.of(server).problem
        assert problem is not None
        assert "exit code 7" in problem.message


async def test_a_server_that_died_is_started_anew_at_once_and_after_growing_pauses_when_that_goes_on() -> None:
    clock = VirtualClock()
    async with connections(clock=clock) as made:
        server = raw("die")
        connection = made.of(server)
        pauses = []
        for _ in range(9):
            with pytest.raises(ToolError, match="exit code 7"):
                await call(made, server, "act")
            pauses.append(connection.pause)
            await clock.advance(connection.pause)
        assert pauses == [0, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]


async def test_during_a_pause_a_call_fails_at_once_and_says_when_to_try_again() -> None:
    async with connections(clock=VirtualClock()) as made:
        server = raw("x", command=["no-such-program"])
        for _ in range(2):
            with pytest.raises(ServerUnavailable) as failure:
                await call(made, server, "act")
        assert failure.value.reason == "ProgramNotFound"
        assert failure.value.retry_after == 1.0
        assert "the next attempt is in 1s" in failure.value.message


@pytest.mark.parametrize("behaviour", ["garbage", "stderr-flood"])
async def test_noise_around_the_answers_does_no_harm(behaviour: str) -> None:
    async with connections() as made:
        assert await call(made, raw(behaviour), "act") == "ok"


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("garbage-flood", "more than 1000 lines that are no JSON-RPC messages"),
        ("ten-megabytes", "a message of more than 4194304 bytes"),
        ("endless-line", "a message of more than 4194304 bytes"),
    ],
)
async def test_a_flood_ends_the_connection_and_costs_little_memory(behaviour: str, why: str) -> None:
    async with connections() as made:
        server = raw(behaviour)
        tool = await found(made, server, "act")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ToolError, match=why):
            await tool.call({}, CONTEXT)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("two-megabytes", r"its result has 2000002 bytes, and 1048576 are the most"),
        ("bad-result", "the server's answer is no tool result"),
        ("large-number", "its result is no JSON value"),
    ],
)
async def test_a_result_that_is_none_fails_its_call_only(behaviour: str, why: str) -> None:
    async with connections() as made:
        server = raw(behaviour)
        with pytest.raises(ToolError, match=why):
            await call(made, server, "act")
        assert made.of(server).problem is None


async def test_a_pattern_of_the_server_that_never_ends_is_matched_at_once() -> None:
    async with connections() as made:
        began = time.process_time()
        with pytest.raises(ToolError, match="result of act: x"):
            await call(made, raw("evil-pattern"), "act")
        assert time.process_time() - began < 2


async def test_tools_whose_names_or_schemas_make_no_sense_are_left_out_and_named() -> None:
    async with connections() as made:
        server = raw("bad-schemas")
        listing = await made.of(server).listing(server)
        assert set(listing.tools) <= {"act", "loop"}
        why = "\n".join(listing.unusable)
        for part in (
            "'act': it is there twice",
            "'huge': its schema has more",
            "'wrong'",
            "'number'",
            "bell",
            "'lookahead'",
            "'doubling': inputSchema: its references multiply",
        ):
            assert part in why


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("too-many", "more than 500 tools"),
        ("endless-pages", "more than 100 pages"),
        ("bad-list", "its list of tools isn't one"),
        ("refuse-list", r"it refused: not for the holder of \[redacted\]"),
    ],
)
async def test_a_list_of_tools_that_is_none_is_refused(behaviour: str, why: str) -> None:
    register_secret("sk-very-secret")
    async with connections() as made:
        server = raw(behaviour)
        with pytest.raises(ServerUnavailable, match=why) as failure:
            await made.of(server).listing(server)
        assert failure.value.reason == "BadAnswer"


@pytest.mark.parametrize("behaviour", ["child", "stubborn"])
async def test_nothing_of_a_server_is_left_running(behaviour: str, tmp_path: Path) -> None:
    async with connections() as made:
        assert await call(made, raw(behaviour, str(tmp_path)), "act") == "ok"
        pids = [int(pid) for pid in (tmp_path / "pids.txt").read_text().split()]
        assert all(alive(pid) for pid in pids)
    await until(lambda: not any(alive(pid) for pid in pids))


async def test_a_server_whose_spec_changes_gets_another_connection_and_keeps_the_calls_of_the_old(
    tmp_path: Path,
) -> None:
    async with connections() as made:
        old, new = raw("child", str(tmp_path)), raw("ok")
        assert await call(made, old, "act") == "ok"
        server, child = (int(pid) for pid in (tmp_path / "pids.txt").read_text().split())
        made.keep(new)
        assert await call(made, new, "act") == "ok"
        await until(lambda: not alive(server) and not alive(child))


async def test_no_connection_is_made_before_somebody_needs_one(tmp_path: Path) -> None:
    async with connections() as made:
        made.of(raw("child", str(tmp_path)))
        await anyio.lowlevel.checkpoint()
    assert not (tmp_path / "pids.txt").exists()
