"""What happened to an object, for people: Kubernetes Events, aggregated and rate-limited.

`event` only puts a note into a bounded list and returns; the recorder's own task writes. The same thing happening again to
the same object raises the `count` of the Event that is there. An object that is noisy loses Events, other objects don't.
Events are best effort: a failure to write one is logged and never reaches whoever reported it.

Source: client-go's tools/record (EventRecorder, EventCorrelator). Read next: `kastra.runtime.manager`, which runs it.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import anyio

from kastra.api.errors import NAMESPACE_TERMINATING, AlreadyExists, NotFound, has_cause
from kastra.api.meta import DEFAULT_NAMESPACE, ObjectRef
from kastra.api.object import Object
from kastra.client.interface import Client, WriteOptions
from kastra.clock import Clock, rfc3339
from kastra.telemetry import Metrics, redact_text

from .token_bucket import TokenBucket

logger = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]
_Key = tuple[str, str, str, str]
"""(uid of the object, type, reason, message): what makes two reports the same."""
_MESSAGE_LIMIT = 1024


@dataclass(slots=True)
class _Note:
    involved: dict[str, str]
    namespace: str
    type: EventType
    reason: str
    message: str
    count: int
    first: str
    last: str
    name: str = ""
    """Of the Event that holds it; empty before it is created."""


class Recorder:
    """Writes Events for one component, in one task (`run`).

    Args:
        client: writes them.
        clock: for timestamps and limits.
        component: who reports; shown as the Event's source.
        metrics: counts what was written, dropped and failed.
        burst: Events about one object that may come at once; afterwards `rate` per second.
        capacity: notes that may wait; also how many Events and objects are remembered for aggregation and limits.
        on_idle: called when nothing waits to be written.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        component: str,
        metrics: Metrics,
        *,
        burst: int = 25,
        rate: float = 1 / 300,
        capacity: int = 4096,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._component = component
        self._burst, self._rate, self._capacity = burst, rate, capacity
        self._on_idle = on_idle
        self._waiting: OrderedDict[_Key, _Note] = OrderedDict()
        self._written: OrderedDict[_Key, _Note] = OrderedDict()
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._wake = anyio.Event()
        self._busy = False
        self._results = metrics.counter("kastra_events_total", "Events reported, by what became of them.", ("result",))

    @property
    def idle(self) -> bool:
        """Whether everything reported is written (or dropped)."""
        return not self._waiting and not self._busy

    def event(self, obj: Object | Mapping[str, Any], type_: EventType, reason: str, message: str) -> None:
        """Report that something happened to `obj`. Returns at once and never raises for a reason of its own.

        Args:
            obj: the object concerned.
            type_: Normal or Warning.
            reason: PascalCase, machine-readable, one of a small set.
            message: for people; cut at 1,024 characters, secrets removed.
        """
        data = obj.data if isinstance(obj, Object) else obj
        metadata = data.get("metadata") or {}
        uid = metadata.get("uid", "")
        if not self._bucket(uid).take():
            self._results.inc("limited")
            return
        message = redact_text(message)[:_MESSAGE_LIMIT]
        key = (uid, type_, reason, message)
        now = rfc3339(self._clock.now())
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.count += 1
            waiting.last = now
            self._results.inc("aggregated")
            return
        if len(self._waiting) >= self._capacity:
            self._results.inc("dropped")
            return
        known = self._written.get(key)
        if known is not None:
            known.count += 1
            known.last = now
            self._waiting[key] = known
            self._results.inc("aggregated")
        else:
            involved = {
                "apiVersion": data.get("apiVersion", ""),
                "kind": data.get("kind", ""),
                "name": metadata.get("name", ""),
                "uid": uid,
                "resourceVersion": metadata.get("resourceVersion", ""),
            }
            namespace = metadata.get("namespace", "")
            if namespace:
                involved["namespace"] = namespace
            note = _Note(involved, namespace or DEFAULT_NAMESPACE, type_, reason, message, 1, now, now)
            self._waiting[key] = note
        self._wake.set()

    async def run(self) -> None:
        """Write what is reported, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._waiting:
                key, note = self._waiting.popitem(last=False)
                self._busy = True
                try:
                    await self._write(key, note)
                finally:
                    self._busy = False
            if self._on_idle is not None:
                self._on_idle()

    async def _write(self, key: _Key, note: _Note) -> None:
        try:
            if note.name:
                try:
                    await self._raise_count(note)
                except NotFound:
                    note.name, note.first, note.count = "", note.last, 1
            if not note.name:
                await self._create(key, note)
            self._results.inc("written")
        except Exception as error:  # noqa: BLE001 - whoever reported an Event must not fail because of it
            self._results.inc("failed")
            self._written.pop(key, None)
            level = logging.DEBUG if has_cause(error, NAMESPACE_TERMINATING) else logging.WARNING
            logger.log(level, "could not write Event %s of %s: %s", note.reason, note.involved["name"], error)
            return
        self._written[key] = note
        self._written.move_to_end(key)
        if len(self._written) > self._capacity:
            self._written.popitem(last=False)

    async def _create(self, key: _Key, note: _Note) -> None:
        digest = blake2b("\0".join((*key, note.first, self._component)).encode(), digest_size=8).hexdigest()
        name = f"{note.involved['name'][:230]}.{digest}"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": note.namespace},
            "involvedObject": note.involved,
            "type": note.type,
            "reason": note.reason,
            "message": note.message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._component,
            "count": note.count,
            "firstTimestamp": note.first,
            "lastTimestamp": note.last,
        }
        try:
            await self._client.create(body, WriteOptions(field_manager=self._component))
        except AlreadyExists:
            # Reported within the same second, and forgotten here meanwhile.
            note.name = name
            await self._raise_count(note)
        note.name = name

    async def _raise_count(self, note: _Note) -> None:
        await self._client.patch(
            ObjectRef("events", note.name, note.namespace),
            {"count": note.count, "lastTimestamp": note.last},
            options=WriteOptions(field_manager=self._component),
        )

    def _bucket(self, uid: str) -> TokenBucket:
        bucket = self._buckets.get(uid)
        if bucket is None:
            bucket = self._buckets[uid] = TokenBucket(self._rate, self._burst, self._clock)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(uid)
        return bucket
