"""What does everything stand on that works for Runs in this process? The store, time, rights and network, handed on as one.

Read next: `kastra.app.composition`, which lays it; `kastra.app.execution` and `kastra.app.event_sinks`, which stand on it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kastra.bus import Bus
    from kastra.client.interface import Client
    from kastra.clock import Clock
    from kastra.config import Settings
    from kastra.netguard import Policy
    from kastra.store.objects import ObjectStore
    from kastra.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Foundation:
    """What Runs are executed with.

    Args:
        client: with the rights that Runs have.
        clock: the time of Runs.
        policy: what outbound calls may reach.
        metrics: of the process; None where nothing is counted.
    """

    settings: "Settings"
    store: "ObjectStore"
    client: "Client"
    bus: "Bus"
    clock: "Clock"
    policy: "Policy"
    metrics: "Metrics | None" = None
