"""CloudEvents and webhooks over HTTP: who may send them, what is answered, and what strangers can't find out."""

import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from kastra.apiserver.authentication import TokenAuthenticator, token_hash
from kastra.apiserver.authorization import Access, AllowEverything, Decision
from kastra.apiserver.call import User
from kastra.apiserver.http.inlets import MAX_BODY
from kastra.apiserver.http.server import Application
from kastra.app.composition import Composition, compose
from kastra.config import Settings
from kastra.sql.driver import MEMORY
from kastra.testing.clock import VirtualClock

EVENTS = "/apis/mastra.ai/v1/namespaces/default/cloudevents"
HOOK = "/webhooks/default/orders"
SECRET = "correct horse battery staple"
STRUCTURED = {"content-type": "application/cloudevents+json"}
EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created", "data": {"id": "o-1"}}


class EverybodyButEve(AllowEverything):
    """Who may do what here."""

    def authorize(self, user: User, access: Access) -> Decision:
        return Decision(user.name != "eve")


class Site:
    """The application in front of everything else."""

    def __init__(self, parts: Composition) -> None:
        tokens = [(token_hash("ada"), User("ada")), (token_hash("eve"), User("eve", ("system:authenticated",)))]
        assert parts.intake is not None
        self.parts = parts
        self.app = Application(parts.api.registry, TokenAuthenticator(tokens), inlets=parts.intake.inlets)

    async def request(
        self, path: str, body: bytes, headers: Mapping[str, str], *, token: str = "", method: str = "POST"
    ) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        sent = {"host": "127.0.0.1", **headers, **({"authorization": f"Bearer {token}"} if token else {})}
        waiting = [{"type": "http.request", "body": body, "more_body": False}]
        got: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            got.append(dict(message))

        raw = [(name.encode(), value.encode("latin-1")) for name, value in sent.items()]
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": raw}
        await self.app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in got)
        parsed: Any = content
        with suppress(orjson.JSONDecodeError):
            parsed = orjson.loads(content)
        return got[0]["status"], parsed

    async def hook(self, body: Any = None, path: str = HOOK, secret: str = SECRET, **headers: str) -> tuple[int, Any]:
        """A request as GitHub signs it."""
        raw = body if isinstance(body, bytes) else orjson.dumps({"id": 7} if body is None else body)
        signature = f"sha256={hmac.new(secret.encode(), raw, sha256).hexdigest()}"
        sent = {"content-type": "application/json", "x-hub-signature-256": signature}
        return await self.request(
            path, raw, {**sent, **{key.replace("_", "-"): value for key, value in headers.items()}}
        )

    async def settle(self) -> None:
        assert self.parts.manager is not None
        with anyio.fail_after(10):
            await self.parts.manager.settle()

    async def runs(self) -> list[Any]:
        return list((await self.parts.client.list("runs")).items)

    async def events(self, reason: str) -> list[str]:
        await self.settle()
        events = (await self.parts.client.list("events")).items
        return [event.data["message"] for event in events if event.data["reason"] == reason]


def workflow(**webhook: Any) -> dict[str, Any]:
    signature = {"type": "GitHub", "secretKeyRef": {"name": "hook", "key": "secret"}}
    trigger = {
        "name": "order",
        "webhook": {"path": "orders", "signature": signature, **webhook},
        "input": {"id": "${{ event.data.id }}", "type": "${{ event.type }}"},
    }
    return {
        "apiVersion": "mastra.ai/v1",
        "kind": "Workflow",
        "metadata": {"name": "pack", "namespace": "default"},
        "spec": {"steps": [{"id": "a", "set": {"done": True}}], "triggers": [trigger]},
    }


def secret(value: str = SECRET) -> dict[str, Any]:
    metadata = {"name": "hook", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"secret": value}}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = Settings(project=tmp_path, data=tmp_path / "data", controllers=())
    async with compose(settings, clock=VirtualClock(), path=MEMORY) as parts:
        parts.api.registry.authorizer = EverybodyButEve()
        for obj in (secret(), workflow()):
            await parts.client.create(obj)
        made = Site(parts)
        await made.settle()
        yield made


# --- CloudEvents


async def test_an_event_is_accepted_once(site: Site) -> None:
    raw = orjson.dumps(EVENT)
    assert await site.request(EVENTS, raw, STRUCTURED, token="ada") == (202, {"accepted": 1, "duplicates": 0})
    assert await site.request(EVENTS, raw, STRUCTURED, token="ada") == (200, {"accepted": 0, "duplicates": 1})


async def test_batches_and_the_binary_form_are_accepted(site: Site) -> None:
    batch = orjson.dumps([{**EVENT, "id": "a"}, {**EVENT, "id": "b"}, {**EVENT, "id": "a"}])
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert await site.request(EVENTS, batch, headers, token="ada") == (202, {"accepted": 2, "duplicates": 1})
    binary = {"ce-specversion": "1.0", "ce-id": "c", "ce-source": "/shop", "ce-type": "t", "content-type": "text/plain"}
    assert (await site.request(EVENTS, b"hello", binary, token="ada"))[0] == 202


@pytest.mark.parametrize(
    ("token", "status"), [("", 401), ("nobody", 401), ("eve", 403)], ids=["nobody", "unknown", "not-allowed"]
)
async def test_whoever_may_not_send_events_is_refused(site: Site, token: str, status: int) -> None:
    found, answer = await site.request(EVENTS, orjson.dumps(EVENT), STRUCTURED, token=token)
    assert found == status
    if status == 403:
        assert (
            'cannot create resource "cloudevents" in API group "mastra.ai" in the namespace "default"'
            in answer["message"]
        )


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"{}", STRUCTURED, 400, "specversion: Required value"),
        (b"{", STRUCTURED, 400, "json parse error"),
        (b"{}", {"content-type": "application/json"}, 400, "holds no event"),
        (b"{}", {"content-type": "application/cloudevents+avro"}, 415, "is not read here"),
        (b"x" * (MAX_BODY + 1), STRUCTURED, 413, "too large"),
        (orjson.dumps({**EVENT, "data": "x" * 300_000}), STRUCTURED, 413, "larger than"),
    ],
    ids=["no-event", "cut-off", "plain", "avro", "body", "event"],
)
async def test_what_is_no_event_is_refused_with_the_reason(
    site: Site, body: bytes, headers: Mapping[str, str], status: int, says: str
) -> None:
    found, answer = await site.request(EVENTS, body, headers, token="ada")
    assert (found, says in answer["message"]) == (status, True), answer


async def test_events_of_a_namespace_that_isn_t_there_are_refused(site: Site) -> None:
    path = EVENTS.replace("default", "nowhere")
    status, answer = await site.request(path, orjson.dumps(EVENT), STRUCTURED, token="ada")
    assert (status, answer["message"]) == (404, 'namespaces "nowhere" not found')
    assert (await site.request(EVENTS, b"", {}, token="ada", method="GET"))[0] == 405


# --- webhooks


async def test_a_signed_request_starts_a_run_and_one_like_it_gets_the_same_run(site: Site) -> None:
    status, answer = await site.hook(x_github_event="push")
    assert status == 202
    [run] = await site.runs()
    assert answer == {"runs": [{"name": run.name, "namespace": "default"}]}
    assert run.spec["input"] == {"id": 7, "type": "webhook.push"}
    assert run.annotations["mastra.ai/event-source"] == "/webhooks/default/orders"
    assert await site.hook(x_github_delivery="another") == (200, answer)
    assert (await site.hook({"id": 8}))[0] == 202
    assert len(await site.runs()) == 2


async def test_strangers_are_told_the_same_whatever_is_there(site: Site) -> None:
    answers = [
        await site.hook(secret="guess"),
        await site.hook(path="/webhooks/default/nothing"),
        await site.hook(path="/webhooks/nowhere/orders"),
        await site.request(HOOK, b"{}", {}),
        await site.request(HOOK, b"{}", {"authorization": "Bearer ada"}),
    ]
    assert {status for status, _ in answers} == {401}
    assert len({orjson.dumps(answer) for _, answer in answers}) == 1
    assert await site.runs() == []
    await site.parts.client.delete((await site.parts.client.list("secrets")).items[0].ref)
    assert await site.hook() == answers[0]


async def test_the_owner_is_told_why_a_request_was_refused_and_no_secret(site: Site) -> None:
    await site.hook(secret="guess")
    await site.request(HOOK, b"{}", {})
    messages = await site.events("WebhookRefused")
    assert any("X-Hub-Signature-256 doesn't fit the body" in message for message in messages)
    assert any("X-Hub-Signature-256 is missing" in message for message in messages)
    assert not any(SECRET in message or "guess" in message for message in messages)


async def test_a_secret_that_is_replaced_counts_at_once(site: Site) -> None:
    ref = (await site.parts.client.list("secrets")).items[0].ref
    await site.parts.client.patch(ref, {"stringData": {"secret": "new"}})
    assert (await site.hook())[0] == 401
    assert (await site.hook(secret="new"))[0] == 202


async def test_a_filter_says_which_requests_start_a_run(site: Site) -> None:
    ref = (await site.parts.client.list("workflows")).items[0].ref
    await site.parts.client.patch(ref, {"spec": workflow(filter='event.type == "webhook.push"')["spec"]})
    await site.settle()
    assert await site.hook(x_github_event="ping") == (200, {"runs": []})
    assert (await site.hook(x_github_event="push"))[0] == 202


async def test_a_signed_request_that_makes_no_sense_is_refused_with_the_reason(site: Site) -> None:
    status, answer = await site.hook({"other": 1})
    assert status == 422
    assert "no such key" in answer["error"]
    status, answer = await site.hook(b"{")
    assert (status, "json parse error" in answer["message"]) == (400, True)


async def test_a_body_that_calls_itself_an_event_is_data_all_the_same(site: Site) -> None:
    body = {**EVENT, "id": 9, "source": "/apis/mastra.ai/v1/namespaces/default/runs/x"}
    status, _ = await site.hook(body, content_type="application/cloudevents+json")
    assert status == 202
    [run] = await site.runs()
    assert run.annotations["mastra.ai/event-source"] == "/webhooks/default/orders"


async def test_a_body_that_is_too_large_is_refused_before_anything_is_compared(site: Site) -> None:
    assert (await site.hook(b"x" * (MAX_BODY + 1)))[0] == 413
    assert await site.events("WebhookRefused") == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_webhooks_take_nothing_but_post(site: Site, method: str) -> None:
    assert (await site.request(HOOK, b"", {}, method=method))[0] == 405
