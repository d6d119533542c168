"""A `kastra` and a `python` that begin at once: for tests that give commands as a user does and don't ask how a process starts.

Starting Python and importing takes most of the time of a command (0.3 s of 0.4 s for `kastra get`). So a server that has everything
imported forks for each; what is run is the same code with its own process, files, environment and signals. Tests of starting itself
(`test_import_budget`, `test_wheel`, `test_plugins` of what is imported), of `kill -9` and of process ids use the real programs.
Read next: `warm_client.py`, which is what the programs here call.
"""

import atexit
import os
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


@cache
def programs() -> Path:
    """A folder for the PATH, the same one for as long as this process of pytest lives."""
    real = Path(sys.executable).parent
    if sys.platform != "linux":  # elsewhere a fork of what uses the system's own libraries may not be safe
        return real
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "PYTEST_"))}
    for name in ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
        kept.pop(name, None)
    address = folder / "socket"
    server = subprocess.Popen(
        [sys.executable, str(HERE / "warm_server.py"), str(address)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=kept, cwd=folder, process_group=0,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(server.communicate)
    served = [f"{key}={value}" for key, value in kept.items() if key.startswith(("PYTHON", "LC_", "LANG"))]
    for name in ("kastra", "python"):
        call = [sys.executable, "-IS", str(HERE / "warm_client.py"), str(address), *served, "--", str(real / name)]
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(call)} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def environment(**more: str) -> dict[str, str]:
    """Of a user who has just installed Kastra, with these programs on the PATH, and `more`.

    Plugins of pytest that development alone brings stay out of what tests start: they take a second.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "PYTEST_"))}
    path = os.pathsep.join((str(programs()), str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**kept, "PATH": path, "PYTEST_ADDOPTS": "-p no:schemathesis -p no:langsmith_plugin", **more}


def kastra() -> str:
    """The command line."""
    return str(programs() / "kastra")


def python() -> str:
    """Python, which is warm when it is given a file to run."""
    return str(programs() / "python")
