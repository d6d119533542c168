"""The kinds of `admissionregistration.k8s.io`: what must hold for webhooks, policies and bindings before they are stored.

    MutatingWebhookConfiguration, ValidatingWebhookConfiguration    kubectl get mutatingwebhookconfigurations
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding     kubectl get validatingadmissionpolicies

Expressions are compiled here, so that what is stored can be evaluated. What they do is in the modules that this doesn't
import; it is on the path of every start. Source: pkg/apis/admissionregistration/validation of kubernetes/kubernetes.
Read next: `kastra.apiserver.dynamic.matching`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kastra.api.errors import DUPLICATE, INVALID, NOT_SUPPORTED, REQUIRED, BadRequest, Cause
from kastra.api.meta import is_dns_label, is_dns_subdomain
from kastra.api.scheme import PrinterColumn, Resource
from kastra.api.selectors import label_selector_of
from kastra.apiserver.builtin import AGE
from kastra.apiserver.core import BuiltinStrategy, created
from kastra.apiserver.metadata import content_changed
from kastra.apiserver.strategy import Strategy
from kastra.apiserver.webhookcall import client_config_causes

from . import schemas

GROUP = "admissionregistration.k8s.io"
_REASONS = ("Unauthorized", "Forbidden", "Invalid", "RequestEntityTooLarge")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Causes = Callable[[Mapping[str, Any]], list[Cause]]


class ConfigurationStrategy(BuiltinStrategy):
    """What the four kinds have in common.

    Args:
        causes: what is wrong with an object that its schema accepts.
        count: of what its printer column says, if it has one.
    """

    unconditional_update = False

    def __init__(self, causes: Causes, count: str = "") -> None:
        self._causes = causes
        self._count = count

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> Sequence[Cause]:
        """As Kubernetes. What is stored stays changeable in its metadata."""
        return () if old is not None and not content_changed(obj, old) else self._causes(obj)

    def cells(self, obj: Mapping[str, Any]) -> Sequence[Any] | None:
        """How many webhooks it has."""
        return (len(obj.get(self._count) or ()), created(obj)) if self._count else None


class PolicyStrategy(ConfigurationStrategy):
    """A policy's status says which generation has been looked at: each is, before it is stored."""

    def prepare_create(self, obj: dict[str, Any], now: datetime) -> None:
        """Its expressions compile, or it isn't stored."""
        obj["status"] = {"observedGeneration": 1, "typeChecking": {}}

    def prepare_update(self, obj: dict[str, Any], old: Mapping[str, Any], now: datetime) -> None:
        """As at creation."""
        generation = old["metadata"].get("generation", 1) + (1 if content_changed(obj, old) else 0)
        obj["status"] = {**(old.get("status") or {}), "observedGeneration": generation}

    def cells(self, obj: Mapping[str, Any]) -> Sequence[Any]:
        """How many validations it has, and of which kind its parameters are."""
        spec = obj["spec"]
        kind = spec.get("paramKind") or {}
        shown = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else "<unset>"
        return len(spec.get("validations") or ()), shown, created(obj)


def _webhook_causes(obj: Mapping[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    for index, webhook in enumerate(obj.get("webhooks") or ()):
        path, name = f"webhooks[{index}]", webhook["name"]
        if not is_dns_subdomain(name) or name.count(".") < 2:
            why = f'Invalid value: "{name}": should be a domain with at least three segments separated by dots'
            causes.append(Cause(INVALID, why, f"{path}.name"))
        causes += _rules_causes(webhook.get("rules") or (), f"{path}.rules")
        causes += client_config_causes(webhook["clientConfig"], f"{path}.clientConfig")
        if "v1" not in webhook["admissionReviewVersions"]:
            shown = ", ".join(webhook["admissionReviewVersions"])
            why = f'Invalid value: "{shown}": must include at least one of v1'
            causes.append(Cause(INVALID, why, f"{path}.admissionReviewVersions"))
        causes += _selector_causes(webhook, path)
        causes += _condition_causes(webhook, path)
    return causes


def _policy_causes(obj: Mapping[str, Any]) -> list[Cause]:
    from .expressions import POLICIES, expression_causes

    spec = obj["spec"]
    causes = _match_causes(spec.get("matchConstraints"), "spec.matchConstraints", required=True)
    causes += _condition_causes(spec, "spec", of_policy=True)
    param_kind = spec.get("paramKind")
    if param_kind is not None:
        for field in ("apiVersion", "kind"):
            if not param_kind.get(field):
                causes.append(Cause(REQUIRED, "Required value", f"spec.paramKind.{field}"))
    for index, variable in enumerate(spec.get("variables") or ()):
        path = f"spec.variables[{index}]"
        if not _IDENTIFIER.fullmatch(variable["name"]):
            why = f'Invalid value: "{variable["name"]}": name is not a valid CEL identifier'
            causes.append(Cause(INVALID, why, f"{path}.name"))
        causes += expression_causes(variable["expression"], f"{path}.expression", POLICIES)
        causes += _order_causes(spec["variables"], index, f"{path}.expression")
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        why = "Required value: validations or auditAnnotations must contain at least one item"
        causes.append(Cause(REQUIRED, why, "spec.validations"))
    for index, validation in enumerate(spec.get("validations") or ()):
        path = f"spec.validations[{index}]"
        causes += expression_causes(validation["expression"], f"{path}.expression", POLICIES, "bool")
        if validation.get("messageExpression"):
            where = f"{path}.messageExpression"
            causes += expression_causes(validation["messageExpression"], where, POLICIES, "string")
        message = validation.get("message")
        if message is not None and (not message.strip() or "\n" in message.strip()):
            why = f"Invalid value: {message!r}: message must be one line that isn't empty"
            causes.append(Cause(INVALID, why, f"{path}.message"))
        if validation.get("reason") and validation["reason"] not in _REASONS:
            shown = ", ".join(f'"{reason}"' for reason in _REASONS)
            why = f'Unsupported value: "{validation["reason"]}": supported values: {shown}'
            causes.append(Cause(NOT_SUPPORTED, why, f"{path}.reason"))
    return causes + _annotation_causes(spec)


def _order_causes(variables: Sequence[Mapping[str, Any]], index: int, path: str) -> list[Cause]:
    """A variable may use those declared before it."""
    from kastra.cel import CelError

    from .expressions import POLICIES

    try:
        read = POLICIES.compile(variables[index]["expression"]).members("variables") or frozenset()
    except CelError:
        return []  # told already
    known = {variable["name"] for variable in variables[:index]}
    return [
        Cause(INVALID, f"Invalid value: variables.{name} is not declared before this one", path)
        for name in sorted(read - known)
    ]


def _annotation_causes(spec: Mapping[str, Any]) -> list[Cause]:
    from .expressions import POLICIES, expression_causes

    causes: list[Cause] = []
    seen: set[str] = set()
    for index, annotation in enumerate(spec.get("auditAnnotations") or ()):
        path = f"spec.auditAnnotations[{index}]"
        key = annotation["key"]
        if not is_dns_label(key.lower()):
            causes.append(Cause(INVALID, f'Invalid value: "{key}": must be a qualified name', f"{path}.key"))
        if key in seen:
            causes.append(Cause(DUPLICATE, f'Duplicate value: "{key}"', f"{path}.key"))
        seen.add(key)
        where = f"{path}.valueExpression"
        causes += expression_causes(annotation["valueExpression"], where, POLICIES, "string", "null_type")
    return causes


def _binding_causes(obj: Mapping[str, Any]) -> list[Cause]:
    spec = obj["spec"]
    causes: list[Cause] = []
    if not spec.get("policyName"):
        causes.append(Cause(REQUIRED, "Required value", "spec.policyName"))
    ref = spec.get("paramRef")
    if ref is not None:
        if bool(ref.get("name")) == (ref.get("selector") is not None):
            why = "Invalid value: exactly one of name and selector must be given"
            causes.append(Cause(INVALID, why, "spec.paramRef"))
        if ref.get("selector") is not None:
            causes += _one_selector_causes(ref["selector"], "spec.paramRef.selector")
        if not ref.get("parameterNotFoundAction"):
            causes.append(Cause(REQUIRED, "Required value", "spec.paramRef.parameterNotFoundAction"))
    if spec.get("matchResources") is not None:
        causes += _match_causes(spec["matchResources"], "spec.matchResources", required=False)
    actions = spec.get("validationActions") or ()
    if not actions:
        causes.append(
            Cause(REQUIRED, "Required value: at least one validation action is required", "spec.validationActions")
        )
    elif "Deny" in actions and "Warn" in actions:
        why = "Invalid value: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"  # fmt: skip
        causes.append(Cause(INVALID, why, "spec.validationActions"))
    return causes


def _match_causes(match: Mapping[str, Any] | None, path: str, *, required: bool) -> list[Cause]:
    if match is None:
        return [Cause(REQUIRED, "Required value", path)]
    rules = match.get("resourceRules") or ()
    causes = []
    if required and not rules:
        causes.append(Cause(REQUIRED, "Required value", f"{path}.resourceRules"))
    causes += _rules_causes(rules, f"{path}.resourceRules")
    causes += _rules_causes(match.get("excludeResourceRules") or (), f"{path}.excludeResourceRules")
    return causes + _selector_causes(match, path)


def _rules_causes(rules: Sequence[Mapping[str, Any]], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, rule in enumerate(rules):
        where = f"{path}[{index}]"
        for field in ("operations", "apiGroups", "apiVersions", "resources"):
            values = rule.get(field) or ()
            if not values:
                causes.append(Cause(REQUIRED, "Required value", f"{where}.{field}"))
            elif field != "resources" and "*" in values and len(values) > 1:
                why = "Invalid value: if '*' is present, must not specify other values"
                causes.append(Cause(INVALID, why, f"{where}.{field}"))
            elif not all(values) and field != "apiGroups":
                causes.append(Cause(REQUIRED, "Required value", f"{where}.{field}"))
    return causes


def _selector_causes(holder: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("namespaceSelector", "objectSelector"):
        causes += _one_selector_causes(holder.get(field) or {}, f"{path}.{field}")
    return causes


def _one_selector_causes(selector: Mapping[str, Any], path: str) -> list[Cause]:
    try:
        label_selector_of(selector)
    except BadRequest as error:
        return [Cause(INVALID, f"Invalid value: {error.message}", path)]
    return []


def _condition_causes(holder: Mapping[str, Any], path: str, *, of_policy: bool = False) -> list[Cause]:
    conditions = holder.get("matchConditions") or ()
    if not conditions:
        return []
    from .expressions import CONDITIONS, POLICY_CONDITIONS, condition_causes

    return condition_causes(conditions, f"{path}.matchConditions", POLICY_CONDITIONS if of_policy else CONDITIONS)


def _kind(kind: str, plural: str, schema: Mapping[str, Any], *columns: PrinterColumn, **more: Any) -> Resource:
    return Resource(
        GROUP,
        "v1",
        kind,
        plural,
        kind.lower(),
        f"{kind}List",
        namespaced=False,
        storage_version="v1",
        has_generation=True,
        columns=(*columns, AGE),
        schema=schema,
        categories=("api-extensions",),
        builtin=True,
        **more,
    )


_WEBHOOKS = PrinterColumn("Webhooks", "integer", ".webhooks", "How many webhooks it has.")
KINDS: Sequence[tuple[Resource, Strategy]] = (
    (
        _kind("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", schemas.MUTATING_WEBHOOKS, _WEBHOOKS),
        ConfigurationStrategy(_webhook_causes, "webhooks"),
    ),
    (
        _kind(
            "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", schemas.VALIDATING_WEBHOOKS, _WEBHOOKS
        ),
        ConfigurationStrategy(_webhook_causes, "webhooks"),
    ),
    (
        _kind(
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            schemas.POLICY,
            PrinterColumn("Validations", "integer", ".spec.validations"),
            PrinterColumn("ParamKind", "string", ".spec.paramKind"),
            has_status=True,
        ),
        PolicyStrategy(_policy_causes),
    ),
    (
        _kind(
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            schemas.BINDING,
            PrinterColumn("PolicyName", "string", ".spec.policyName"),
            PrinterColumn("ParamRef", "string", ".spec.paramRef.name"),
        ),
        ConfigurationStrategy(_binding_causes),
    ),
)
