"""Values that specs refer to are read when needed, never shown, and named when missing."""

from pathlib import Path

import pytest

import kastra
from kastra.app.secrets import ClientSecrets
from kastra.telemetry import redact_text


@pytest.fixture
async def secrets(k: kastra.Kastra, tmp_path: Path) -> ClientSecrets:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys"},
        "stringData": {"api": "s3cr3t-value\n"},
    }
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "texts"}, "data": {"hello": "hi"}}
    await k.client.create(secret)
    await k.client.create(config)
    (tmp_path / "token.txt").write_text("from-a-file\n")
    return ClientSecrets(k.client, tmp_path)


async def test_each_source_is_read(secrets: ClientSecrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "from-the-environment")
    sources = [
        {"secretKeyRef": {"name": "keys", "key": "api"}},
        {"configMapKeyRef": {"name": "texts", "key": "hello"}},
        {"env": "A_KEY"},
        {"file": "token.txt"},
    ]
    assert [await secrets.read(source, "default") for source in sources] == [
        "s3cr3t-value", "hi", "from-the-environment", "from-a-file",
    ]  # fmt: skip


async def test_what_was_read_is_redacted_from_then_on(secrets: ClientSecrets) -> None:
    await secrets.read({"secretKeyRef": {"name": "keys", "key": "api"}}, "default")
    assert "s3cr3t-value" not in redact_text("Authorization: Bearer s3cr3t-value")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"secretKeyRef": {"name": "none", "key": "api"}}, "Secret default/none does not exist"),
        ({"secretKeyRef": {"name": "keys", "key": "x"}}, "key x of Secret default/keys does not exist"),
        ({"env": "NO_SUCH_VARIABLE"}, "environment variable NO_SUCH_VARIABLE does not exist"),
        ({"file": "missing.txt"}, "file missing.txt does not exist"),
        ({"file": "../outside.txt"}, "outside the project folder"),
        ({"file": "/etc/passwd"}, "outside the project folder"),
        ({}, "exactly one of"),
        ({"env": "A", "file": "b"}, "exactly one of"),
    ],
)
async def test_what_is_missing_is_named(secrets: ClientSecrets, source: dict[str, object], says: str) -> None:
    with pytest.raises(LookupError, match=says):
        await secrets.read(source, "default")


async def test_an_optional_value_that_is_missing_is_empty(secrets: ClientSecrets) -> None:
    source = {"secretKeyRef": {"name": "none", "key": "api", "optional": True}}
    assert await secrets.read(source, "default") == ""
