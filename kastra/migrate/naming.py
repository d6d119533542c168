"""Names of the older dialects as Kubernetes names, the same way wherever they stand.

`weatherAgent` becomes `weather-agent`, in the object and in what refers to it. Read next: `kastra.migrate.context`.
"""

import re
from typing import Any

from kastra.api.meta import is_dns_label, is_dns_subdomain

from .secrets import KEY_SHAPE

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LONGEST = 200
_LABEL = 63
_PLURALS = ("agents", "tools", "workflows", "networks", "models", "modelproviders", "systems")


def object_name(text: str) -> str:
    """A name of an object; empty if nothing of the text can stand in one. A key that stands where a name should is not kept."""
    text = KEY_SHAPE.sub("removed", text)
    if is_dns_subdomain(text):
        return text
    name = re.sub(r"[^a-z0-9.-]+", "-", _CAMEL.sub("-", text[:_LONGEST]).lower())
    name = re.sub(r"-*\.[.-]*", ".", name).strip("-.")
    return name if is_dns_subdomain(name) else ""


def namespace_name(text: str) -> str:
    """A name of a namespace; empty if nothing of the text can stand in one."""
    name = object_name(text).replace(".", "-")[:_LABEL].strip("-")
    return name if is_dns_label(name) else ""


def reference(value: Any) -> Any:
    """A reference (text, `{name, namespace}`, `{$ref}`, `{ref}`) with its names as the objects have them; None if it is none."""
    if isinstance(value, dict):
        inner = next(
            (value[key] for key in ("$ref", "ref", "refName", "name", "id") if isinstance(value.get(key), str)), None
        )
        if inner is None:
            return None
        found = reference(inner)
        namespace = value.get("namespace")
        if isinstance(namespace, str) and isinstance(found, str) and "/" not in found and namespace_name(namespace):
            return {"name": found, "namespace": namespace_name(namespace)}
        return found
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.startswith(("#/", "./")):
        text = text.rsplit("/", 1)[-1].rsplit("#", 1)[-1]
    first, slash, last = text.rpartition("/")
    if not slash:
        return object_name(text) or None
    kind = first if first in _PLURALS else namespace_name(first)
    return f"{kind}/{object_name(last)}" if kind and object_name(last) else None


def short(ref: Any) -> str:
    """The name alone of what `reference` gave."""
    text = ref.get("name") if isinstance(ref, dict) else ref
    return text.rsplit("/", 1)[-1] if isinstance(text, str) else ""
