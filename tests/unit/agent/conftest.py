"""Services for agents in tests: virtual time, no secrets but one, no control half."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from kastra.agent.services import AgentServices
from kastra.netguard import Guard, Policy
from kastra.testing.clock import VirtualClock


class Secrets:
    """Knows one Secret and one ConfigMap."""

    async def read(self, value_from: Mapping[str, Any], namespace: str) -> str:
        if value_from.get("secretKeyRef", {}).get("name") == "keys":
            return f"sk-canary-{namespace}"
        if "configMapKeyRef" in value_from:
            return "You are ${{ input.role }}."
        raise LookupError(f"there is no {next(iter(value_from))} in {namespace}")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def services(clock: VirtualClock) -> AsyncIterator[AgentServices]:
    async with Guard(Policy()) as guard:
        yield AgentServices(guard, clock, Secrets())
