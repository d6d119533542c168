"""What became of a call that a crash interrupted is asked of the tool's probe; estimates of model calls for budgets."""

from collections.abc import Mapping
from typing import Any

import pytest

from kastra.agent.reservation import estimate
from kastra.agent.runners import runners
from kastra.agent.services import AgentServices
from kastra.engine.direct import DirectContext
from kastra.engine.step import DEFAULT_CALL, CallOptions, Effect, EffectFunction, StepError
from kastra.model.chain import ModelEntry
from kastra.model.interface import ModelRequest

PROBE = """
def find(idempotencyKey: str, arguments: dict) -> dict:
    if idempotencyKey == "broken":
        return {"surely": True}
    return {"happened": True, "output": arguments["amount"]} if idempotencyKey == "known" else {"happened": False}
"""


class InDoubt(DirectContext):
    """A place at which a call is in doubt: asks the probe instead of performing it."""

    def __init__(self, idempotency_key: str) -> None:
        super().__init__()
        self._sought = idempotency_key

    async def call(self, key: str, fn: EffectFunction, options: CallOptions = DEFAULT_CALL) -> Any:
        probe, sought = options.probe, self._sought
        assert options.at_most_once
        assert options.on_in_doubt == "probe"
        if probe is None:
            return "no probe"

        async def ask(effect: Effect) -> Any:
            return await probe(sought, effect)

        return await DirectContext().call("probe", ask)


def charge(**spec: Any) -> dict[str, Any]:
    """The target `charge`, with everything it refers to."""
    body = {"python": {"inline": "def charge(amount: int) -> int: return amount"}, "delivery": "AtMostOnce", **spec}
    probe = {"kind": "Tool", "namespace": "default", "name": "find", "uid": "f", "generation": 1, "refs": {}}
    found = {"kind": "Tool", "namespace": "default", "name": "charge", "uid": "c", "generation": 1, "spec": body}
    refs = {"spec.probe.toolRef": "Tool/default/find"} if "probe" in spec else {}
    objects = {"Tool/default/find": {**probe, "spec": {"python": {"inline": PROBE}}}}
    return {**found, "refs": refs, "id": "Tool/default/charge", "objects": objects}


async def asked(services: AgentServices, key: str, target: Mapping[str, Any]) -> Any:
    return await runners(services)["tool"].run(InDoubt(key), target, {"amount": 5}, {"onInDoubt": "probe"})


async def test_the_probe_is_asked_by_the_key_and_the_arguments_of_the_call(services: AgentServices) -> None:
    target = charge(probe={"toolRef": {"name": "find"}})
    assert await asked(services, "known", target) == {"happened": True, "output": 5}
    assert await asked(services, "other", target) == {"happened": False}


async def test_an_answer_that_is_none_is_an_error(services: AgentServices) -> None:
    with pytest.raises(StepError, match="happened"):
        await asked(services, "broken", charge(probe={"toolRef": {"name": "find"}}))


async def test_a_tool_without_a_probe_has_none(services: AgentServices) -> None:
    assert await asked(services, "known", charge()) == "no probe"


def test_a_call_is_estimated_by_what_is_sent_its_limit_and_the_dearest_model() -> None:
    model: Any = None
    request = ModelRequest(messages=[{"role": "user", "content": "x" * 400}])
    cheap = ModelEntry("cheap", model, {"maxTokens": 50}, price={"in": 1.0, "out": 2.0})
    dear = ModelEntry("dear", model, {"maxTokens": 100}, price={"in": 10.0, "out": 20.0})
    assert estimate([cheap], request) == {"tokens": 150.0, "cost": 0.0002}
    assert estimate([cheap, dear], request) == {"tokens": 200.0, "cost": 0.003}
    assert estimate([ModelEntry("free", model)], request) == {"tokens": 100.0, "cost": 0.0}
