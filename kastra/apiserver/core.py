"""In what do the core kinds differ from custom ones? Namespace, ConfigMap, Secret, Event, Lease, ServiceAccount.

Never decides who may read a Secret, and never quotes a value of one.

Source: pkg/registry/core and pkg/apis/core/validation of kubernetes/kubernetes. Read next: `kastra.apiserver.rbac`.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from kastra.api.errors import FORBIDDEN, INVALID, REQUIRED, TOO_LONG, BadRequest, Cause, Forbidden
from kastra.clock import milliseconds

from .strategy import Strategy

EVENT_TTL = timedelta(hours=1)
PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public")
BOOTSTRAP_NAMESPACES = ("default", "kube-system")
NAMESPACE_LABEL = "kubernetes.io/metadata.name"
_DATA_LIMIT = 1024 * 1024
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)


class BuiltinStrategy(Strategy):
    """What most built-in kinds have in common."""

    unconditional_update = True


class NamespaceStrategy(BuiltinStrategy):
    """A namespace goes through phase Terminating, and is gone when `spec.finalizers` was emptied."""

    status_writes_metadata = True

    def check_delete(self, name: str) -> None:
        """The namespaces that the server relies on stay."""
        if name in PROTECTED_NAMESPACES:
            message = f'namespaces "{name}" is forbidden: this namespace may not be deleted'
            raise Forbidden(message, name=name, kind="namespaces")

    def prepare_create(self, obj: dict[str, Any], now: datetime) -> None:
        """Active, labelled with its name, and held by the `kubernetes` finalizer until it has been emptied."""
        spec = obj.setdefault("spec", {})
        if "kubernetes" not in spec.setdefault("finalizers", []):
            spec["finalizers"].append("kubernetes")
        obj["status"] = {"phase": "Active"}
        _label_namespace(obj)

    def prepare_update(self, obj: dict[str, Any], old: Mapping[str, Any], now: datetime) -> None:
        """Finalizers of the spec change through the `finalize` subresource only."""
        obj["spec"] = {**(obj.get("spec") or {}), "finalizers": (old.get("spec") or {}).get("finalizers", [])}
        _label_namespace(obj)

    def begin_deletion(self, obj: dict[str, Any], now: datetime) -> None:
        """Nothing can be created in it from here on."""
        obj.setdefault("status", {})["phase"] = "Terminating"

    def holds(self, obj: Mapping[str, Any]) -> bool:
        """Its content must be gone first; whoever drains it empties `spec.finalizers`."""
        return bool((obj.get("spec") or {}).get("finalizers"))


def _label_namespace(obj: dict[str, Any]) -> None:
    metadata = obj["metadata"]
    if metadata.get("name"):
        metadata["labels"] = {**(metadata.get("labels") or {}), NAMESPACE_LABEL: metadata["name"]}


class ConfigMapStrategy(BuiltinStrategy):
    """Keys, total size, and `immutable`."""

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> Sequence[Cause]:
        """Keys are file names; a key is in `data` or in `binaryData`, not in both."""
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        causes = [*_key_causes("data", data), *_key_causes("binaryData", binary)]
        causes += [
            Cause(INVALID, f'Invalid value: "{key}": duplicate of key present in binaryData', f"data[{key}]")
            for key in data
            if key in binary
        ]
        total = sum(len(value.encode()) for value in data.values())
        total += sum(len(_decoded(value, "ConfigMap")) for value in binary.values())
        if total > _DATA_LIMIT:
            causes.append(Cause(TOO_LONG, f"Too long: may not be more than {_DATA_LIMIT} bytes", ""))
        return causes + _immutable_causes(obj, old, ("data", "binaryData"))

    def cells(self, obj: Mapping[str, Any]) -> Sequence[Any]:
        """The number of keys."""
        return len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), created(obj)


class SecretStrategy(BuiltinStrategy):
    """`stringData` is for writing only; what is stored is base64 in `data`."""

    def prepare_create(self, obj: dict[str, Any], now: datetime) -> None:
        """Merge stringData into data; the type is Opaque unless given."""
        strings = obj.pop("stringData", None)
        if strings:
            data = dict(obj.get("data") or {})
            for key, value in strings.items():
                data[key] = base64.b64encode(str(value).encode()).decode()
            obj["data"] = data
        if not obj.get("type"):
            obj["type"] = "Opaque"

    def prepare_update(self, obj: dict[str, Any], old: Mapping[str, Any], now: datetime) -> None:
        """As at creation; an absent type keeps the old one."""
        if not obj.get("type"):
            obj["type"] = old.get("type")
        self.prepare_create(obj, now)

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> Sequence[Cause]:
        """Keys, base64, size, what the well-known types require, and `immutable`."""
        data = obj.get("data") or {}
        causes = _key_causes("data", data)
        if sum(len(_decoded(value, "Secret")) for value in data.values()) > _DATA_LIMIT:
            causes.append(Cause(TOO_LONG, f"Too long: may not be more than {_DATA_LIMIT} bytes", "data"))
        for key in _SECRET_KEYS.get(obj.get("type", ""), ()):
            if key not in data:
                causes.append(Cause(REQUIRED, "Required value", f"data[{key}]"))
        if old is not None and obj.get("type") != old.get("type"):
            causes.append(Cause(INVALID, f'Invalid value: "{obj.get("type")}": field is immutable', "type"))
        return causes + _immutable_causes(obj, old, ("data",))

    def cells(self, obj: Mapping[str, Any]) -> Sequence[Any]:
        """Type and number of keys, never a value."""
        return obj.get("type", ""), len(obj.get("data") or {}), created(obj)


_SECRET_KEYS: Mapping[str, tuple[str, ...]] = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


class EventStrategy(BuiltinStrategy):
    """Events are swept an hour after they were last written."""

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> Sequence[Cause]:
        """An Event lives in the namespace of the object that it speaks of."""
        involved = (obj.get("involvedObject") or {}).get("namespace", "")
        own = obj["metadata"].get("namespace", "")
        if involved != own and (involved or own != "default"):
            why = f'Invalid value: "{involved}": does not match event.namespace'
            return [Cause(INVALID, why, "involvedObject.namespace")]
        return ()

    def expires_at(self, now: datetime) -> int:
        """One hour from now."""
        return milliseconds(now + EVENT_TTL)

    def cells(self, obj: Mapping[str, Any]) -> Sequence[Any]:
        """As `kubectl get events` shows them."""
        involved, source = obj.get("involvedObject") or {}, obj.get("source") or {}
        series = obj.get("series") or {}
        first = obj.get("firstTimestamp") or obj.get("eventTime") or created(obj)
        last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
        return (
            last,
            obj.get("type", ""),
            obj.get("reason", ""),
            f"{involved.get('kind', '').lower()}/{involved.get('name', '')}",
            involved.get("fieldPath", ""),
            ", ".join(
                part for part in (source.get("component") or obj.get("reportingComponent"), source.get("host")) if part
            ),
            (obj.get("message") or "").strip(),
            first,
            series.get("count") or obj.get("count") or 1,
            obj["metadata"].get("name", ""),
        )


class LeaseStrategy(Strategy):
    """Durations are positive."""

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> Sequence[Cause]:
        """As in coordination.k8s.io."""
        spec = obj.get("spec") or {}
        causes = []
        duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        if isinstance(duration, int) and duration <= 0:
            causes.append(
                Cause(INVALID, f"Invalid value: {duration}: must be greater than 0", "spec.leaseDurationSeconds")
            )
        if isinstance(transitions, int) and transitions < 0:
            why = f"Invalid value: {transitions}: must be greater than or equal to 0"
            causes.append(Cause(INVALID, why, "spec.leaseTransitions"))
        return causes


class ServiceAccountStrategy(Strategy):
    """Only its columns differ."""

    def cells(self, obj: Mapping[str, Any]) -> Sequence[Any]:
        """The number of secrets."""
        return len(obj.get("secrets") or ()), created(obj)


def _key_problem(key: str) -> str:
    if len(key) > 253:
        return "must be no more than 253 characters"
    if key in {".", ".."}:
        return f"must not be '{key}'"
    if key.startswith(".."):
        return "must not start with '..'"
    return "" if _CONFIG_KEY.fullmatch(key) else _CONFIG_KEY_RULE


def _key_causes(field: str, data: Mapping[str, Any]) -> list[Cause]:
    return [
        Cause(INVALID, f'Invalid value: "{key}": {problem}', f"{field}[{key}]")
        for key in data
        if (problem := _key_problem(key))
    ]


def _immutable_causes(obj: Mapping[str, Any], old: Mapping[str, Any] | None, fields: Iterable[str]) -> list[Cause]:
    if old is None or old.get("immutable") is not True:
        return []
    why = "Forbidden: field is immutable when `immutable` is set"
    changed = [field for field in fields if (obj.get(field) or {}) != (old.get(field) or {})]
    if obj.get("immutable") is not True:
        changed.insert(0, "immutable")
    return [Cause(FORBIDDEN, why, field) for field in changed]


def _decoded(value: str, kind: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        # The text never quotes the value: it may be the secret itself, written in the wrong field.
        message = f'{kind} in version "v1" cannot be handled as a {kind}: illegal base64 data; put plain text in '
        raise BadRequest(message + ("stringData" if kind == "Secret" else "data")) from error


def created(obj: Mapping[str, Any]) -> str:
    """When it was created, for the Age column."""
    return str(obj["metadata"].get("creationTimestamp", ""))
