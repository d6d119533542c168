"""Does a request to a webhook come from whoever shares the secret? HMAC-SHA256, in two conventions.

    GitHub             X-Hub-Signature-256: sha256=HEX            over the body
    StandardWebhooks   webhook-id, webhook-timestamp,             over `id.timestamp.body`; several signatures may be
                       webhook-signature: v1,BASE64 v1,BASE64     given while a secret is replaced

A delivery is known again by what is signed: the id where that is signed, else the body itself, since whoever replays a
request can change every header that isn't. Comparisons take the same time wherever texts differ. Nothing is read or
answered here, and no secret is kept.

Source: GitHub's "Validating webhook deliveries", the Standard Webhooks specification 1.0. Read next: `kastra.app.webhooks`.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from hashlib import sha256

from .compiled import Signing

_MOST_SIGNATURES = 8
_LONGEST_ID = 256
_PREFIX = "whsec_"


class BadSignature(Exception):
    """The request is not signed as it must be. The message is for the owner of the webhook, never for the caller."""


def verify(signing: Signing, secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str:
    """What identifies the delivery, the same for the same delivery.

    Args:
        headers: by lower-case name.
        now: seconds since 1970.

    Raises:
        BadSignature: it isn't signed with the secret, or too long ago.
    """
    if not secret:
        raise BadSignature("the secret is empty")
    if signing.type == "GitHub":
        return _github(secret, headers, body)
    return _standard(signing, secret, headers, body, now)


def _github(secret: str, headers: Mapping[str, str], body: bytes) -> str:
    given = headers.get("x-hub-signature-256", "")
    wanted = f"sha256={hmac.digest(secret.encode(), body, 'sha256').hex()}"
    if not hmac.compare_digest(wanted.encode(), given.encode("latin-1", "replace")):
        raise BadSignature(
            "X-Hub-Signature-256 is missing" if not given else "X-Hub-Signature-256 doesn't fit the body"
        )
    return sha256(body).hexdigest()


def _standard(signing: Signing, secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str:
    identity, time = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "")
    if not identity or not time or not given:
        raise BadSignature("webhook-id, webhook-timestamp or webhook-signature is missing")
    if len(identity) > _LONGEST_ID or not identity.isprintable():
        raise BadSignature(f"webhook-id has more than {_LONGEST_ID} characters, or odd ones")
    content = f"{identity}.{time}.".encode("latin-1", "replace") + body
    wanted = base64.b64encode(hmac.digest(signing_key(secret), content, "sha256"))
    fits = False
    for signature in given.split(" ")[:_MOST_SIGNATURES]:
        version, _, value = signature.partition(",")
        # Every one is looked at, so that the time tells nothing.
        fits |= hmac.compare_digest(wanted, value.encode("latin-1", "replace")) and version == "v1"
    if not fits:
        raise BadSignature("no signature of webhook-signature fits id, time and body")
    if not time.isascii() or not time.isdigit() or len(time) > 12:
        raise BadSignature("webhook-timestamp isn't a number of seconds since 1970")
    if abs(now - int(time)) > signing.tolerance:
        raise BadSignature(
            f"webhook-timestamp is {now - int(time):.0f} s ago, at most {signing.tolerance:g} s are allowed"
        )
    return identity


def signing_key(secret: str) -> bytes:
    """The bytes of a secret: base64 after `whsec_`, as Standard Webhooks writes it, else the text itself.

    Raises:
        BadSignature: it isn't base64 after `whsec_`.
    """
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not key:
        raise BadSignature("the secret begins with whsec_ and isn't base64 after that")
    return key
