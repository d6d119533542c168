"""How does an event get to an EventSink? One HTTP request through the outbound guard, and what its answer means.

    2xx                     taken; what else the answer says is not read
    400, 413, 415, 422      the sink can't take this event, now or later
    anything else           not taken yet; 429 and 503 may say when to come again (`Retry-After`)

Redirects aren't followed. Headers and the key of the signature come from Secrets that are read for each request, so a rotated
one counts at once; none of them is in an error. The signature is that of Standard Webhooks, or GitHub's, so that what takes such
webhooks can check it; `webhook-id` is the same whenever the same event is sent.

Source: CloudEvents' HTTP binding and HTTP web hooks, Knative's delivery specification, Standard Webhooks 1.0. Read next:
`kastra.engine.outbox`, which calls this; `kastra.runtime.triggers.signatures`, the other side.
"""

import base64
import hmac
from collections.abc import Mapping
from contextlib import AsyncExitStack
from email.utils import parsedate_to_datetime
from hashlib import sha256
from itertools import count

import anyio

from kastra.api.cloudevents import CloudEvent
from kastra.api.cloudevents_http import write_http
from kastra.clock import Clock
from kastra.engine.outbox import NEWS, NotTaken, Outbox, Sink, Unwanted
from kastra.netguard import BadAnswer, ConnectionFailed, Guard, Limits, OutboundError, Refused, TimedOut
from kastra.runtime.triggers.signatures import BadSignature, signing_key

from .foundation import Foundation
from .secrets import ClientSecrets

LONGEST_REST = 3600.0
"""Seconds for which a sink can ask to be left alone."""
MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are waited for, so that its connection can be used again."""

_UNWANTED = frozenset({400, 413, 415, 422})
_REASONS = {401: "Unauthorized", 403: "Unauthorized", 429: "Throttled"}
_FAILURES = ((Refused, "AddressRefused"), (TimedOut, "TimedOut"), (BadAnswer, "BadAnswer"))


class EventSender:
    """Sends events to sinks.

    Args:
        guard: makes the calls.
        secrets: reads what headers and signatures need.
    """

    def __init__(self, guard: Guard, secrets: ClientSecrets, clock: Clock) -> None:
        self._guard = guard
        self._secrets = secrets
        self._clock = clock

    async def send(self, sink: Sink, event: CloudEvent) -> None:
        """Deliver one event.

        Raises:
            NotTaken: it wasn't taken, and may be later.
            Unwanted: it is refused for good.
        """
        address = sink.address
        try:
            headers, body = await self._request(sink, event)
            authorities = await self._authorities(sink)
        except LookupError as error:
            raise NotTaken("SecretNotResolved", str(error.args[0]) if error.args else "a secret is missing") from None
        seconds = float(address["seconds"])
        limits = Limits(timeout=seconds, max_bytes=MAX_ANSWER, max_redirects=0)
        try:
            with anyio.fail_after(seconds):
                status, answered = await self._post(sink, headers, body, limits, authorities)
        except TimeoutError:
            raise NotTaken("TimedOut", f"no answer within {seconds:g} s") from None
        except OutboundError as error:
            reason = next((reason for kind, reason in _FAILURES if isinstance(error, kind)), "ConnectionFailed")
            raise NotTaken(reason, str(error)) from None
        if 200 <= status < 300:
            return
        if status in _UNWANTED:
            raise Unwanted(f"the sink refuses it with {status}")
        raise NotTaken(_REASONS.get(status, "BadAnswer"), f"the sink answers with {status}", self._after(answered))

    async def _post(
        self, sink: Sink, headers: Mapping[str, str], body: bytes, limits: Limits, authorities: str
    ) -> tuple[int, Mapping[str, str]]:
        async with self._guard.stream(
            "POST",
            sink.address["uri"],
            headers=headers,
            content=body,
            allow_private=bool(sink.address.get("allowPrivate")),
            limits=limits,
            authorities=authorities,
        ) as answer:
            try:
                async for _ in answer.chunks:
                    pass
            except (BadAnswer, ConnectionFailed):
                # What the status says is settled; a body that is too long or breaks off only costs the connection.
                pass
            return answer.status, answer.headers

    async def _request(self, sink: Sink, event: CloudEvent) -> tuple[dict[str, str], bytes]:
        headers, body = write_http(event, sink.address["mode"])
        for header in sink.address["headers"]:
            value = header.get("value")
            if value is None:
                value = await self._secrets.read(header["valueFrom"], sink.namespace)
            headers[header["name"].lower()] = value
        signature = sink.address.get("signature")
        if signature is not None:
            secret = await self._secrets.read({"secretKeyRef": signature["secretKeyRef"]}, sink.namespace)
            try:
                headers |= sign(signature["type"], secret, event, body, int(self._clock.now().timestamp()))
            except BadSignature as error:
                raise LookupError(f"spec.signature: {error}") from None
        return headers, body

    async def _authorities(self, sink: Sink) -> str:
        source = (sink.address.get("tls") or {}).get("caFrom")
        return await self._secrets.read(source, sink.namespace) if source is not None else ""

    def _after(self, headers: Mapping[str, str]) -> float | None:
        """Seconds that the sink asks to be left alone for; None if it doesn't say."""
        text = headers.get("retry-after", "").strip()
        if not text:
            return None
        if text.isascii() and text.isdigit():
            return min(float(text[:9]), LONGEST_REST)
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return None
        return min(max(0.0, moment.timestamp() - self._clock.now().timestamp()), LONGEST_REST)


def sign(kind: str, secret: str, event: CloudEvent, body: bytes, now: int) -> dict[str, str]:
    """The headers that prove where a request comes from.

    Args:
        kind: `StandardWebhooks` or `GitHub`.
        now: seconds since 1970.

    Raises:
        BadSignature: the secret can't be a key.
    """
    if not secret:
        raise BadSignature("the secret is empty")
    if kind == "GitHub":
        return {"x-hub-signature-256": f"sha256={hmac.digest(secret.encode(), body, 'sha256').hex()}"}
    identity = f"msg_{sha256(f'{event.source}{chr(0)}{event.id}'.encode()).hexdigest()[:40]}"
    content = f"{identity}.{now}.".encode() + body
    made = base64.b64encode(hmac.digest(signing_key(secret), content, "sha256")).decode()
    return {"webhook-id": identity, "webhook-timestamp": str(now), "webhook-signature": f"v1,{made}"}


async def start_outbox(base: Foundation, stack: AsyncExitStack) -> Outbox:
    """The queues of all sinks, delivering until `stack` ends."""
    guard = await stack.enter_async_context(Guard(base.policy))
    sender = EventSender(guard, ClientSecrets(base.client, base.settings.project), base.clock)
    numbers = count(1)

    def tell(namespace: str, name: str) -> None:
        base.bus.publish(NEWS, [(next(numbers), (namespace, name))])

    outbox = Outbox(base.store.writer, base.store.query, base.clock, sender.send, tell)
    return await stack.enter_async_context(outbox)
