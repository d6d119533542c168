"""Everything that can be said about manifests before anything is sent.

The same schemas, rules and kind validators that admission uses are run here on copies, so that a folder with one bad file
changes nothing. Kinds that the folder itself defines are checked against their definition in it. What only the server can
know (conflicts with other field managers, rules about the stored object) is left to it.

Read next: `kastra.app.applying`, which sends what passes.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import anyio.lowlevel
import orjson

from kastra.api.errors import INVALID, NOT_SUPPORTED, Cause
from kastra.api.meta import DEFAULT_NAMESPACE, is_dns_label
from kastra.api.names import closest, generate_name
from kastra.api.scheme import Resource, Scheme
from kastra.api.values import copy
from kastra.apiserver.crdstatus import complete
from kastra.apiserver.crdvalidation import definition_causes
from kastra.apiserver.metadata import create_causes
from kastra.manifest.loader import Manifest
from kastra.manifest.position import PathTuple, format_path, parse_path
from kastra.manifest.problem import Problem
from kastra.schema import CompiledSchema, SchemaError, compile_schema

KindValidator = Callable[[Mapping[str, Any]], Sequence[Cause]]
"""What a kind's structural schema can't say, as found by discovery; answers causes, never raises."""

_DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")
_CHOSEN = frozenset(("name", "generateName", "namespace", "labels", "annotations"))
"""What the author chooses of an object's metadata."""
_REMEMBERED = 4096
_TURN = 20
"""Manifests checked at a stretch."""
_ROOT_KEYS = ("apiVersion", "kind", "metadata")
_METADATA_KEYS = frozenset(
    [
        "name",
        "generateName",
        "namespace",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    ]
)
_METADATA_LISTS: Mapping[str, tuple[type, str]] = {
    "finalizers": (str, "a string; quote it"),
    "ownerReferences": (dict, "a mapping"),
}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Remembered:
    """A kind's validator that doesn't look again at what it found valid a moment ago: an object is checked before it is
    sent and when it arrives, and applied again unchanged more often than not.

    Args:
        check: sees nothing but the object, so that the same object always gets the same answer.
    """

    def __init__(self, check: KindValidator) -> None:
        self._check = check
        self._valid: dict[bytes, None] = {}

    def __call__(self, obj: Mapping[str, Any]) -> Sequence[Cause]:
        """The causes, as found or remembered."""
        content = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
        chosen = {key: value for key, value in obj["metadata"].items() if key in _CHOSEN}
        digest = blake2b(orjson.dumps((content, chosen), option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
        if digest in self._valid:
            return ()
        causes = self._check(obj)
        if not causes:
            if len(self._valid) >= _REMEMBERED:
                del self._valid[next(iter(self._valid))]
            self._valid[digest] = None
        return causes


class Validator:
    """Checks manifests against the kinds that a server has, and those that the manifests define.

    Args:
        scheme: the server's kinds, with their schemas.
        validators: per (group, kind), what schemas can't say.
    """

    def __init__(self, scheme: Scheme, validators: Mapping[tuple[str, str], KindValidator]) -> None:
        self._scheme = scheme
        self._validators = {_DEFINITION: _definition_causes, **validators}
        self._compiled: dict[tuple[str, str], tuple[CompiledSchema | None, Mapping[str, Any] | None]] = {}

    def check(self, manifests: Sequence[Manifest], namespace: str = DEFAULT_NAMESPACE) -> list[list[Problem]]:
        """The errors of each manifest, in their order; an empty list for one that is valid.

        Args:
            namespace: of objects that name none.
        """
        self._learn_all(manifests)
        return [self._check_one(manifest, namespace) for manifest in manifests]

    async def check_in_turns(
        self, manifests: Sequence[Manifest], namespace: str = DEFAULT_NAMESPACE
    ) -> list[list[Problem]]:
        """As `check`, letting others have the event loop in between."""
        self._learn_all(manifests)
        errors: list[list[Problem]] = []
        for manifest in manifests:
            errors.append(self._check_one(manifest, namespace))
            if len(errors) % _TURN == 0:
                await anyio.lowlevel.checkpoint()
        return errors

    def _learn_all(self, manifests: Sequence[Manifest]) -> None:
        self._compiled.clear()
        for manifest in manifests:
            self._learn(manifest.object)

    def _learn(self, obj: Mapping[str, Any]) -> None:
        """Take in the kinds that a CustomResourceDefinition among the manifests declares."""
        if obj.get("kind") != "CustomResourceDefinition" or not isinstance(obj.get("spec"), dict):
            return
        spec = obj["spec"]
        kind = (spec.get("names") or {}).get("kind")
        for version in spec.get("versions") or ():
            if isinstance(version, dict) and kind and version.get("served"):
                schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
                key = (f"{spec.get('group')}/{version.get('name')}", kind)
                self._compiled[key] = (_compile(schema), schema)

    def _check_one(self, manifest: Manifest, namespace: str) -> list[Problem]:
        obj = manifest.object
        key = (obj["apiVersion"], obj["kind"])
        resource = self._scheme.for_kind(*key)
        if resource is None and key not in self._compiled:
            return [self._unknown_kind(manifest)]
        if key not in self._compiled:
            schema = resource.schema if resource is not None else None
            self._compiled[key] = (_compile(schema) if schema else None, schema)
        compiled, schema = self._compiled[key]
        causes = list(_metadata_causes(obj["metadata"])) or _metadata_rules(obj, resource)
        group = obj["apiVersion"].rpartition("/")[0]
        if compiled is not None:
            # A status in a manifest is ignored, not checked.
            checked = {key: copy(value) for key, value in obj.items() if key != "status"}
            admitted = compiled.admit(checked, None)
            causes += [Cause(INVALID, f'unknown field "{path}"', path) for path in admitted.pruned]
            # A cause without a place only says that rules were skipped because of the other causes.
            causes += [cause for cause in admitted.causes if cause.field != "<nil>"]
            validate = self._validators.get((group, obj["kind"]))
            if validate is not None and not causes:
                if resource is None or resource.namespaced:
                    checked["metadata"].setdefault("namespace", namespace)
                causes += validate(checked)
        return [manifest.problem(cause, suggestion=suggest(cause, obj, schema)) for cause in causes]

    def _unknown_kind(self, manifest: Manifest) -> Problem:
        api_version, kind = manifest.object["apiVersion"], manifest.object["kind"]
        kinds = {resource.kind: resource.api_version for resource in self._scheme}
        kinds.update({known: version for version, known in self._compiled})
        near = closest(kind, kinds)
        suggestion = ""
        if kind in kinds:
            suggestion = f"{kind} is in {kinds[kind]}"
        elif near is not None:
            suggestion = f'did you mean "{near}" ({kinds[near]})?'
        field = "apiVersion" if kind in kinds else "kind"
        message = f'no matches for kind "{kind}" in version "{api_version}"'
        return manifest.problem(Cause(INVALID, message, field), suggestion=suggestion)


def _compile(schema: Mapping[str, Any]) -> CompiledSchema | None:
    try:
        return compile_schema(schema)
    except SchemaError:
        return None  # the definition's own check reports it, with places


def _definition_causes(definition: Mapping[str, Any]) -> Sequence[Cause]:
    def schema_causes(schema: Mapping[str, Any]) -> Sequence[Cause]:
        try:
            compile_schema(schema)
        except SchemaError as error:
            return error.causes
        return ()

    # The server derives names that are left out before it checks.
    completed = dict(definition)
    complete(completed, (), "")
    return definition_causes(completed, None, schema_causes)


def _metadata_causes(metadata: Mapping[str, Any]) -> Iterable[Cause]:
    for key in metadata:
        if key not in _METADATA_KEYS:
            yield Cause(INVALID, f'unknown field "metadata.{key}"', f"metadata.{key}")
    for name in ("labels", "annotations"):
        values = metadata.get(name)
        if values is not None and not isinstance(values, dict):
            yield Cause(INVALID, "Invalid value: must be a mapping of text to text", f"metadata.{name}")
            continue
        for key, value in (values or {}).items():
            if not isinstance(value, str):
                path = format_path(("metadata", name, key))
                yield Cause(INVALID, f"Invalid value: {value!r}: must be a string; quote it", path)
    for name, (kind, what) in _METADATA_LISTS.items():
        values = metadata.get(name)
        if values is not None and not isinstance(values, list):
            yield Cause(INVALID, "Invalid value: must be a list", f"metadata.{name}")
            continue
        for index, value in enumerate(values or ()):
            if not isinstance(value, kind):
                yield Cause(INVALID, f"Invalid value: {value!r}: must be {what}", f"metadata.{name}[{index}]")
    namespace = metadata.get("namespace")
    if namespace and not is_dns_label(namespace):
        message = (
            f'Invalid value: "{namespace}": a lowercase RFC 1123 label must consist of lower case alphanumeric '
            "characters or '-', and must start and end with an alphanumeric character"
        )
        yield Cause(INVALID, message, "metadata.namespace")


def _metadata_rules(obj: Mapping[str, Any], resource: Resource | None) -> list[Cause]:
    """What the server will say of names, labels, annotations, finalizers and owners, whose types are right."""
    metadata = {key: value for key, value in obj["metadata"].items() if value is not None}
    # Of a name that is generated, the server checks what it comes to.
    metadata["name"] = metadata.get("name") or generate_name(metadata.get("generateName", ""))
    builtin_kind = resource.kind if resource is not None and resource.builtin else ""
    return create_causes({"metadata": metadata}, builtin_kind, [])


def suggest(cause: Cause, obj: Mapping[str, Any], schema: Mapping[str, Any] | None) -> str:
    """`did you mean "openai"?` where one near miss stands out; empty otherwise."""
    path = parse_path(cause.field)
    if cause.reason == NOT_SUPPORTED and "supported values:" in cause.message:
        values = _QUOTED.findall(cause.message.split("supported values:", 1)[1])
        near = closest(str(_value_at(obj, path)), values)
    elif cause.message.startswith("unknown field") and path:
        if path[0] == "metadata" and len(path) == 2:
            candidates: Iterable[str] = _METADATA_KEYS
        else:
            candidates = _properties(schema, path[:-1])
        near = closest(str(path[-1]), candidates)
    else:
        return ""
    return f'did you mean "{near}"?' if near is not None else ""


def _value_at(obj: Any, path: PathTuple) -> Any:
    for part in path:
        try:
            obj = obj[part]
        except (KeyError, IndexError, TypeError):
            return None
    return obj


def _properties(schema: Mapping[str, Any] | None, path: PathTuple) -> Iterable[str]:
    node: Any = schema or {}
    for part in path:
        if isinstance(part, int):
            node = node.get("items") or {}
        else:
            additional = node.get("additionalProperties")
            node = (node.get("properties") or {}).get(part) or (additional if isinstance(additional, dict) else {})
    known = list(node.get("properties") or ())
    return [*known, *_ROOT_KEYS] if not path else known
