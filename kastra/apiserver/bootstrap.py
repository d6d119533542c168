"""From a storage to an API that answers: built-in kinds, the definitions found in storage, the first namespaces.

    plane = await start(storage, clock, validators=..., connectors=...)
    client = LoopbackClient(plane.registry)
    await plane.definitions.ensure(crds)

Nothing runs by itself after that; there are no tasks to stop. Read next: `kastra.apiserver.loopback`.
"""

from collections.abc import MutableMapping
from functools import partial
from typing import NamedTuple

from kastra.api.scheme import Scheme
from kastra.clock import Clock
from kastra.store.interface import Key, Storage

from . import events
from .admission import AdmissionChain, Validate, ValidateUpdate
from .builtin import BUILTINS, EVENT, NAMESPACE
from .call import SYSTEM, Call
from .core import BOOTSTRAP_NAMESPACES
from .crds import CustomResourceDefinitions
from .dynamic import hooks as dynamic_admission
from .registry import Registry
from .reviews import REVIEWS
from .served import Served
from .subresources import ConnectorRegistry
from .webhookcall import Outbound


class APIServer(NamedTuple):
    """The registry, and the definitions that change what it serves."""

    registry: Registry
    definitions: CustomResourceDefinitions


async def start(
    storage: Storage,
    clock: Clock,
    *,
    scheme: Scheme | None = None,
    validators: MutableMapping[tuple[str, str], Validate] | None = None,
    update_validators: MutableMapping[tuple[str, str], ValidateUpdate] | None = None,
    connectors: ConnectorRegistry | None = None,
    outbound: Outbound | None = None,
    read_only: bool = False,
) -> APIServer:
    """Serve what is in `storage`.

    Args:
        scheme: filled here; a new one if none is given.
        validators: `validate` by (group, kind), see `AdmissionChain`.
        update_validators: `validate_update` by (group, kind).
        connectors: streams and actions; those registered before this call show in discovery.
        outbound: gives the guard through which webhooks are called; None for no calls.
        read_only: write nothing, because another process owns the storage and has done so.
    """
    registry = Registry(storage, scheme or Scheme(), AdmissionChain(validators, update_validators), clock, connectors)
    registry.outbound = outbound
    definitions = CustomResourceDefinitions(registry)
    for resource, strategy in (*BUILTINS, *REVIEWS):
        registry.install(Served(resource, strategy, partial(definitions.compiled, resource.schema or {})))
    new_events = events.new_events(EVENT)
    compiled = partial(definitions.compiled, new_events.schema or {})
    served = Served(
        new_events, events.NewEventStrategy(), compiled, conversion=events.CONVERSION, stored_as=EVENT.group_resource
    )
    registry.install(served)
    dynamic_admission.install(registry, definitions.compiled)
    definitions.load()
    if not read_only:
        await definitions.resume()
        for name in BOOTSTRAP_NAMESPACES:
            if storage.get(Key(NAMESPACE.group_resource, "", name)) is None:
                namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                await registry.create(NAMESPACE, "", namespace, Call(SYSTEM))
    return APIServer(registry, definitions)
