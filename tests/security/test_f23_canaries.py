"""F23: whatever fails, a secret's value stands nowhere but in its Secret: not in objects, events, logs, journal or file."""

import base64
import logging
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import kastra
from kastra.api.meta import ObjectRef
from kastra.app import Kastra
from kastra.app.running import RunFailed
from kastra.config import Settings
from kastra.model.testing import FakeProvider, Received, Scripted, calls, cut, raw, status, text
from kastra.sql.driver import choose, open_reader
from kastra.telemetry import JSONFormatter, TextFormatter

MARK = "CANARY"
# Values as people have them: with quotes, escapes, line ends, characters that mean something in JSON, URLs or YAML.
FORMS = [
    "sk-{}0123456789", "plain{}", 'quo"ted{}', "back\\slash{}", "per%cent{}%41", "sla/sh{}/x", "spa ce{} y", "plus+{}==",
    "uni\u00e9{}\u20ac", "{}\ttab", "<{}&amp;>", "{}'single'", "a@b:{}@c", "${{{}}}", "[{}]", "{{{}}}", "#{}?x=y", "~{}`", "|{}|",
    "-----BEGIN {}-----",
]  # fmt: skip


@dataclass
class Canaries:
    """Secret values, each with a mark that survives any escaping; which is found says which leaked."""

    values: dict[str, str] = field(default_factory=dict)

    def new(self, where: str) -> str:
        mark = f"{MARK}{len(self.values):02}x{os.urandom(4).hex()}"
        self.values[mark] = where
        return FORMS[len(self.values) % len(FORMS)].format(mark)

    def header(self, where: str) -> str:
        """One that a header can carry."""
        while True:
            value = self.new(where)
            if value.isascii() and value.isprintable():
                return value
            self.values.popitem()
            self.values[f"{MARK}-skipped-{len(self.values)}"] = "never used"

    def found_in(self, content: str | bytes) -> list[str]:
        data = content.encode(errors="surrogatepass") if isinstance(content, str) else content
        return [where for mark, where in self.values.items() if any(form in data for form in forms(mark.encode()))]


def forms(mark: bytes) -> list[bytes]:
    """The mark as it is, and as base64 shows it wherever it begins."""
    encoded = [base64.b64encode(bytes(shift) + mark)[(shift * 8 + 5) // 6 : -4] for shift in range(3)]
    return [mark, *encoded]


PYTHON = '''
import os


def leak(how: str = "raise") -> str:
    """What tools of people do with the environment."""
    value = os.environ["KASTRA_CANARY"]
    if how == "raise":
        raise ValueError(f"no access with {value}")
    if how == "chain":
        try:
            raise KeyError(value)
        except KeyError as error:
            raise RuntimeError("as before") from error
    print(value)
    return "done"
'''


def manifests(provider: FakeProvider, tools: FakeProvider, canaries: Canaries) -> str:
    secret = {
        "api-key": canaries.header("apiKeyFrom"),
        "provider-header": canaries.header("provider header"),
        "bearer": canaries.header("bearer auth"),
        "basic": canaries.new("basic auth"),
        "own": canaries.header("header auth"),
        "tool-header": canaries.header("tool header"),
        **{f"unused-{number}": canaries.new(f"unused {number}") for number in range(len(FORMS))},
    }
    data = {key: base64.b64encode(value.encode()).decode() for key, value in secret.items()}
    keys = "".join(f"  {key}: {value}\n" for key, value in data.items())
    found = [f"apiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\ndata:\n{keys}"]
    reference = "secretKeyRef: {{name: keys, key: {}}}"
    found.append(f"""apiVersion: mastra.ai/v1
kind: ModelProvider
metadata: {{name: fake}}
spec:
  type: openai-compatible
  baseURL: {provider.url}
  allowPrivate: true
  apiKeyFrom: {{{reference.format("api-key")}}}
  headers:
  - {{name: X-Extra, valueFrom: {{{reference.format("provider-header")}}}}}
  - {{name: X-Env, valueFrom: {{env: KASTRA_CANARY}}}}
---
apiVersion: mastra.ai/v1
kind: Model
metadata: {{name: fake}}
spec: {{providerRef: fake, name: fake-1}}
---
apiVersion: mastra.ai/v1
kind: Agent
metadata: {{name: asker}}
spec:
  instructions: Ask.
  modelRef: {{name: fake}}
  maxRetries: 0
  tools: [bearer]
""")
    for auth in ("bearer", "basic", "own"):
        kind = "header, header: X-Own" if auth == "own" else f"{auth}, username: me"
        found.append(f"""apiVersion: mastra.ai/v1
kind: Tool
metadata: {{name: {auth}}}
spec:
  http:
    url: {tools.url}/{auth}
    allowPrivate: true
    headers:
    - {{name: X-Tool, valueFrom: {{{reference.format("tool-header")}}}}}
    - {{name: X-File, valueFrom: {{file: key.txt}}}}
    auth: {{type: {kind}, valueFrom: {{{reference.format(auth)}}}}}
  retry: {{limit: 0}}
""")
    found.append("""apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: python}
spec:
  python: {entrypoint: leaky:leak}
  retry: {limit: 0}
""")
    return "---\n".join(found)


@dataclass
class Scene:
    """A project with canaries in a Secret, a file and the environment, and servers that repeat what they are sent."""

    kastra: Kastra
    provider: FakeProvider
    tools: FakeProvider
    canaries: Canaries

    async def run(self, target: str, value: Any = None) -> str:
        """What the caller is told."""
        try:
            return repr(await self.kastra.run(target, value))
        except RunFailed as failed:
            return f"{failed!r} {failed} {failed.result!r}"


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    canaries = Canaries()
    monkeypatch.setenv("KASTRA_CANARY", canaries.header("environment"))
    (tmp_path / "key.txt").write_text(canaries.header("file") + "\n")
    (tmp_path / "leaky.py").write_text(PYTHON)
    (tmp_path / "kastra.toml").write_text("")
    settings = Settings(project=tmp_path, data=tmp_path)
    async with FakeProvider() as provider, FakeProvider() as tools:
        (tmp_path / "all.yaml").write_text(manifests(provider, tools, canaries))
        async with kastra.open(tmp_path / "k.db", settings=settings) as k:
            scene = Scene(k, provider, tools, canaries)
            report = await k.apply(tmp_path / "all.yaml")
            assert report.ok, [str(problem) for problem in report.problems]
            await k.settle()
            for kind in ("agents", "tools", "models", "modelproviders"):
                for obj in (await k.client.list(kind)).items:
                    assert obj.is_condition_true("Ready"), obj.status
            yield scene
        stored = at_rest(tmp_path / "k.db")
        assert any(b"[redacted]" in rows for rows in stored.values()), "what is kept is kept readably"
        leaks = {where: shown for where, data in stored.items() if (shown := canaries.found_in(data))}
        assert not leaks, leaks


def sent(request: Received) -> str:
    """All that a request carries, as an endpoint quotes it back."""
    return " ".join(f"{name}: {value}" for name, value in request.headers.items())


def echo(code: int = 200, kind: str = "text/plain", shape: str = "{}") -> Any:
    """An endpoint that answers with what it was sent."""

    def respond(request: Received) -> Scripted:
        quoted = sent(request).replace("\\", "\\\\").replace('"', '\\"')
        return Scripted(code, shape.replace("{}", quoted).encode(), {"Content-Type": kind})

    return respond


def moved(request: Received) -> Scripted:
    """A redirect that takes along what it was sent."""
    return Scripted(302, b"", {"Location": "http://127.0.0.1:1/?" + sent(request).replace(" ", "%20")})


PROVIDER_FAILURES: Mapping[str, Any] = {
    "401 that quotes the key": lambda request: status(401, message=f"Incorrect API key provided: {sent(request)}"),
    "400 that quotes the key": lambda request: status(400, message=sent(request), error_code=sent(request)),
    "500 that quotes the key": lambda request: status(500, message=sent(request)),
    "503 in plain text": echo(503),
    "an answer that is no JSON": echo(200),
    "JSON that is no completion": echo(200, "application/json", '{"x": "{}"}'),
    "an answer cut off": lambda request: cut(120, text(sent(request))),
    "a redirect": moved,
    "a success that quotes": lambda request: text(sent(request)),
    "a tool that does not exist": lambda request: calls(sent(request)[:60], {}),
    "arguments that are no JSON": lambda request: calls("bearer", sent(request)),
    "bytes that are no text": lambda request: raw(b"\xff" + sent(request).encode()),
}
TOOL_FAILURES: Mapping[str, Any] = {
    "401": echo(401), "403": echo(403), "404": echo(404), "409": echo(409), "418": echo(418), "500": echo(500), "503": echo(503),
    "JSON that is none": echo(200, "application/json", "{ {}"),
    "a redirect": moved,
    "cut off": lambda request: cut(150, Scripted(200, sent(request).encode())),
    "a success that quotes": echo(200),
    "a success in JSON that quotes": echo(200, "application/json", '{"you": {"sent": ["{}"]}}'),
}  # fmt: skip


async def everything(scene: Scene) -> dict[str, bytes]:
    """All that can be read of this process by others, by where it stands; Secrets excepted."""
    found: dict[str, bytes] = {}
    for resource in scene.kastra.client.scheme:
        if resource.kind != "Secret":
            for obj in (await scene.kastra.client.list(resource.group_resource)).items:
                found[str(obj.ref)] = obj.raw
    return found


def at_rest(database: Path) -> dict[str, bytes]:
    """Every row of every table, and the bytes of the files."""
    found = {file.name: file.read_bytes() for file in database.parent.glob(database.name + "*")}
    reader = open_reader(database, choose(database, None))
    for (table,) in reader.query("SELECT name FROM sqlite_master WHERE type = 'table'"):
        found[table] = repr(reader.query(f'SELECT * FROM "{table}"')).encode()
    reader.close()
    return found


async def test_no_failure_shows_a_secret(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told: dict[str, str] = {}
    for name, respond in PROVIDER_FAILURES.items():
        scene.provider.always(respond)
        told[f"provider: {name}"] = await scene.run("agent/asker", "hello")
    for name, respond in TOOL_FAILURES.items():
        scene.tools.always(respond)
        for tool in ("bearer", "basic", "own"):
            told[f"tool {tool}: {name}"] = await scene.run(f"tool/{tool}", {})
        scene.provider.answer(calls("bearer", {}))
        scene.provider.always(lambda request: text("Done."))
        told[f"agent and tool: {name}"] = await scene.run("agent/asker", "hello")
    for how in ("raise", "chain", "print"):
        told[f"python: {how}"] = await scene.run("tool/python", {"how": how})
    await scene.kastra.settle()
    leaks: dict[str, list[str]] = {}

    def look(where: str, content: str | bytes) -> None:
        if shown := scene.canaries.found_in(content):
            leaks[where] = shown

    for where, answer in told.items():
        look(f"told to the caller: {where}", answer)
    for where, content in (await everything(scene)).items():
        look(where, content)
    for formatter in (JSONFormatter(), TextFormatter()):
        for record in caplog.records:
            look(f"log of {record.name}", formatter.format(record))
    secret = await scene.kastra.client.get(ObjectRef("secrets", "keys", "default"))
    assert scene.canaries.found_in(secret.raw), "what is looked for can be found"
    assert not leaks, "\n".join(f"{where}: {shown}" for where, shown in leaks.items())
    assert len(scene.provider.requests) > len(PROVIDER_FAILURES), "the provider was really asked"
    assert scene.canaries.found_in(sent(scene.provider.requests[0])), "and was sent the key"
