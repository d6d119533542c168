"""F21: no tool of the web reaches what the outbound guard forbids, by no spelling, no redirect and no name that changes its mind."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kastra.netguard import Guard, Policy
from kastra.tool.bodies import body_of
from kastra.tool.interface import ToolContext, ToolError, ToolServices
from tests.support.toolbox import Site, Toolbox, site, toolbox

CANARY = "internal-4711"
TOOLS: dict[str, dict[str, Any]] = {
    "http.fetch": {},
    "http.json": {},
    "http.links": {},
    "http.head": {},
    "http.download": {"path": "x"},
    "http.send": {},
}
HOSTS = [
    "127.0.0.1", "127.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001", "0177.0.0.1",
    "user@127.0.0.1", "127.0.0.1.", "169.254.169.254", "[fe80::1]", "10.0.0.1", "192.168.0.1", "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]", "127.0.0.1%00.example.org", "LOCALHOST",
]  # fmt: skip
SCHEMES = [
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "ftp://127.0.0.1/",
    "data:text/html,x",
    "//127.0.0.1/",
    "javascript:1",
    "http:",
]


@pytest.fixture
async def inside() -> AsyncIterator[Site]:
    async with site() as found:
        found.pages["/"] = CANARY.encode()
        yield found


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Toolbox]:
    async with toolbox(tmp_path / "project") as made:
        yield made


def settings(name: str, *hosts: str) -> dict[str, Any]:
    return {"hosts": ["*", *hosts]} if name == "http.send" else {}


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("host", HOSTS)
async def test_a_private_address_is_not_reached_however_it_is_written(
    host: str, name: str, box: Toolbox, inside: Site
) -> None:
    refused = await box.refused(name, {**TOOLS[name], "url": f"http://{host}:{inside.port}/"}, **settings(name))
    assert refused.type == "authorization"
    assert inside.connections == 0


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("url", SCHEMES)
async def test_only_http_is_spoken(url: str, name: str, box: Toolbox) -> None:
    refused = await box.refused(name, {**TOOLS[name], "url": url}, **settings(name))
    assert refused.type == "authorization"


@pytest.mark.parametrize("name", [name for name in TOOLS if name != "http.send"])
async def test_a_redirect_to_a_host_that_is_not_listed_is_not_followed(name: str, box: Toolbox, inside: Site) -> None:
    async with site() as outer:
        outer.pages["/"] = (302, {"Location": f"http://localhost:{inside.port}/"}, b"")
        refused = await box.refused(
            name, {**TOOLS[name], "url": f"{outer.url}/"}, allowPrivate=True, hosts=["127.0.0.1"]
        )
        assert "localhost is not among the hosts" in refused.message
        assert (outer.connections, inside.connections) == (1, 0)


async def test_a_redirect_into_the_network_is_not_followed(tmp_path: Path, inside: Site) -> None:
    policy = Policy(allow_private_hosts=("public.example",))

    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with site() as outer, toolbox(tmp_path / "project", policy=policy, resolver=resolver) as box:
        outer.pages["/"] = (302, {"Location": f"http://intern.example:{inside.port}/"}, b"")
        refused = await box.refused("http.fetch", {"url": f"http://public.example:{outer.port}/"})
        assert "intern.example" in refused.message
        assert (outer.connections, inside.connections) == (1, 0)


async def test_a_name_that_changes_its_mind_is_judged_by_where_it_leads_now(tmp_path: Path, inside: Site) -> None:
    answers = [["203.0.113.7"], ["127.0.0.1"], ["127.0.0.1", "203.0.113.7"]]
    asked: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), 2)]

    async with toolbox(tmp_path / "project", resolver=resolver) as box:
        for _ in range(3):
            refused = await box.refused("http.fetch", {"url": f"http://rebinding.example:{inside.port}/"})
            assert CANARY not in refused.message
    assert inside.connections == 0
    assert len(asked) == 3, "once for each call: what was judged is what is connected to"


async def test_only_hosts_that_the_manifest_lists_are_called(box: Toolbox, inside: Site) -> None:
    refused = await box.refused("http.fetch", {"url": f"{inside.url}/"}, allowPrivate=True, hosts=["*.example.org"])
    assert "*.example.org" in refused.message
    assert inside.connections == 0
    evil = await box.refused(
        "http.fetch", {"url": "http://example.org.evil.test/"}, hosts=["example.org", "*.example.org"]
    )
    assert "not among" in evil.message


@pytest.mark.parametrize(
    "value", ["..", ".", "../../admin", "a/../b", "//evil.test", "@evil.test", "evil.test#", "x?y=z", "\\..\\"]
)
@pytest.mark.parametrize("path", ["/v1/items/${{ input.x }}", "/v1/${{ input.x }}/items", "/v1/items?q=${{ input.x }}"])
async def test_an_argument_of_an_http_tool_changes_neither_host_nor_folder(
    path: str, value: str, tmp_path: Path, inside: Site
) -> None:
    async def none(value_from: Any) -> str:
        raise LookupError

    async with Guard(Policy()) as guard, toolbox(tmp_path) as box:
        services = ToolServices(guard, box.services.clock, none)
        body = await body_of("t", {"http": {"url": inside.url + path, "allowPrivate": True}}, services)
        try:
            await body.call({"x": value}, ToolContext("k"))
        except ToolError as error:
            assert error.type == "validation" or "404" in error.message
    for request in inside.requests:
        asked = request.split(b" ")[1]
        assert asked.startswith(b"/v1/items?" if "?" in path else b"/v1/")
        assert b"/../" not in asked
        assert not asked.endswith((b"/..", b"/."))
        assert asked.count(b"/") == path.count("/")
