"""Lines of `kastra chat` on a terminal: kept, searched, completed, of several lines; arguments of a call that are edited."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from tests.support import warm
from tests.support.terminal import LEFT, UP, Terminal, control, environment, pasted

PROJECT = r"""
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: send-mail}
spec:
  requireApproval: true
  python: {inline: "def mail(to: str) -> str:\n    return 'sent to ' + to"}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: poster}
spec:
  tools: [send-mail]
  model:
    provider: scripted
    parameters:
      rules:
      - {when: 'input.text == "mail" && size(results) == 0', call: {tool: send-mail, arguments: {to: ann}}}
      - {when: size(results) > 0, reply: '${{ type(results[0]) == string ? results[0] : "not sent" }}'}
      - {when: 'input.text == "fail"', error: {kind: refused, message: not today}}
      - reply: '${{ size(input.text.split("\n")) }} lines: ${{ input.text.replace("\n", "|") }}'
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: lacking}
spec: {tools: [nowhere], model: {provider: scripted, parameters: {rules: [{reply: hello}]}}}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: second}
spec: {model: {provider: scripted, parameters: {rules: [{reply: 'I am the second.'}]}}}
"""
BEGIN = "talking to agent/poster; /help says what else there is\n>"
Chat = Callable[..., Terminal]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poster")
    (folder / "poster.yaml").write_text(PROJECT)
    apply = [warm.kastra(), "apply", "-f", "poster.yaml"]
    subprocess.run(apply, cwd=folder, env=environment(folder), capture_output=True, check=True)
    return folder


@pytest.fixture
def chat(project: Path) -> Iterator[Chat]:
    opened: list[Terminal] = []

    def begin(*options: str, **env: str) -> Terminal:
        opened.append(Terminal(project, "chat", "poster", *options, env=env))
        opened[-1].until(BEGIN)
        return opened[-1]

    yield begin
    for terminal in opened:
        terminal.close()


def test_what_was_asked_comes_back_in_another_chat_and_is_searched(chat: Chat, tmp_path: Path) -> None:
    first = chat(XDG_STATE_HOME=str(tmp_path))
    first.says("birds", "\n1 lines: birds\n>")
    first.says(" a secret", "\n1 lines:  a secret\n>")
    first.says("mail", "approve? y, n, e (other arguments):")
    first.says("n not him", "\nnot sent\n>")
    first.type(control("d"))
    assert first.ended() == 0
    assert first.echoes
    kept = tmp_path / "kastra" / "chat-history"
    assert [orjson.loads(line) for line in kept.read_bytes().splitlines()] == ["birds", "mail"]

    second = chat(XDG_STATE_HOME=str(tmp_path))
    second.type(UP)
    second.until("\n> mail")
    second.type(UP)
    second.until("\n> birds")
    second.says("!", "\n1 lines: birds!\n>")
    second.type(control("r") + "mai")
    second.shows("backward: mai")
    second.type("\r")
    second.until("\n> mail")
    second.type(control("c"))
    second.until("\n>")
    second.says("/quit", "/quit")
    assert second.ended() == 0


def test_several_lines_are_one_question(chat: Chat) -> None:
    terminal = chat()
    terminal.type(pasted("one\r\ntwo\r\n/quit\r\n"))
    terminal.shows("\n  two\n")
    terminal.says("", "\n3 lines: one|two|/quit\n>")
    terminal.type("a\\\rb\x1b\rc")
    terminal.until("\n> a\n  b\n  c")
    terminal.says("", "\n3 lines: a|b|c\n>")
    terminal.type(UP + UP + "B\r")
    terminal.until("\n3 lines: a|bB|c\n>")


def test_commands_tools_agents_and_threads_are_completed(chat: Chat, project: Path) -> None:
    terminal = chat("--thread", "holiday")
    terminal.says("one", "\n1 lines: one\n>")
    terminal.type("/us\t")
    terminal.until("\n> /usage")
    terminal.says("", "0 out, 1 model calls\n>")
    terminal.type("tell sen\t")
    terminal.until("\n> tell send-mail")
    terminal.says(" now", "\n1 lines: tell send-mail now\n>")
    terminal.type("/thread ho\t")
    terminal.until("\n> /thread holiday")
    terminal.says("", "\nthread/holiday: 4 messages\n>")
    terminal.type("/agent sec\t")
    terminal.until("\n> /agent second")
    terminal.says("", "\nagent/second\n>")
    terminal.says("hello", "\nI am the second.\n>")
    terminal.says("/agent nobody", 'agents.mastra.ai "nobody" not found\n>')
    terminal.says("hello", "\nI am the second.\n>")


def test_the_arguments_of_a_call_are_edited_and_not_typed_anew(chat: Chat) -> None:
    terminal = chat()
    terminal.says("mail", "approve? y, n, e (other arguments):")
    terminal.says("e", '\n  arguments (JSON): {"to":"ann"}')
    terminal.type(LEFT + "\x7f" + "\r")
    terminal.shows("that is no JSON")
    terminal.until("approve? y, n, e (other arguments):")
    terminal.says("e", '\n  arguments (JSON): {"to":"ann}')
    terminal.type(LEFT + 'e"\r')
    terminal.until("\nsent to anne\n>")


def test_ctrl_c_at_an_approval_ends_the_answer_and_an_error_only_the_question(chat: Chat) -> None:
    terminal = chat()
    terminal.says("mail", "approve? y, n, e (other arguments):")
    terminal.type(control("c"))
    terminal.until("\ncancelled\n>")
    terminal.says("fail", "not today\n>")
    terminal.type("half a line" + control("c"))
    terminal.until("\n> half a line\n>")
    terminal.says("still here", "\n1 lines: still here\n>")
    terminal.process.terminate()
    assert terminal.ended() == 143
    assert terminal.echoes


def test_an_agent_that_lacks_something_keeps_nobody_waiting_without_a_word(chat: Chat) -> None:
    terminal = chat()
    terminal.says("/agent lacking", "\nagent/lacking\n>")
    terminal.type("hello\r")
    lacks = 'spec.tools[0]: no Tool "nowhere" in namespace "default"'
    terminal.shows(f"agent/lacking isn't Ready: {lacks}")
    terminal.shows(f" waits: {lacks}")
    terminal.type(control("c"))
    terminal.until("\ncancelled\n>")


def test_nothing_is_kept_where_that_is_switched_off_or_the_file_can_t_be_written(chat: Chat, tmp_path: Path) -> None:
    terminal = chat(XDG_STATE_HOME=str(tmp_path), KASTRA_CHAT_HISTORY="0")
    terminal.says("one", "\n1 lines: one\n>")
    terminal.type(UP)
    terminal.until("\n> one")
    terminal.type(control("c") + control("d"))
    assert terminal.ended() == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kastra").write_text("in the way")
    terminal = chat(XDG_STATE_HOME=str(tmp_path))
    assert terminal.text.startswith("lines aren't kept: ")
