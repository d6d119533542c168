"""A test can make the API fail for controllers: refused writes, lost answers, broken watches."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra import Context, Result, View, controller
from kastra.api.errors import Conflict, Forbidden
from kastra.config import Settings
from kastra.testing import ControlPlane

DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "greetings.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Greeting", "plural": "greetings"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
GREETING = {"apiVersion": "example.com/v1", "kind": "Greeting", "metadata": {"name": "hello"}, "spec": {}}


class Greeting(View, kind="Greeting", group="example.com"):
    spec: dict[str, Any]


@controller(Greeting, owns=["ConfigMap"])
async def reconcile(greeting: Greeting, ctx: Context) -> Result:
    await ctx.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": greeting.metadata.name}})
    return ctx.ready()


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as env:
        env.manager.add(reconcile)
        await env.apply(DEFINITION)
        yield env


async def ready(env: ControlPlane) -> dict[str, Any]:
    found = (await env.get("Greeting", "hello")).condition("Ready")
    return dict(found or {})


async def test_a_refused_write_is_made_again(env: ControlPlane) -> None:
    env.faults.fail("apply", "ConfigMap", times=2)
    await env.apply(GREETING)
    await env.settle()
    assert (await ready(env))["status"] == "True"
    assert (env.faults.calls["apply", "ConfigMap"], env.faults.pending) == (3, 0)


async def test_a_write_whose_answer_is_lost_is_not_made_twice(env: ControlPlane) -> None:
    env.faults.fail("apply", "ConfigMap", after=True)
    await env.apply(GREETING)
    await env.settle()
    assert (await ready(env))["status"] == "True"
    assert (await env.get("ConfigMap", "hello")).resource_version


async def test_any_error_can_be_chosen_and_stays_as_long_as_asked_for(env: ControlPlane) -> None:
    env.faults.fail("apply", error=Forbidden("not for you"), times=1000)
    await env.apply(GREETING)
    await env.settle()
    assert "not for you" in (await ready(env))["message"]
    env.faults.clear()
    await env.advance(300)
    assert (await ready(env))["status"] == "True"


async def test_a_conflict_is_nobodys_fault(env: ControlPlane) -> None:
    env.faults.fail("patch", "Greeting", "hello", error=Conflict("changed"))
    await env.apply(GREETING)
    await env.settle()
    assert (await ready(env))["status"] == "True"


async def test_the_tests_own_calls_never_fail(env: ControlPlane) -> None:
    env.faults.fail("*", times=1000)
    await env.client.create(GREETING)
    assert (await env.get("Greeting", "hello")).name == "hello"
