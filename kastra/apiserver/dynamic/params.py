"""Which objects are a policy's parameters? `paramKind` of the policy and `paramRef` of a binding.

Source: apiserver/pkg/admission/plugin/policy/generic (CollectParams). Read next: `kastra.apiserver.dynamic.policies`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

from kastra.api.scheme import Scheme
from kastra.api.selectors import label_selector_of
from kastra.apiserver.admission import Attributes
from kastra.store.interface import Key, Storage


class ParamsMissing(Exception):
    """There are no parameters, and the binding doesn't allow that; the message says why."""


class Objects(Protocol):
    """Where objects are, and of which kinds: the registry."""

    storage: Storage
    scheme: Scheme


def find_params(
    kind: Mapping[str, str] | None, ref: Mapping[str, Any] | None, attributes: Attributes, objects: Objects
) -> Sequence[dict[str, Any] | None]:
    """The objects to evaluate a policy with, one after the other; `[None]` for a policy without parameters.

    Raises:
        ParamsMissing: the kind isn't served, or nothing is referred to.
    """
    if kind is None or ref is None:
        return (None,)
    resource = objects.scheme.for_kind(kind.get("apiVersion", ""), kind.get("kind", ""))
    if resource is None:
        raise ParamsMissing(f"paramKind {kind.get('apiVersion')}, Kind={kind.get('kind')} is not served")
    namespace = ""
    if resource.namespaced:
        namespace = ref.get("namespace") or (attributes.namespace if attributes.resource.namespaced else "")
        if not namespace:
            raise ParamsMissing("can't use namespaced paramRef without a namespace to match cluster-scoped resources")
    storage = objects.storage
    if ref.get("name"):
        entry = storage.get(Key(resource.group_resource, namespace, ref["name"]))
        found = [] if entry is None else [entry]
    else:
        selector = label_selector_of(ref.get("selector"))
        found = [e for e in storage.list(resource.group_resource, namespace).entries if selector.matches(e.labels)]
    if not found and ref.get("parameterNotFoundAction") != "Allow":
        raise ParamsMissing("no params found for policy binding with `Deny` parameterNotFoundAction")
    return [orjson.loads(entry.body) for entry in found]
