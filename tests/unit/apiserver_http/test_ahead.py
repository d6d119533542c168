"""A client that knows of a state before the server's readers do: a list waits for it, three seconds."""

import anyio

from .conftest import WIDGETS_PATH, Exchange, Server, widget


async def test_a_list_of_a_state_that_comes_soon_waits_for_it(server: Server) -> None:
    soon = server.store.revision + 1
    async with server.stream(f"{WIDGETS_PATH}?resourceVersion={soon}") as listing:
        await anyio.wait_all_tasks_blocked()
        assert listing.reply.status == 0
        await server.client.create(widget("a"))
        await listing.until_started()
    assert listing.reply.status == 200
    assert [item["metadata"]["name"] for item in listing.reply.json["items"]] == ["a"]


async def test_a_list_of_a_state_that_does_not_come_ends_with_a_timeout(server: Server) -> None:
    async with server.stream(f"{WIDGETS_PATH}?resourceVersion={server.store.revision + 1000}") as listing:
        await until_refused(server, listing)
    assert (listing.reply.status, listing.reply.json["reason"]) == (504, "Timeout")
    assert "Too large resource version" in listing.reply.json["message"]


async def until_refused(server: Server, listing: Exchange) -> None:
    await anyio.wait_all_tasks_blocked()
    await server.clock.advance(2.9)
    assert listing.reply.status == 0
    await server.clock.advance(0.2)
    await listing.until_started()


async def test_a_page_that_is_not_limited_by_a_state_does_not_wait(server: Server) -> None:
    assert (await server.request("GET", f"{WIDGETS_PATH}?resourceVersion=0")).status == 200
