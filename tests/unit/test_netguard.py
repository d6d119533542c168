"""The guard lets nothing reach a private address unless it is told to, whatever the URL looks like."""

import gzip
import ipaddress
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import anyio
import anyio.abc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.netguard import BadAnswer, ConnectionFailed, Guard, Limits, Policy, Refused, Target, TimedOut, category


class Listener:
    """A loopback HTTP server that counts connections and answers what `reply` says."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0
        self.reply: Callable[[bytes], bytes] = lambda request: answer(b"ok")
        self.silent = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        self.connections += 1
        async with stream:
            request = b""
            try:
                while b"\r\n\r\n" not in request:
                    request += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return
            self.requests.append(request)
            if self.silent:
                await anyio.sleep_forever()
            try:
                await stream.send(self.reply(request))
            except anyio.BrokenResourceError:
                return


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def redirect(location: str, status: int = 302) -> bytes:
    return answer(b"", f"{status} Moved", f"Location: {location}\r\n")


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    server = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener.port = server.extra(anyio.abc.SocketAttribute.local_port)
    async with server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, listener.serve)
        yield listener
        tasks.cancel_scope.cancel()


def resolving(*answers: Sequence[str]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """A resolver that gives each answer in turn, the last one for ever."""
    left = list(answers)

    async def resolver(host: str, port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolver


NAMES_THAT_RESOLVE_TO = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "169.254.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "2002:808:808::1",
    "2001:0:7f00:1::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1",
]  # fmt: skip

URLS = [
    "http://127.0.0.1:{port}/", "http://127.1:{port}/", "http://127.0.1:{port}/", "http://2130706433:{port}/",
    "http://0x7f000001:{port}/", "http://0x7f.0.0.1:{port}/", "http://0x7f.1:{port}/", "http://0177.0.0.1:{port}/",
    "http://0177.1:{port}/", "http://017700000001:{port}/", "http://127.0.0.01:{port}/", "http://127.000.000.001:{port}/",
    "http://00000127.0.0.1:{port}/", "http://127.0.0.1.:{port}/", "http://localhost:{port}/", "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/", "http://0:{port}/", "http://0.0.0.0:{port}/", "http://[::]:{port}/", "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/", "http://[64:ff9b::127.0.0.1]:{port}/", "http://[2002:7f00:1::]:{port}/",
    "http://[::1%25lo]:{port}/", "http://[fe80::1%lo]:{port}/", "http://[::1:{port}/", "http://::1:{port}/",
    "http://user@127.0.0.1:{port}/", "http://user:pass@127.0.0.1:{port}/", "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@example.com/", "http://example.com%40127.0.0.1:{port}/", "http://example.com\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@example.com/", "http://example.com\t@127.0.0.1:{port}/", "http:127.0.0.1:{port}/",
    "http:/127.0.0.1:{port}/", "http:///127.0.0.1:{port}/", "http:\\\\127.0.0.1:{port}/", "//127.0.0.1:{port}/",
    "http://127。0。0。1:{port}/", "http://①②⑦.⓪.⓪.①:{port}/", "http://loc​alhost:{port}/", "http://ⓛocalhost:{port}/",
    "http://127.0.0.1:{port}\r\nHost: example.com/", "http://127.0.0.1 :{port}/", " http://127.0.0.1:{port}/",
    "http://%31%32%37.0.0.1:{port}/", "http://127.0.0.1%00.example.com:{port}/", "http://..:{port}/", "http://:{port}/",
    "file:///etc/passwd", "file://127.0.0.1/etc/passwd", "gopher://127.0.0.1:{port}/_GET", "dict://127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/", "ldap://127.0.0.1:{port}/", "ws://127.0.0.1:{port}/", "unix:///var/run/docker.sock",
    "data:text/plain,hi", "javascript:1", "jar:http://127.0.0.1:{port}/!/", "tftp://127.0.0.1:{port}/", "",
    "127.0.0.1:{port}", "http://", "https://", "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/",
    "http://127.0.0.1:0/", "http://127.0.0.1:65536/", "http://127.0.0.1:-1/", "http://127.0.0.1:٨٠/", "http://127.0.0.1:8e1/",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
async def test_no_url_reaches_a_loopback_listener_uninvited(url: str, listener: Listener) -> None:
    async with Guard(Policy()) as guard:
        with pytest.raises(Refused):
            await guard.request("GET", url.replace("{port}", str(listener.port)), limits=Limits(timeout=2))
    assert listener.connections == 0


@pytest.mark.parametrize("address", NAMES_THAT_RESOLVE_TO)
async def test_a_name_that_resolves_to_a_non_public_address_is_not_called(address: str, listener: Listener) -> None:
    async with Guard(Policy(), resolver=resolving([address])) as guard:
        with pytest.raises(Refused, match=r"rebound\.example"):
            await guard.request("GET", f"http://rebound.example:{listener.port}/")
    assert listener.connections == 0


async def test_one_private_address_among_public_ones_spoils_the_name(listener: Listener) -> None:
    async with Guard(Policy(), resolver=resolving(["1.1.1.1", "127.0.0.1"])) as guard:
        with pytest.raises(Refused, match="loopback"):
            await guard.request("GET", f"http://mixed.example:{listener.port}/")
    assert listener.connections == 0


async def test_the_address_that_was_checked_is_the_one_connected_to(listener: Listener) -> None:
    # The second look-up would lead to an address where nobody listens.
    resolver = resolving(["127.0.0.1"], ["127.0.0.2"])
    async with Guard(Policy(allow_private_hosts=("127.0.0.1",)), resolver=resolver) as guard:
        assert (await guard.request("GET", f"http://rebound.example:{listener.port}/")).text() == "ok"
        with pytest.raises(Refused):
            await guard.request("GET", f"http://rebound.example:{listener.port}/")
    assert listener.connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_a_private_address_is_not_followed(status: int, listener: Listener) -> None:
    listener.reply = lambda request: redirect(f"http://127.0.0.2:{listener.port}/secret", status)
    async with Guard(Policy(allow_private_hosts=("127.0.0.1",))) as guard:
        with pytest.raises(Refused, match=r"127\.0\.0\.2"):
            await guard.request("GET", listener.url)
    assert listener.connections == 1


async def test_a_redirect_to_another_scheme_is_refused(listener: Listener) -> None:
    listener.reply = lambda request: redirect("file:///etc/passwd")
    async with Guard(Policy(allow_private_hosts=("127.0.0.1",))) as guard:
        with pytest.raises(Refused, match="not file:"):
            await guard.request("GET", listener.url)


async def test_redirects_are_counted(listener: Listener) -> None:
    listener.reply = lambda request: redirect("/again")
    async with Guard(Policy(allow_private_hosts=("127.0.0.1",))) as guard:
        with pytest.raises(BadAnswer, match="more than 3 redirects"):
            await guard.request("GET", listener.url, limits=Limits(max_redirects=3))
    assert listener.connections == 4


async def test_a_redirect_to_another_origin_loses_the_key_and_a_post_becomes_a_get(listener: Listener) -> None:
    listener.reply = lambda request: (
        redirect(f"http://localhost:{listener.port}/there") if b"/here" in request else answer(b"there")
    )
    async with Guard(
        Policy(allow_private_hosts=("127.0.0.1", "localhost")), resolver=resolving(["127.0.0.1"])
    ) as guard:
        headers = {"Authorization": "Bearer canary", "X-Api-Key": "canary", "Accept": "text/plain"}
        got = await guard.request("POST", f"{listener.url}/here", headers=headers, content=b"{}")
    assert got.text() == "there"
    first, second = listener.requests
    assert first.count(b"canary") == 2
    assert b"canary" not in second
    assert second.startswith(b"GET /there ")
    assert b"text/plain" in second


async def test_private_addresses_are_called_when_the_call_says_so(listener: Listener) -> None:
    async with Guard(Policy()) as guard:
        assert (await guard.request("GET", listener.url, allow_private=True)).status == 200
        with pytest.raises(Refused):
            await guard.request("GET", listener.url)


async def test_the_operator_can_disregard_what_manifests_allow_themselves(listener: Listener) -> None:
    async with Guard(Policy(honour_allow_private=False)) as guard:
        with pytest.raises(Refused):
            await guard.request("GET", listener.url, allow_private=True)
    assert listener.connections == 0


async def test_link_local_addresses_need_more_than_allow_private() -> None:
    async with Guard(Policy()) as guard:
        with pytest.raises(Refused, match="link-local"):
            await guard.request("GET", "http://169.254.169.254/latest/", allow_private=True)


@pytest.mark.parametrize("entry", ["127.0.0.1", "127.0.0.0/8", "db.corp", "*.corp"])
async def test_the_environment_lists_private_hosts_by_name_suffix_address_or_range(
    entry: str, listener: Listener
) -> None:
    policy = Policy.from_environment({"KASTRA_ALLOW_PRIVATE_HOSTS": f"10.9.9.9, {entry}"})
    async with Guard(policy, resolver=resolving(["127.0.0.1"])) as guard:
        assert (await guard.request("GET", f"http://db.corp:{listener.port}/")).status == 200


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        (Policy(deny_hosts=("*.example",)), False),
        (Policy(deny_hosts=("1.1.1.0/24",)), False),
        (Policy(allow_hosts=("api.example",)), True),
        (Policy(allow_hosts=("other.example",)), False),
        (Policy(allow_hosts=("1.1.1.1",)), True),
        (Policy(allow_hosts=("9.9.9.9",)), False),
    ],
)
def test_hosts_can_be_allowed_and_denied(policy: Policy, allowed: bool) -> None:
    address = ipaddress.ip_address("1.1.1.1")
    if allowed:
        policy.check_name("api.example")
        policy.check("api.example", [address])
    else:
        with pytest.raises(Refused):
            policy.check("api.example", [address])


async def test_an_answer_over_the_limit_is_cut_off(listener: Listener) -> None:
    listener.reply = lambda request: answer(b"x" * 5000)
    async with Guard(Policy()) as guard:
        with pytest.raises(BadAnswer, match="larger than 4000 bytes"):
            await guard.request("GET", listener.url, allow_private=True, limits=Limits(max_bytes=4000))


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_answers_are_unpacked_up_to_the_limit(
    coding: str, pack: Callable[[bytes], bytes], listener: Listener
) -> None:
    listener.reply = lambda request: answer(pack(b"x" * 100_000), headers=f"Content-Encoding: {coding}\r\n")
    async with Guard(Policy()) as guard:
        got = await guard.request("GET", listener.url, allow_private=True)
        assert got.body == b"x" * 100_000
        with pytest.raises(BadAnswer, match="decompressed"):
            await guard.request("GET", listener.url, allow_private=True, limits=Limits(max_bytes=50_000))


@pytest.mark.parametrize("body", [b"not gzip at all", gzip.compress(b"x" * 1000, mtime=0)[:-9]])
async def test_a_broken_encoding_is_an_error(body: bytes, listener: Listener) -> None:
    listener.reply = lambda request: answer(body, headers="Content-Encoding: gzip\r\n")
    async with Guard(Policy()) as guard:
        with pytest.raises(BadAnswer, match="gzip"):
            await guard.request("GET", listener.url, allow_private=True)


async def test_a_server_that_never_answers_is_given_up(listener: Listener) -> None:
    listener.silent = True
    async with Guard(Policy()) as guard:
        with pytest.raises(TimedOut, match=rf"127\.0\.0\.1:{listener.port}"):
            await guard.request("GET", f"{listener.url}/?key=canary", allow_private=True, limits=Limits(timeout=0.1))


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", b"SSH-2.0-OpenSSH\r\n"])
async def test_a_broken_connection_is_retryable_and_says_nothing_of_the_path(reply: bytes, listener: Listener) -> None:
    listener.reply = lambda request: reply
    async with Guard(Policy()) as guard:
        with pytest.raises(ConnectionFailed) as caught:
            await guard.request("GET", f"{listener.url}/?key=canary", allow_private=True)
    assert "canary" not in str(caught.value)


async def test_a_refused_connection_is_retryable(listener: Listener) -> None:
    async with Guard(Policy()) as guard:
        with pytest.raises(ConnectionFailed):
            await guard.request("GET", "http://127.0.0.1:1/", allow_private=True)


@pytest.mark.parametrize(
    "headers", [{"Host": "other"}, {"X": "a\r\nY: b"}, {"X Y": "a"}, {"": "a"}, {"Content-Length": "5"}, {"X": "☃"}]
)
async def test_headers_cannot_break_out_of_their_line(headers: dict[str, str], listener: Listener) -> None:
    async with Guard(Policy()) as guard:
        with pytest.raises(Refused, match="header"):
            await guard.request("GET", listener.url, headers=headers, allow_private=True)
    assert listener.connections == 0


async def test_a_streamed_answer_arrives_in_parts(listener: Listener) -> None:
    listener.reply = lambda request: answer(b"data: 1\n\n")
    async with Guard(Policy()) as guard, guard.stream("GET", listener.url, allow_private=True) as got:
        assert got.status == 200
        assert b"".join([chunk async for chunk in got.chunks]) == b"data: 1\n\n"


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_every_ipv4_address_is_judged_alike_in_all_its_ipv6_disguises(number: int) -> None:
    plain = ipaddress.IPv4Address(number)
    assert category(ipaddress.IPv6Address(f"::ffff:{plain}")) == category(plain)
    assert category(ipaddress.IPv6Address(f"64:ff9b::{plain}")) == category(plain)
    assert category(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))) != "public"
    if category(plain) == "public":
        assert plain.is_global


@given(st.text(max_size=60), st.sampled_from(["http://", "https://", ""]))
def test_any_text_is_either_a_plain_url_or_refused(text: str, prefix: str) -> None:
    try:
        target = Target.parse(prefix + text)
    except Refused:
        return
    assert target == Target.parse(target.url)
    assert 0 < target.port < 65536
