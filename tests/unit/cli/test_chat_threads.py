"""`kastra chat` with a thread: it goes on with what was said before, in another chat too."""

import orjson
import pytest

from .chatting import chat, with_manifests
from .conftest import Kastra

MANIFESTS = r"""
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: keeper}
spec:
  memory: true
  model:
    provider: scripted
    parameters: {rules: [{reply: '${{ messages.filter(m, m.role == "user").map(m, m.content).join("+") }}'}]}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: forgets}
spec: {memory: false, model: {provider: scripted, parameters: {rules: [{reply: x}]}}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: flow}
spec: {steps: [{id: a, agent: plain}]}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: plain}
spec:
  model:
    provider: scripted
    parameters: {rules: [{reply: '${{ messages.filter(m, m.role == "user").map(m, m.content).join("+") }}'}]}
"""


@pytest.fixture
def project(empty: Kastra) -> Kastra:
    return with_manifests(empty, MANIFESTS)


def threads(project: Kastra) -> list[dict[str, object]]:
    items = orjson.loads(project("get", "threads", "-o", "json").stdout)["items"]
    return [{"name": item["metadata"]["name"], **item["spec"]} for item in items]


def test_another_chat_goes_on_with_the_same_thread(project: Kastra) -> None:
    named = ("--thread", "holiday", "--resource", "ann")
    assert chat(project, "plain", "one", "two", options=named).stdout == "one\none+two\n"
    talk = chat(project, "plain", "three", "/history", "/thread", options=("--thread", "holiday"))
    assert talk.stdout == "one+two+three\n"
    assert talk.stderr.splitlines()[:3] == ["user: one", "plain: one", "user: two"]
    assert talk.stderr.splitlines()[-1] == "thread/holiday: 6 messages"
    assert threads(project) == [{"name": "holiday", "agentRef": {"name": "plain"}, "resourceId": "ann"}]
    assert (
        "belongs to another resource"
        in chat(project, "plain", "x", options=("--thread", "holiday", "--resource", "bob")).stderr
    )


def test_how_much_a_thread_holds_is_right_as_soon_as_a_chat_has_ended(project: Kastra) -> None:
    count = ("get", "threads", "-o", "jsonpath={.items[*].status.messages}")
    chat(project, "plain", "one", "two", options=("--thread", "holiday"))
    assert project(*count).stdout.strip() == "4"
    chat(project, "plain", "three", options=("--thread", "holiday"))
    assert project(*count).stdout.strip() == "6"
    assert project("run", "agent/plain", "--thread", "holiday", "--input", "four", "-q").code == 0
    assert project(*count).stdout.strip() == "8"


def test_an_agent_with_memory_gets_a_thread_and_without_it_a_chat_is_forgotten(project: Kastra) -> None:
    assert chat(project, "keeper", "/thread", "/quit").stderr.startswith("no thread yet")
    assert threads(project) == []
    talk = chat(project, "keeper", "one", "two", "/new", "three")
    assert talk.stdout.splitlines() == ["one", "one+two", "three"]
    first, second = sorted(found["name"] for found in threads(project))
    assert f"this goes on with --thread {first}" in talk.stderr
    assert f"this goes on with --thread {second}" in talk.stderr
    chat(project, "plain", "one")
    assert "forgotten at the end" in chat(project, "plain", "/thread").stderr
    assert len(threads(project)) == 2


def test_threads_are_changed_in_the_middle_and_history_is_what_was_said(project: Kastra) -> None:
    talk = chat(project, "plain", "one", "/history", "/thread other", "two", "/history")
    assert talk.stdout == "one\ntwo\n"
    lines = talk.stderr.splitlines()
    assert lines == ["user: one", "plain: one", "thread/other: 0 messages", "user: two", "plain: two"]


def test_an_agent_whose_memory_is_off_takes_no_thread(project: Kastra) -> None:
    talk = chat(project, "forgets", "one", options=("--thread", "t"))
    assert talk.code != 0
    assert "its memory is switched off" in talk.stderr
    assert chat(project, "forgets", "one").stdout == "x\n"


def test_a_name_that_no_thread_can_have_is_refused_before_anything_is_asked(project: Kastra) -> None:
    talk = chat(project, "plain", "one", options=("--thread", "Bad Name"))
    assert (talk.code, talk.stdout) == (1, "")
    assert "thread 'Bad Name': a lowercase RFC 1123 subdomain" in talk.stderr
    talk = chat(project, "plain", "/thread Bad Name", "/thread good", "one")
    assert talk.stdout == "one\n"
    assert talk.stderr.startswith("thread 'Bad Name': a lowercase")


def test_a_thread_of_another_agent_ends_the_question_with_the_reason_and_the_chat_goes_on(project: Kastra) -> None:
    chat(project, "plain", "one", options=("--thread", "of-plain"))
    talk = chat(project, "keeper", "two", "/thread own", "three", options=("--thread", "of-plain"))
    assert "thread default/of-plain is one of agent plain, not of keeper" in talk.stderr
    assert talk.stdout == "three\n"


def test_a_thread_is_not_silently_left_out_where_nothing_goes_on_with_it(project: Kastra) -> None:
    refused = project("run", "workflow/flow", "--thread", "t", "--input", "x")
    assert refused.code == 1
    assert "workflow/flow goes on with no thread; an Agent or a Network does" in refused.stderr
