"""Asking others about a write: mutating webhooks one after the other, validating ones all at once.

A webhook that doesn't answer, or not sensibly, within its `timeoutSeconds` refuses the request or lets it pass, as its
`failurePolicy` says. Nothing is locked while one is asked. Never called for the kinds of this group, and never with objects
in a version that its rules don't name.

Source: apiserver/pkg/admission/plugin/webhook (mutating, validating). Read next: `kastra.apiserver.webhookcall`.
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import anyio

from kastra.api.errors import Forbidden, InternalError, StatusError
from kastra.api.scheme import Scheme
from kastra.api.values import copy, equal
from kastra.apiserver.admission import Attributes
from kastra.apiserver.authorization import Authorizer
from kastra.apiserver.served import Served
from kastra.apiserver.webhookcall import CallFailed, Outbound, call
from kastra.cel import CelError

from .expressions import CONDITIONS, Condition, asked, meets, values_of
from .kinds import GROUP
from .live import Live
from .matching import Kinds, Match
from .review import BadReview, Verdict, patched, request_of, review_of, verdict_of

_log = logging.getLogger("kastra.apiserver")


class Surroundings(Kinds, Protocol):
    """What webhooks and policies need of the server: the registry."""

    scheme: Scheme
    authorizer: Authorizer
    outbound: Outbound | None


class Webhook:
    """One entry of `webhooks`, compiled."""

    __slots__ = ("conditions", "config", "fails", "match", "name", "reinvoked", "timeout")

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.name: str = raw["name"]
        self.config: Mapping[str, Any] = raw["clientConfig"]
        self.match = Match(raw, raw.get("rules") or ())
        self.conditions = [Condition(condition, CONDITIONS) for condition in raw.get("matchConditions") or ()]
        self.fails = raw.get("failurePolicy", "Fail") == "Fail"
        self.timeout = float(raw.get("timeoutSeconds", 10))
        self.reinvoked = raw.get("reinvocationPolicy") == "IfNeeded"

    async def ask(
        self, attributes: Attributes, served: Served, surroundings: Surroundings, *, mutating: bool
    ) -> Verdict:
        """What it says of a request that it matches; an empty verdict if it isn't to be asked.

        Raises:
            Forbidden: whether to ask can't be told.
            InternalError: it gave no usable answer, and nothing may pass without one.
        """
        request = await request_of(attributes, served)
        if not self._concerned(attributes, request, surroundings.authorizer):
            return Verdict()
        try:
            body = await call(surroundings.outbound, self.config, review_of(request), self.timeout)
            return verdict_of(body, request["uid"], self.name, mutating=mutating)
        except (CallFailed, BadReview) as error:
            self.failed(str(error))
            return Verdict()

    def failed(self, why: str) -> None:
        """Do what the failure policy says. Raises InternalError."""
        if self.fails:
            raise InternalError(f'Internal error occurred: failed calling webhook "{self.name}": {why}')
        _log.warning("webhook failed, and is ignored as its policy says", extra={"webhook": self.name, "error": why})

    def _concerned(self, attributes: Attributes, request: Mapping[str, Any], authorizer: Authorizer) -> bool:
        if not self.conditions:
            return True
        try:
            with asked(authorizer, attributes.user):
                return meets(self.conditions, values_of(request))
        except CelError as error:
            if not self.fails:
                return False
            resource = attributes.resource
            raise Forbidden(
                f'{resource.group_resource} "{attributes.name}" is forbidden: webhook "{self.name}": its matchConditions '
                f"can't be evaluated: {error.reason}",
                name=attributes.name,
                group=resource.group,
                kind=resource.plural,
            ) from None


def _webhooks(configuration: Mapping[str, Any]) -> list[Webhook]:
    return [Webhook(raw) for raw in configuration.get("webhooks") or ()]


class _Webhooks:
    def __init__(self, surroundings: Surroundings, group_resource: str) -> None:
        self._surroundings = surroundings
        self._live = Live(surroundings.storage, group_resource, _webhooks)

    def _concerned(self, attributes: Attributes) -> list[tuple[Webhook, Served]]:
        """Those to ask, with the version to show each; in the order of their configurations' names."""
        found: list[tuple[Webhook, Served]] = []
        if attributes.resource.group == GROUP:
            # Or a wrong configuration could keep everybody from removing it.
            return found
        for webhooks in self._live.present():
            for webhook in webhooks:
                served = webhook.match.find(attributes, self._surroundings)
                if served is not None:
                    found.append((webhook, served))
        return found


class MutatingWebhooks(_Webhooks):
    """Those of all MutatingWebhookConfigurations."""

    def applies(self, attributes: Attributes) -> bool:
        """Whether any is to be asked."""
        return bool(self._concerned(attributes))

    async def __call__(self, attributes: Attributes) -> None:
        """Ask each, and patch the object as it says; once more those that want to know what later ones changed.

        Raises:
            StatusError: one refused.
        """
        again: list[tuple[Webhook, Any]] = []
        for webhook, served in self._concerned(attributes):
            await self._apply(webhook, served, attributes)
            if webhook.reinvoked:
                again.append((webhook, copy(attributes.object)))
        for webhook, left in again:
            # What was changed meanwhile may also have made others match, or this one not.
            view = webhook.match.find(attributes, self._surroundings)
            if view is not None and not equal(left, attributes.object):
                await self._apply(webhook, view, attributes)

    async def _apply(self, webhook: Webhook, served: Served, attributes: Attributes) -> None:
        verdict = await webhook.ask(attributes, served, self._surroundings, mutating=True)
        _note(attributes, verdict)
        if verdict.refusal is not None:
            raise verdict.refusal
        if not verdict.patch:
            return
        try:
            attributes.object = await patched(attributes, served, verdict.patch)
        except BadReview as error:
            webhook.failed(str(error))


class ValidatingWebhooks(_Webhooks):
    """Those of all ValidatingWebhookConfigurations."""

    async def __call__(self, attributes: Attributes) -> None:
        """Ask all at once. Raises the StatusError of the first, in their order, that refused."""
        concerned = self._concerned(attributes)
        if not concerned:
            return
        outcomes: list[Verdict | StatusError] = [Verdict()] * len(concerned)

        async def ask(index: int, webhook: Webhook, served: Served) -> None:
            try:
                outcomes[index] = await webhook.ask(attributes, served, self._surroundings, mutating=False)
            except StatusError as error:
                outcomes[index] = error

        async with anyio.create_task_group() as group:
            for index, (webhook, served) in enumerate(concerned):
                group.start_soon(ask, index, webhook, served)
        refusals: list[StatusError] = []
        for outcome in outcomes:
            if isinstance(outcome, StatusError):
                refusals.append(outcome)
                continue
            _note(attributes, outcome)
            if outcome.refusal is not None:
                refusals.append(outcome.refusal)
        if refusals:
            raise refusals[0]


def _note(attributes: Attributes, verdict: Verdict) -> None:
    attributes.call.warnings += verdict.warnings
    attributes.call.annotations.update(verdict.annotations)
