"""A fake provider on a real socket, and models of every wire that ask it."""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from kastra.clock import SystemClock
from kastra.model import testing as fake
from kastra.model.interface import Credentials, Model, ModelConfig, ModelServices
from kastra.model.providers import create
from kastra.netguard import Guard, Policy

KEY = "sk-canary-1234"

Make = Callable[..., Model]


class FrozenClock(SystemClock):
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def provider() -> AsyncIterator[fake.FakeProvider]:
    async with fake.FakeProvider() as provider:
        yield provider


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    async with Guard(Policy()) as guard:
        yield guard


@pytest.fixture
def make(provider: fake.FakeProvider, guard: Guard) -> Make:
    """Makes a model of a provider type that asks the fake provider."""

    async def credentials() -> Credentials:
        return Credentials(KEY)

    def made(type_: str = "openai", parameters: Mapping[str, Any] | None = None, **fields: Any) -> Model:
        config = ModelConfig(
            type_, "m-1", provider.url, parameters or {}, allow_private=True, credentials=credentials, **fields
        )
        return create(config, ModelServices(guard, FrozenClock()))

    return made
