"""Structural schemas of the kinds that are questions (`kastra.apiserver.reviews`).

Source: k8s.io/api authorization/v1 and authentication/v1.
"""

from typing import Any

_STRING: dict[str, Any] = {"type": "string"}
_BOOLEAN: dict[str, Any] = {"type": "boolean"}
_STRINGS: dict[str, Any] = {"type": "array", "items": _STRING, "x-kubernetes-list-type": "atomic"}
_EXTRA: dict[str, Any] = {"type": "object", "additionalProperties": _STRINGS}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _texts(*names: str) -> dict[str, Any]:
    return _object(**dict.fromkeys(names, _STRING))


_USER = _object(username=_STRING, uid=_STRING, groups=_STRINGS, extra=_EXTRA)
_REQUIREMENT = _object(key=_STRING, operator=_STRING, values=_STRINGS)
_SELECTOR = _object(
    rawSelector=_STRING,
    requirements={"type": "array", "items": _REQUIREMENT, "x-kubernetes-list-type": "atomic"},
)
_ASKED: dict[str, Any] = {
    "resourceAttributes": _object(
        **_texts("group", "name", "namespace", "resource", "subresource", "verb", "version")["properties"],
        fieldSelector=_SELECTOR,
        labelSelector=_SELECTOR,
    ),
    "nonResourceAttributes": _texts("path", "verb"),
}
_DECISION = _object(allowed=_BOOLEAN, denied=_BOOLEAN, reason=_STRING, evaluationError=_STRING)
_RULE = _object(
    verbs=_STRINGS, apiGroups=_STRINGS, resources=_STRINGS, resourceNames=_STRINGS, nonResourceURLs=_STRINGS
)
_RULES: dict[str, Any] = {"type": "array", "items": _RULE, "x-kubernetes-list-type": "atomic"}

SELF_ACCESS = _object(spec=_object(**_ASKED), status=_DECISION)
ACCESS = _object(spec=_object(**_ASKED, user=_STRING, groups=_STRINGS, uid=_STRING, extra=_EXTRA), status=_DECISION)
SELF_RULES = _object(
    spec=_texts("namespace"),
    status=_object(resourceRules=_RULES, nonResourceRules=_RULES, incomplete=_BOOLEAN, evaluationError=_STRING),
)
SELF = _object(status=_object(userInfo=_USER))
TOKEN = _object(
    spec=_object(token=_STRING, audiences=_STRINGS),
    status=_object(authenticated=_BOOLEAN, user=_USER, audiences=_STRINGS, error=_STRING),
)
