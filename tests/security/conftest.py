"""An API server in memory, on virtual time, with one custom kind that takes anything below `spec`."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kastra.apiserver.bootstrap import APIServer, start
from kastra.apiserver.loopback import LoopbackClient
from kastra.bus import Bus
from kastra.store.objects import ObjectStore, open_store
from kastra.testing.clock import VirtualClock
from tests.contract.client import WIDGETS

BAGS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "bags.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "bags", "kind": "Bag"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                },
            }
        ],
    },
}


@dataclass
class Plane:
    """One server, and what its clients were warned of."""

    server: APIServer
    store: ObjectStore
    warnings: list[str] = field(default_factory=list)

    def client(self, field_manager: str = "tester") -> LoopbackClient:
        return LoopbackClient(self.server.registry, field_manager=field_manager, on_warning=self.warnings.append)


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    """A ring of eight events, so that watchers fall out of it as they would in a long-lived process."""
    clock = VirtualClock()
    async with await open_store(":memory:", clock=clock, bus=Bus(clock, ring=8)) as store:
        server = await start(store, clock)
        await server.definitions.ensure([WIDGETS, BAGS])
        yield Plane(server, store)


@pytest.fixture
def client(plane: Plane) -> LoopbackClient:
    return plane.client()
