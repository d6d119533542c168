"""ID tokens of an OpenID provider: which are good, whom they name, and what becomes of all others."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import pytest

from kastra.apiserver.call import User
from kastra.apiserver.oidc import OIDCTokens, Provider
from kastra.apiserver.oidc_keys import ProviderKeys
from kastra.netguard import Guard, Policy
from kastra.testing.clock import VirtualClock
from tests.support.openid import (
    EC_KEY,
    OTHER_RSA_KEY,
    RSA_KEY,
    OpenIDProvider,
    b64,
    jwk,
    provider_in,
    signed_with_the_public_key,
    unsigned,
)


@pytest.fixture
def provider(tmp_path: Any) -> Iterator[OpenIDProvider]:
    with provider_in(tmp_path) as running:
        yield running


class Login(NamedTuple):
    """What recognises tokens, and the time it lives in."""

    tokens: OIDCTokens
    clock: VirtualClock

    async def user(self, token: str) -> User | None:
        """As a request with the token finds it."""
        found = self.tokens.user_of(token)
        if found is None and await self.tokens.learn(token):
            found = self.tokens.user_of(token)
        return found


@asynccontextmanager
async def login(provider: OpenIDProvider, **rules: Any) -> AsyncIterator[Login]:
    rules = {"username_prefix": "oidc:", "groups_claim": "groups", **rules}
    clock = VirtualClock()
    policy = Policy(allow_private_hosts=("127.0.0.1",))
    async with Guard(policy) as guard, anyio.create_task_group() as tasks:
        keys = ProviderKeys(provider.issuer, guard, clock, authorities=provider.authority)
        tasks.start_soon(keys.run)
        yield Login(OIDCTokens(Provider(provider.issuer, "kastra", **rules), keys, clock), clock)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"),
    [
        (RSA_KEY, "r1", "RS256"),
        (EC_KEY, "e1", "ES256"),
        (RSA_KEY, None, "RS256"),
        (EC_KEY, None, "ES256"),
        (OTHER_RSA_KEY, "r2", "PS256"),
        (OTHER_RSA_KEY, "r2", "RS512"),
    ],
    ids=["RSA", "EC", "RSA without id", "EC without id", "PSS", "SHA-512"],
)
async def test_a_token_that_a_key_of_the_provider_signed_is_good(
    provider: OpenIDProvider, key: Any, kid: str | None, algorithm: str
) -> None:
    provider.key_set["keys"].append(jwk(OTHER_RSA_KEY, "r2"))
    async with login(provider) as here:
        token = provider.token({"groups": ["cooks"]}, key=key, kid=kid, algorithm=algorithm, now=here.clock.now())
        assert await here.user(token) == User("oidc:ada", ("cooks",))
        assert here.tokens.user_of(token) == User("oidc:ada", ("cooks",)), "the second time nothing is fetched"


@pytest.mark.parametrize(
    ("claims", "rules", "expected"),
    [
        ({}, {"username_prefix": ""}, User("ada")),
        ({"groups": "cooks"}, {}, User("oidc:ada", ("cooks",))),
        ({"groups": ["a", "b", "a"]}, {"groups_prefix": "g:"}, User("oidc:ada", ("g:a", "g:b"))),
        ({"groups": ["a"]}, {"groups_claim": ""}, User("oidc:ada")),
        ({"email": "ada@example.com"}, {"username_claim": "email"}, User("oidc:ada@example.com")),
        ({"email": "a@b", "email_verified": True}, {"username_claim": "email"}, User("oidc:a@b")),
        ({"email": "a@b", "email_verified": False}, {"username_claim": "email"}, None),
        ({"email": "a@b", "email_verified": "true"}, {"username_claim": "email"}, None),
        ({"email": "a@b", "email_verified": False}, {}, User("oidc:ada")),
        ({"hd": "example.com"}, {"required_claims": {"hd": "example.com"}}, User("oidc:ada")),
        ({"hd": "evil.com"}, {"required_claims": {"hd": "example.com"}}, None),
        ({}, {"required_claims": {"hd": "example.com"}}, None),
        ({"aud": ["other", "kastra"]}, {}, User("oidc:ada")),
        ({"jti": "7"}, {}, User("oidc:ada", (), "", {"authentication.kubernetes.io/credential-id": ["JTI=7"]})),
        ({}, {"username_claim": "name"}, None),
        ({"name": 7}, {"username_claim": "name"}, None),
        ({"name": " "}, {"username_claim": "name"}, None),
        ({"name": "a\nb"}, {"username_claim": "name"}, None),
        ({"name": "\ud800"}, {"username_claim": "name"}, None),
        ({"groups": [1]}, {}, None),
        ({"groups": {"a": 1}}, {}, None),
        ({"sub": "system:admin"}, {"username_prefix": ""}, None),
        ({"groups": ["cooks", "system:masters"]}, {}, None),
        ({"groups": ["ystem:masters"]}, {"groups_prefix": "s"}, None),
    ],
)
async def test_claims_name_the_user_and_the_groups_as_the_settings_say(
    provider: OpenIDProvider, claims: dict[str, Any], rules: dict[str, Any], expected: User | None
) -> None:
    async with login(provider, **rules) as here:
        assert await here.user(provider.token(claims, now=here.clock.now())) == expected


def long_nested(token: str) -> str:
    return f"{b64(b'[' * 9000)}.{token.split('.')[1]}.AA"


def with_embedded_key(token: str) -> str:
    header = {"alg": "RS256", "jwk": jwk(OTHER_RSA_KEY, "x")}
    return f"{b64(json.dumps(header).encode())}.{'.'.join(token.split('.')[1:])}"


BAD: dict[str, Callable[[OpenIDProvider, Any], str]] = {
    "expired": lambda p, now: p.token({"exp": now.timestamp() - 11}, now=now),
    "without end": lambda p, now: p.token({"exp": None}, now=now),
    "with an end that is no number": lambda p, now: p.token({"exp": float("nan")}, now=now),
    "with an end that is a text": lambda p, now: p.token({"exp": "2099"}, now=now),
    "with an endless end": lambda p, now: p.token({"exp": 10**400}, now=now),
    "not yet": lambda p, now: p.token({"nbf": now.timestamp() + 60}, now=now),
    "made in the future": lambda p, now: p.token({"iat": now.timestamp() + 60}, now=now),
    "for somebody else": lambda p, now: p.token({"aud": "other"}, now=now),
    "for nobody": lambda p, now: p.token({"aud": None}, now=now),
    "of another issuer": lambda p, now: p.token({"iss": "https://evil.example.com"}, now=now),
    "of an issuer with a slash more": lambda p, now: p.token({"iss": p.issuer + "/"}, now=now),
    "without issuer": lambda p, now: p.token({"iss": None}, now=now),
    "unsigned": lambda p, now: unsigned(p.token(now=now)),
    "signed with the public key as a secret": lambda p, now: signed_with_the_public_key(p.token(now=now), RSA_KEY),
    "signed with another key": lambda p, now: p.token(key=OTHER_RSA_KEY, now=now),
    "signed with another key, without id": lambda p, now: p.token(key=OTHER_RSA_KEY, kid=None, now=now),
    "signed with a key it brings along": lambda p, now: with_embedded_key(p.token(key=OTHER_RSA_KEY, now=now)),
    "with another key's id": lambda p, now: p.token(kid="e1", now=now),
    "with an algorithm that isn't the key's": lambda p, now: p.token(algorithm="RS512", now=now),
    "with a demand in its header": lambda p, now: p.token(headers={"crit": ["exp"], "exp": 1}, now=now),
    "changed": lambda p, now: "".join((p.token(now=now)[:-8], "AAAAAAAA")),
    "too long": lambda p, now: p.token({"x": "x" * 16384}, now=now),
    "nested": lambda p, now: long_nested(p.token(now=now)),
    "of two parts": lambda p, now: p.token(now=now).rpartition(".")[0],
    "no token": lambda p, now: "a.b.c",
    "empty": lambda p, now: "..",
}


@pytest.mark.parametrize("bad", BAD)
async def test_no_other_token_is_good(provider: OpenIDProvider, bad: str) -> None:
    async with login(provider) as here:
        now = here.clock.now()
        assert await here.user(provider.token(now=now)) is not None
        assert await here.user(BAD[bad](provider, now)) is None
        await here.clock.advance(11)
        assert await here.user(BAD[bad](provider, now)) is None, "nor with keys that are fetched anew"


async def test_a_token_ends_with_its_time_however_often_it_was_good(provider: OpenIDProvider) -> None:
    async with login(provider) as here:
        token = provider.token(now=here.clock.now())
        assert await here.user(token)
        here.clock.jump(3609)
        assert here.tokens.user_of(token), "clocks may differ a little"
        here.clock.jump(2)
        assert here.tokens.user_of(token) is None


async def test_tokens_are_for_this_api_only(provider: OpenIDProvider) -> None:
    async with login(provider) as here:
        token = provider.token(now=here.clock.now())
        assert await here.user(token)
        assert here.tokens.user_of(token, ["vault"]) is None
        assert here.tokens.user_of(token, ["vault", "kastra"]) is not None


async def test_the_first_login_after_a_change_of_keys_works_and_the_old_key_is_good_no_more(
    provider: OpenIDProvider,
) -> None:
    async with login(provider) as here:
        old = provider.token(now=here.clock.now())
        assert await here.user(old)
        provider.key_set = {"keys": [jwk(OTHER_RSA_KEY, "r2")]}
        await here.clock.advance(10)
        assert await here.user(provider.token(key=OTHER_RSA_KEY, kid="r2", now=here.clock.now()))
        assert await here.user(old) is None


async def test_a_key_that_the_provider_takes_back_is_good_for_a_quarter_of_an_hour_at_most(
    provider: OpenIDProvider,
) -> None:
    async with login(provider) as here:
        token = provider.token(now=here.clock.now())
        assert await here.user(token)
        provider.key_set = {"keys": [jwk(OTHER_RSA_KEY, "r2")]}
        await here.clock.advance(900)
        await until(lambda: here.tokens.user_of(token) is None)


async def test_unknown_keys_do_not_make_the_provider_be_asked_more_than_once_in_ten_seconds(
    provider: OpenIDProvider,
) -> None:
    async with login(provider) as here:
        assert await here.user(provider.token(now=here.clock.now()))
        for turn in range(3):
            for number in range(20):
                assert await here.user(provider.token(kid=f"x{number}", now=here.clock.now())) is None
            assert provider.fetches == 1 + turn
            await here.clock.advance(10)


async def test_who_comes_while_keys_are_fetched_waits_for_that_fetch(provider: OpenIDProvider) -> None:
    provider.silent.clear()
    async with login(provider) as here:
        token = provider.token(now=here.clock.now())
        found: list[User | None] = []

        async def come() -> None:
            found.append(await here.user(token))

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(come)
            await anyio.wait_all_tasks_blocked()
            assert len(found) == 36, "of a hundred 64 may wait"
            provider.silent.set()
        assert sum(user is not None for user in found) == 64
        assert provider.fetches == 1


async def test_a_provider_that_is_down_is_tried_again_and_its_last_keys_stay_good(provider: OpenIDProvider) -> None:
    async with login(provider) as here:
        token = provider.token(now=here.clock.now())
        assert await here.user(token)
        provider.stop()
        await here.clock.advance(900)
        assert await here.user(provider.token(kid="x", now=here.clock.now())) is None
        assert await here.user(token)


async def test_a_provider_that_comes_up_later_is_found(provider: OpenIDProvider) -> None:
    provider.stop()
    async with login(provider) as here:
        token = provider.token(now=here.clock.now())
        assert await here.user(token) is None
        provider.start()
        await here.clock.advance(10)
        assert await here.user(token)


ANSWERS: dict[str, Callable[[OpenIDProvider], None]] = {
    "names another issuer": lambda p: p.overrides.update(issuer="https://127.0.0.1/other"),
    "has no https keys": lambda p: p.overrides.update(jwks_uri=p.issuer.replace("https", "http") + "/keys"),
    "has no keys": lambda p: p.overrides.update(jwks_uri=None),
    "redirects": lambda p: setattr(p, "redirect", "https://127.0.0.1:1/"),
    "isn't JSON": lambda p: setattr(p, "key_set", b"<html>"),
    "is too large": lambda p: setattr(p, "key_set", json.dumps({**p.key_set, "x": "x" * 300_000}).encode()),
    "has too many keys": lambda p: p.key_set.update(keys=p.key_set["keys"] * 33),
    "is a list": lambda p: setattr(p, "key_set", p.key_set["keys"]),
    "is missing": lambda p: p.overrides.update(jwks_uri=p.issuer + "/nowhere"),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_keys_that_come_otherwise_than_they_should_are_not_taken(
    provider: OpenIDProvider, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = provider.token
    ANSWERS[answer](provider)
    async with login(provider) as here:
        assert await here.user(good(now=here.clock.now())) is None
        [told] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert told.startswith("keys of the OpenID provider can't be had")


UNUSABLE: dict[str, dict[str, Any]] = {
    "for encryption": jwk(RSA_KEY, "r1", use="enc"),
    "of another algorithm": jwk(RSA_KEY, "r1", alg="RSA-OAEP"),
    "a secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "r1", "alg": "HS256"},
    "of unknown kind": {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "r1"},
    "broken": {**jwk(RSA_KEY, "r1"), "n": "!"},
    "incomplete": {"kty": "RSA", "kid": "r1"},
    "weak": {**jwk(RSA_KEY, "r1"), "n": b64(((1 << 1023) + 1).to_bytes(128, "big"))},
    "private": {**jwk(RSA_KEY, "r1"), "d": "AQAB"},
    "with an odd id": {**jwk(RSA_KEY, "r1"), "kid": 7},
}


@pytest.mark.parametrize("key", UNUSABLE)
async def test_keys_that_sign_nothing_here_are_passed_over(provider: OpenIDProvider, key: str) -> None:
    provider.key_set = {"keys": [UNUSABLE[key], "nonsense", jwk(EC_KEY, "e1")]}
    async with login(provider) as here:
        now = here.clock.now()
        assert await here.user(provider.token(key=EC_KEY, kid="e1", algorithm="ES256", now=now))
        assert await here.user(provider.token(now=now)) is None


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"issuer": "http://127.0.0.1"}, "https"),
        ({"issuer": "https://a?b"}, "query"),
        ({"client_id": ""}, "client id"),
        ({"username_prefix": "system:"}, "the server's own"),
        ({"groups_prefix": "system:x"}, "the server's own"),
        ({"algorithms": frozenset({"HS256"})}, "HS256"),
        ({"algorithms": frozenset({"none"})}, "none"),
    ],
)
def test_a_provider_that_can_not_be_meant_is_refused(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Provider(**{"issuer": "https://127.0.0.1", "client_id": "kastra", **rules})


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.005)
