"""May an object of one namespace be referred to from another? Yes, unless its owner says otherwise.

`spec.allowedNamespaces` on the target decides: `{from: All | Same | Selector, selector}`. Where it is absent, the annotation
`mastra.ai/allowed-namespaces` on the target's namespace does: `All`, `Same`, or names separated by commas. Never looks
at who is asking beyond the namespace: what a user may do is the API server's business.

Source: Gateway API's AllowedRoutes. Read next: `kastra.runtime.references`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.api.object import Object

ANNOTATION = "mastra.ai/allowed-namespaces"


def says_itself(target: Object) -> bool:
    """Whether `target` decides, by what it asks of the other namespace; if not, its own namespace does."""
    return isinstance(target.spec.get("allowedNamespaces"), Mapping)


def refusal(
    target: Object, namespace: str, target_namespace: Object | None, own_namespace: Object | None
) -> str | None:
    """Why `target` may not be referred to from `namespace`; None if it may.

    Args:
        target: the object referred to.
        namespace: of the referring object.
        target_namespace: the Namespace object of the target, if there is one; not looked at if the target `says_itself`.
        own_namespace: the Namespace object of `namespace`, if there is one; looked at only then.
    """
    if target.namespace in ("", namespace):
        return None
    allowed = target.spec.get("allowedNamespaces")
    if isinstance(allowed, Mapping):
        permitted = _permits(allowed, own_namespace)
        said_by = "spec.allowedNamespaces"
    else:
        text = target_namespace.annotations.get(ANNOTATION, "All") if target_namespace is not None else "All"
        permitted = text == "All" or (text != "Same" and namespace in (part.strip() for part in text.split(",")))
        said_by = f"annotation {ANNOTATION} of namespace {target.namespace!r}"
    if permitted:
        return None
    return f'{target.kind} "{target.namespace}/{target.name}" doesn\'t allow namespace "{namespace}" ({said_by})'


def _permits(allowed: Mapping[str, Any], own_namespace: Object | None) -> bool:
    source = allowed.get("from", "Selector" if "selector" in allowed else "All")
    if source == "Selector":
        labels = own_namespace.labels if own_namespace is not None else {}
        return matches(allowed.get("selector") or {}, labels)
    return bool(source == "All")


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether `labels` satisfy a metav1.LabelSelector; an empty one matches everything, an unknown operator nothing."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_satisfied(term, labels) for term in selector.get("matchExpressions") or ())


def _satisfied(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = term.get("key", ""), term.get("values") or ()
    match term.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False
