"""`kastra chat`: one question after the other, with what was said before, the tools called, and approvals asked inline."""

import orjson
import pytest

from kastra.cli.answer_view import AnswerView, shown

from . import chatting
from .chatting import with_manifests
from .conftest import Kastra, Result

MANIFESTS = r"""
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: mail}
spec:
  requireApproval: true
  description: Sends a mail.
  python: {inline: "def mail(to: str) -> str:\n    return 'sent to ' + to"}
---
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: clock}
spec:
  python: {inline: "def clock() -> str:\n    return 'noon'"}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: helper}
spec:
  instructions: 'Help ${{ has(context.user) ? context.user : "anybody" }}.'
  tools: [clock, mail]
  model:
    provider: scripted
    parameters:
      rules:
      - when: size(results) == 0 && input.text.startsWith("mail")
        call: {tool: mail, arguments: {to: '${{ input.text.substring(5) }}'}}
      - when: size(results) == 0 && input.text == "time?"
        call: {tool: clock, arguments: {}}
      - when: size(results) > 0
        reply: '${{ type(results[0]) == string ? results[0] : results[0].error.title }}'
      - when: input.text == "roles?"
        reply: '${{ messages.map(m, m.role).join(",") }}'
      - when: input.text == "who?"
        reply: '${{ messages[0].content }}'
      - when: input.text == "evil?"
        reply: "a\x1b[2Jb\x1b]0;title\x07c\rd\u202e"
      - when: input.text == "fail?"
        error: {kind: refused, message: "not today"}
      - reply: 'You said: ${{ input.text }}'
"""


@pytest.fixture
def project(empty: Kastra) -> Kastra:
    return with_manifests(empty, MANIFESTS)


def chat(project: Kastra, *said: str, options: tuple[str, ...] = ()) -> Result:
    return chatting.chat(project, "agent/helper", *said, options=options)


def test_answers_are_on_standard_output_and_what_is_done_for_them_is_not(project: Kastra) -> None:
    talk = chat(project, "hello", "time?", "/quit", "never asked")
    assert (talk.code, talk.stdout) == (0, "You said: hello\nnoon\n")
    assert talk.stderr.splitlines() == ["  → clock", "  ← noon"]


def test_what_was_said_goes_with_the_next_question_calls_and_results_too(project: Kastra) -> None:
    talk = chat(project, "time?", "roles?", "/new", "roles?")
    assert talk.stdout.splitlines()[1:] == ["system,user,assistant,tool,assistant,user", "system,user"]


def test_each_question_is_a_run_that_is_there_afterwards(project: Kastra) -> None:
    assert chat(project, "one", "two").code == 0
    runs = orjson.loads(project("get", "runs", "-o", "json").stdout)["items"]
    assert [run["status"]["phase"] for run in runs] == ["Succeeded", "Succeeded"]
    assert {run["spec"]["ttlAfterFinished"] for run in runs} == {"24h"}


def test_an_approval_is_asked_for_and_decided_in_the_next_line(project: Kastra) -> None:
    talk = chat(
        project,
        "mail ann",
        "what?",
        "y",
        "mail bob",
        "n not him",
        "mail cid",
        'e {"to": "dora"}',
        "mail x",
        "e",
        '{"to": "eve"}',
    )
    assert talk.stdout.splitlines() == [
        "sent to ann",
        "the call of mail was rejected by " + talk.stdout.split("rejected by ")[1].splitlines()[0],
        "sent to dora",
        "sent to eve",
    ]
    assert ": not him" in talk.stdout
    assert 'Agent helper wants to call mail with {"to":"ann"}' in talk.stderr
    assert "y approves, n refuses, e approves with other arguments" in talk.stderr


def test_what_is_agreed_to_is_seen_whole_however_long(project: Kastra) -> None:
    whom = "a" * 500 + "\x1b[2J and mallory"
    talk = chat(project, f"mail {whom}", "n")
    asked = [line for line in talk.stderr.splitlines() if "mallory" in line]
    assert asked == [f'  mail {{"to":"{"a" * 500}\\u001b[2J and mallory"}}']


@pytest.mark.parametrize(
    ("answer", "told"),
    [("e {", "that is no JSON"), ("e [1]", "an object of arguments is needed"), ('e {"to": 3}', "to")],
)
def test_arguments_that_make_no_sense_are_asked_for_again(project: Kastra, answer: str, told: str) -> None:
    talk = chat(project, "mail ann", answer, "y")
    assert talk.stdout == "sent to ann\n"
    assert told in talk.stderr


def test_at_the_end_of_input_a_decision_is_left_to_somebody_else(project: Kastra) -> None:
    talk = chat(project, "mail ann")
    assert (talk.code, talk.stdout) == (3, "")
    approval = talk.stderr.rpartition("kastra approve ")[2].strip()
    approved = project("approve", approval)
    assert (approved.code, approved.stdout.splitlines()[-1]) == (0, "sent to ann")


def test_commands_tell_the_tools_and_the_usage(project: Kastra) -> None:
    talk = chat(project, "/tools", "time?", "/usage", "/help", "/nonsense")
    assert talk.stdout == "noon\n"
    said = talk.stderr.splitlines()
    assert said[:2] == ["clock  Tool/default/clock", "mail   Tool/default/mail"]
    assert "0 tokens in, 0 out, 2 model calls" in said
    assert any(line.startswith("/usage") for line in said)
    assert said[-1] == "/nonsense: no such command; /help lists them"


def test_the_context_of_the_request_goes_with_every_question(project: Kastra) -> None:
    talk = chat(project, "who?", "who?", options=("--request-context", '{"user": "Ann"}', "-q"))
    assert talk.stdout == "Help Ann.\nHelp Ann.\n"


def test_an_answer_that_fails_says_why_and_is_forgotten(project: Kastra) -> None:
    talk = chat(project, "fail?", "roles?")
    assert (talk.code, talk.stdout) == (1, "system,user\n")
    assert "error: authorization: " in talk.stderr
    assert "not today" in talk.stderr


def test_nothing_in_an_answer_can_steer_the_terminal(project: Kastra) -> None:
    talk = chat(project, "evil?")
    assert talk.stdout == "a\ufffd[2Jb\ufffd]0;title\ufffdcd\ufffd\n"


def test_quiet_tells_nothing_about_tools(project: Kastra) -> None:
    talk = chat(project, "time?", options=("--quiet",))
    assert (talk.stdout, talk.stderr) == ("noon\n", "")


def test_an_empty_line_is_no_question_and_strange_bytes_are_no_crash(project: Kastra) -> None:
    talk = chat(project, "", "   ", "bad \udcff byte".encode("utf-8", "replace").decode())
    assert (talk.code, talk.stdout) == (0, "You said: bad ? byte\n")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("agent/nobody",), 1, "nobody"),
        (("workflow/helper",), 2, "say which agent, such as agent/helper"),
        (("helper", "--request-context", "[1]"), 1, "an object of named values is needed"),
    ],
)
def test_wrong_use_is_refused(project: Kastra, arguments: tuple[str, ...], code: int, told: str) -> None:
    refused = project("chat", *arguments, stdin="hello\n")
    assert refused.code == code
    assert told in refused.stderr


def test_run_streams_an_answer_and_writes_it_once(project: Kastra) -> None:
    ran = project("run", "agent/helper", "--stream", "--input", "time?")
    assert (ran.code, ran.stdout) == (0, "noon\n")
    assert ran.stderr.splitlines()[1:] == ["  → clock", "  ← noon"]
    assert project("run", "agent/helper", "--stream", "-o", "json").code == 2


def test_an_answer_that_begins_again_is_told_apart() -> None:
    out: list[str] = []
    notes: list[str] = []
    view = AnswerView(out.append, notes.append)
    view.chunk({"type": "text-delta", "key": "turn[0]", "text": "Hel"})
    view.chunk({"type": "restart", "key": "turn[0]", "reason": "cut off"})
    view.chunk({"type": "text-delta", "key": "turn[0]", "text": "Hello"})
    view.chunk({"type": "text-delta", "key": "turn[0]/tool[0]/turn[0]", "text": "of an agent below"})
    view.finish("Hello\n")
    assert ("".join(out), notes) == ("Hel\nHello\n", ["  begins again: cut off"])


def test_an_answer_of_which_nothing_arrived_is_written_whole() -> None:
    out: list[str] = []
    view = AnswerView(out.append, lambda _: None)
    view.finish("All of it\n")
    assert "".join(out) == "All of it\n"


def test_letters_that_need_joiners_and_emoji_stay_whole() -> None:
    assert shown("میخواهم 👩‍🚀\n\té") == "میخواهم 👩‍🚀\n\té"


def test_an_answer_to_an_approval_that_others_must_agree_to_says_so(empty: Kastra) -> None:
    more = MANIFESTS.replace("requireApproval: true", "requireApproval: true\n  approval: {approvers: {count: 2}}")
    with_manifests(empty, more)
    talk = chat(empty, "mail ann", "y")
    assert "1 of 2 have agreed; the others: kastra approve helper-" in talk.stderr
    assert talk.code == 3


def test_a_chat_goes_on_with_another_agent_and_without_what_was_said_to_the_first(empty: Kastra) -> None:
    second = """
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: second}
spec: {model: {provider: scripted, parameters: {rules: [{reply: '${{ messages.map(m, m.role).join(",") }}'}]}}}
"""
    with_manifests(empty, MANIFESTS + second)
    talk = chat(empty, "hello", "/agent", "/agent agent/second", "hello", "/agent nobody", "hello")
    assert talk.stdout.splitlines() == ["You said: hello", "user", "user,assistant,user"]
    lines = talk.stderr.splitlines()
    assert lines[:2] == ["agent/helper", "agent/second"]
    assert "nobody" in lines[2]
