"""`kastra record` writes what models say to cassettes, from which the same Run is answered without them."""

from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal

from kastra.model import testing as fake

from .conftest import Kastra

KEY = "sk-canary-record-99"
SECRET = f"""\
apiVersion: v1
kind: Secret
metadata: {{name: ai}}
stringData: {{key: {KEY}}}
---
"""
MANIFEST = """\
apiVersion: mastra.ai/v1
kind: ModelProvider
metadata: {{name: ai}}
spec: {{type: openai, baseURL: "{url}", allowPrivate: true, pollInterval: 0, apiKeyFrom: {{secretKeyRef: {{name: ai, key: key}}}}}}
---
apiVersion: mastra.ai/v1
kind: Model
metadata: {{name: small}}
spec: {{providerRef: ai, name: gpt-small, price: {{in: 1, out: 2}}}}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {{name: helper}}
spec: {{instructions: Help., modelRef: small}}
"""
HERE = ("-q", "-o", "text")


@pytest.fixture
def provider() -> Iterator[fake.FakeProvider]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fake.FakeProvider()) as provider:
        yield provider


def test_what_is_recorded_is_replayed_without_network_or_key(empty: Kastra, provider: fake.FakeProvider) -> None:
    provider.answer(fake.text("An omelette."), fake.text("Soup."))
    (empty.folder / "ai.yaml").write_text(SECRET + MANIFEST.format(url=provider.url))
    assert empty("apply", "-f", "ai.yaml").code == 0
    recorded = empty("record", "agent/helper", "--input", "Dinner?", *HERE)
    assert (recorded.code, recorded.stdout) == (0, "An omelette.\n"), recorded
    assert "1 answer recorded in cassettes/openai-gpt-small.json" in recorded.stderr
    file = empty.folder / "cassettes" / "openai-gpt-small.json"
    assert KEY not in file.read_text()
    assert empty("delete", "secret", "ai").code == 0
    env = {"KASTRA_CASSETTES": "replay"}
    with_key = MANIFEST.replace("apiKeyFrom: {{secretKeyRef: {{name: ai, key: key}}}}", "")
    (empty.folder / "ai.yaml").write_text(with_key.format(url=provider.url))
    assert empty("apply", "-f", "ai.yaml").code == 0
    replayed = empty("run", "agent/helper", "--input", "Dinner?", *HERE, env=env)
    assert (replayed.code, replayed.stdout) == (0, "An omelette.\n"), replayed
    assert len(provider.requests) == 1
    other = empty("run", "agent/helper", "--input", "Lunch?", *HERE, env=env)
    assert other.code == 1
    assert '-    "content": "Dinner?"' in other.stderr.replace("   ", "  ") or "Dinner?" in other.stderr
    assert len(provider.requests) == 1


def test_only_what_is_missing_can_be_recorded(empty: Kastra, provider: fake.FakeProvider) -> None:
    provider.answer(fake.text("An omelette."), fake.text("Soup."))
    (empty.folder / "ai.yaml").write_text(SECRET + MANIFEST.format(url=provider.url))
    assert empty("apply", "-f", "ai.yaml").code == 0
    empty("record", "agent/helper", "--input", "Dinner?", *HERE)
    again = empty("record", "agent/helper", "--input", "Dinner?", "--missing", *HERE)
    assert (again.stdout, len(provider.requests)) == ("An omelette.\n", 1)
    assert "nothing recorded" in again.stderr
    more = empty("record", "agent/helper", "--input", "Lunch?", "--missing", *HERE)
    assert (more.stdout, len(provider.requests)) == ("Soup.\n", 2)


def test_an_unknown_mode_is_refused(empty: Kastra) -> None:
    refused = empty("get", "agents", env={"KASTRA_CASSETTES": "sometimes"})
    assert refused.code != 0
    assert "must be one of" in refused.stderr
