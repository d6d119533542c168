"""F21: no URL that a manifest can carry leads into the network of whoever runs Kastra, unless the manifest says that it may."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

import kastra
from kastra.api.meta import ObjectRef
from kastra.app.running import create_run, wait_until
from kastra.config import Settings
from kastra.manifest.decode import decode
from tests.support.toolbox import Site, site

CRDS = Path(kastra.__file__).parent / "crds"
HOSTS = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254"]


def manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "mastra.ai/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def asked(provider: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    key = {"apiKeyFrom": {"env": "PATH"}}
    made = [
        manifest("ModelProvider", "p", {"type": "openai", **key, **provider}),
        manifest("Model", "m", {"providerRef": "p", "name": "m"}),
        manifest("Agent", "a", {"modelRef": "m"}),
    ]
    return made, "agent/a"


def called(http: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    return [manifest("Tool", "t", {"http": http, "timeout": "5s"})], "tool/t"


def answering(url: str) -> tuple[list[dict[str, Any]], str]:
    return [manifest("MCPServer", "s", {"transport": "streamableHttp", "url": url, "timeout": "5s"})], ""


TOKENS = {"type": "oauth2", "clientID": "c", "valueFrom": {"env": "PATH"}}
# By the field that carries it: what is applied, and what is run then.
FIELDS = {
    "modelproviders spec.baseURL": lambda url: asked({"baseURL": url}),
    "modelproviders spec.proxy": lambda url: asked({"baseURL": "http://203.0.113.7/v1", "proxy": url.rstrip("/")}),
    "tools spec.http.url": lambda url: called({"url": url}),
    "tools spec.http.auth.tokenURL": lambda url: called(
        {"url": "https://203.0.113.7/", "auth": {**TOKENS, "tokenURL": url}}
    ),
    "mcpservers spec.url": answering,
}
ELSEWHERE = {
    "knowledgebases spec.sources[].url": "tests/controllers/test_knowledgebase.py",
    "eventsinks spec.uri": "tests/controllers/test_eventsink.py",
}


def urls_in(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, inner in (schema.get("properties") or {}).items():
        if inner.get("type") == "string" and (name.lower().endswith(("url", "uri")) or name == "proxy"):
            yield f"{path}.{name}"
        yield from urls_in(inner, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from urls_in(schema["items"], f"{path}[]")


def test_every_field_that_carries_a_url_is_tried() -> None:
    found = set()
    for file in CRDS.glob("*.yaml"):
        definition: Any = decode(file.read_bytes())[0].value
        for version in definition["spec"]["versions"]:
            spec = version["schema"]["openAPIV3Schema"]["properties"].get("spec") or {}
            found |= {f"{definition['spec']['names']['plural']} {path}" for path in urls_in(spec, "spec")}
    assert found == FIELDS.keys() | ELSEWHERE.keys()
    assert all(Path(place).exists() for place in ELSEWHERE.values())


@pytest.fixture
async def inside() -> AsyncIterator[Site]:
    async with site() as found:
        yield found


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("field", FIELDS)
async def test_a_private_address_is_not_called(field: str, host: str, inside: Site, tmp_path: Path) -> None:
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=(), grace=0.5)
    made, target = FIELDS[field](f"http://{host}:{inside.port}/")
    (tmp_path / "all.yaml").write_text("\n---\n".join(orjson.dumps(each).decode() for each in made))
    async with kastra.open(":memory:", settings=settings) as k:
        report = await k.apply(tmp_path / "all.yaml")
        if not report.ok:
            # What could be right nowhere isn't even taken.
            assert field.rpartition(".")[2] in str(report.problems)
            return
        await k.settle(5)
        if target:
            run = await create_run(k.client, target, "hello" if target.startswith("agent/") else {})
            with anyio.fail_after(60):
                ended = await wait_until(k.client, run.ref, lambda found: found.is_condition_true("Complete"))
                assert ended.status["phase"] == "Failed"
        else:
            server = await k.client.get(ObjectRef("MCPServer.mastra.ai", "s", "default"))
            assert (server.condition("Ready") or {})["reason"] == "AddressRefused"
    assert inside.connections == 0
