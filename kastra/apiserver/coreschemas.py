"""Structural schemas of the kinds that no CustomResourceDefinition defines.

They are written like those of custom kinds, so that pruning, unknown-field errors, server-side apply and OpenAPI work
the same everywhere. Only fields are described here; what a schema can't say stands in the kinds' strategies.

Source: the types of k8s.io/api at v1.33. Read next: `kastra.apiserver.core`.
"""

from typing import Any


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def _atomic(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return _object(required, **properties) | {"x-kubernetes-map-type": "atomic"}


def _list(items: dict[str, Any], *keys: str) -> dict[str, Any]:
    if keys:
        return {
            "type": "array",
            "items": items,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": list(keys),
        }
    return {"type": "array", "items": items, "x-kubernetes-list-type": "atomic"}


def _map(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


STRING: dict[str, Any] = {"type": "string"}
BOOLEAN: dict[str, Any] = {"type": "boolean"}
INT32: dict[str, Any] = {"type": "integer", "format": "int32"}
INT64: dict[str, Any] = {"type": "integer", "format": "int64"}
TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
FREE: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}

OBJECT_REFERENCE = _atomic(
    dict.fromkeys(("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"), STRING)
)
LOCAL_REFERENCE = _atomic({"name": STRING})
CONDITION = _object(
    ("type", "status"),
    type=STRING,
    status=STRING,
    observedGeneration=INT64,
    lastTransitionTime=TIME,
    reason=STRING,
    message=STRING,
)

NAMESPACE = _object(
    spec=_object(finalizers=_list(STRING)),
    status=_object(phase=STRING, conditions=_list(CONDITION, "type")),
)

CONFIG_MAP = _object(data=_map(STRING), binaryData=_map(STRING), immutable=BOOLEAN)

SECRET = _object(data=_map(STRING), stringData=_map(STRING), type=STRING, immutable=BOOLEAN)

EVENT = _object(
    action=STRING,
    count=INT32,
    eventTime=TIME,
    firstTimestamp=TIME,
    involvedObject=OBJECT_REFERENCE,
    lastTimestamp=TIME,
    message=STRING,
    reason=STRING,
    related=OBJECT_REFERENCE,
    reportingComponent=STRING,
    reportingInstance=STRING,
    series=_object(count=INT32, lastObservedTime=TIME),
    source=_object(component=STRING, host=STRING),
    type=STRING,
)

LEASE = _object(
    spec=_object(
        holderIdentity=STRING,
        leaseDurationSeconds=INT32,
        acquireTime=TIME,
        renewTime=TIME,
        leaseTransitions=INT32,
        preferredHolder=STRING,
        strategy=STRING,
    ),
)

SERVICE_ACCOUNT = _object(
    automountServiceAccountToken=BOOLEAN,
    imagePullSecrets=_list(LOCAL_REFERENCE),
    secrets=_list(_object(("name",), **OBJECT_REFERENCE["properties"]), "name"),
)

_POLICY_RULES = _list(
    _object(
        ("verbs",),
        apiGroups=_list(STRING),
        nonResourceURLs=_list(STRING),
        resourceNames=_list(STRING),
        resources=_list(STRING),
        verbs=_list(STRING),
    )
)
_SUBJECTS = _list(_atomic(dict.fromkeys(("apiGroup", "kind", "name", "namespace"), STRING), ("kind", "name")))
_ROLE_REF = _atomic(dict.fromkeys(("apiGroup", "kind", "name"), STRING), ("kind", "name"))

ROLE = _object(rules=_POLICY_RULES)
_LABEL_SELECTOR = _atomic(
    {
        "matchLabels": _map(STRING),
        "matchExpressions": _list(_object(("key", "operator"), key=STRING, operator=STRING, values=_list(STRING))),
    }
)
CLUSTER_ROLE = _object(rules=_POLICY_RULES, aggregationRule=_object(clusterRoleSelectors=_list(_LABEL_SELECTOR)))
ROLE_BINDING = _object(("roleRef",), subjects=_SUBJECTS, roleRef=_ROLE_REF)

CLIENT_CONFIG = _object(
    url=STRING,
    caBundle={"type": "string", "format": "byte"},
    service=_object(("namespace", "name"), namespace=STRING, name=STRING, path=STRING, port=INT32),
)
_NAMES = _object(
    categories=_list(STRING),
    kind=STRING,
    listKind=STRING,
    plural=STRING,
    shortNames=_list(STRING),
    singular=STRING,
)
_CRD_VERSION = _object(
    ("name", "served", "storage"),
    name=STRING,
    served=BOOLEAN,
    storage=BOOLEAN,
    deprecated=BOOLEAN,
    deprecationWarning=STRING,
    schema=_object(openAPIV3Schema={"type": "object"} | FREE),
    subresources=_object(
        status={"type": "object"} | FREE,
        scale=_object(
            ("specReplicasPath", "statusReplicasPath"),
            specReplicasPath=STRING,
            statusReplicasPath=STRING,
            labelSelectorPath=STRING,
        ),
    ),
    additionalPrinterColumns=_list(
        _object(
            ("name", "type", "jsonPath"),
            name=STRING,
            type=STRING,
            jsonPath=STRING,
            description=STRING,
            format=STRING,
            priority=INT32,
        )
    ),
    selectableFields=_list(_object(("jsonPath",), jsonPath=STRING)),
)
_UNSET = STRING | {"default": ""}
# Of a definition a condition may say as little as it likes, as in Kubernetes.
_CRD_CONDITION = CONDITION | {"properties": {**CONDITION["properties"], "type": _UNSET, "status": _UNSET}}
CUSTOM_RESOURCE_DEFINITION = _object(
    ("spec",),
    spec=_object(
        ("group", "names", "scope", "versions"),
        group=STRING,
        names=_NAMES,
        scope=STRING,
        versions=_list(_CRD_VERSION),
        preserveUnknownFields=BOOLEAN,
        conversion=_object(
            ("strategy",),
            strategy=STRING,
            webhook=_object(clientConfig=CLIENT_CONFIG, conversionReviewVersions=_list(STRING)),
        ),
    ),
    status=_object(
        acceptedNames=_NAMES,
        conditions=_list(_CRD_CONDITION, "type"),
        storedVersions=_list(STRING),
    ),
)
