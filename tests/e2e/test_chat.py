"""`kastra chat` on a terminal and against a server: Ctrl-C ends the answer and not the chat; approvals are asked there."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Server
from tests.support import warm
from tests.support.terminal import Terminal, control, environment

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
        reply: 'one two LONG until the very END'
      - reply: 'roles: ${{ messages.map(m, m.role).join(",") }}'
""".replace("LONG", "and so on " * 100)


def kastra(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [warm.kastra(), *arguments],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60, check=False,
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
    made = Terminal(tmp_path, *flags, "chat", "talker")
    try:
        made.until("talking to agent/talker; /help says what else there is\n>")
        yield made
    finally:
        made.close()


def test_ctrl_c_ends_the_answer_and_not_the_chat_and_approvals_are_asked_for(terminal: Terminal) -> None:
    terminal.type("long\r")
    # Who follows a moment after the Run began may miss its first words.
    terminal.shows("and so on and so on")
    terminal.type(control("c"))
    assert "END" not in terminal.until("\ncancelled\n>")
    terminal.type(control("c"))
    terminal.until("\n/quit or Ctrl-D ends the chat\n>")
    # What was cancelled isn't part of the conversation.
    terminal.says("hello", "\nroles: system,user\n>")
    terminal.says("mail", "approve? y, n, e (other arguments):")
    terminal.says("y", "\nsent to ann\n>")
    terminal.says("hello", "\nroles: system,user,assistant,user,assistant,tool,assistant,user\n>")
    terminal.says("/quit", "/quit")
    assert terminal.ended() == 0


def test_a_decision_that_is_made_elsewhere_ends_the_question(server: Server, tmp_path: Path) -> None:
    flags = ("--kubeconfig", str(server.kubeconfig))
    (tmp_path / "talker.yaml").write_text(MANIFESTS.replace("20ms", "0s"))
    assert kastra(tmp_path, *flags, "apply", "-f", "talker.yaml").returncode == 0
    terminal = Terminal(tmp_path, *flags, "chat", "talker")
    try:
        terminal.until("else there is\n>")
        terminal.says("mail", "approve? y, n, e (other arguments):")
        terminal.type("half of an ans")
        pending = kastra(tmp_path, *flags, "get", "approvals", "--field-selector", "status.phase=Pending", "-o", "name")
        assert kastra(tmp_path, *flags, "approve", pending.stdout.strip().rpartition("/")[2]).returncode == 0
        terminal.shows("\n  approved by ")
        terminal.until("\nsent to ann\n>")
    finally:
        terminal.close()


def test_a_terminal_that_knows_no_keys_does_without_them(tmp_path: Path) -> None:
    (tmp_path / "talker.yaml").write_text(MANIFESTS.replace("20ms", "0s"))
    assert kastra(tmp_path, "apply", "-f", "talker.yaml").returncode == 0
    terminal = Terminal(tmp_path, "chat", "talker", env={"TERM": "dumb"})
    try:
        terminal.until("else there is\n>")
        terminal.says("one\\\rtwo", " roles: system,user\n>")
        terminal.process.send_signal(signal.SIGINT)
        terminal.until("\n/quit or Ctrl-D ends the chat\n>")
        terminal.says("mail", "approve? y, n, e (other arguments):")
        terminal.says("n no", "\n>")
        terminal.type(control("d"))
        assert terminal.ended() == 0
        assert not (tmp_path / "state").exists()
    finally:
        terminal.close()


def test_a_file_of_questions_is_answered_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "kastra.toml").write_text("")
    (tmp_path / "talker.yaml").write_text(MANIFESTS.replace("20ms", "0s"))
    assert kastra(tmp_path, "apply", "-f", "talker.yaml").returncode == 0
    (tmp_path / "questions").write_bytes(b"one\n\xff\xfe\ntwo")
    with (tmp_path / "questions").open("rb") as questions:
        done = subprocess.run(
            [warm.kastra(), "chat", "talker"],
            cwd=tmp_path, env=environment(tmp_path), stdin=questions, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    roles = ["user" if index % 2 == 0 else "assistant" for index in range(5)]
    assert done.stdout.splitlines() == [f"roles: {','.join(['system', *roles[:count]])}" for count in (1, 3, 5)]
