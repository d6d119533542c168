"""Is this CustomResourceDefinition one that can be served? Every answer is a cause with the path of the field.

Assumes that the object has passed the light schema of CustomResourceDefinition, so that types are right. What a
version's own schema must look like is the business of `kastra.schema.structural`; its causes are only given their place
here.

Source: apiextensions-apiserver/pkg/apis/apiextensions/validation. Read next: `kastra.apiserver.crds`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kastra.api.errors import FORBIDDEN, INVALID, NOT_SUPPORTED, REQUIRED, Cause
from kastra.api.jsonpath import JSONPathError, compile_path
from kastra.api.meta import is_dns_label, is_dns_subdomain

from .webhookcall import client_config_causes

_CONVERSIONS = ("None", "Webhook")
_SCOPES = ("Cluster", "Namespaced")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_LABEL = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"

SchemaCauses = Callable[[Mapping[str, Any]], Iterable[Cause]]
"""What is wrong with a schema, with paths that start with `openAPIV3Schema`."""


def definition_causes(
    obj: Mapping[str, Any], old: Mapping[str, Any] | None, schema_causes: SchemaCauses
) -> list[Cause]:
    """Everything that is wrong with a definition, in the order of its fields."""
    spec = obj.get("spec") or {}
    names = spec.get("names") or {}
    causes = [*_group_causes(spec, names), *_name_causes(obj, spec, names)]
    if spec.get("scope") not in _SCOPES:
        causes.append(_unsupported("spec.scope", spec.get("scope"), _SCOPES))
    if spec.get("preserveUnknownFields"):
        why = "Invalid value: true: must be false; use x-kubernetes-preserve-unknown-fields in the schema instead"
        causes.append(Cause(INVALID, why, "spec.preserveUnknownFields"))
    causes += _conversion_causes(spec.get("conversion") or {})
    causes += _versions_causes(spec, schema_causes)
    if old is not None:
        causes += _update_causes(obj, old)
    return causes


def _conversion_causes(conversion: Mapping[str, Any]) -> list[Cause]:
    strategy, webhook, path = conversion.get("strategy", "None"), conversion.get("webhook"), "spec.conversion.webhook"
    if strategy not in _CONVERSIONS:
        return [_unsupported("spec.conversion.strategy", strategy, _CONVERSIONS)]
    if strategy == "None":
        why = "Forbidden: should not be set when strategy is not set to Webhook"
        return [Cause(FORBIDDEN, why, path)] if webhook is not None else []
    if webhook is None or webhook.get("clientConfig") is None:
        why = "Required value: required when strategy is set to Webhook"
        return [Cause(REQUIRED, why, path if webhook is None else f"{path}.clientConfig")]
    causes = client_config_causes(webhook["clientConfig"], f"{path}.clientConfig")
    if "v1" not in (webhook.get("conversionReviewVersions") or ()):
        why = "Invalid value: must include at least one of v1"
        causes.append(Cause(INVALID, why, f"{path}.conversionReviewVersions"))
    return causes


def _group_causes(spec: Mapping[str, Any], names: Mapping[str, Any]) -> list[Cause]:
    group = spec.get("group") or ""
    if not group:
        return [Cause(REQUIRED, "Required value", "spec.group")]
    if not is_dns_subdomain(group):
        return [Cause(INVALID, f'Invalid value: "{group}": must be a lowercase RFC 1123 subdomain', "spec.group")]
    if "." not in group:
        return [Cause(INVALID, f'Invalid value: "{group}": should be a domain with at least one dot', "spec.group")]
    return []


def _name_causes(obj: Mapping[str, Any], spec: Mapping[str, Any], names: Mapping[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    expected = f"{names.get('plural', '')}.{spec.get('group', '')}"
    if obj["metadata"].get("name") != expected:
        why = f'Invalid value: "{obj["metadata"].get("name", "")}": must be spec.names.plural+"."+spec.group'
        causes.append(Cause(INVALID, why, "metadata.name"))
    for field in ("plural", "singular", "kind", "listKind"):
        value, path = names.get(field) or "", f"spec.names.{field}"
        if not value:
            causes.append(Cause(REQUIRED, "Required value", path))
        elif not is_dns_label(value if field in {"plural", "singular"} else value.lower()):
            causes.append(Cause(INVALID, f'Invalid value: "{value}": {_LABEL}', path))
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        why = f'Invalid value: "{names["listKind"]}": kind and listKind may not be the same'
        causes.append(Cause(INVALID, why, "spec.names.listKind"))
    for field in ("shortNames", "categories"):
        for index, value in enumerate(names.get(field) or ()):
            if not is_dns_label(value):
                causes.append(Cause(INVALID, f'Invalid value: "{value}": {_LABEL}', f"spec.names.{field}[{index}]"))
    return causes


def _versions_causes(spec: Mapping[str, Any], schema_causes: SchemaCauses) -> list[Cause]:
    versions = spec.get("versions") or []
    if not versions:
        return [Cause(REQUIRED, "Required value: must have at least one version", "spec.versions")]
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, version in enumerate(versions):
        path, name = f"spec.versions[{index}]", version.get("name") or ""
        if not is_dns_label(name):
            causes.append(Cause(INVALID, f'Invalid value: "{name}": {_LABEL}', f"{path}.name"))
        if name in seen:
            why = f'Invalid value: "{name}": must contain unique version names'
            causes.append(Cause(INVALID, why, f"{path}.name"))
        seen.add(name)
        causes += _version_causes(version, path, schema_causes)
    storage = [version.get("name") for version in versions if version.get("storage")]
    if len(storage) != 1:
        why = "Invalid value: must have exactly one version marked as storage version"
        causes.append(Cause(INVALID, why, "spec.versions"))
    if not any(version.get("served") for version in versions):
        causes.append(Cause(INVALID, "Invalid value: must have at least one served version", "spec.versions"))
    return causes


def _version_causes(version: Mapping[str, Any], path: str, schema_causes: SchemaCauses) -> list[Cause]:
    causes: list[Cause] = []
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        causes.append(Cause(REQUIRED, "Required value: schemas are required", f"{path}.schema.openAPIV3Schema"))
    else:
        causes += [cause._replace(field=f"{path}.schema.{cause.field}") for cause in schema_causes(schema)]
    if version.get("deprecationWarning") and not version.get("deprecated"):
        why = "Invalid value: can only be set for deprecated versions"
        causes.append(Cause(INVALID, why, f"{path}.deprecationWarning"))
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        causes += _column_causes(column, f"{path}.additionalPrinterColumns[{index}]")
    for index, selectable in enumerate(version.get("selectableFields") or ()):
        if not (selectable.get("jsonPath") or "").startswith("."):
            why = f'Invalid value: "{selectable.get("jsonPath", "")}": must be a simple json path starting with .'
            causes.append(Cause(INVALID, why, f"{path}.selectableFields[{index}].jsonPath"))
    return causes + _scale_causes((version.get("subresources") or {}).get("scale"), f"{path}.subresources.scale")


def _column_causes(column: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    if not column.get("name"):
        causes.append(Cause(REQUIRED, "Required value", f"{path}.name"))
    if column.get("type") not in _COLUMN_TYPES:
        causes.append(_unsupported(f"{path}.type", column.get("type"), _COLUMN_TYPES))
    if column.get("format") and column["format"] not in _COLUMN_FORMATS:
        causes.append(_unsupported(f"{path}.format", column["format"], _COLUMN_FORMATS))
    json_path = column.get("jsonPath") or ""
    if not json_path:
        causes.append(Cause(REQUIRED, "Required value", f"{path}.jsonPath"))
    elif json_path[0] not in ".[":
        why = f'Invalid value: "{json_path}": must be a json path starting with . or ['
        causes.append(Cause(INVALID, why, f"{path}.jsonPath"))
    else:
        try:
            compile_path(json_path)
        except JSONPathError as error:
            causes.append(Cause(INVALID, f'Invalid value: "{json_path}": {error}', f"{path}.jsonPath"))
    return causes


def _scale_causes(scale: Mapping[str, Any] | None, path: str) -> list[Cause]:
    if scale is None:
        return []
    causes: list[Cause] = []
    places = {
        "specReplicasPath": (".spec.",),
        "statusReplicasPath": (".status.",),
        "labelSelectorPath": (".spec.", ".status."),
    }
    for field, prefixes in places.items():
        value = scale.get(field) or ""
        if not value:
            if field != "labelSelectorPath":
                causes.append(Cause(REQUIRED, "Required value", f"{path}.{field}"))
        elif not value.startswith(prefixes) or "[" in value:
            why = f'Invalid value: "{value}": should be a simple json path under {" or ".join(prefixes)[:-1]}'
            causes.append(Cause(INVALID, why, f"{path}.{field}"))
    return causes


def _update_causes(obj: Mapping[str, Any], old: Mapping[str, Any]) -> list[Cause]:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    status, names, was = obj.get("status") or {}, spec.get("names") or {}, before.get("names") or {}
    causes: list[Cause] = []
    fixed = [("spec.group", spec.get("group"), before.get("group"))]
    if _established(old):
        fixed += [
            ("spec.scope", spec.get("scope"), before.get("scope")),
            ("spec.names.kind", names.get("kind"), was.get("kind")),
            ("spec.names.plural", names.get("plural"), was.get("plural")),
        ]
    for path, new_value, old_value in fixed:
        if new_value != old_value:
            causes.append(Cause(INVALID, f'Invalid value: "{new_value}": field is immutable', path))
    present = {version.get("name") for version in spec.get("versions") or ()}
    for index, name in enumerate(status.get("storedVersions") or ()):
        if name not in present:
            why = f'Invalid value: "{name}": must appear in spec.versions'
            causes.append(Cause(INVALID, why, f"status.storedVersions[{index}]"))
    return causes


def _established(obj: Mapping[str, Any]) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)


def _unsupported(path: str, value: Any, supported: Iterable[str]) -> Cause:
    names = ", ".join(f'"{name}"' for name in supported)
    return Cause(NOT_SUPPORTED, f'Unsupported value: "{value or ""}": supported values: {names}', path)
