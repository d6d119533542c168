"""Structural schemas of the kinds of `admissionregistration.k8s.io`, with their defaults.

Source: k8s.io/api/admissionregistration/v1 and its defaults (pkg/apis/admissionregistration/v1/defaults.go).
"""

from typing import Any

from kastra.apiserver.coreschemas import CLIENT_CONFIG, STRING

_STRINGS: dict[str, Any] = {"type": "array", "items": STRING, "x-kubernetes-list-type": "atomic"}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return schema | {"required": list(required)} if required else schema


def _list(items: dict[str, Any], *keys: str) -> dict[str, Any]:
    if not keys:
        return {"type": "array", "items": items, "x-kubernetes-list-type": "atomic"}
    return {"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def _one_of(*values: str, default: str | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "enum": list(values)}
    return schema if default is None else schema | {"default": default}


_EXPRESSION = _object(("key", "operator"), key=STRING, operator=STRING, values=_STRINGS)
_SELECTOR: dict[str, Any] = _object(
    matchLabels={"type": "object", "additionalProperties": STRING}, matchExpressions=_list(_EXPRESSION)
) | {"x-kubernetes-map-type": "atomic"}
_ANY = _SELECTOR | {"default": {}}
_RULE: dict[str, Any] = {
    "operations": _list(_one_of("CREATE", "UPDATE", "DELETE", "CONNECT", "*")),
    "apiGroups": _STRINGS,
    "apiVersions": _STRINGS,
    "resources": _STRINGS,
    "scope": _one_of("Cluster", "Namespaced", "*", default="*"),
}
_NAMED_RULE = _object(**_RULE, resourceNames=_STRINGS) | {"x-kubernetes-map-type": "atomic"}
_CONDITIONS = _list(_object(("name", "expression"), name=STRING, expression=STRING), "name") | {"maxItems": 64}
_FAILURE = _one_of("Fail", "Ignore", default="Fail")
_MATCH = _one_of("Exact", "Equivalent", default="Equivalent")


def _webhooks(**more: Any) -> dict[str, Any]:
    webhook = _object(
        ("name", "clientConfig", "sideEffects", "admissionReviewVersions"),
        name=STRING,
        clientConfig=CLIENT_CONFIG,
        rules=_list(_object(**_RULE)),
        failurePolicy=_FAILURE,
        matchPolicy=_MATCH,
        namespaceSelector=_ANY,
        objectSelector=_ANY,
        # The other values that there once were promise nothing about dry runs, and v1 doesn't take them.
        sideEffects=_one_of("None", "NoneOnDryRun"),
        timeoutSeconds={"type": "integer", "format": "int32", "minimum": 1, "maximum": 30, "default": 10},
        admissionReviewVersions=_STRINGS | {"minItems": 1},
        matchConditions=_CONDITIONS,
        **more,
    )
    return _object(webhooks=_list(webhook, "name"))


VALIDATING_WEBHOOKS = _webhooks()
MUTATING_WEBHOOKS = _webhooks(reinvocationPolicy=_one_of("Never", "IfNeeded", default="Never"))

_MATCH_RESOURCES = _object(
    namespaceSelector=_ANY,
    objectSelector=_ANY,
    resourceRules=_list(_NAMED_RULE),
    excludeResourceRules=_list(_NAMED_RULE),
    matchPolicy=_MATCH,
) | {"x-kubernetes-map-type": "atomic"}
_VALIDATION = _object(
    ("expression",), expression=STRING, message=STRING, messageExpression=STRING, reason=STRING
)  # fmt: skip
POLICY = _object(
    ("spec",),
    spec=_object(
        paramKind=_object(apiVersion=STRING, kind=STRING) | {"x-kubernetes-map-type": "atomic"},
        matchConstraints=_MATCH_RESOURCES,
        matchConditions=_CONDITIONS,
        validations=_list(_VALIDATION) | {"maxItems": 128},
        auditAnnotations=_list(_object(("key", "valueExpression"), key=STRING, valueExpression=STRING))
        | {"maxItems": 20},
        variables=_list(_object(("name", "expression"), name=STRING, expression=STRING), "name") | {"maxItems": 128},
        failurePolicy=_FAILURE,
    ),
    status=_object(
        observedGeneration={"type": "integer", "format": "int64"},
        typeChecking=_object(
            expressionWarnings=_list(_object(("fieldRef", "warning"), fieldRef=STRING, warning=STRING))
        ),
        conditions=_list(
            _object(
                ("type", "status"),
                type=STRING,
                status=STRING,
                observedGeneration={"type": "integer", "format": "int64"},
                lastTransitionTime={"type": "string", "format": "date-time"},
                reason=STRING,
                message=STRING,
            ),
            "type",
        ),
    ),
)
BINDING = _object(
    ("spec",),
    spec=_object(
        policyName=STRING,
        paramRef=_object(
            name=STRING,
            namespace=STRING,
            selector=_SELECTOR,
            parameterNotFoundAction=_one_of("Allow", "Deny"),
        )
        | {"x-kubernetes-map-type": "atomic"},
        matchResources=_MATCH_RESOURCES,
        validationActions={
            "type": "array",
            "items": _one_of("Deny", "Warn", "Audit"),
            "x-kubernetes-list-type": "set",
        },
    ),
)
