"""What is sent to a webhook, and what is made of its answer: AdmissionReview of `admission.k8s.io/v1`.

Never lets an answer change what is not the webhook's: of the metadata only labels, annotations, finalizers and owners
count, and the kind stays. Source: k8s.io/api/admission/v1, apiserver/pkg/admission/plugin/webhook/request.
Read next: `kastra.apiserver.dynamic.webhooks`.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from kastra.api.errors import BadRequest, StatusError, from_status
from kastra.api.patch import apply_json_patch
from kastra.api.strict import decode
from kastra.api.uids import new_uid
from kastra.apiserver.admission import Attributes, Operation
from kastra.apiserver.served import Served

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
_OPTIONS = {Operation.CREATE: "CreateOptions", Operation.UPDATE: "UpdateOptions", Operation.DELETE: "DeleteOptions"}
# What a webhook can't have meant to change; the rest of metadata is the server's or the name of the object.
_OPEN_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
_MOST_WARNINGS = 32
_LONGEST_WARNING = 256


class BadReview(Exception):
    """An answer that isn't one to the question; the message says why."""


class Verdict(NamedTuple):
    """What a webhook said.

    Args:
        patch: JSON patch operations; empty for none.
        refusal: None if it allows the request.
    """

    refusal: StatusError | None = None
    patch: Sequence[Any] = ()
    warnings: Sequence[str] = ()
    annotations: Mapping[str, str] = {}


async def request_of(attributes: Attributes, served: Served) -> dict[str, Any]:
    """The `request` of an AdmissionReview, with the objects in the version of `served`."""
    resource, asked, user = served.resource, attributes.resource, attributes.user
    request: dict[str, Any] = {
        "uid": new_uid(),
        "kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
        "requestKind": {"group": asked.group, "version": asked.version, "kind": asked.kind},
        "requestResource": {"group": asked.group, "version": asked.version, "resource": asked.plural},
        "operation": str(attributes.operation),
        "userInfo": _user_info(user.name, user.uid, user.groups, user.extra),
        "object": await shown(attributes, attributes.object, served),
        "oldObject": await shown(attributes, attributes.old_object, served),
        "dryRun": attributes.dry_run,
        "options": _options(attributes),
    }
    optional = {
        "subResource": attributes.subresource,
        "requestSubResource": attributes.subresource,
        "name": attributes.name,
        "namespace": attributes.namespace if asked.namespaced else "",
    }
    request |= {field: value for field, value in optional.items() if value}
    if attributes.operation == Operation.CONNECT:
        # What an action is sent is its own; it has no object that admission could judge.
        request["object"] = request["oldObject"] = None
    return request


async def shown(attributes: Attributes, obj: Mapping[str, Any] | None, served: Served) -> dict[str, Any] | None:
    """An object of the request in the version of `served`, with the resourceVersion that it stands for."""
    if obj is None:
        return None
    found = obj if served is attributes.served else await served.taken_from(attributes.served, obj)
    old = attributes.old_object
    revision = (old or {}).get("metadata", {}).get("resourceVersion")
    metadata = {**found["metadata"], "resourceVersion": revision} if revision else found["metadata"]
    return {**found, "metadata": metadata}


def review_of(request: Mapping[str, Any]) -> bytes:
    """The body to send."""
    return orjson.dumps({"kind": KIND, "apiVersion": API_VERSION, "request": request})


def verdict_of(body: bytes, uid: str, webhook: str, *, mutating: bool) -> Verdict:
    """What an answer says.

    Raises:
        BadReview: it is no AdmissionReview, or one to another request, or its patch can't be read.
    """
    try:
        review = decode(body)
    except BadRequest as error:
        raise BadReview(error.message) from None
    if not isinstance(review, dict) or (review.get("apiVersion"), review.get("kind")) != (API_VERSION, KIND):
        raise BadReview(f"expected webhook response of {API_VERSION}, Kind={KIND}")
    response = review.get("response")
    if not isinstance(response, dict):
        raise BadReview("webhook response was absent")
    if response.get("uid") != uid:
        raise BadReview(f'expected response.uid="{uid}", got "{str(response.get("uid"))[:64]}"')
    warnings = _warnings(response.get("warnings"))
    annotations = _annotations(response.get("auditAnnotations"), webhook)
    if response.get("allowed") is not True:
        return Verdict(_refusal(response.get("status"), webhook), (), warnings, annotations)
    patch = _patch(response) if mutating else ()
    if not mutating and response.get("patch"):
        raise BadReview("a validating webhook can't patch")
    return Verdict(None, patch, warnings, annotations)


async def patched(attributes: Attributes, served: Served, patch: Sequence[Any]) -> dict[str, Any]:
    """The object of the request after a webhook's patch.

    Raises:
        BadReview: the patch can't be applied, or makes something else of the object.
    """
    before = await shown(attributes, attributes.object, served)
    if before is None:
        raise BadReview(f"there is no object to patch in a {attributes.operation} request")
    try:
        after = apply_json_patch(before, list(patch))
    except StatusError as error:
        raise BadReview(f"its patch can't be applied: {error.message}") from None
    if any(after.get(key) != before[key] for key in ("apiVersion", "kind")):
        raise BadReview("its patch changes apiVersion or kind")
    if not isinstance(after.get("metadata"), dict):
        raise BadReview("its patch removes the metadata")
    if served is not attributes.served:
        after = await attributes.served.taken_from(served, after)
    assert attributes.object is not None
    own = attributes.object["metadata"]
    found = after["metadata"]
    after["metadata"] = {key: value for key, value in own.items() if key not in _OPEN_METADATA} | {
        key: found[key] for key in _OPEN_METADATA if key in found
    }
    return after


def _user_info(name: str, uid: str, groups: Sequence[str], extra: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    info: dict[str, Any] = {"username": name, "groups": list(groups)}
    if uid:
        info["uid"] = uid
    if extra:
        info["extra"] = {key: list(values) for key, values in extra.items()}
    return info


def _options(attributes: Attributes) -> dict[str, Any] | None:
    kind = _OPTIONS.get(attributes.operation)
    if kind is None:
        return None
    options: dict[str, Any] = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
    asked = attributes.call.options
    if asked.dry_run:
        options["dryRun"] = ["All"]
    if kind != "DeleteOptions":
        if asked.field_manager:
            options["fieldManager"] = asked.field_manager
        options["fieldValidation"] = asked.field_validation
    return options


def _patch(response: Mapping[str, Any]) -> Sequence[Any]:
    raw = response.get("patch")
    if not raw:
        return ()
    if response.get("patchType") != "JSONPatch":
        raise BadReview(f"response.patchType must be JSONPatch, not {str(response.get('patchType'))[:32]!r}")
    try:
        patch = decode(base64.b64decode(raw, validate=True))
    except (binascii.Error, ValueError, TypeError, BadRequest) as error:
        raise BadReview(f"response.patch is no JSON patch in base64: {error}") from None
    if not isinstance(patch, list):
        raise BadReview("response.patch must be a list of operations")
    return patch


def _refusal(status: Any, webhook: str) -> StatusError:
    status = dict(status) if isinstance(status, dict) else {}
    denied = f'admission webhook "{webhook}" denied the request'
    message, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    status["message"] = f"{denied}: {message or reason}" if message or reason else f"{denied} without explanation"
    code = status.get("code")
    status["code"] = code if isinstance(code, int) and code >= 400 else 400
    if not isinstance(status.get("details"), dict):
        status.pop("details", None)
    try:
        return from_status(status)
    except (AttributeError, TypeError):
        # Details of another form than a Status has.
        return from_status({key: status[key] for key in ("message", "code")})


def _warnings(raw: Any) -> list[str]:
    texts = [text for text in raw if isinstance(text, str)] if isinstance(raw, list) else []
    return [text[:_LONGEST_WARNING] for text in texts[:_MOST_WARNINGS]]


def _annotations(raw: Any, webhook: str) -> dict[str, str]:
    if not isinstance(raw, dict):
        return {}
    kept = list(raw.items())[:_MOST_WARNINGS]
    return {f"{webhook}/{key}"[:256]: value[:1024] for key, value in kept if isinstance(value, str)}
