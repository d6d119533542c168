"""Lists are of one moment, tokens grow old, and watches say clearly from when they can start."""

from typing import Any

import anyio
import pytest

from kastra.api.errors import BadRequest, Expired, Invalid, ServerTimeout
from kastra.apiserver.listing import ContinueExpired, ListOptions
from kastra.apiserver.watching import WatchOptions
from tests.contract.client import WIDGETS, at, widget


@pytest.fixture(autouse=True)
async def widgets(client) -> None:
    await client.create(WIDGETS)
    for name in "abcde":
        await client.create(widget(name, color="red" if name in "ace" else "blue"))


async def names(client, **options: Any) -> list[str]:
    return [obj.name for obj in (await client.list("widgets", **options)).items]


async def test_remaining_counts_are_told_without_selectors_only(client) -> None:
    assert (await client.list("widgets", limit=2)).remaining == 3
    selected = await client.list("widgets", limit=1, field_selector="spec.color=red")
    assert selected.remaining is None
    assert selected.continue_token


async def test_selected_pages_are_full_and_the_last_says_so(client) -> None:
    page = await client.list("widgets", limit=2, field_selector="spec.color=red")
    assert [obj.name for obj in page.items] == ["a", "c"]
    last = await client.list("widgets", limit=2, field_selector="spec.color=red", continue_token=page.continue_token)
    assert [obj.name for obj in last.items] == ["e"]
    assert last.continue_token == ""


async def test_a_page_that_ends_with_the_last_match_is_the_last(client) -> None:
    page = await client.list("widgets", limit=3, field_selector="spec.color=red")
    assert ([obj.name for obj in page.items], page.continue_token) == (["a", "c", "e"], "")


async def test_a_token_is_good_for_five_minutes(plane, client) -> None:
    page = await client.list("widgets", limit=2)
    await plane.clock.advance(299)
    assert await names(client, limit=9, continue_token=page.continue_token) == ["c", "d", "e"]
    await plane.clock.advance(2)
    with pytest.raises(Expired, match="The provided continue parameter is too old"):
        await client.list("widgets", limit=9, continue_token=page.continue_token)


async def test_an_expired_token_is_answered_with_one_that_goes_on_in_the_present(plane, client) -> None:
    page = await client.list("widgets", limit=2)
    await plane.clock.advance(301)
    await client.delete(at("c"))
    await client.create(widget("dd"))
    with pytest.raises(ContinueExpired) as expired:
        await client.list("widgets", limit=2, continue_token=page.continue_token)
    fresh = expired.value.status()["metadata"]["continue"]
    going_on = await client.list("widgets", limit=2, continue_token=fresh)
    assert [obj.name for obj in going_on.items] == ["d", "dd"]
    assert int(going_on.resource_version) > int(page.resource_version)
    assert await names(client, limit=2, continue_token=going_on.continue_token) == ["e"]


@pytest.mark.parametrize("token", ["x", "AAAA", "eyJ2IjoiYSJ9"])
async def test_a_token_that_is_none_is_a_bad_request(client, token: str) -> None:
    with pytest.raises(BadRequest, match="continue key is not valid"):
        await client.list("widgets", limit=1, continue_token=token)


@pytest.mark.parametrize("selector", ["a in (", "==", "a=b=c"])
async def test_a_malformed_selector_is_a_bad_request(client, selector: str) -> None:
    with pytest.raises(BadRequest):
        await client.list("widgets", label_selector=selector)


async def test_one_name_is_looked_up(client) -> None:
    assert await names(client, namespace="default", field_selector="metadata.name=c") == ["c"]
    assert await names(client, field_selector="metadata.name=c,metadata.namespace=default") == ["c"]
    assert await names(client, namespace="default", field_selector="metadata.name=c,spec.color=blue") == []
    assert await names(client, namespace="default", field_selector="metadata.name=x") == []


class TestResourceVersions:
    async def list(self, plane, version: str, match: str = "") -> str:
        registry = plane.server.registry
        options = ListOptions(resource_version=version, resource_version_match=match)
        return (await registry.list(registry.scheme.find("widgets"), "", options)).resource_version

    async def test_the_present_answers_for_the_past(self, plane) -> None:
        present = str(plane.store.revision)
        assert [await self.list(plane, version) for version in ("", "0", "1", present)] == [present] * 4

    async def test_the_future_is_a_timeout(self, plane) -> None:
        with pytest.raises(ServerTimeout, match="Too large resource version: 1000, current"):
            await self.list(plane, "1000")

    async def test_exactly_the_past_is_gone(self, plane) -> None:
        assert await self.list(plane, str(plane.store.revision), "Exact")
        with pytest.raises(Expired):
            await self.list(plane, "1", "Exact")

    async def test_it_is_a_number(self, plane) -> None:
        with pytest.raises(BadRequest):
            await self.list(plane, "latest")


async def test_a_watch_from_before_the_compaction_has_expired(plane, client) -> None:
    await plane.store.compact(plane.store.revision)
    with pytest.raises(Expired):
        async with client.watch("widgets", resource_version="1") as watch:
            await anext(aiter(watch))


async def test_a_watch_from_nowhere_is_a_bad_request(client) -> None:
    with pytest.raises(BadRequest):
        async with client.watch("widgets", resource_version="now"):
            pass


async def test_a_watch_from_the_future_waits_for_it(plane, client) -> None:
    version = str(plane.store.revision + 1)
    with anyio.fail_after(5):
        async with client.watch("widgets", resource_version=version) as watch, anyio.create_task_group() as group:
            group.start_soon(client.create, widget("f"))
            group.start_soon(client.create, widget("g"))
            event = await anext(aiter(watch))
    assert event.object.resource_version == str(plane.store.revision)


@pytest.mark.parametrize(
    ("initial", "match", "why"),
    [
        (False, "NotOlderThan", "is forbidden for watch unless sendInitialEvents is provided"),
        (True, "Exact", 'requires setting resourceVersionMatch to "NotOlderThan"'),
    ],
)
async def test_initial_events_and_match_go_together(plane, initial: bool, match: str, why: str) -> None:
    registry = plane.server.registry
    options = WatchOptions(send_initial_events=initial, resource_version_match=match)
    with pytest.raises(Invalid, match=why):
        registry.watch(registry.scheme.find("widgets"), "", options)


async def test_a_bookmark_holds_nothing_but_a_resource_version(client) -> None:
    async with client.watch("widgets", send_initial_events=True, allow_bookmarks=True) as watch:
        stream = aiter(watch)
        events = [await anext(stream) for _ in range(6)]
    bookmark = events[-1].object.data
    assert bookmark["kind"] == "Widget"
    assert bookmark.keys() == {"kind", "apiVersion", "metadata"}
    assert bookmark["metadata"].keys() == {"resourceVersion", "creationTimestamp", "annotations"}


async def test_a_deletion_carries_its_own_resource_version_and_the_last_state(client) -> None:
    version = (await client.list("widgets")).resource_version
    async with client.watch("widgets", resource_version=version, field_selector="metadata.name=c") as watch:
        await client.delete(at("b"))
        await client.delete(at("c"))
        event = await anext(aiter(watch))
    assert (event.type, event.object.name, event.object.spec["color"]) == ("DELETED", "c", "red")
    assert int(event.object.resource_version) == int(version) + 2
