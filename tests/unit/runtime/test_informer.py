"""An Informer's cache and handlers see every difference, whatever happens to the connection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kastra.api.errors import ServiceUnavailable
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.runtime.informer import Informer, State
from kastra.testing.clock import VirtualClock

from .memory import KINDS, MemoryClient, manifest, resource

Seen = list[tuple[str | None, str | None]]


def spec_of(obj: Object | None) -> str | None:
    return None if obj is None else f"{obj.name}={obj.spec.get('v')}"


def recorder(seen: Seen) -> Any:
    return lambda old, new: seen.append((spec_of(old), spec_of(new)))


@asynccontextmanager
async def running(informer: Informer) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(informer.run)
        await informer.wait_synced()
        yield
        tasks.cancel_scope.cancel()


async def tool(client: MemoryClient, name: str, v: int = 1) -> Object:
    return await client.create(manifest("Tool", name, spec={"v": v}))


async def change(client: MemoryClient, name: str, v: int) -> Object:
    return await client.patch(ObjectRef("Tool", name, "default"), {"spec": {"v": v}})


async def test_present_objects_are_listed_and_changes_follow_with_their_old_state() -> None:
    client, seen = MemoryClient(), []
    await tool(client, "a")
    informer = Informer(client, "tools", VirtualClock())
    informer.add_handler(recorder(seen))
    async with running(informer):
        await tool(client, "b")
        await change(client, "a", 2)
        await client.delete(ObjectRef("Tool", "b", "default"))
        await anyio.wait_all_tasks_blocked()
    assert seen == [(None, "a=1"), (None, "b=1"), ("a=1", "a=2"), ("b=1", None)]
    assert informer.position == client.revision


async def test_a_handler_added_later_is_told_of_what_is_there() -> None:
    client, seen = MemoryClient(), []
    await tool(client, "a")
    informer = Informer(client, "Tool", VirtualClock())
    async with running(informer):
        informer.add_handler(recorder(seen))
        assert seen == [(None, "a=1")]


async def test_a_handler_that_comes_or_goes_while_others_are_told_disturbs_none_of_them() -> None:
    client, first, last, late = MemoryClient(), Seen(), Seen(), Seen()
    informer = Informer(client, "tools", VirtualClock())
    comes, stays = recorder(late), recorder(last)

    def goes(old: Object | None, new: Object | None) -> None:
        first.append((spec_of(old), spec_of(new)))
        informer.remove_handler(goes)
        informer.add_handler(comes)

    informer.add_handler(goes)
    informer.add_handler(stays)
    async with running(informer):
        await tool(client, "a")
        await change(client, "a", 2)
        await anyio.wait_all_tasks_blocked()
    assert first == [(None, "a=1")]
    assert last == late == [(None, "a=1"), ("a=1", "a=2")]


async def test_all_pages_of_a_list_are_read() -> None:
    client = MemoryClient()
    for number in range(7):
        await tool(client, f"t{number}")
    informer = Informer(client, "Tool", VirtualClock(), page_size=3)
    async with running(informer):
        assert len(informer.lister.list()) == 7
    assert client.calls["list", "Tool"] == 3


async def test_a_watch_that_ends_is_resumed_without_listing_again() -> None:
    client, seen = MemoryClient(), []
    await tool(client, "a")
    informer = Informer(client, "Tool", VirtualClock())
    informer.add_handler(recorder(seen))
    async with running(informer):
        for v in (2, 3):
            client.cut_watches()
            await change(client, "a", v)
            await anyio.wait_all_tasks_blocked()
    assert seen == [(None, "a=1"), ("a=1", "a=2"), ("a=2", "a=3")]
    assert (client.calls["list", "Tool"], informer.relists) == (1, 0)


async def test_what_changed_while_history_was_forgotten_is_found_by_listing_again() -> None:
    client, clock, seen = MemoryClient(), VirtualClock(), []
    for name in ("stays", "changes", "goes", "is-replaced"):
        await tool(client, name)
    informer = Informer(client, "Tool", clock)
    async with running(informer):
        informer.add_handler(recorder(seen))
        seen.clear()
        client.fail["watch"] = [ServiceUnavailable("down")]
        client.cut_watches(ServiceUnavailable("down"))
        await anyio.wait_all_tasks_blocked()
        await change(client, "changes", 2)
        await client.delete(ObjectRef("Tool", "goes", "default"))
        await client.delete(ObjectRef("Tool", "is-replaced", "default"))
        await tool(client, "is-replaced", 9)
        await tool(client, "comes")
        client.compact()
        await clock.advance(60)
    assert sorted(seen, key=str) == [
        ("changes=1", "changes=2"),
        ("goes=1", None),
        ("is-replaced=1", None),
        (None, "comes=1"),
        (None, "is-replaced=9"),
    ]
    assert informer.relists == 1


async def test_a_server_that_is_away_is_asked_again_with_growing_pauses() -> None:
    client, clock = MemoryClient(), VirtualClock()
    client.fail["list"] = [ServiceUnavailable("starting") for _ in range(5)]
    informer = Informer(client, "Tool", clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(informer.run)
        await clock.advance(0.5)
        early = client.calls["list", "Tool"]
        assert 2 <= early <= 4
        assert not informer.has_synced
        await clock.advance(10)
        assert informer.has_synced
        tasks.cancel_scope.cancel()
    assert client.calls["list", "Tool"] == 6


async def test_a_kind_the_server_does_not_have_counts_as_empty_until_it_appears() -> None:
    client, clock = MemoryClient([r for r in KINDS if r.kind != "Tool"]), VirtualClock()
    informer = Informer(client, "tools.mastra.ai", clock)
    async with running(informer):
        assert informer.state is State.ABSENT
        client.scheme.register(resource("Tool", "tools"))
        await tool(client, "a")
        informer.poke()
        await anyio.wait_all_tasks_blocked()
        assert [obj.name for obj in informer.lister.list()] == ["a"]


async def test_the_objects_of_a_kind_that_goes_away_are_reported_as_deleted() -> None:
    client, seen = MemoryClient(), []
    await tool(client, "a")
    informer = Informer(client, "Tool", VirtualClock())
    informer.add_handler(recorder(seen))
    async with running(informer):
        client.scheme.unregister("mastra.ai", "Tool")
        client.cut_watches()
        await anyio.wait_all_tasks_blocked()
    assert seen == [(None, "a=1"), ("a=1", None)]


async def test_a_failing_handler_does_not_keep_others_from_seeing_a_change(caplog: pytest.LogCaptureFixture) -> None:
    client, seen = MemoryClient(), []

    def broken(old: Object | None, new: Object | None) -> None:
        raise ZeroDivisionError

    informer = Informer(client, "Tool", VirtualClock())
    informer.add_handler(broken)
    informer.add_handler(recorder(seen))
    async with running(informer):
        await tool(client, "a")
        await anyio.wait_all_tasks_blocked()
    assert seen == [(None, "a=1")]
    assert "handler failed" in caplog.text


async def test_handlers_hear_of_what_their_predicate_lets_through_and_it_is_asked_once_for_all_of_them() -> None:
    client, asked = MemoryClient(), 0
    seen: list[Seen] = [[], [], []]
    await tool(client, "even", 2)
    await tool(client, "odd", 1)

    def even(old: Object | None, new: Object | None) -> bool:
        nonlocal asked
        asked += 1
        subject = new or old
        return subject is not None and subject.spec["v"] % 2 == 0

    informer = Informer(client, "Tool", VirtualClock())
    first, second, everything = (recorder(part) for part in seen)
    informer.add_handler(first, even)
    informer.add_handler(everything)
    async with running(informer):
        informer.add_handler(second, even)
        asked = 0
        await change(client, "even", 3)
        await change(client, "odd", 4)
        await anyio.wait_all_tasks_blocked()
        assert asked == 2
        informer.remove_handler(first)
        await client.delete(ObjectRef("Tool", "odd", "default"))
        await anyio.wait_all_tasks_blocked()
    assert seen[0] == [(None, "even=2"), ("odd=1", "odd=4")]
    assert seen[1] == [(None, "even=2"), ("odd=1", "odd=4"), ("odd=4", None)]
    assert len(seen[2]) == 5


async def test_a_failing_predicate_keeps_only_those_who_named_it_from_seeing_a_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, heard, unheard = MemoryClient(), [], []

    def broken(old: Object | None, new: Object | None) -> bool:
        raise ZeroDivisionError

    informer = Informer(client, "Tool", VirtualClock())
    informer.add_handler(recorder(unheard), broken)
    informer.add_handler(recorder(heard))
    async with running(informer):
        await tool(client, "a")
        await anyio.wait_all_tasks_blocked()
    assert (heard, unheard) == ([(None, "a=1")], [])
    assert "predicate failed" in caplog.text


async def test_the_answer_to_an_own_write_is_in_the_cache_at_once_and_reported_once() -> None:
    client, seen = MemoryClient(), []
    await tool(client, "a")
    informer = Informer(client, "Tool", VirtualClock())
    informer.add_handler(recorder(seen))
    async with running(informer):
        informer.observe(await change(client, "a", 2))
        found = informer.lister.get("default", "a")
        assert spec_of(found) == "a=2"
        await anyio.wait_all_tasks_blocked()
    assert seen == [(None, "a=1"), ("a=1", "a=2")]


async def test_a_late_answer_does_not_bring_back_what_is_gone() -> None:
    client = MemoryClient()
    await tool(client, "a")
    informer = Informer(client, "Tool", VirtualClock())
    async with running(informer):
        answer = await change(client, "a", 2)
        await client.delete(ObjectRef("Tool", "a", "default"))
        await anyio.wait_all_tasks_blocked()
        informer.observe(answer)
        assert informer.lister.get("default", "a") is None


async def test_restricted_to_a_namespace_it_sees_nothing_else() -> None:
    client = MemoryClient()
    await client.create(manifest("Tool", "a", "mine"))
    informer = Informer(client, "Tool", VirtualClock(), namespace="mine")
    async with running(informer):
        await client.create(manifest("Tool", "b", "yours"))
        await client.create(manifest("Tool", "c", "mine"))
        await anyio.wait_all_tasks_blocked()
        assert [obj.name for obj in informer.lister.list()] == ["a", "c"]
    assert (informer.covers("mine"), informer.covers("yours")) == (True, False)


_actions = st.one_of(
    st.tuples(st.just("create"), st.sampled_from("abc")),
    st.tuples(st.just("change"), st.sampled_from("abc")),
    st.tuples(st.just("delete"), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["cut", "compact", "fail", "rest"]), st.just("")),
)


@given(actions=st.lists(_actions, max_size=40))
@settings(max_examples=50, deadline=None)
def test_whatever_the_connection_suffers_cache_and_handlers_end_up_with_what_the_server_has(
    actions: list[tuple[str, str]],
) -> None:
    async def scenario() -> None:
        client, clock = MemoryClient(), VirtualClock()
        told: dict[str, int] = {}

        def follow(old: Object | None, new: Object | None) -> None:
            assert (old is None) == ((old or new).name not in told)  # type: ignore[union-attr]
            if new is None:
                del told[old.name]  # type: ignore[union-attr]
            else:
                told[new.name] = new.spec["v"]

        informer = Informer(client, "Tool", clock)
        informer.add_handler(follow)
        async with running(informer):
            for number, (action, name) in enumerate(actions):
                present = {obj.name for obj in (await client.list("Tool")).items}
                if action == "create" and name not in present:
                    await tool(client, name, number)
                elif action == "change" and name in present:
                    await change(client, name, number)
                elif action == "delete" and name in present:
                    await client.delete(ObjectRef("Tool", name, "default"))
                elif action == "cut":
                    client.cut_watches(ServiceUnavailable("cut") if number % 2 else None)
                elif action == "compact":
                    client.compact()
                elif action == "fail":
                    client.fail["watch"] = [ServiceUnavailable("away")]
                elif action == "rest":
                    await clock.advance(1)
            await clock.advance(120)
            wanted = {obj.name: obj.spec["v"] for obj in (await client.list("Tool")).items}
            assert {obj.name: obj.spec["v"] for obj in informer.lister.list()} == wanted
            assert told == wanted

    anyio.run(scenario)
