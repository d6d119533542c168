"""The tools of the web, against a real server on loopback."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.toolbox import Site, Toolbox

PAGE = b"""<!doctype html><html><head><title>Tea &amp; Co</title><style>p {}</style></head>
<body><nav>menu</nav><script>steal()</script>
<main><h1>Tea</h1><p>It is <b>hot</b>, see <a href="/more?x=1#top">more</a>.</p>
<ul><li>green<li>black</ul><table><tr><th>a</th></tr><tr><td>1</td></tr></table>
<img src="data:image/png;base64,AAAA" alt="a cup"></main>
<footer>imprint <a href="https://other.example/">other</a></footer></body></html>"""
JSON = {"Content-Type": "application/json"}


async def fetched(
    box: Toolbox, site: Site, name: str, path: str, arguments: dict[str, Any] | None = None, **more: Any
) -> Any:
    return await box.call(name, {"url": site.url + path, **(arguments or {})}, allowPrivate=True, **more)


async def test_a_page_becomes_markdown_without_what_is_not_content(box: Toolbox, pages: Site) -> None:
    pages.pages["/tea"] = PAGE
    found = await fetched(box, pages, "http.fetch", "/tea")
    assert found["title"] == "Tea & Co"
    assert found["url"] == f"{pages.url}/tea"
    assert found["content"].startswith("# Tea\n\nIt is **hot**, see ")
    assert f"[more]({pages.url}/more?x=1#top)" in found["content"]
    assert "- green" in found["content"]
    assert "[image: a cup]" in found["content"]
    for absent in ("menu", "steal", "imprint", "base64"):
        assert absent not in found["content"]


async def test_a_page_becomes_text_or_stays_as_it_is(box: Toolbox, pages: Site) -> None:
    pages.pages["/tea"] = PAGE
    assert (await fetched(box, pages, "http.fetch", "/tea", {"format": "text"}))["content"].startswith(
        "Tea\nIt is\nhot\n"
    )
    assert (await fetched(box, pages, "http.fetch", "/tea", {"format": "raw"}))["content"] == PAGE.decode()


async def test_encodings_are_those_that_the_page_names(box: Toolbox, pages: Site) -> None:
    pages.pages["/l"] = (200, {"Content-Type": "text/plain; charset=ISO-8859-1"}, "café".encode("latin-1"))
    pages.pages["/z"] = (200, {"Content-Type": "text/plain; charset=zlib_codec"}, b"plain")
    assert (await fetched(box, pages, "http.fetch", "/l"))["content"] == "café"
    assert (await fetched(box, pages, "http.fetch", "/z"))["content"] == "plain"


async def test_what_is_no_text_is_refused_and_can_be_saved(box: Toolbox, pages: Site) -> None:
    pages.pages["/b"] = (200, {"Content-Type": "image/png"}, b"\x89PNG\0")
    refused = await box.refused("http.fetch", {"url": f"{pages.url}/b"}, allowPrivate=True)
    assert "image/png" in refused.message
    assert "http.download" in refused.message
    saved = await fetched(box, pages, "http.download", "/b", {"path": "in/b.png"})
    assert saved["bytes"] == 5
    assert (box.folder / "in/b.png").read_bytes() == b"\x89PNG\0"


async def test_json_is_fetched_as_a_value(box: Toolbox, pages: Site) -> None:
    pages.pages["/j"] = (200, JSON, b'{"a": [1]}')
    pages.pages["/h"] = PAGE
    assert await fetched(box, pages, "http.json", "/j") == {"a": [1]}
    refused = await box.refused("http.json", {"url": f"{pages.url}/h"}, allowPrivate=True)
    assert "this is not JSON" in refused.message
    assert "text/html" in refused.message


async def test_links_are_listed_whole_and_once(box: Toolbox, pages: Site) -> None:
    pages.pages["/tea"] = (
        PAGE + b'<a href="/more?x=1">again</a><a href="javascript:x()">no</a><a href="mailto:a@b">no</a>'
    )
    found = await fetched(box, pages, "http.links", "/tea")
    assert found["links"] == [
        {"url": f"{pages.url}/more?x=1", "text": "more"},
        {"url": "https://other.example/", "text": "other"},
    ]
    same = await fetched(box, pages, "http.links", "/tea", {"same_site": True})
    assert len(same["links"]) == 1


async def test_headers_are_asked_for_whatever_the_status(box: Toolbox, pages: Site) -> None:
    pages.pages["/x"] = (200, {"Content-Type": "text/plain", "Set-Cookie": "secret=1"}, b"hello")
    found = await fetched(box, pages, "http.head", "/x")
    assert (found["status"], found["headers"]["content-length"]) == (200, "5")
    assert "set-cookie" not in found["headers"]
    assert (await fetched(box, pages, "http.head", "/none"))["status"] == 404


@pytest.mark.parametrize(
    ("status", "type_", "retryable", "wait"),
    [
        (404, "tool", False, None),
        (403, "authorization", False, None),
        (503, "tool", True, 7.0),
        (429, "rate_limit", True, 7.0),
    ],
)
async def test_a_refusal_says_which_and_whether_to_try_again(
    status: int, type_: str, retryable: bool, wait: float | None, box: Toolbox, pages: Site
) -> None:
    headers = {"Content-Type": "text/plain", **({"Retry-After": "7"} if wait else {})}
    pages.pages["/r"] = (status, headers, b"because\nof that")
    refused = await box.refused("http.fetch", {"url": f"{pages.url}/r"}, allowPrivate=True)
    assert refused.message == f"{pages.url} answered HTTP {status}: because of that"
    assert (refused.type, refused.retryable, refused.retry_after) == (type_, retryable, wait)


async def test_redirects_are_followed_and_the_last_address_is_told(box: Toolbox, pages: Site) -> None:
    pages.pages["/a"] = (302, {"Location": "/b"}, b"")
    pages.pages["/b"] = (301, {"Location": f"{pages.url}/c"}, b"")
    pages.pages["/c"] = PAGE
    assert (await fetched(box, pages, "http.fetch", "/a"))["url"] == f"{pages.url}/c"
    pages.pages["/c"] = (302, {"Location": "/a"}, b"")
    assert (
        "more than 5 redirects"
        in (await box.refused("http.fetch", {"url": f"{pages.url}/a"}, allowPrivate=True)).message
    )


async def test_requests_are_sent_with_the_idempotency_key_of_the_call(box: Toolbox, pages: Site) -> None:
    pages.pages["/s"] = (201, JSON, b'{"id": 7}')
    found = await fetched(box, pages, "http.send", "/s", {"method": "PUT", "body": {"n": 1}}, hosts=["127.0.0.1"])
    assert found == {"status": 201, "body": {"id": 7}}
    [request] = pages.requests
    assert request.startswith(b"PUT /s ")
    assert b"idempotency-key: run-1/step" in request.lower()
    assert request.endswith(b'{"n":1}')


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(box: Toolbox, pages: Site) -> None:
    pages.pages["/big"] = b"x" * 100_000
    refused = await box.refused("http.fetch", {"url": f"{pages.url}/big"}, allowPrivate=True, maxBytes=1_000)
    assert "1000" in refused.message.replace(",", "")


async def test_a_server_that_is_not_there_may_be_tried_again(box: Toolbox, tmp_path: Path) -> None:
    assert (await box.refused("http.fetch", {"url": "http://127.0.0.1:9/"}, allowPrivate=True)).retryable
