"""Type-checked, never run: the public API keeps these types."""

import logging
from pathlib import Path
from typing import Any, assert_type

import kastra
from kastra.api.object import Object
from kastra.app.applying import ApplyReport
from kastra.app.running import RunResult
from kastra.client.interface import Client
from kastra.runtime import ControllerSpec


async def embed() -> None:
    async with kastra.open("agents.db") as k:
        assert_type(k, kastra.Kastra)
        assert_type(k.client, Client)
        assert_type(await k.apply("manifests", Path("more"), dry_run="server"), ApplyReport)
        assert_type(await k.run("workflow/x", input={"a": 1}), RunResult)
        assert_type(await k.settle(timeout=1), bool)
        async with k.watch("agents", label_selector="a=b") as events:
            async for event in events:
                assert_type(event.object, Object)


class Greeting(kastra.View, kind="Greeting", group="example.com"):
    spec: dict[str, Any]


@kastra.controller(Greeting, owns=["ConfigMap"], retries={OSError: kastra.Retry(base=1, attempts=5)})
async def reconcile(greeting: Greeting, ctx: kastra.Context) -> kastra.Result:
    assert_type(greeting.spec, dict[str, Any])
    return ctx.ready("hello")


@reconcile.timer(every=60)
async def probe(greeting: Greeting, client: Client, log: logging.Logger) -> None: ...


@reconcile.poll(every=30)
async def changed(client: Client) -> list[kastra.Request]:
    return [kastra.Request("default", "hello")]


@reconcile.finalizer(timeout=5)
async def close(greeting: Greeting) -> None: ...


assert_type(reconcile, ControllerSpec[Greeting])


@kastra.controller(Greeting, name="greeter", every_replica=True)
class Greeter:
    def __init__(self, client: Client) -> None:
        self.client = client

    async def reconcile(self, greeting: Greeting, ctx: kastra.Context) -> kastra.Result:
        return ctx.ready()
