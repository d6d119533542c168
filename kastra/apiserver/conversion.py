"""Between the versions of a custom kind, by asking its owner: `spec.conversion` with strategy `Webhook`.

Objects are kept in the storage version and converted when they are read or written in another, many at a time. Of what comes
back only labels and annotations of the metadata count; the name, the uid and all else of it stay. There is no going on without
an answer: a read or write that needs one fails.

Source: apiextensions-apiserver/pkg/apiserver/conversion (webhook_converter.go). Read next: `kastra.apiserver.served`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from kastra.api.errors import BadRequest, InternalError
from kastra.api.strict import MAX_DEPTH, decode
from kastra.api.uids import new_uid

from .webhookcall import CallFailed, Outbound, call

API_VERSION, KIND = "apiextensions.k8s.io/v1", "ConversionReview"
TIMEOUT = 30.0
"""Seconds for one call, as in Kubernetes."""
_MOST = 500
_MOST_BYTES = 1024 * 1024
_MAX_ANSWER = 16 * 1024 * 1024
_OPEN_METADATA = ("labels", "annotations")


class _Wrong(Exception):
    """An answer that isn't what was asked for; the message says why."""


class WebhookConversion:
    """Converts the objects of one kind.

    Args:
        config: the `clientConfig`.
        kind: for messages.
        outbound: gives what calls go through, when one is made.
    """

    def __init__(self, config: Mapping[str, Any], kind: str, outbound: Callable[[], Outbound | None]) -> None:
        self._config = config
        self._kind = kind
        self._outbound = outbound

    async def convert(self, objects: Sequence[Mapping[str, Any]], api_version: str) -> list[dict[str, Any]]:
        """The same objects in another version, in the same order.

        Raises:
            InternalError: the webhook didn't answer, refused, or answered something else.
        """
        converted: list[dict[str, Any]] = []
        for part in _parts(objects):
            try:
                converted += await self._ask(part, api_version)
            except (CallFailed, _Wrong) as error:
                before = ", ".join(sorted({str(obj["apiVersion"]) for obj in part}))
                raise InternalError(
                    f"Internal error occurred: conversion webhook for {before}, Kind={self._kind} failed: {error}"
                ) from None
        return converted

    async def _ask(self, objects: Sequence[Mapping[str, Any]], api_version: str) -> list[dict[str, Any]]:
        uid = new_uid()
        request = {"uid": uid, "desiredAPIVersion": api_version, "objects": objects}
        body = orjson.dumps({"kind": KIND, "apiVersion": API_VERSION, "request": request})
        answer = await call(self._outbound(), self._config, body, TIMEOUT, max_answer=_MAX_ANSWER)
        found = _objects(answer, uid)
        if len(found) != len(objects):
            raise _Wrong(f"expected {len(objects)} converted objects, got {len(found)}")
        return [_checked(before, after, api_version) for before, after in zip(objects, found, strict=True)]


def _parts(objects: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """As many at a time as one call should carry."""
    part: list[Mapping[str, Any]] = []
    size = 0
    for obj in objects:
        part.append(obj)
        size += len(orjson.dumps(obj))
        if len(part) >= _MOST or size >= _MOST_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _objects(answer: bytes, uid: str) -> list[Any]:
    try:
        review = decode(answer, MAX_DEPTH + 8)
    except BadRequest as error:
        raise _Wrong(error.message) from None
    if not isinstance(review, dict) or (review.get("apiVersion"), review.get("kind")) != (API_VERSION, KIND):
        raise _Wrong(f"expected webhook response of {API_VERSION}, Kind={KIND}")
    response = review.get("response")
    if not isinstance(response, dict):
        raise _Wrong("the response was absent")
    if response.get("uid") != uid:
        raise _Wrong(f'expected response.uid="{uid}", got "{str(response.get("uid"))[:64]}"')
    result = response.get("result")
    result = result if isinstance(result, dict) else {}
    if result.get("status") != "Success":
        message = result.get("message")
        raise _Wrong(str(message)[:1024] if message else "the webhook gave no reason")
    found = response.get("convertedObjects")
    return found if isinstance(found, list) else []


def _checked(before: Mapping[str, Any], after: Any, api_version: str) -> dict[str, Any]:
    if not isinstance(after, dict) or not isinstance(after.get("metadata"), dict):
        raise _Wrong("a converted object is no object with metadata")
    if after.get("apiVersion") != api_version or after.get("kind") != before["kind"]:
        raise _Wrong(
            f"asked for {api_version}, Kind={before['kind']}, got {after.get('apiVersion')}, Kind={after.get('kind')}"
        )
    was, found = before["metadata"], after["metadata"]
    for name in ("name", "namespace", "uid"):
        if found.get(name) != was.get(name):
            raise _Wrong(f"metadata.{name} of {was.get('name')} must not change")
    kept = {key: value for key, value in was.items() if key not in _OPEN_METADATA}
    return {**after, "metadata": kept | {key: found[key] for key in _OPEN_METADATA if key in found}}
