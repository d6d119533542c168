"""The programs that begin at once, which tests use for commands, do what the real ones do."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import warm
from tests.unit.tool.mcp_servers import alive, until


def outcome(command: list[str], folder: Path, **more: str) -> tuple[int, str, str]:
    """Its exit code, what it prints, and the last line of what it says of errors."""
    done = subprocess.run(
        command, cwd=folder, env=warm.environment(**more), input="in", capture_output=True, text=True, timeout=50
    )
    return done.returncode, done.stdout, (done.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("import os, sys; print(sys.argv, os.getcwd(), os.environ['A'], sys.stdin.read(), sys.path[0], __name__)", 0),
        ("import sys; print('half', end=''); sys.exit('sorry')", 1),
        ("raise SystemExit(7)", 7),
        ("1 / 0", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import atexit; atexit.register(print, 'last')", 0),
        ("import threading, time; threading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()", 0),
        ("import helper; print(helper.__file__)", 0),
    ],
    ids=["surroundings", "message", "code", "exception", "signal", "at-exit", "thread", "path"],
)
def test_a_script_ends_as_with_the_real_python(tmp_path: Path, source: str, code: int) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "helper.py").write_text("")
    (tmp_path / "script.py").write_text(source)
    more = {"A": "b c", "PYTHONPATH": "site"}
    found, real = (
        outcome([program, "script.py", "x", ""], tmp_path, **more) for program in (warm.python(), sys.executable)
    )
    assert found == real
    assert found[0] == code


@pytest.mark.parametrize(
    "arguments", [["version"], ["get", "nothing"], ["--nonsense"], ["apply", "-f", "-"]], ids=" ".join
)
def test_a_verb_ends_as_with_the_real_kastra(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / ".kastra").mkdir(mode=0o700)
    assert outcome([warm.kastra(), *arguments], tmp_path) == outcome(
        [sys.executable, "-m", "kastra.cli.main", *arguments], tmp_path
    )


WAITS = """
import os, signal, sys, time
def end(number, frame):
    print(signal.Signals(number).name, flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, end)
print(os.getpid(), flush=True)
time.sleep(60)
"""


async def test_a_signal_reaches_what_runs_and_a_killed_program_takes_it_along(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    for number, code, last in ((signal.SIGTERM, 5, "SIGTERM\n"), (signal.SIGKILL, -9, "")):
        with subprocess.Popen([warm.python(), "waits.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            process.send_signal(number)
            assert process.stdout.read() == last
            assert process.wait(20) == code
        await until(lambda pid=pid: not alive(pid))  # type: ignore[misc]


def test_what_a_fork_can_not_be_like_is_left_to_the_real_program(tmp_path: Path) -> None:
    assert outcome([warm.python(), "-c", "import sys; print(sys.argv)"], tmp_path)[:2] == (0, "['-c']\n")
    (tmp_path / "flags.py").write_text("import sys; print(sys.flags.utf8_mode, sys.flags.hash_randomization)")
    assert outcome([warm.python(), "flags.py"], tmp_path, PYTHONHASHSEED="0")[1].split()[1] == "0"
