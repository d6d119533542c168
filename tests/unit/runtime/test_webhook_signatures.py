"""A request to a webhook is believed if it is signed with the shared secret, and not otherwise."""

import base64
import hmac
from hashlib import sha256

import pytest

from kastra.runtime.triggers.compiled import Signing
from kastra.runtime.triggers.signatures import BadSignature, verify

GITHUB = Signing("GitHub", "hook", "key", 300.0)
STANDARD = Signing("StandardWebhooks", "hook", "key", 300.0)
NOW = 1_700_000_000.0
BODY = b'{"test": 2432232314}'


def github(secret: str = "it's a secret", body: bytes = BODY) -> dict[str, str]:
    return {"x-hub-signature-256": f"sha256={hmac.new(secret.encode(), body, sha256).hexdigest()}"}


def standard(
    key: bytes = b"secret", identity: str = "msg_1", time: float = NOW, body: bytes = BODY, version: str = "v1"
) -> dict[str, str]:
    content = f"{identity}.{time:.0f}.".encode() + body
    signature = base64.b64encode(hmac.new(key, content, sha256).digest()).decode()
    return {
        "webhook-id": identity,
        "webhook-timestamp": f"{time:.0f}",
        "webhook-signature": f"{version},{signature}",
    }


def test_githubs_own_example_is_believed() -> None:
    headers = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
    assert verify(GITHUB, "It's a Secret to Everybody", headers, b"Hello, World!", NOW)


def test_the_example_of_standard_webhooks_is_believed() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    identity = verify(STANDARD, secret, headers, b'{"test": 2432232314}', 1614265330.0)
    assert identity == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_a_delivery_is_known_again_by_what_is_signed() -> None:
    first = verify(GITHUB, "it's a secret", {**github(), "x-github-delivery": "1"}, BODY, NOW)
    replayed = verify(GITHUB, "it's a secret", {**github(), "x-github-delivery": "2"}, BODY, NOW)
    other = verify(GITHUB, "it's a secret", github(body=b"{}"), b"{}", NOW)
    assert first == replayed != other


@pytest.mark.parametrize(
    "headers",
    [
        {},
        github(secret="another"),
        github(body=b"{}"),
        {"x-hub-signature-256": ""},
        {"x-hub-signature-256": "sha256="},
        {"x-hub-signature-256": "sha1=0000"},
        {"x-hub-signature-256": "\xff" * 10_000},
        {"x-hub-signature": github()["x-hub-signature-256"]},
    ],
    ids=["none", "secret", "body", "empty", "no-digest", "sha1", "odd", "old-header"],
)
def test_what_is_not_signed_as_github_does_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(GITHUB, "it's a secret", headers, BODY, NOW)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**standard(), "webhook-id": "msg_2"},
        {**standard(), "webhook-timestamp": f"{NOW + 1:.0f}"},
        {**standard(), "webhook-signature": ""},
        standard(version="v2"),
        standard(key=b"another"),
        standard(body=b"{}"),
        standard(time=NOW - 301),
        standard(time=NOW + 301),
        standard(identity="x" * 257),
        {**standard(), "webhook-signature": "v1," + " v1," * 100_000},
    ],
    ids=["none", "id", "time", "no-signature", "version", "secret", "body", "old", "future", "long-id", "many"],
)
def test_what_is_not_signed_as_standard_webhooks_asks_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(STANDARD, "secret", headers, BODY, NOW)


def test_a_time_that_is_no_number_is_refused_even_if_it_is_signed() -> None:
    content = b"msg_1.soon." + BODY
    signature = base64.b64encode(hmac.new(b"secret", content, sha256).digest()).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": "soon", "webhook-signature": f"v1,{signature}"}
    with pytest.raises(BadSignature, match="isn't a number"):
        verify(STANDARD, "secret", headers, BODY, NOW)


def test_one_of_several_signatures_is_enough_while_a_secret_is_replaced() -> None:
    old, new = standard(key=b"old"), standard(key=b"new")
    both = {**new, "webhook-signature": f"{old['webhook-signature']} {new['webhook-signature']}"}
    assert verify(STANDARD, "new", both, BODY, NOW) == verify(STANDARD, "old", both, BODY, NOW) == "msg_1"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%%%"])
def test_a_secret_that_is_none_lets_nobody_in(secret: str) -> None:
    with pytest.raises(BadSignature):
        verify(STANDARD, secret, standard(key=b""), BODY, NOW)
    with pytest.raises(BadSignature):
        verify(GITHUB, "", github(secret=""), BODY, NOW)
