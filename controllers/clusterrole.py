"""Aggregated ClusterRoles: the rules of one are the sum of those that its selectors match, kept so as roles come and go.

That is how a role for a custom kind becomes part of `view` or `edit`: by carrying the label
`rbac.authorization.k8s.io/aggregate-to-view: "true"`.

Source: kube-controller-manager's clusterroleaggregation. Read next: `kastra.apiserver.rbac_defaults`.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kastra.api.errors import NotFound
from kastra.api.object import Object
from kastra.api.selectors import label_selector_of
from kastra.client.interface import PatchType, WriteOptions
from kastra.runtime.manager import Manager
from kastra.runtime.predicates import always
from kastra.runtime.reconcile import Request, Result

KIND = "ClusterRole.rbac.authorization.k8s.io"
_OPTIONS = WriteOptions(field_manager="kastra-clusterrole-aggregation")


class Aggregation:
    """Writes the rules of aggregated ClusterRoles."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._roles = manager.cache.lister(KIND)

    async def reconcile(self, request: Request) -> Result:
        """One pass over one ClusterRole; one without an aggregationRule needs nothing."""
        role = self._roles.get("", request.name)
        if role is None or role.deleting or not _selectors(role):
            return Result()
        selectors = [label_selector_of(selector) for selector in _selectors(role)]
        rules: list[Mapping[str, Any]] = []
        for other in sorted(self._roles.list(), key=lambda other: other.name):
            if other.name != role.name and any(selector.matches(other.labels) for selector in selectors):
                rules += [rule for rule in other.data.get("rules") or () if rule not in rules]
        if rules != (role.data.get("rules") or []):
            patch = {"metadata": {"resourceVersion": role.resource_version}, "rules": rules}
            with suppress(NotFound):
                await self._client.patch(role.ref, patch, PatchType.MERGE, _OPTIONS)
        return Result()

    def aggregated(self, changed: Object) -> list[Request]:
        """The roles that a change of one may concern: all aggregated ones, of which there are few."""
        return [Request("", role.name) for role in self._roles.list() if _selectors(role) and role.name != changed.name]


def _selectors(role: Object) -> list[Mapping[str, Any]]:
    return list((role.data.get("aggregationRule") or {}).get("clusterRoleSelectors") or ())


def setup(manager: Manager) -> None:
    """Look at a role when it changes itself, and at the aggregated ones when any does."""
    aggregation = Aggregation(manager)
    controller = manager.controller(KIND, aggregation, name="clusterrole", concurrency=1, predicate=always)
    controller.watches(KIND, aggregation.aggregated)
