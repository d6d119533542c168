"""A Python tool with isolation runs apart: whatever it does to its process, the call fails and the server goes on."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.netguard import Guard, Policy
from kastra.testing.clock import VirtualClock
from kastra.tool.bodies import body_of
from kastra.tool.declared import DeclaredTool, declared
from kastra.tool.interface import ToolContext, ToolError, ToolServices

CONTEXT = ToolContext("run-1/charge", attempt=2, run="run-1")
MODULE = '''
import os, sys, time
from kastra.tool.interface import ToolContext, ToolError

def order(item: str, context: ToolContext, count: int = 1) -> dict:
    """Order something."""
    print("noise that is no result")
    sys.stdout.write("more noise")
    return {"item": item, "count": count, "key": context.idempotency_key, "attempt": context.attempt, "pid": os.getpid()}

async def refuse(why: str) -> None:
    raise ToolError(why, type="rate_limit", retry_after=3, details={"status": 429})

def crash(how: str) -> str:
    if how == "exit":
        os._exit(3)
    if how == "abort":
        os.abort()
    if how == "memory":
        return str(len(bytearray(1 << 40)))
    if how == "large":
        return "x" * 10_000_000
    if how == "object":
        return object()
    raise RuntimeError("canary " + how)

def sleep(path: str) -> str:
    """Never ends by itself, and starts something that doesn't, either."""
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(path, "w").write(f"{os.getpid()} {child.pid}")
    while True:
        time.sleep(1)

def environment(name: str) -> str:
    return os.environ.get(name, "")
'''


class NoSecrets:
    """Has none."""

    async def __call__(self, value_from: Any) -> str:
        raise LookupError("there are none")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[ToolServices]:
    (tmp_path / "isolated_tools.py").write_text(MODULE)
    async with Guard(Policy()) as guard:
        yield ToolServices(guard, VirtualClock(), NoSecrets(), tmp_path)


async def made(services: ToolServices, function: str, timeout: str = "", **isolation: Any) -> DeclaredTool:
    spec = {
        "python": {"entrypoint": f"isolated_tools:{function}"},
        "isolation": {"type": "process", **isolation},
        **({"timeout": timeout} if timeout else {}),
    }
    return declared("subject", spec, await body_of("subject", spec, services), services)


async def test_the_function_runs_elsewhere_and_what_it_prints_is_no_result(services: ToolServices) -> None:
    tool = await made(services, "order")
    assert (tool.description, tool.schema["required"]) == ("Order something.", ["item"])
    result = await tool.call({"item": "茶"}, CONTEXT)
    assert (result["item"], result["count"], result["key"], result["attempt"]) == ("茶", 1, "run-1/charge", 2)
    assert result["pid"] != os.getpid()
    assert "isolated_tools" not in sys.modules
    with pytest.raises(ToolError, match="count"):
        await tool.call({"item": "tea", "count": "many"}, CONTEXT)


async def test_errors_come_back_as_they_were_raised(services: ToolServices) -> None:
    with pytest.raises(ToolError) as caught:
        await (await made(services, "refuse")).call({"why": "slow down"}, CONTEXT)
    error = caught.value
    assert (error.message, error.type, error.retry_after, error.details) == (
        "slow down",
        "rate_limit",
        3,
        {"status": 429},
    )


BREAKS = {
    "exit": "ended with exit code 3",
    "abort": "ended with signal 6",
    "memory": "MemoryError",
    "large": "returned more than",
    "object": "which is no JSON value",
    "raise": "RuntimeError: canary raise",
}


async def test_a_function_that_breaks_its_process_fails_its_call(services: ToolServices) -> None:
    tool = await made(services, "crash", memory="1Gi")
    for how, words in BREAKS.items():
        with pytest.raises(ToolError, match=words):
            await tool.call({"how": how}, CONTEXT)


async def test_a_function_that_does_not_end_is_ended_with_all_it_started(
    services: ToolServices, tmp_path: Path
) -> None:
    import anyio

    clock = services.clock
    assert isinstance(clock, VirtualClock)
    tool, note = await made(services, "sleep", timeout="20s"), tmp_path / "pids"
    failures: list[ToolError] = []

    async def call() -> None:
        with pytest.raises(ToolError, match="took longer than 20s") as caught:
            await tool.call({"path": str(note)}, CONTEXT)
        failures.append(caught.value)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            while not note.exists() or len(note.read_text().split()) < 2:
                await anyio.sleep(0.01)
            await clock.advance(21)
        while any(_alive(int(pid)) for pid in note.read_text().split()):
            await anyio.sleep(0.01)
    assert failures[0].type == "timeout"


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_nothing_of_the_servers_environment_is_seen_but_what_is_passed_on(
    services: ToolServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-4711")
    monkeypatch.setenv("REGION", "eu")
    tool = await made(services, "environment", passEnv=["REGION"])
    assert await tool.call({"name": "REGION"}, CONTEXT) == "eu"
    assert await tool.call({"name": "OPENAI_API_KEY"}, CONTEXT) == ""
    assert await tool.call({"name": "KASTRA_IDEMPOTENCY_KEY"}, CONTEXT) == "run-1/charge"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"entrypoint": "isolated_none:f"}, "there is no module 'isolated_none'"),
        ({"entrypoint": "isolated_tools:none"}, "has no function 'none'"),
        ({"inline": "def f(:"}, "SyntaxError"),
        ({"inline": "import os\nos._exit(9)"}, "ended with exit code 9"),
        ({"inline": "a = 1"}, "exactly one function"),
        ({"plugin": "none-such"}, "no installed package offers"),
    ],
)  # fmt: skip
async def test_a_function_that_can_not_be_had_is_an_error_of_the_manifest(
    services: ToolServices, body: dict[str, str], words: str
) -> None:
    spec = {"python": body, "isolation": {"type": "process"}}
    with pytest.raises(ValueError, match=words):
        await body_of("subject", spec, services)


async def test_a_number_that_json_does_not_hold_fails_the_call_with_the_reason(services: ToolServices) -> None:
    spec = {"python": {"inline": "def f() -> int:\n    return 10**40\n"}, "isolation": {"type": "process"}}
    tool = await body_of("subject", spec, services)
    with pytest.raises(
        ToolError, match="subject returned what is no JSON value: Integer exceeds 64-bit range"
    ) as failed:
        await tool.call({}, CONTEXT)
    assert not failed.value.retryable


async def test_a_saved_change_is_what_the_next_call_runs(services: ToolServices, tmp_path: Path) -> None:
    spec = {"python": {"entrypoint": "isolated_more:f"}, "isolation": {"type": "process"}}
    path = tmp_path / "isolated_more.py"
    path.write_text("def f() -> int:\n    return 1\n")
    assert await (await body_of("subject", spec, services)).call({}, CONTEXT) == 1
    path.write_text("def f(a: int) -> int:\n    return 10 + a\n")
    os.utime(path, ns=(1, 1))
    tool = declared("subject", spec, await body_of("subject", spec, services), services)
    assert await tool.call({"a": 5}, CONTEXT) == 15
