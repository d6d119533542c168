"""The table of built-in kinds: what the server has before the first CustomResourceDefinition.

Each is a `Resource`, a schema and a strategy. Columns are those that kubectl shows. CustomResourceDefinition is here as
well, but has consequences for the server: its strategy is made by `kastra.apiserver.crds`.

Read next: `kastra.apiserver.registry`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kastra.api.scheme import PrinterColumn, Resource

from . import coreschemas
from .core import (
    ConfigMapStrategy,
    EventStrategy,
    LeaseStrategy,
    NamespaceStrategy,
    SecretStrategy,
    ServiceAccountStrategy,
)
from .rbac import RBAC, RoleBindingStrategy, RoleStrategy
from .strategy import Strategy

AGE = PrinterColumn(
    "Age", "date", ".metadata.creationTimestamp", "CreationTimestamp is the server time when it was created."
)
_CREATED_AT = PrinterColumn("Created At", "date", ".metadata.creationTimestamp", AGE.description)


def _builtin(group: str, version: str, kind: str, plural: str, schema: Mapping[str, Any], **more: Any) -> Resource:
    columns = more.pop("columns", ())
    return Resource(
        group,
        version,
        kind,
        plural,
        kind.lower(),
        f"{kind}List",
        namespaced=more.pop("namespaced", True),
        storage_version=version,
        has_generation=more.pop("has_generation", False),
        columns=(*columns, AGE) if not more.pop("own_columns", False) else columns,
        schema=schema,
        builtin=True,
        **more,
    )


NAMESPACE = _builtin(
    "", "v1", "Namespace", "namespaces", coreschemas.NAMESPACE,
    namespaced=False, short_names=("ns",), has_status=True, subresources=("finalize",),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    columns=(PrinterColumn("Status", "string", ".status.phase", "The status of the namespace"),),
    selectable_fields=("status.phase",),
)  # fmt: skip
_EVENT_COLUMNS = (
    PrinterColumn("Last Seen", "date", ".lastTimestamp"),
    PrinterColumn("Type", "string", ".type"),
    PrinterColumn("Reason", "string", ".reason"),
    PrinterColumn("Object", "string", ".involvedObject.name"),
    PrinterColumn("Subobject", "string", ".involvedObject.fieldPath", priority=1),
    PrinterColumn("Source", "string", ".source.component", priority=1),
    PrinterColumn("Message", "string", ".message"),
    PrinterColumn("First Seen", "date", ".firstTimestamp", priority=1),
    PrinterColumn("Count", "integer", ".count", priority=1),
    PrinterColumn("Name", "string", ".metadata.name", priority=1),
)
_EVENT_FIELDS = (
    *(f"involvedObject.{f}" for f in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion",
    "fieldPath")), "reason", "reportingComponent", "source", "type",
)  # fmt: skip
EVENT = _builtin(
    "", "v1", "Event", "events", coreschemas.EVENT,
    short_names=("ev",), columns=_EVENT_COLUMNS, own_columns=True, selectable_fields=_EVENT_FIELDS,
)  # fmt: skip
_BINDING_COLUMNS = (
    PrinterColumn("Role", "string", ".roleRef.name"),
    AGE,
    PrinterColumn("Users", "string", ".subjects", priority=1),
    PrinterColumn("Groups", "string", ".subjects", priority=1),
    PrinterColumn("ServiceAccounts", "string", ".subjects", priority=1),
)
_DATA = PrinterColumn("Data", "integer", ".data", "The number of keys.")

BUILTINS: Sequence[tuple[Resource, Strategy]] = (
    (NAMESPACE, NamespaceStrategy()),
    (
        _builtin("", "v1", "ConfigMap", "configmaps", coreschemas.CONFIG_MAP, short_names=("cm",), columns=(_DATA,)),
        ConfigMapStrategy(),
    ),
    (
        _builtin(
            "", "v1", "Secret", "secrets", coreschemas.SECRET,
            columns=(PrinterColumn("Type", "string", ".type"), _DATA), selectable_fields=("type",),
        ),
        SecretStrategy(),
    ),
    (EVENT, EventStrategy()),
    (
        _builtin(
            "", "v1", "ServiceAccount", "serviceaccounts", coreschemas.SERVICE_ACCOUNT,
            short_names=("sa",), subresources=("token",), columns=(PrinterColumn("Secrets", "integer", ".secrets"),),
        ),
        ServiceAccountStrategy(),
    ),
    (
        _builtin(
            "coordination.k8s.io", "v1", "Lease", "leases", coreschemas.LEASE,
            columns=(PrinterColumn("Holder", "string", ".spec.holderIdentity"),),
        ),
        LeaseStrategy(),
    ),
    (
        _builtin(RBAC, "v1", "Role", "roles", coreschemas.ROLE, columns=(_CREATED_AT,), own_columns=True),
        RoleStrategy(),
    ),
    (
        _builtin(
            RBAC, "v1", "ClusterRole", "clusterroles", coreschemas.CLUSTER_ROLE,
            namespaced=False, columns=(_CREATED_AT,), own_columns=True,
        ),
        RoleStrategy(),
    ),
    (
        _builtin(
            RBAC, "v1", "RoleBinding", "rolebindings", coreschemas.ROLE_BINDING,
            columns=_BINDING_COLUMNS, own_columns=True,
        ),
        RoleBindingStrategy(),
    ),
    (
        _builtin(
            RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", coreschemas.ROLE_BINDING,
            namespaced=False, columns=_BINDING_COLUMNS, own_columns=True,
        ),
        RoleBindingStrategy(),
    ),
)  # fmt: skip

CUSTOM_RESOURCE_DEFINITION = _builtin(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions",
    coreschemas.CUSTOM_RESOURCE_DEFINITION,
    namespaced=False, short_names=("crd", "crds"), has_status=True, has_generation=True,
    columns=(_CREATED_AT,), own_columns=True, categories=("api-extensions",),
)  # fmt: skip
