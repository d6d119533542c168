"""Watches over HTTP: a line per event, headers at once, a clean end."""

import anyio

from .conftest import WIDGETS_PATH, Exchange, Server, widget

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def created(server: Server, name: str) -> str:
    return (await server.client.create(widget(name))).resource_version


async def test_headers_are_sent_before_anything_happens(server: Server) -> None:
    async with server.stream(f"{WIDGETS_PATH}?watch=true") as watch:
        await watch.until_started()
        assert (watch.reply.status, watch.reply.header("content-type")) == (200, "application/json")
        assert watch.reply.header("content-length") == ""
        assert watch.reply.body == b""


async def test_each_event_is_one_line(server: Server) -> None:
    await created(server, "a")
    async with server.stream(f"{WIDGETS_PATH}?watch=1") as watch:
        await watch.until_lines(1)
        await created(server, "b")
        events = await watch.until_lines(2)
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [("ADDED", "a"), ("ADDED", "b")]
    assert watch.reply.body.endswith(b"}\n")


async def test_a_resource_version_means_what_came_after_it(server: Server) -> None:
    version = await created(server, "a")
    async with server.stream(f"{WIDGETS_PATH}?watch=1&resourceVersion={version}") as watch:
        await watch.until_started()
        await created(server, "b")
        (event,) = await watch.until_lines(1)
    assert event["object"]["metadata"]["name"] == "b"


async def test_a_list_as_a_stream_ends_with_a_bookmark_that_says_so(server: Server) -> None:
    await created(server, "a")
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with server.stream(f"{WIDGETS_PATH}?{query}") as watch:
        added, bookmark = await watch.until_lines(2)
    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    assert set(bookmark["object"]) == {"kind", "apiVersion", "metadata"}
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_version_that_is_too_old_is_an_error_event_and_the_end(server: Server) -> None:
    for name in "abc":
        await created(server, name)
    await server.store.compact(int(await created(server, "d")))
    reply = await server.request("GET", f"{WIDGETS_PATH}?watch=1&resourceVersion=1")
    (event,) = reply.lines
    assert (reply.status, reply.complete) == (200, True)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_a_table_watch_sends_its_head_once(server: Server) -> None:
    await created(server, "a")
    await created(server, "b")
    async with server.stream(f"{WIDGETS_PATH}?watch=1", accept=TABLE) as watch:
        first, second = await watch.until_lines(2)
    assert first["object"]["columnDefinitions"][0]["name"] == "Name"
    assert second["object"]["columnDefinitions"] == []
    assert [event["object"]["rows"][0]["cells"][0] for event in (first, second)] == ["a", "b"]


async def test_it_ends_with_a_last_chunk_after_the_time_that_was_asked_for(server: Server) -> None:
    with anyio.fail_after(5):
        reply = await server.request("GET", f"{WIDGETS_PATH}?watch=1&timeoutSeconds=1")
    assert (reply.status, reply.complete, reply.body) == (200, True, b"")


async def test_stopping_the_server_ends_watches_cleanly_and_readiness(server: Server) -> None:
    async with server.stream(f"{WIDGETS_PATH}?watch=1") as watch:
        await watch.until_started()
        server.app.stop()
        await _until_complete(watch)
    assert (await server.request("GET", "/readyz")).status == 503
    assert (await server.request("GET", "/livez")).status == 200


async def test_a_client_that_goes_away_frees_its_watch(server: Server) -> None:
    async with server.stream(f"{WIDGETS_PATH}?watch=1") as watch:
        await watch.until_started()
    assert (await server.request("GET", "/readyz")).status == 200


async def _until_complete(watch: Exchange) -> None:
    while not watch.reply.complete:
        await anyio.sleep(0)


async def test_a_watch_that_ends_by_its_time_tells_up_to_where_it_saw_everything(server: Server) -> None:
    await created(server, "a")
    query = f"watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={server.store.revision}"
    async with server.stream(f"{WIDGETS_PATH}?{query}") as watch:
        await watch.until_started()
        await server.client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}})
        (bookmark,) = await watch.until_lines(1)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"] == {"resourceVersion": str(server.store.revision), "creationTimestamp": None}


async def test_the_last_bookmark_is_only_for_those_who_allow_bookmarks(server: Server) -> None:
    with anyio.fail_after(5):
        reply = await server.request("GET", f"{WIDGETS_PATH}?watch=1&timeoutSeconds=1&resourceVersion=1")
    assert [line for line in reply.lines if line["type"] == "BOOKMARK"] == []
    assert reply.complete


async def test_events_that_are_there_together_are_sent_together(server: Server) -> None:
    for name in "abc":
        await created(server, name)
    async with server.stream(f"{WIDGETS_PATH}?watch=1") as watch:
        events = await watch.until_lines(3)
        assert [event["object"]["metadata"]["name"] for event in events] == ["a", "b", "c"]
        assert len(watch.reply.chunks) == 1
        await created(server, "d")
        assert len(await watch.until_lines(4)) == 4
