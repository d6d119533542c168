"""Which Runs does an event start, and is each started once?

The name of a Run follows from the Workflow, the trigger and the idempotency key, so an event that comes twice, from a sender
that tries again or out of the mailroom after a crash, leads to the Run that is there already. An event that doesn't fit a
trigger starts nothing; one that a trigger can't make sense of starts nothing either, and an Event on the Workflow says why.
A chain of Runs that start each other by what they emit ends after `LONGEST_CHAIN`. Nothing is executed here.

Source: Knative's Trigger, Argo Events' dependencies. Read next: `kastra.runtime.triggers.compiled`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

from kastra.api.cloudevents import CloudEvent
from kastra.api.errors import NAMESPACE_TERMINATING, AlreadyExists, Invalid, NotFound, StatusError, has_cause
from kastra.api.meta import API_VERSION, GROUP, ObjectRef
from kastra.api.object import Object
from kastra.cel import CelError
from kastra.client.interface import Client, WriteOptions
from kastra.failpoint import failpoint
from kastra.runtime.cache import Cache
from kastra.runtime.recorder import Recorder
from kastra.runtime.views import Views

from .compiled import Compiled, Trigger, compile_triggers

WORKFLOW = f"Workflow.{GROUP}"
RUN = f"Run.{GROUP}"
LABEL = f"{GROUP}/trigger"
"""On a Run: the trigger that started it."""
CHAIN = f"{GROUP}/trigger-chain"
"""On a Run, as an annotation: how many Runs before it led to its event."""
LONGEST_CHAIN = 16
"""Runs that may start each other by emitting events."""
EVENTS, WEBHOOKS = "events", "webhooks"
"""Indexes of the Workflows by `namespace/type` and `namespace/path`."""

_OPTIONS = WriteOptions(field_manager="kastra-trigger")
_RUN_SOURCE = f"/apis/{GROUP}/v1/namespaces/"
_LONGEST_NAME = 40


class Host(Protocol):
    """What of a manager is needed."""

    @property
    def client(self) -> Client:
        """To create Runs."""
        ...

    @property
    def cache(self) -> Cache:
        """The informers."""
        ...

    @property
    def recorder(self) -> Recorder:
        """For Events."""
        ...

    @property
    def views(self) -> Views:
        """To read Workflows."""
        ...


@dataclass(frozen=True, slots=True)
class Started:
    """What became of an event for one trigger.

    Args:
        run: name of the Run; empty if the event can't start one.
        created: it is new, and not from the same event before.
        problem: why there is no Run.
    """

    run: str
    created: bool = False
    problem: str = ""


class Triggers:
    """The triggers of all Workflows."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._informer = host.cache.informer(WORKFLOW)
        indexer = self._informer.indexer
        if not indexer.has_index(EVENTS):
            indexer.add_index(EVENTS, lambda workflow: self._keys(workflow, "type"))
            indexer.add_index(WEBHOOKS, lambda workflow: self._keys(workflow, "path"))
        self._workflows = host.cache.lister(WORKFLOW)

    async def deliver(self, namespace: str, event: CloudEvent) -> None:
        """Start what the event starts; does nothing new for one that was delivered before.

        Raises:
            StatusError: a Run can't be stored now; deliver the event again.
        """
        await self.synced()
        for workflow in self._workflows.by_index(EVENTS, f"{namespace}/{event.type}"):
            for trigger in self.of(workflow).triggers:
                if trigger.type == event.type:
                    await self.start(workflow, trigger, event)

    async def synced(self) -> None:
        """Return once the Workflows are known: after a start, events are there before them."""
        await self._informer.wait_synced()

    def by_path(self, namespace: str, path: str) -> Iterable[tuple[Object, Trigger]]:
        """The triggers by webhook at a path, with their Workflows."""
        for workflow in self._workflows.by_index(WEBHOOKS, f"{namespace}/{path}"):
            for trigger in self.of(workflow).triggers:
                if trigger.path == path:
                    yield workflow, trigger

    async def start(self, workflow: Object, trigger: Trigger, event: CloudEvent) -> Started | None:
        """The Run that an event starts by a trigger; None if it isn't meant to start one.

        Raises:
            StatusError: the Run can't be stored now.
        """
        if workflow.spec.get("suspend") is True or workflow.deleting:
            return None
        try:
            if not trigger.fits(event):
                return None
            name = run_name(workflow, trigger, trigger.key_for(event))
            value = trigger.input_for(event)
        except CelError as error:
            return self._refused(workflow, trigger, event, f"{error}")
        chain = await self._chain(event)
        if chain > LONGEST_CHAIN:
            why = f"it comes from the last of {chain} Runs that started each other; does one emit what starts it?"
            return self._refused(workflow, trigger, event, why)
        try:
            failpoint("trigger.before_create")
            await self._host.client.create(_manifest(workflow, trigger, name, value, event, chain), _OPTIONS)
            failpoint("trigger.after_create")
        except AlreadyExists:
            return Started(name)
        except Invalid as error:
            return self._refused(workflow, trigger, event, str(error))
        except StatusError as error:
            if has_cause(error, NAMESPACE_TERMINATING) or isinstance(error, NotFound):
                return None  # the namespace goes, and the Workflow with it
            raise
        return Started(name, created=True)

    def of(self, workflow: Object) -> Compiled:
        """The compiled triggers of a Workflow; none if it is older than a rule that refuses it now."""
        view: Any = self._host.views.of(workflow)
        try:
            return compile_triggers(view.of(workflow).spec.plain())
        except ValueError:
            return Compiled()

    def _keys(self, workflow: Object, field: str) -> list[str]:
        if not workflow.spec.get("triggers"):
            return []
        found = (getattr(trigger, field) for trigger in self.of(workflow).triggers)
        return [f"{workflow.namespace}/{value}" for value in found if value]

    def _refused(self, workflow: Object, trigger: Trigger, event: CloudEvent, why: str) -> Started:
        message = f"trigger {trigger.name}: event {event.id} of {event.source} starts no Run: {why}"
        self._host.recorder.event(workflow, "Warning", "TriggerFailed", message)
        return Started("", problem=why)

    async def _chain(self, event: CloudEvent) -> int:
        """How many Runs led to this event."""
        if not event.source.startswith(_RUN_SOURCE):
            return 0
        parts = event.source.removeprefix(_RUN_SOURCE).split("/")
        if len(parts) != 3 or parts[1] != "runs" or not all(parts):
            return 0
        try:
            run = await self._host.client.get(ObjectRef(RUN, parts[2], parts[0]))
        except NotFound:
            return 1
        noted = run.annotations.get(CHAIN, "0")
        return 1 + (int(noted) if noted.isascii() and noted.isdigit() else 0)


def run_name(workflow: Object, trigger: Trigger, key: str) -> str:
    """The name of the Run of a Workflow, a trigger and an idempotency key."""
    identity = f"{workflow.namespace}\0{workflow.name}\0{trigger.name}\0{key}".encode("utf-8", "surrogatepass")
    return f"{workflow.name[:_LONGEST_NAME].rstrip('-.')}-{blake2b(identity, digest_size=10).hexdigest()}"


def _manifest(
    workflow: Object, trigger: Trigger, name: str, value: Any, event: CloudEvent, chain: int
) -> Mapping[str, Any]:
    annotations = {f"{GROUP}/event-id": event.id, f"{GROUP}/event-source": event.source}
    if chain:
        annotations[CHAIN] = str(chain)
    return {
        "apiVersion": API_VERSION,
        "kind": "Run",
        "metadata": {
            "name": name,
            "namespace": workflow.namespace,
            "labels": {LABEL: trigger.name},
            "annotations": annotations,
        },
        "spec": {
            "target": {"kind": "Workflow", "name": workflow.name, "namespace": workflow.namespace},
            "input": value,
        },
    }
