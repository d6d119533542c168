"""A login at an OpenID provider, over HTTP: requests and TokenReviews, also with a key that was not known a moment ago."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from kastra.apiserver.authentication import TokenAuthenticator, learning_from_reviews, token_hash
from kastra.apiserver.call import User
from kastra.apiserver.oidc import OIDCTokens, Provider
from kastra.apiserver.oidc_keys import ProviderKeys
from kastra.netguard import Guard, Policy
from kastra.testing.clock import VirtualClock
from tests.support.openid import OTHER_RSA_KEY, OpenIDProvider, jwk, provider_in

from .conftest import TOKEN, Reply, Server, serve


@pytest.fixture
def provider(tmp_path: Any) -> Iterator[OpenIDProvider]:
    with provider_in(tmp_path) as running:
        yield running


@asynccontextmanager
async def served(provider: OpenIDProvider) -> AsyncIterator[tuple[Server, VirtualClock]]:
    clock = VirtualClock()
    async with (
        Guard(Policy(allow_private_hosts=("127.0.0.1",))) as guard,
        anyio.create_task_group() as tasks,
    ):
        keys = ProviderKeys(provider.issuer, guard, clock, authorities=provider.authority)
        tasks.start_soon(keys.run)
        users = OIDCTokens(Provider(provider.issuer, "kastra", groups_claim="groups"), keys, clock)
        authenticator = TokenAuthenticator([(token_hash(TOKEN), User("admin"))], users)
        async with serve(authenticator=authenticator) as server:
            server.api.registry.token_reader = authenticator
            server.api.registry.admission.policies.append(learning_from_reviews(authenticator))
            yield server, clock
        tasks.cancel_scope.cancel()


async def who(server: Server, token: str) -> Reply:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    return await server.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, token=token)


async def review(server: Server, token: str) -> dict[str, Any]:
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    reply = await server.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", asked)
    assert reply.status == 201
    status: dict[str, Any] = reply.json["status"]
    return status


async def test_a_request_is_that_of_the_user_whom_its_token_names(provider: OpenIDProvider) -> None:
    async with served(provider) as (server, clock):
        reply = await who(server, provider.token({"groups": ["cooks"]}, now=clock.now()))
        assert reply.status == 201
        assert reply.json["status"]["userInfo"] == {"username": "ada", "groups": ["cooks", "system:authenticated"]}


async def test_a_bad_token_is_answered_with_401_and_says_nothing_of_why(provider: OpenIDProvider) -> None:
    async with served(provider) as (server, clock):
        bodies = {
            (await who(server, token)).body
            for token in (
                "a.b.c",
                provider.token({"exp": 1}, now=clock.now()),
                provider.token(kid="x", now=clock.now()),
            )
        }
        assert len(bodies) == 1
        assert b'"code":401' in bodies.pop()


async def test_a_review_knows_a_key_that_the_provider_has_just_begun_to_use(provider: OpenIDProvider) -> None:
    async with served(provider) as (server, clock):
        assert (await review(server, provider.token(now=clock.now())))["authenticated"]
        provider.key_set["keys"].append(jwk(OTHER_RSA_KEY, "r2"))
        await clock.advance(10)
        status = await review(server, provider.token(key=OTHER_RSA_KEY, kid="r2", now=clock.now()))
        assert status["authenticated"]
        assert status["user"]["username"] == "ada"


async def test_other_tokens_are_known_while_the_provider_is_silent(provider: OpenIDProvider) -> None:
    provider.silent.clear()
    async with served(provider) as (server, clock), anyio.create_task_group() as tasks:
        tasks.start_soon(who, server, provider.token(now=clock.now()))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(2):
            assert (await who(server, TOKEN)).status == 201
            assert not (await review(server, "a.b.c"))["authenticated"]
        provider.silent.set()
