"""What becomes of CloudEvents and webhooks that come in over HTTP.

    events     go into the mailroom, which hands them to waiting Runs and to triggers; answered when they are durable
    webhooks   start Runs by the triggers at their path whose signature fits; answered with the Run when that is durable

Whoever can't prove where a request comes from is told nothing: an unknown path, a missing secret and a wrong signature get the
same answer. The owner reads why in an Event on the Workflow. The request becomes a CloudEvent: its source is the path, its id
what identifies the delivery, its data the body.

Read next: `kastra.runtime.triggers.signatures`, `kastra.engine.mailroom`.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kastra.api.cloudevents import JSON, CloudEvent, read_http
from kastra.api.errors import NotFound, Unauthorized, not_found
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.apiserver.http.inlets import Answer, Inlets
from kastra.client.interface import Client
from kastra.clock import Clock, rfc3339
from kastra.engine.mailroom import Mailroom
from kastra.runtime.recorder import Recorder
from kastra.runtime.triggers.compiled import Signing, Trigger
from kastra.runtime.triggers.signatures import BadSignature, verify
from kastra.runtime.triggers.starting import Started, Triggers

from .secrets import ClientSecrets

_NOBODY = Signing("GitHub", "webhook", "none", 0.0)
_UNSIGNED = "the request is not signed as the webhook asks"
_CE_TYPE = "webhook"
_LONGEST_KIND = 128


class Intake:
    """Takes in events and webhooks.

    Args:
        client: reads Secrets and Namespaces.
        recorder: tells owners of webhooks about requests that were refused.
    """

    def __init__(
        self, client: Client, mailroom: Mailroom, triggers: Triggers, recorder: Recorder, clock: Clock
    ) -> None:
        self._client = client
        self._mailroom = mailroom
        self._triggers = triggers
        self._recorder = recorder
        self._clock = clock
        self._secrets = ClientSecrets(client, None)

    @property
    def inlets(self) -> Inlets:
        """For the HTTP server."""
        return Inlets(self.events, self.webhook)

    async def events(self, namespace: str, events: Sequence[CloudEvent]) -> Answer:
        """Deliver events: 202 if one of them is new, 200 if all were delivered before.

        Raises:
            NotFound: there is no such namespace.
        """
        try:
            await self._client.get(ObjectRef("namespaces", namespace))
        except NotFound:
            raise not_found("namespaces", "", namespace) from None
        delivered = [await self._mailroom.deliver(namespace, event) for event in events]
        accepted = sum(delivered)
        return Answer(202 if accepted else 200, {"accepted": accepted, "duplicates": len(events) - accepted})

    async def webhook(self, namespace: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Start what a webhook starts: 202 with the Run if it is new, 200 if the delivery came before or starts nothing.

        Raises:
            Unauthorized: it isn't signed as any trigger at that path asks, or there is none.
            BadRequest: it is signed, and says that its body is JSON, which it isn't.
            Invalid: it is signed, and no trigger can make sense of it.
        """
        await self._triggers.synced()
        verified: list[tuple[Object, Trigger, str]] = []
        candidates = list(self._triggers.by_path(namespace, path))
        for workflow, trigger in candidates:
            identity = await self._verified(workflow, trigger, headers, body)
            if identity is not None:
                verified.append((workflow, trigger, identity))
        if not candidates:
            # As much work as for a path that exists.
            await self._secret(_NOBODY, namespace)
            _compare(headers, body)
        if not verified:
            raise Unauthorized(_UNSIGNED)
        outcomes = []
        for workflow, trigger, identity in verified:
            event = self._event(namespace, path, trigger, identity, headers, body)
            started = await self._triggers.start(workflow, trigger, event)
            if started is not None:
                outcomes.append(started)
        return _answer(namespace, outcomes)

    async def _verified(
        self, workflow: Object, trigger: Trigger, headers: Mapping[str, str], body: bytes
    ) -> str | None:
        """What identifies the delivery if it is signed as the trigger asks; else the owner is told."""
        assert trigger.signing is not None
        secret = await self._secret(trigger.signing, workflow.namespace)
        if secret:
            try:
                return verify(trigger.signing, secret, headers, body, self._clock.now().timestamp())
            except BadSignature as error:
                why = str(error)
        else:
            _compare(headers, body)
            why = f"Secret {trigger.signing.secret} has no key {trigger.signing.key} to compare it with"
        message = f"trigger {trigger.name}: a request was refused: {why}"
        self._recorder.event(workflow, "Warning", "WebhookRefused", message)
        return None

    async def _secret(self, signing: Signing, namespace: str) -> str:
        reference = {"name": signing.secret, "key": signing.key, "optional": True}
        return await self._secrets.read({"secretKeyRef": reference}, namespace)

    def _event(
        self, namespace: str, path: str, trigger: Trigger, identity: str, headers: Mapping[str, str], body: bytes
    ) -> CloudEvent:
        sent = headers.get("content-type", JSON)
        kind = (
            headers.get("x-github-event", "")
            if trigger.signing is not None and trigger.signing.type == "GitHub"
            else ""
        )
        attributes = {
            "ce-specversion": "1.0",
            "ce-id": identity.replace("%", "%25"),
            "ce-source": f"/webhooks/{namespace}/{path}",
            "ce-type": f"{_CE_TYPE}.{kind[:_LONGEST_KIND]}" if kind else _CE_TYPE,
            "ce-time": rfc3339(self._clock.now()),
            # The body is the data, even if it is an event itself.
            "content-type": JSON if sent.startswith("application/cloudevents") else sent,
        }
        [event] = read_http(attributes.items(), body)
        return event


def _answer(namespace: str, outcomes: Sequence[Started]) -> Answer:
    runs = [{"name": started.run, "namespace": namespace} for started in outcomes if started.run]
    problems = [started.problem for started in outcomes if started.problem]
    if problems and not runs:
        # The sender has proved who it is, so it may know; trying again would not help.
        return Answer(422, {"error": problems[0]})
    body: dict[str, Any] = {"runs": runs}
    return Answer(202 if any(started.created for started in outcomes) else 200, body)


def _compare(headers: Mapping[str, str], body: bytes) -> None:
    """Compare a signature with one that nobody has, so that it takes as long to refuse a request."""
    with suppress(BadSignature):
        verify(_NOBODY, "unknown", headers, body, 0.0)
