"""An API server over a real store in a temporary folder, on virtual time."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kastra.apiserver.bootstrap import APIServer, start
from kastra.apiserver.loopback import LoopbackClient
from kastra.store.objects import ObjectStore, open_store
from kastra.testing.clock import VirtualClock


@dataclass
class Plane:
    """One server, and what its clients were warned of."""

    server: APIServer
    store: ObjectStore
    clock: VirtualClock
    warnings: list[str] = field(default_factory=list)

    def client(self, field_manager: str = "tester") -> LoopbackClient:
        return LoopbackClient(self.server.registry, field_manager=field_manager, on_warning=self.warnings.append)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    clock = VirtualClock()
    async with await open_store(tmp_path / "kastra.db", clock=clock) as store:
        yield Plane(await start(store, clock), store, clock)


@pytest.fixture
def client(plane: Plane) -> LoopbackClient:
    return plane.client()
