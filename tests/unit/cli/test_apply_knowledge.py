"""A KnowledgeBase that `kastra apply` writes is Ready, and stays it, or says why it can't be."""

import orjson
import pytest

from .conftest import Kastra

MANIFESTS = """
apiVersion: mastra.ai/v1
kind: KnowledgeBase
metadata: {name: handbook}
spec: {sources: [{file: handbook}]}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: clerk}
spec:
  knowledge: [handbook]
  model:
    provider: scripted
    parameters:
      rules:
      - {when: size(results) == 0, call: {tool: knowledge_search, arguments: {query: parcels}}}
      - {reply: '${{ results[0].passages[0].text }}'}
"""


@pytest.fixture
def project(empty: Kastra) -> Kastra:
    (empty.folder / "handbook").mkdir()
    (empty.folder / "handbook" / "a.txt").write_text("Parcels leave on Mondays.")
    (empty.folder / "all.yaml").write_text(MANIFESTS)
    return empty


def ready(project: Kastra) -> tuple[str, str, str]:
    base = orjson.loads(project("get", "kb", "handbook", "-o", "json").stdout)
    (found,) = [entry for entry in base["status"]["conditions"] if entry["type"] == "Ready"]
    return found["status"], found["reason"], found.get("message", "")


def test_what_was_read_stays_ready_when_something_is_applied_again(project: Kastra) -> None:
    assert project("apply", "-f", "all.yaml").code == 0
    assert ready(project)[:2] == ("True", "Read")
    assert project("run", "-q", "agent/clerk", "--input", "x").stdout == "Parcels leave on Mondays.\n"
    assert ready(project)[:2] == ("True", "Read")
    applied = project("apply", "-f", "all.yaml")
    assert "NoKnowledge" not in applied.stdout + applied.stderr
    assert ready(project)[:2] == ("True", "Read")


def test_an_address_that_may_not_be_called_is_said_at_once(project: Kastra) -> None:
    (project.folder / "all.yaml").write_text(MANIFESTS.replace("{file: handbook}", "{url: 'http://127.0.0.1/'}"))
    assert project("apply", "-f", "all.yaml").code == 0
    status, reason, message = ready(project)
    assert (status, reason) == ("False", "AddressRefused")
    assert message.startswith("spec.sources[0].url: 127.0.0.1")
