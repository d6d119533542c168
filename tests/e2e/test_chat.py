"""`kastra chat` on a terminal and against a server: Ctrl-C ends the answer and not the chat; approvals are asked there."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Server

MANIFESTS = r"""
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: mail}
spec:
  requireApproval: true
  python: {inline: "def mail(to: str) -> str:\n    return 'sent to ' + to"}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: talker}
spec:
  instructions: Talk.
  tools: [mail]
  model:
    provider: scripted
    parameters:
      chunkSize: 1
      chunkDelay: 20ms
      rules:
      - {when: 'input.text == "mail" && size(results) == 0', call: {tool: mail, arguments: {to: ann}}}
      - {when: size(results) > 0, reply: '${{ results[0] }}'}
      - when: input.text == "long"
        reply: 'one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty and so on and so on and so on and so on and so on and so on and so on and so on until the very END'
      - reply: 'roles: ${{ messages.map(m, m.role).join(",") }}'
"""


class Terminal:
    """`kastra chat` on a terminal of its own."""

    def __init__(self, folder: Path, *flags: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "KUBE"))}
        self._own, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kastra.cli.main", *flags, "chat", "talker"],
            cwd=folder, env={**kept, "XDG_CACHE_HOME": str(folder / "cache")}, stdin=other, stdout=other, stderr=other,
            start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def until(self, text: str, seconds: float = 20) -> str:
        """What is on the screen up to `text`; what comes after stays for the next."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self._own], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} never came: {self.seen!r}"
            try:
                self.seen += os.read(self._own, 65536).decode()
            except OSError:
                break
        before, found, self.seen = self.seen.partition(text)
        assert found, before
        return before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=10)
        os.close(self._own)


def kastra(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "KUBE"))}
    return subprocess.run(
        [sys.executable, "-m", "kastra.cli.main", *arguments],
        cwd=folder, env={**kept, "XDG_CACHE_HOME": str(folder / "cache")}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.fixture(params=["embedded", "remote"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    flags: tuple[str, ...] = ()
    if request.param == "remote":
        server: Server = request.getfixturevalue("server")
        flags = ("--kubeconfig", str(server.kubeconfig))
    (tmp_path / "kastra.toml").write_text("")
    (tmp_path / "talker.yaml").write_text(MANIFESTS)
    applied = kastra(tmp_path, *flags, "apply", "-f", "talker.yaml")
    assert applied.returncode == 0, applied.stderr
    made = Terminal(tmp_path, *flags)
    try:
        made.until("talking to agent/talker")
        made.until("> ")
        yield made
    finally:
        made.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
def test_ctrl_c_ends_the_answer_and_not_the_chat_and_approvals_are_asked_for(terminal: Terminal) -> None:
    terminal.type("long\n")
    terminal.until("two")
    terminal.process.send_signal(signal.SIGINT)
    assert "END" not in terminal.until("cancelled")
    terminal.until("> ")
    terminal.process.send_signal(signal.SIGINT)
    terminal.until("/quit or Ctrl-D ends the chat")
    terminal.type("hello\n")
    # What was cancelled isn't part of the conversation.
    terminal.until("roles: system,user\r\n")
    terminal.type("mail\n")
    terminal.until("approve? y, n, e (other arguments): ")
    terminal.type("y\n")
    terminal.until("sent to ann\r\n> ")
    terminal.type("hello\n")
    terminal.until("roles: system,user,assistant,user,assistant,tool,assistant,user\r\n")
    terminal.type("/quit\n")
    assert terminal.process.wait(timeout=20) == 0


def test_a_file_of_questions_is_answered_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "kastra.toml").write_text("")
    (tmp_path / "talker.yaml").write_text(MANIFESTS.replace("20ms", "0s"))
    assert kastra(tmp_path, "apply", "-f", "talker.yaml").returncode == 0
    (tmp_path / "questions").write_bytes(b"one\n\xff\xfe\ntwo")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "KUBE"))}
    with (tmp_path / "questions").open("rb") as questions:
        done = subprocess.run(
            [sys.executable, "-m", "kastra.cli.main", "chat", "talker"],
            cwd=tmp_path, env=kept, stdin=questions, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    roles = ["user" if index % 2 == 0 else "assistant" for index in range(5)]
    assert done.stdout.splitlines() == [f"roles: {','.join(['system', *roles[:count]])}" for count in (1, 3, 5)]
