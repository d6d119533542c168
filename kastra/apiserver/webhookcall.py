"""How is somebody outside asked? `clientConfig` of webhooks, for admission and for conversion.

Only URLs, and only through the outbound guard: what may be called is for the operator of the server to say, never for an
object. Redirects aren't followed, and answers are bounded in size and time. There are no Services here that a name in
`clientConfig.service` could stand for.

Source: apiserver/pkg/util/webhook. Read next: `kastra.netguard.guard`.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from kastra.api.errors import FORBIDDEN, INVALID, REQUIRED, Cause

if TYPE_CHECKING:
    from kastra.netguard import Guard

MAX_ANSWER = 3 * 1024 * 1024

Outbound = Callable[[], "Guard"]
"""The guard that calls go through; made when it is first needed."""


class CallFailed(Exception):
    """There was no usable answer; the message says why, and names the URL as Kubernetes does: no secret belongs there."""


async def call(
    outbound: Outbound | None,
    config: Mapping[str, Any],
    body: bytes,
    timeout: float,
    *,
    max_answer: int = MAX_ANSWER,
) -> bytes:
    """POST JSON and return the answer's body.

    Args:
        config: a valid `clientConfig`.
        timeout: in seconds, for everything.
        max_answer: bytes that the answer may have.

    Raises:
        CallFailed: nobody answered in time, or with another status than 200.
    """
    from kastra.netguard import Limits, OutboundError, TimedOut

    if outbound is None:
        raise CallFailed("this process makes no outbound calls")
    authorities = base64.b64decode(config.get("caBundle") or "").decode("utf-8", "replace")
    url = f"{config['url']}?timeout={timeout:g}s"
    try:
        # The limits bound each part of the call; this bounds all.
        with anyio.fail_after(timeout):
            answer = await outbound().request(
                "POST",
                url,
                headers={"content-type": "application/json", "accept": "application/json"},
                content=body,
                limits=Limits(timeout=timeout, connect_timeout=timeout, max_bytes=max_answer, max_redirects=0),
                authorities=authorities,
            )
    except (TimeoutError, TimedOut):
        # Kubernetes' words, which clients look for.
        why = f"context deadline exceeded: no answer within {timeout:g}s"
    except OutboundError as error:
        why = str(error)
    else:
        if answer.status == 200:
            return answer.body
        why = f"the server answered with status {answer.status}"
    raise CallFailed(f'Post "{url}": {why}')


def client_config_causes(config: Mapping[str, Any], path: str) -> list[Cause]:
    """What is wrong with a `clientConfig`."""
    causes: list[Cause] = []
    url, bundle = config.get("url"), config.get("caBundle")
    if config.get("service") is not None:
        why = "Forbidden: this server has no Services; give the address as clientConfig.url"
        causes.append(Cause(FORBIDDEN, why, f"{path}.service"))
    elif not url:
        causes.append(Cause(REQUIRED, "Required value: the address of the webhook", f"{path}.url"))
    if url:
        causes += [Cause(INVALID, f'Invalid value: "{url}": {why}', f"{path}.url") for why in _url_problems(url)]
    if bundle:
        try:
            found = base64.b64decode(bundle, validate=True)
        except (binascii.Error, ValueError):
            found = b""
        if b"-----BEGIN CERTIFICATE-----" not in found:
            why = "Invalid value: must be certificates as PEM, in base64"
            causes.append(Cause(INVALID, why, f"{path}.caBundle"))
    return causes


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return [f"url must be a valid URL: {error}; desired format: https://host[/path]"]
    problems = []
    if parts.scheme != "https":
        problems.append(
            f'"{parts.scheme}" is not an allowed scheme; must be https; desired format: https://host[/path]'
        )
    if not parts.hostname:
        problems.append("host must be specified; desired format: https://host[/path]")
    if parts.username is not None or parts.password is not None:
        problems.append("user information is not permitted in the URL; desired format: https://host[/path]")
    if parts.fragment:
        problems.append("fragments are not permitted in the URL; desired format: https://host[/path]")
    if parts.query:
        problems.append("query parameters are not permitted in the URL; desired format: https://host[/path]")
    return problems
