"""Events that Runs emit reach the sinks of their namespace, signed and with the headers asked for; what fails is told."""

import base64
import hmac
import ssl
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from kastra.api.cloudevents import read_http
from kastra.app.certificates import certificates
from kastra.clock import SystemClock
from kastra.config import Settings
from kastra.model import testing as fake
from kastra.testing import ApplyFailed, ControlPlane

from .objects import apply, manifest, ready, remove, said, secret, status, the

TOKEN = "canary-token-91"


@pytest.fixture
async def service() -> AsyncIterator[fake.FakeProvider]:
    async with fake.FakeProvider() as service:
        service.always(lambda _: fake.raw(b""))
        yield service


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
        yield plane


def sink(service: fake.FakeProvider, name: str = "out", **spec: Any) -> dict[str, Any]:
    return manifest("EventSink", name, {"uri": f"{service.url}/events", "allowPrivate": True, **spec})


def workflow(name: str = "teller", count: int = 1) -> dict[str, Any]:
    told = [
        {"id": f"tell{n}", "emit": {"type": "order.packed", "subject": f"o-{n}", "data": {"n": n}}}
        for n in range(count)
    ]
    return manifest("Workflow", name, {"steps": told})


async def until(env: ControlPlane, holds: Callable[[], bool]) -> None:
    """Wait for real calls to have been made, with time standing still."""
    with anyio.fail_after(20):
        while not holds():
            await anyio.sleep(0.005)
    await env.settle()


async def passing(env: ControlPlane, holds: Callable[[], bool]) -> None:
    """Let virtual time pass until something is so that real calls lead to."""
    with anyio.fail_after(30):
        while not holds():
            await env.clock.advance(0.5)
            await anyio.sleep(0.01)
    await env.settle()


async def test_an_emitted_event_reaches_the_sink_as_a_cloudevent_in_the_order_of_its_run(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    await apply(env, workflow(count=3), sink(service))
    await env.run("workflow/teller")
    await until(env, lambda: len(service.requests) == 3)
    events = [read_http(request.headers.items(), orjson.dumps(request.json))[0] for request in service.requests]
    assert [event.subject for event in events] == ["o-0", "o-1", "o-2"]
    assert (events[0].type, events[0].data) == ("order.packed", {"n": 0})
    assert events[0].source.startswith("/apis/mastra.ai/v1/namespaces/default/runs/teller-")
    assert events[0].time
    await env.advance(3)
    assert (await said(env, "EventSink", "out", "Delivering"))[:2] == ("True", "Delivered")
    found = await status(env, "EventSink", "out")
    assert (found["pending"], found["lost"]) == (0, 0)
    assert found["lastDeliveryTime"].endswith("Z")


async def test_the_binary_mode_sends_the_attributes_in_headers(env: ControlPlane, service: fake.FakeProvider) -> None:
    await apply(env, workflow(), sink(service, mode="binary"))
    await env.run("workflow/teller")
    await until(env, lambda: bool(service.requests))
    [request] = service.requests
    assert (request.headers["ce-type"], request.headers["ce-subject"]) == ("order.packed", "o-0")
    assert request.json == {"n": 0}


async def test_a_sink_gets_the_events_that_it_asks_for_and_no_others(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    wanted = [{"type": "order.packed", "filter": "event.data.n > 1"}, {"subject": "o-0"}]
    await apply(env, workflow(count=3), sink(service, events=wanted))
    await apply(env, sink(service, "none", events=[{"type": "other"}]))
    await env.run("workflow/teller")
    await until(env, lambda: len(service.requests) == 2)
    assert [request.json["subject"] for request in service.requests] == ["o-0", "o-2"]


async def test_an_event_that_a_filter_can_not_judge_is_not_sent_and_that_is_told(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    await apply(env, workflow(), sink(service, events=[{"filter": "event.data.absent > 1"}]))
    await env.run("workflow/teller")
    await env.advance(2)
    told = [event.data["message"] for event in await the(env, "events") if event.data["reason"] == "FilterFailed"]
    assert len(told) == 1
    assert service.requests == []


async def test_events_from_outside_are_not_passed_on(env: ControlPlane, service: fake.FakeProvider) -> None:
    from kastra.api.cloudevents import CloudEvent
    from kastra.engine.mailroom import Mailroom

    await apply(env, workflow(), sink(service))
    await env.manager.service(Mailroom).deliver("default", CloudEvent("1", "/shop", "order.packed"))
    await env.run("workflow/teller")
    await until(env, lambda: bool(service.requests))
    assert [request.json["type"] for request in service.requests] == ["order.packed"]
    assert service.requests[0].json["source"] != "/shop"


async def test_requests_carry_headers_from_secrets_and_a_signature_that_can_be_checked(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    await apply(env, secret("out", token=TOKEN, key="c2VjcmV0"), workflow())
    headers = {"Authorization": {"valueFrom": {"secretKeyRef": {"name": "out", "key": "token"}}}, "X-Team": "shop"}
    signed = {"type": "StandardWebhooks", "secretKeyRef": {"name": "out", "key": "key"}}
    await apply(env, sink(service, headersFrom=headers, signature=signed))
    await env.run("workflow/teller")
    await until(env, lambda: bool(service.requests))
    [request] = service.requests
    assert (request.headers["authorization"], request.headers["x-team"]) == (TOKEN, "shop")
    content = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    made = hmac.digest(b"c2VjcmV0", content + orjson.dumps(request.json), "sha256")
    assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(made).decode()}"
    await apply(env, sink(service, "github", signature={**signed, "type": "GitHub"}))
    await env.run("workflow/teller")
    await until(env, lambda: any("x-hub-signature-256" in request.headers for request in service.requests))
    request = next(request for request in service.requests if "x-hub-signature-256" in request.headers)
    wanted = hmac.new(b"c2VjcmV0", orjson.dumps(request.json), sha256).hexdigest()
    assert request.headers["x-hub-signature-256"] == f"sha256={wanted}"


async def test_a_failing_sink_is_told_and_gets_the_same_event_again_when_it_is_back(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    service.always(lambda _: fake.status(500, message=TOKEN))
    signed = {"type": "StandardWebhooks", "secretKeyRef": {"name": "out", "key": "key"}}
    await apply(env, secret("out", key=TOKEN), workflow(), sink(service, signature=signed))
    await env.run("workflow/teller")
    await passing(env, lambda: len(service.requests) >= 3)
    await env.advance(2)
    condition = await said(env, "EventSink", "out", "Delivering")
    assert condition[:2] == ("False", "BadAnswer")
    assert "the sink answers with 500; 1 events wait" in condition.message
    assert (await status(env, "EventSink", "out"))["failingSince"].endswith("Z")
    assert [event for event in await the(env, "events") if event.data["reason"] == "DeliveryFailing"]
    service.always(lambda _: fake.raw(b""))
    before = len(service.requests)
    await passing(env, lambda: len(service.requests) > before)
    await env.advance(3)
    assert (await said(env, "EventSink", "out", "Delivering"))[:2] == ("True", "Delivered")
    assert "failingSince" not in await status(env, "EventSink", "out")
    assert {request.json["id"] for request in service.requests} == {service.requests[0].json["id"]}
    assert len({request.headers["webhook-id"] for request in service.requests}) == 1
    shown = str([(await env.get("EventSink", "out")).data, *(obj.data for obj in await the(env, "events"))])
    assert TOKEN not in shown


async def test_retry_after_is_honoured(env: ControlPlane, service: fake.FakeProvider) -> None:
    service.answer(fake.status(429, retry_after=20))
    await apply(env, workflow(), sink(service))
    await env.run("workflow/teller")
    await until(env, lambda: bool(service.requests))
    begin = env.clock.monotonic()
    await passing(env, lambda: len(service.requests) == 2)
    assert env.clock.monotonic() - begin >= 19


async def test_an_event_that_the_sink_refuses_as_such_is_lost_with_an_event(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    service.answer(fake.status(422))
    await apply(env, workflow(count=2), sink(service))
    await env.run("workflow/teller")
    await until(env, lambda: len(service.requests) == 2)
    await env.advance(3)
    assert (await status(env, "EventSink", "out"))["lost"] == 1
    [told] = [event.data["message"] for event in await the(env, "events") if event.data["reason"] == "EventLost"]
    assert "tell0" in told
    assert "422" in told


async def test_a_suspended_sink_keeps_its_events(env: ControlPlane, service: fake.FakeProvider) -> None:
    await apply(env, workflow(), sink(service, suspend=True))
    await env.run("workflow/teller")
    await env.advance(5)
    assert await ready(env, "EventSink", "out") == ("False", "Suspended")
    assert service.requests == []
    await apply(env, sink(service, suspend=False))
    await until(env, lambda: bool(service.requests))
    assert await ready(env, "EventSink", "out") == ("True", "Resolved")


async def test_a_private_address_is_refused_unless_the_sink_allows_it(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    await apply(env, workflow(), sink(service, allowPrivate=False))
    assert await ready(env, "EventSink", "out") == ("False", "AddressRefused")
    await env.run("workflow/teller")
    await env.advance(2)
    assert service.requests == []


async def test_redirects_are_not_followed(env: ControlPlane, service: fake.FakeProvider) -> None:
    moved = fake.Scripted(status=307, headers={"Location": f"{service.url}/elsewhere"})
    service.answer(moved)
    await apply(env, workflow(), sink(service))
    await env.run("workflow/teller")
    await passing(env, lambda: len(service.requests) == 2)
    assert [request.path for request in service.requests] == ["/v1/events", "/v1/events"]


async def test_a_sink_with_a_certificate_of_its_own_is_trusted_by_that_and_not_without(
    env: ControlPlane, tmp_path: Path
) -> None:
    files = certificates(tmp_path / "data", "127.0.0.1", SystemClock())
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(files.certificate, files.key)
    async with fake.FakeProvider(secure) as service:
        service.always(lambda _: fake.raw(b""))
        await apply(env, workflow(), sink(service), secret("ca", pem=files.authority.read_text()))
        await env.run("workflow/teller")
        with anyio.fail_after(20):
            while (await said(env, "EventSink", "out", "Delivering"))[:2] != ("False", "ConnectionFailed"):
                await anyio.sleep(0.01)
                await env.settle()
        await apply(env, sink(service, tls={"caFrom": {"secretKeyRef": {"name": "ca", "key": "pem"}}}))
        await until(env, lambda: bool(service.requests))


async def test_a_missing_secret_makes_it_unready_and_nothing_is_lost(
    env: ControlPlane, service: fake.FakeProvider
) -> None:
    headers = [{"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "out", "key": "token"}}}]
    await apply(env, workflow(), sink(service, headersFrom=headers))
    assert await ready(env, "EventSink", "out") == ("False", "NotFound")
    await env.run("workflow/teller")
    await apply(env, secret("out", token=TOKEN))
    await until(env, lambda: bool(service.requests))
    assert service.requests[0].headers["authorization"] == TOKEN


async def test_a_deleted_sink_gets_nothing_more(env: ControlPlane, service: fake.FakeProvider) -> None:
    await apply(env, workflow(), sink(service))
    await remove(env, "EventSink", "out")
    await env.run("workflow/teller")
    await env.advance(61)
    assert service.requests == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"events": [{"filter": "event.data."}]}, "spec.events[0].filter", id="filter"),
        pytest.param({"events": [{"filter": "input.n > 1"}]}, "spec.events[0].filter", id="unknown-name"),
        pytest.param({"headersFrom": {"ce-id": "7"}}, "spec.headersFrom[0].name", id="own-header"),
        pytest.param({"headersFrom": {"no header": "7"}}, "spec.headersFrom[0].name", id="header"),
        pytest.param({"uri": "ftp://x"}, "spec.uri", id="scheme"),
        pytest.param({"uri": "http://"}, "spec.uri", id="no-host"),
        pytest.param({"uri": "http://exa mple/x"}, "spec.uri", id="blank"),
        pytest.param({"uri": "http://example.com:99999/"}, "spec.uri", id="port"),
        pytest.param({"delivery": {"retention": "30d"}}, "spec.delivery.retention", id="retention"),
        pytest.param({"delivery": {"timeout": "0s"}}, "spec.delivery.timeout", id="timeout"),
        pytest.param({"mode": "batched"}, "spec.mode", id="mode"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_field(
    env: ControlPlane, service: fake.FakeProvider, spec: dict[str, Any], field: str
) -> None:
    with pytest.raises(ApplyFailed, match=field.replace("[", r"\[").replace("]", r"\]")):
        await env.apply(sink(service, **spec))
