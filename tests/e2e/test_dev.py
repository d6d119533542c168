"""`kastra dev` as one uses it: a process that is left running while files are edited."""

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import warm
from tests.unit.app.developing import BOX, BOXES, CONTROLLER

TOOLS = '''\
import time
from pathlib import Path

HERE = Path(__file__).parent


def wait() -> str:
    """Returns when it may."""
    (HERE / "begun.txt").touch()
    while not (HERE / "go.txt").exists():
        time.sleep(0.02)
    return "old"
'''
TOOL = """\
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: wait}
spec: {python: {entrypoint: "dev_tools:wait"}, timeout: 1m}
"""
LIMIT = 30.0


class Dev:
    """A running `kastra dev` and what it has printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [warm.kastra(), "dev", "--listen", "127.0.0.1:0"],
            cwd=folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.printed: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def environment(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "KUBE", "PYTEST_"))}

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def says(self, *words: str) -> str:
        """The next line that has all the words."""
        ends = time.monotonic() + LIMIT
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{words} was not printed:\n{''.join(self.printed)}") from None
            self.printed.append(line)
            if all(word in line for word in words):
                return line

    def write(self, name: str, text: str) -> None:
        """Save a file."""
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text)

    def kastra(self, *arguments: str) -> str:
        """The output of a command in the project."""
        done = subprocess.run(
            [warm.kastra(), *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def stop(self) -> int:
        """Press Ctrl-C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    (tmp_path / ".kastra").mkdir(mode=0o700)
    for name, text in (
        ("crds/boxes.yaml", BOXES),
        ("manifests/box.yaml", BOX.format(name="b", size=3)),
        ("manifests/wait.yaml", TOOL),
        ("controllers/box.py", CONTROLLER.replace("MESSAGE", "holds")),
        ("dev_tools.py", TOOLS),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    running = Dev(tmp_path)
    try:
        running.says("serving https://127.0.0.1:")
        running.says("box/b", "created", "Ready")
        running.says("ready", "Box 1/1", "Tool 1/1")
        yield running
    finally:
        code = running.stop()
    assert code == 0, "".join(running.printed)


def message(dev: Dev) -> str:
    return dev.kastra("get", "box", "b", "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].message}')


@pytest.mark.timeout(120)
def test_what_is_saved_is_in_force_and_what_is_broken_is_shown_and_changes_nothing(dev: Dev) -> None:
    dev.write("manifests/box.yaml", BOX.format(name="b", size=4))
    dev.says("box/b", "configured", "Ready")
    assert message(dev) == "holds 4"

    dev.write("manifests/box.yaml", BOX.format(name="b", size="many"))
    dev.says("manifests/box.yaml:4:8 error spec.size: ")
    dev.says("1 error")
    assert message(dev) == "holds 4"
    dev.write("manifests/box.yaml", BOX.format(name="b", size=5))
    dev.says("box/b", "configured", "Ready")
    dev.says("manifests/box.yaml", "mended")

    dev.write("controllers/box.py", CONTROLLER.replace("MESSAGE", "takes") + "1 / 0\n")
    dev.says("controllers/box.py:26:1 error ZeroDivisionError")
    assert message(dev) == "holds 5"
    dev.write("controllers/box.py", CONTROLLER.replace("MESSAGE", "takes"))
    dev.says("controllers/box.py", "controller box loaded")
    assert message(dev) == "takes 5"

    (dev.folder / "manifests" / "box.yaml").unlink()
    dev.says("box/b", "deleted")
    assert dev.kastra("get", "boxes") == ""


@pytest.mark.timeout(120)
def test_a_run_under_way_ends_with_the_code_it_began_with_and_the_next_has_the_new(dev: Dev) -> None:
    run = dev.kastra("run", "tool/wait", "--detach").split()[0]
    ends = time.monotonic() + LIMIT
    while not (dev.folder / "begun.txt").exists():
        assert time.monotonic() < ends
        time.sleep(0.02)
    dev.write("dev_tools.py", TOOLS.replace('"old"', '"new"'))
    dev.says("dev_tools.py", "module loaded")
    dev.write("manifests/box.yaml", BOX.format(name="b", size=9))
    dev.says("box/b", "configured")
    dev.write("go.txt", "")
    dev.says(run.rpartition("/")[2], "Succeeded")
    assert dev.kastra("get", "run", run.rpartition("/")[2], "-o", "jsonpath={.status.output}") == "old"
    assert dev.kastra("run", "tool/wait", "--quiet", "--input", "{}") == "new"


def test_what_lies_outside_the_project_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "project" / ".kastra").mkdir(parents=True)
    (tmp_path / "a.yaml").write_text(BOXES)
    done = subprocess.run(
        [warm.kastra(), "dev", "../a.yaml"],
        cwd=tmp_path / "project", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, "lies outside the project" in done.stderr) == (2, True)
