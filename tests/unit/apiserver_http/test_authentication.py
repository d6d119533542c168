"""Who gets in: every route asks for a token, except those that say whether and what the server is."""

import pytest

from kastra.apiserver.authentication import Anybody, TokenAuthenticator, token_hash
from kastra.apiserver.call import User

from .conftest import TOKEN, Server, serve

OPEN = ("/livez", "/readyz", "/healthz", "/version", "/livez/", "/version/")


async def routes(server: Server) -> list[str]:
    """Every path the server knows, from its own list of paths and its resources."""
    paths = (await server.request("GET", "/")).json["paths"]
    for resource in server.client.scheme:
        root = f"/apis/{resource.group}/{resource.version}" if resource.group else "/api/v1"
        inside = f"{root}/namespaces/default" if resource.namespaced else root
        item = f"{inside}/{resource.plural}/x"
        paths += [f"{root}/{resource.plural}", f"{inside}/{resource.plural}", item, f"{item}/status", f"{item}/scale"]
    return [*paths, "/", "/nowhere", "/apis/no.such.group/v1/things"]


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", "Basic YTpi", f"Bearer {TOKEN}x", f"Token {TOKEN}"]
)
async def test_every_route_answers_401_with_the_same_status_without_a_valid_token(
    server: Server, authorization: str
) -> None:
    bodies = set()
    for path in await routes(server):
        if path in OPEN:
            continue
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
            reply = await server.request(method, path, b"{}", token=None, headers={"authorization": authorization})
            assert reply.status == 401, f"{method} {path}"
            bodies.add(reply.body)
    (body,) = bodies
    assert b'"reason":"Unauthorized"' in body
    assert b'"kind":"Status"' in body


async def test_health_and_version_need_no_token(server: Server) -> None:
    for path in OPEN:
        assert (await server.request("GET", path, token=None)).status == 200, path


async def test_the_scheme_of_the_header_may_be_written_in_any_case(server: Server) -> None:
    reply = await server.request("GET", "/api", token=None, headers={"authorization": f"bearer {TOKEN}"})
    assert reply.status == 200


def test_a_token_is_known_by_its_hash_alone() -> None:
    authenticator = TokenAuthenticator([(token_hash("t"), User("jo"))])
    assert authenticator.authenticate({b"authorization": b"Bearer t"}) == User("jo", ("system:authenticated",))
    assert authenticator.authenticate({b"authorization": b"Bearer " + token_hash("t").encode()}) is None


async def test_the_listener_without_authentication_refuses_what_a_browser_was_talked_into() -> None:
    async with serve(authenticator=Anybody(User("local")), local=True) as server:
        assert (await server.request("GET", "/api", token=None)).status == 200
        for headers in ({"host": "evil.example.com"}, {"origin": "https://evil.example.com"}, {"host": ""}):
            assert (await server.request("GET", "/api", token=None, headers=headers)).status == 403
