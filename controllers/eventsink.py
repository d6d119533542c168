"""EventSink: where events that Runs emit are sent, outside of Kastra.

How an EventSink is read, which events are queued for it, and the controller that opens its queue for delivery and says how that
goes. The schema is `crds/eventsinks.yaml`. An event is queued when it has been accepted from a Run, for each sink of the namespace
that it fits, also for one that is suspended or not Ready; what was emitted before the sink was there isn't sent. Nothing is sent
here. Source: Knative's Trigger and its delivery. Read next: `kastra.engine.outbox`.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, StrictInt

from kastra.api.cloudevents import CloudEvent
from kastra.api.durations import parse_duration
from kastra.api.errors import INVALID, Cause
from kastra.api.meta import GROUP
from kastra.api.object import Object
from kastra.api.types import Reference
from kastra.cel import CelError, Program, environment
from kastra.clock import milliseconds, parse_rfc3339, rfc3339
from kastra.config import Settings
from kastra.engine.mailroom import Mailroom
from kastra.engine.outbox import NEWS, Outbox, Report, Sink
from kastra.netguard import Policy, Refused, Target
from kastra.netguard.preview import refusal
from kastra.runtime.cache import Cache
from kastra.runtime.declarative import Context, controller
from kastra.runtime.manager import Manager
from kastra.runtime.readiness import examine, listed, suspended
from kastra.runtime.reconcile import Request, Result
from kastra.runtime.value_sources import examine_values
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import forbidden, invalid
from kastra.runtime.view_types import Duration, NamedValues, ValueFrom

KIND = f"EventSink.{GROUP}"
OF_NAMESPACE = "namespace"
"""Index of EventSinks by namespace."""
LOOK = 60.0
"""Seconds between two looks whether queues are still of use."""
EVERY = 1.0
"""Seconds between two looks at how delivery goes."""
OFTEN = 3
"""Failures in a row after which an Event says so."""

_TIMEOUT, _DELAY, _LONGEST, _RETENTION, _CONCURRENCY = 30.0, 1.0, 60.0, 24 * 3600.0, 8
_BOUNDS = {"timeout": (0.1, 300.0), "backoffDelay": (0.1, 3600.0), "backoffMax": (0.1, 3600.0)}
_MOST_RETENTION = 7 * 24 * 3600.0
_OWN = ("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "content-type")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_OWN_PREFIXES = ("ce-", "webhook-", "x-hub-signature")


class Wanted(Fields):
    """Events that are sent."""

    type: str | None = None
    subject: str | None = None
    filter: str | None = None


class SecretKey(Fields):
    """One key of a Secret in the namespace of the sink."""

    name: str
    key: str


class Signature(Fields):
    """How requests are signed."""

    type: Literal["StandardWebhooks", "GitHub"]
    secret_key_ref: SecretKey


class TLS(Fields):
    """How the sink's certificate is checked."""

    ca_from: ValueFrom | None = None


class Delivery(Fields):
    """How often and for how long delivery is tried."""

    timeout: Duration | None = None
    backoff_delay: Duration | None = None
    backoff_max: Duration | None = None
    retention: Duration | None = None
    concurrency: StrictInt | None = None


class EventSinkSpec(Fields):
    """The normal form of an EventSink's spec."""

    uri: str
    mode: Literal["structured", "binary"] | None = None
    events: list[Wanted] | None = None
    headers_from: NamedValues = Field(default_factory=list)
    signature: Signature | None = None
    tls: TLS | None = None
    allow_private: bool | None = None
    delivery: Delivery | None = None
    suspend: bool = False


class EventSinkView(View, kind="EventSink"):
    """An EventSink, read."""

    spec: EventSinkSpec

    def references(self) -> list[Reference]:
        """The Secrets and ConfigMaps whose values requests are made with."""
        found = [reference for path, value in self.values() for reference in value.sources(path)]
        if self.spec.signature is not None:
            found.append(Reference("spec.signature.secretKeyRef", "Secret", self.spec.signature.secret_key_ref.name))
        return found

    def values(self) -> list[tuple[str, ValueFrom]]:
        """Every value that comes from elsewhere, with its path; without that of the signature."""
        spec = self.spec
        used = [(f"spec.headersFrom[{i}].valueFrom", entry.value_from) for i, entry in enumerate(spec.headers_from)]
        if spec.tls is not None:
            used.append(("spec.tls.caFrom", spec.tls.ca_from))
        return [(path, value) for path, value in used if value is not None]

    def unsupported(self) -> list[str]:
        """Every field has an effect."""
        return []

    def sink(self) -> Sink:
        """As the outbox knows it."""
        spec, metadata = self.spec, self.metadata
        delivery = spec.delivery or Delivery()
        plain = spec.plain()
        address = {name: plain.get(name) for name in ("uri", "signature", "tls", "allowPrivate")}
        address["mode"], address["headers"] = plain.get("mode") or "structured", plain.get("headersFrom") or []
        address["seconds"] = _seconds(delivery.timeout, _TIMEOUT)
        first = _seconds(delivery.backoff_delay, _DELAY)
        return Sink(
            metadata.uid,
            metadata.namespace,
            metadata.name,
            address,
            retention=_seconds(delivery.retention, _RETENTION),
            at_once=delivery.concurrency or _CONCURRENCY,
            first_pause=first,
            longest_pause=max(first, _seconds(delivery.backoff_max, _LONGEST)),
        )


def _seconds(given: Any, default: float) -> float:
    return default if given is None else parse_duration(given)


def validate(view: EventSinkView) -> list[Cause]:
    """What is wrong with an EventSink beyond what its schema says."""
    found: list[Cause] = []
    try:
        Target.parse(view.spec.uri)
    except Refused as error:
        found.append(invalid(view.spec.uri, str(error), "spec.uri"))
    for index, wanted in enumerate(view.spec.events or ()):
        if wanted.filter is not None:
            try:
                _program(wanted.filter)
            except CelError as error:
                place = f"{error.line}:{error.column}: " if error.line else ""
                found.append(Cause(INVALID, f"Invalid value: {place}{error.reason}", f"spec.events[{index}].filter"))
    for index, header in enumerate(view.spec.headers_from):
        name = header.name.lower()
        if not _TOKEN.fullmatch(name):
            message = "no name of a header; write letters, digits and hyphens, as in X-Api-Key"
            found.append(invalid(header.name, message, f"spec.headersFrom[{index}].name"))
        elif name in _OWN or name.startswith(_OWN_PREFIXES):
            found.append(forbidden("the request sets it itself", f"spec.headersFrom[{index}].name"))
    return found + list(_time_findings(view.spec.delivery or Delivery()))


def _time_findings(delivery: Delivery) -> Iterator[Cause]:
    bounds = {**_BOUNDS, "retention": (1.0, _MOST_RETENTION)}
    given = (delivery.timeout, delivery.backoff_delay, delivery.backoff_max, delivery.retention)
    for value, (name, (least, most)) in zip(given, bounds.items(), strict=True):
        if value is not None and not least <= parse_duration(value) <= most:
            yield invalid(value, f"must be at least {least:g}s and at most {most:g}s", f"spec.delivery.{name}")


def _program(text: str) -> Program:
    inner = text.strip()
    if inner.startswith("${{") and inner.endswith("}}"):
        inner = inner[3:-2].strip()
    return environment("event").compile(inner)


# --- which events --------------------------------------------------------------------------------------------------


class Routing:
    """Queues what Runs emit for the sinks of their namespace."""

    def __init__(self, manager: Manager, outbox: Outbox) -> None:
        self._outbox = outbox
        self._manager = manager
        self._informer = manager.cache.informer(KIND)
        self._informer.indexer.add_index(OF_NAMESPACE, lambda sink: [sink.namespace])
        self._sinks = manager.cache.lister(KIND)
        self._matchers: dict[tuple[str, int], list[tuple[Wanted, Program | None]]] = {}

    async def deliver(self, namespace: str, event: CloudEvent) -> None:
        """Queue an event for every sink that it fits; does nothing new for one that was delivered before.

        Raises:
            StatusError, SqlError: it can't be stored now; deliver the event again.
        """
        if not event.source.startswith(f"/apis/{GROUP}/v1/namespaces/{namespace}/runs/"):
            return
        await self._informer.wait_synced()
        sinks = self._sinks.by_index(OF_NAMESPACE, namespace)
        uids = [sink.uid for sink in sinks if not sink.deleting and self._fits(sink, event)]
        if uids:
            await self._outbox.post(uids, event, _arrival(event))

    def _fits(self, sink: Object, event: CloudEvent) -> bool:
        matchers = self._of(sink)
        if not matchers:
            return True
        value = event.to_json()
        for wanted, condition in matchers:
            if wanted.type not in (None, event.type) or wanted.subject not in (None, event.subject):
                continue
            try:
                if condition is None or condition.test({"event": value}):
                    return True
            except CelError as error:
                message = f"event {event.id} of {event.source} isn't sent: spec.events: {error}"
                self._manager.recorder.event(sink, "Warning", "FilterFailed", message)
        return False

    def _of(self, sink: Object) -> list[tuple[Wanted, Program | None]]:
        key = (sink.uid, sink.generation)
        found = self._matchers.get(key)
        if found is None:
            if len(self._matchers) > 4096:
                self._matchers.clear()
            kind: Any = self._manager.views.of(sink)
            view = kind.of(sink)
            found = self._matchers[key] = [
                (wanted, None if wanted.filter is None else _program(wanted.filter))
                for wanted in view.spec.events or ()
            ]
        return found


def _arrival(event: CloudEvent) -> int:
    """Milliseconds at which an event came; the mailroom notes them in each that has no time."""
    with suppress(ValueError):
        return milliseconds(parse_rfc3339(event.time))
    return 0


# --- how it goes ---------------------------------------------------------------------------------------------------


@controller(
    EventSinkView,
    watches=("Secret", "ConfigMap"),
    sources={NEWS: lambda sink: [Request(*sink)]},
    concurrency=8,
)
async def reconcile(sink: EventSinkView, ctx: Context) -> Result:
    """Open the queue for delivery, or close it, and say how delivery goes."""
    found = await examine(sink, ctx)
    try:
        outbox = ctx.service(Outbox)
    except LookupError:
        return ctx.not_ready("NotExecuted", "Runs aren't executed here, so nothing is sent from here")
    sources = [(path, value.plain()) for path, value in sink.values()]
    if sink.spec.signature is not None:
        reference = {"secretKeyRef": sink.spec.signature.secret_key_ref.plain()}
        sources.append(("spec.signature", reference))
    values = examine_values(sources, found.resolution, ctx.service(Settings).project, ctx.object.uid)
    problem = found.message if found.reason else listed(values.missing)
    digest = None if problem else values.digest or None
    if digest is not None and ctx.status.secret_hash not in (None, digest):
        outbox.retry(ctx.object.uid)
    ctx.status.secret_hash = digest
    report = await outbox.report(ctx.object.uid)
    _tell(sink, ctx, report)
    refused = refusal(sink.spec.uri, ctx.service(Policy), allow_private=bool(sink.spec.allow_private))
    if sink.spec.suspend or problem or refused is not None:
        outbox.close(ctx.object.uid)
        if sink.spec.suspend:
            return suspended(ctx)
        if problem:
            return ctx.not_ready(found.reason or "SecretNotResolved", problem)
        return ctx.not_ready("AddressRefused", f"spec.uri: {refused}")
    outbox.open(sink.sink())
    ctx.ready("events are sent", "Resolved")
    # News come at once; what is only counted is counted now and then while there is something to count.
    return Result(requeue_after=EVERY if report.pending else None)


def _tell(sink: EventSinkView, ctx: Context, report: Report) -> None:
    status = ctx.status
    status.pending, status.lost = report.pending, report.lost
    if report.last:
        status.last_delivery_time = _time(report.last)
    before = ctx.object.condition("Delivering") or {}
    status.failing_since = _time(report.failing_since) if report.failing_since else None
    if report.failing_since:
        ctx.condition("Delivering", False, report.reason, f"{report.message}; {report.pending} events wait")
        if report.failures >= OFTEN:
            message = f"{sink.spec.uri.partition('?')[0]}: {report.message}; tried again for {_retention(sink)}"
            ctx.event("DeliveryFailing", message, "Warning")
    elif report.last:
        ctx.condition("Delivering", True, "Delivered", "the sink takes what it is sent")
        if before.get("status") == "False":
            ctx.event("DeliveryRecovered", "the sink takes events again")
    elif not before:
        ctx.condition("Delivering", None, "NothingSent", "nothing was sent yet")
    for message in report.given_up:
        ctx.event("EventLost", message[:1000], "Warning")


def _time(moment: int) -> str:
    return rfc3339(datetime.fromtimestamp(moment / 1000, UTC))


def _retention(sink: EventSinkView) -> str:
    return f"{_seconds(sink.spec.delivery.retention if sink.spec.delivery else None, _RETENTION):g} s"


@reconcile.poll(every=LOOK)
async def forsaken(outbox: Outbox | None, cache: Cache) -> Iterable[Request]:
    """Queues of objects that are gone are forgotten; of nobody is anything to be looked at."""
    if outbox is None:
        return ()
    await cache.informer(KIND).wait_synced()
    # In this order: whoever has a queue by now is either shown by the cache, or gone.
    queues = await outbox.known()
    present = {sink.uid for sink in cache.lister(KIND).list()}
    for uid in queues:
        if uid not in present:
            await outbox.drop(uid)
    return ()


def setup(manager: Manager) -> None:
    """Events are routed where Runs are executed."""
    try:
        outbox, mailroom = manager.service(Outbox), manager.service(Mailroom)
    except LookupError:
        return
    mailroom.listen(Routing(manager, outbox).deliver)
