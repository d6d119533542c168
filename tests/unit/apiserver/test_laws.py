"""Laws that every write keeps, whatever is written in whatever order."""

from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from kastra.apiserver.bootstrap import start
from kastra.apiserver.loopback import LoopbackClient
from kastra.client.interface import WriteOptions
from kastra.store.objects import open_store
from kastra.testing.clock import VirtualClock
from tests.contract.client import WIDGETS, at, widget

colors = st.sampled_from(["red", "blue", None])
patches = st.one_of(
    st.builds(lambda color: ({"spec": {"color": color}}, ""), colors),
    st.builds(lambda size: ({"spec": {"size": size}}, ""), st.sampled_from([1, 2, None])),
    st.builds(lambda phase: ({"status": {"phase": phase}}, "status"), st.sampled_from(["Running", "Failed", None])),
    st.builds(lambda value: ({"metadata": {"labels": {"x": value}}}, ""), st.sampled_from(["1", "2", None])),
)


def visible(obj) -> dict[str, Any]:
    """An object without its bookkeeping."""
    bookkeeping = {"resourceVersion", "generation", "managedFields"}
    return {**obj.data, "metadata": {k: v for k, v in obj.metadata.items() if k not in bookkeeping}}


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.tuples(patches, st.sampled_from(["a", "b"]), st.booleans()), max_size=12))
def test_versions_and_generations_move_exactly_when_something_changed(steps) -> None:
    async def run() -> None:
        clock = VirtualClock()
        async with await open_store(":memory:", clock=clock) as store:
            client = LoopbackClient((await start(store, clock)).registry)
            await client.create(WIDGETS)
            before = await client.create(widget("w"))
            for (patch, subresource), manager, dry in steps:
                await clock.advance(1)
                options = WriteOptions(field_manager=manager, dry_run=dry)
                after = await client.patch(at("w"), patch, options=options, subresource=subresource)
                assert after.generation - before.generation == (after.spec != before.spec)
                if dry:
                    assert await client.get(at("w")) == before
                    continue
                moved = int(after.resource_version) - int(before.resource_version)
                assert moved == (visible(after) != visible(before))
                assert await client.get(at("w")) == after
                before = after

    anyio.run(run)
