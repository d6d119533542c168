"""Where dynamic admission stands in the chain, and how it costs nothing while nobody uses it.

What evaluates is imported when the first configuration of its sort is stored. Read next: `kastra.apiserver.dynamic.kinds`.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from kastra.apiserver.admission import Attributes
from kastra.apiserver.registry import Registry
from kastra.apiserver.served import Served

from .kinds import GROUP, KINDS

if TYPE_CHECKING:
    from kastra.schema.compiled import CompiledSchema

    from .policies import Policies
    from .webhooks import MutatingWebhooks, ValidatingWebhooks

MUTATING = f"mutatingwebhookconfigurations.{GROUP}"
VALIDATING = f"validatingwebhookconfigurations.{GROUP}"
BINDINGS = f"validatingadmissionpolicybindings.{GROUP}"


def install(registry: Registry, compiled: "Callable[[Mapping[str, Any]], CompiledSchema]") -> None:
    """Serve the four kinds, and let what they say count for every write."""
    for resource, strategy in KINDS:
        registry.install(Served(resource, strategy, partial(compiled, resource.schema or {})))
    registry.admission.mutating.append(_Mutating(registry))
    registry.admission.policies.append(_Policies(registry))
    registry.admission.validating.append(_Validating(registry))


class _Hook:
    def __init__(self, registry: Registry, group_resource: str) -> None:
        self._registry = registry
        self._group_resource = group_resource
        self._seen: tuple[int, bool] = (-1, False)

    def _used(self) -> bool:
        storage = self._registry.storage
        # Many requests are served between two commits.
        if self._seen[0] != storage.revision:
            self._seen = (storage.revision, bool(storage.list(self._group_resource).entries))
        return self._seen[1]


class _Mutating(_Hook):
    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, MUTATING)

    @cached_property
    def _webhooks(self) -> "MutatingWebhooks":
        from .webhooks import MutatingWebhooks

        return MutatingWebhooks(self._registry, MUTATING)

    def applies(self, attributes: Attributes) -> bool:
        return self._used() and self._webhooks.applies(attributes)

    async def __call__(self, attributes: Attributes) -> None:
        await self._webhooks(attributes)


class _Validating(_Hook):
    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, VALIDATING)

    @cached_property
    def _webhooks(self) -> "ValidatingWebhooks":
        from .webhooks import ValidatingWebhooks

        return ValidatingWebhooks(self._registry, VALIDATING)

    async def __call__(self, attributes: Attributes) -> None:
        if self._used():
            await self._webhooks(attributes)


class _Policies(_Hook):
    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, BINDINGS)

    @cached_property
    def _policies(self) -> "Policies":
        from .policies import Policies

        return Policies(self._registry)

    async def __call__(self, attributes: Attributes) -> None:
        if self._used():
            await self._policies(attributes)
