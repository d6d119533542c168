"""ValidatingAdmissionPolicy: rules in CEL about what may be written, brought to bear by bindings.

A policy says what must hold, a binding for which requests, with which parameters, and what happens when it doesn't: Deny,
Warn, Audit. An expression that can't be evaluated counts as one that doesn't hold, unless the policy's `failurePolicy` is
`Ignore`. Nothing is called, so nothing can hang; every expression is bounded before it runs.

Source: apiserver/pkg/admission/plugin/policy/validating. Read next: `kastra.apiserver.dynamic.params`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from kastra.api.errors import Cause, from_status
from kastra.apiserver.admission import Attributes
from kastra.cel import CelError, Program

from .expressions import POLICIES, POLICY_CONDITIONS, Condition, asked, meets, values_of
from .kinds import GROUP
from .live import Live
from .matching import Match, namespace_of
from .params import ParamsMissing, find_params
from .review import request_of
from .webhooks import Surroundings

POLICY = f"validatingadmissionpolicies.{GROUP}"
BINDING = f"validatingadmissionpolicybindings.{GROUP}"
_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}
_FAILURE = "validation.policy.admission.k8s.io/validation_failure"
_MOST_ANNOTATION = 10 * 1024


class _Validation:
    __slots__ = ("expression", "message", "program", "reason", "text")

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.text: str = raw["expression"].strip()
        self.program = POLICIES.compile(raw["expression"])
        self.message: str = (raw.get("message") or "").strip()
        expression = raw.get("messageExpression")
        self.expression = POLICIES.compile(expression) if expression else None
        self.reason: str = raw.get("reason") or "Invalid"


class _Policy:
    """A policy, compiled."""

    __slots__ = ("annotations", "conditions", "fails", "match", "name", "param_kind", "validations", "variables")

    def __init__(self, obj: Mapping[str, Any]) -> None:
        spec = obj["spec"]
        self.name: str = obj["metadata"]["name"]
        self.param_kind: Mapping[str, str] | None = spec.get("paramKind")
        self.match = _match(spec.get("matchConstraints") or {}, whatever=False)
        self.conditions = [Condition(raw, POLICY_CONDITIONS) for raw in spec.get("matchConditions") or ()]
        self.validations = [_Validation(raw) for raw in spec.get("validations") or ()]
        self.annotations = [
            (raw["key"], POLICIES.compile(raw["valueExpression"])) for raw in spec.get("auditAnnotations") or ()
        ]
        self.variables = {raw["name"]: POLICIES.compile(raw["expression"]) for raw in spec.get("variables") or ()}
        self.fails = spec.get("failurePolicy", "Fail") == "Fail"


class _Binding:
    """A binding, compiled."""

    __slots__ = ("actions", "match", "name", "param_ref", "policy")

    def __init__(self, obj: Mapping[str, Any]) -> None:
        spec = obj["spec"]
        self.name: str = obj["metadata"]["name"]
        self.policy: str = spec["policyName"]
        self.param_ref: Mapping[str, Any] | None = spec.get("paramRef")
        self.match = _match(spec.get("matchResources") or {}, whatever=True)
        self.actions: Sequence[str] = spec.get("validationActions") or ()


def _match(raw: Mapping[str, Any], *, whatever: bool) -> Match:
    return Match(raw, raw.get("resourceRules") or (), raw.get("excludeResourceRules") or (), whatever=whatever)


class _Failure(NamedTuple):
    message: str
    reason: str = "Invalid"
    number: int = 0


class Policies:
    """All ValidatingAdmissionPolicies with their bindings."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._policies = Live(surroundings.storage, POLICY, _Policy)
        self._bindings = Live(surroundings.storage, BINDING, _Binding)

    async def __call__(self, attributes: Attributes) -> None:
        """Evaluate every policy that concerns the request. Raises the StatusError of the first that denies it."""
        if attributes.resource.group == GROUP:
            # Or a wrong policy could keep everybody from removing it.
            return
        bindings = self._bindings.present()
        if not bindings:
            return
        for policy in self._policies.present():
            bound = [binding for binding in bindings if binding.policy == policy.name]
            if not bound:
                continue
            served = policy.match.find(attributes, self._surroundings)
            if served is None:
                continue
            request: dict[str, Any] | None = None
            for binding in bound:
                if binding.match.find(attributes, self._surroundings) is None:
                    continue
                if request is None:
                    request = await request_of(attributes, served)
                self._judge(policy, binding, attributes, request)

    def _judge(self, policy: _Policy, binding: _Binding, attributes: Attributes, request: Mapping[str, Any]) -> None:
        """Raises StatusError if it is denied."""
        values = values_of(request)
        values["namespaceObject"] = namespace_of(attributes, self._surroundings.storage)
        with asked(self._surroundings.authorizer, attributes.user):
            failures = self._failures(policy, binding, attributes, values)
        for action in binding.actions:
            if action == "Warn":
                attributes.call.warnings += [_said(policy, binding, failure) for failure in failures]
            elif action == "Audit" and failures:
                _note(attributes, policy, binding, failures)
        if failures and "Deny" in binding.actions:
            raise _denial(policy, binding, attributes, failures[0])

    def _failures(
        self, policy: _Policy, binding: _Binding, attributes: Attributes, values: dict[str, Any]
    ) -> list[_Failure]:
        try:
            found = find_params(policy.param_kind, binding.param_ref, attributes, self._surroundings)
        except ParamsMissing as error:
            return [_Failure(f"failed to configure binding: {error}")] if policy.fails else []
        failures: list[_Failure] = []
        for params in found:
            values["params"] = params
            evaluation = _Evaluation(policy, values)
            try:
                if policy.conditions and not meets(policy.conditions, values):
                    continue
            except CelError as error:
                if policy.fails:
                    failures.append(_Failure(f"matchConditions can't be evaluated: {error.reason}"))
                continue
            failures += evaluation.failures()
            evaluation.annotate(attributes)
        return failures


class _Evaluation(Mapping[str, Any]):
    """The variables of one policy with one object of parameters; those it declares are evaluated when they are used."""

    def __init__(self, policy: _Policy, values: Mapping[str, Any]) -> None:
        self._policy = policy
        self._values = values
        self._variables: dict[str, Any] = {}
        self._broken: dict[str, CelError] = {}

    def __getitem__(self, name: str) -> Any:
        return self._variables if name == "variables" else self._values[name]

    def __iter__(self) -> Any:
        return iter((*self._values, "variables"))

    def __len__(self) -> int:
        return len(self._values) + 1

    def evaluate(self, program: Program) -> Any:
        """The value of an expression. Raises CelError."""
        return self._evaluate(program, tuple(self._policy.variables))

    def _evaluate(self, program: Program, known: Sequence[str]) -> Any:
        read = program.members("variables")
        for index, name in enumerate(known):
            if read is None or name in read:
                # A variable knows those before it, so this ends.
                self._settle(name, known[:index])
        return program.evaluate(self)

    def _settle(self, name: str, known: Sequence[str]) -> None:
        """Evaluate a variable, if that hasn't been done. Raises CelError."""
        if name in self._broken:
            raise self._broken[name]
        if name not in self._variables:
            try:
                self._variables[name] = self._evaluate(self._policy.variables[name], known)
            except CelError as error:
                self._broken[name] = CelError(f"variable {name}: {error.reason}", error.expression)
                raise self._broken[name] from None

    def failures(self) -> list[_Failure]:
        """The validations that don't hold."""
        found = []
        for index, validation in enumerate(self._policy.validations):
            try:
                held = self.evaluate(validation.program)
            except CelError as error:
                if self._policy.fails:
                    why = f"expression '{validation.text}' resulted in error: {error.reason}"
                    found.append(_Failure(why, "Invalid", index))
                continue
            if held is not True:
                found.append(_Failure(self._message(validation), validation.reason, index))
        return found

    def _message(self, validation: _Validation) -> str:
        if validation.expression is not None:
            try:
                said = self.evaluate(validation.expression)
            except CelError:
                # As in Kubernetes the plain message stands in for one that can't be made.
                said = None
            if isinstance(said, str) and said.strip() and "\n" not in said.strip() and len(said) <= 5 * 1024:
                return said.strip()
        return validation.message or f"failed expression: {validation.text}"

    def annotate(self, attributes: Attributes) -> None:
        """Note what `auditAnnotations` say for the audit log."""
        for key, program in self._policy.annotations:
            try:
                said = self.evaluate(program)
            except CelError as error:
                said = f"can't be evaluated: {error.reason}" if self._policy.fails else None
            if isinstance(said, str) and said:
                attributes.call.annotations[f"{self._policy.name}/{key}"] = said[:_MOST_ANNOTATION]


def _said(policy: _Policy, binding: _Binding, failure: _Failure) -> str:
    return f"Validation failed for ValidatingAdmissionPolicy '{policy.name}' with binding '{binding.name}': {failure.message}"


def _denial(policy: _Policy, binding: _Binding, attributes: Attributes, failure: _Failure) -> Exception:
    resource = attributes.resource
    message = (
        f"ValidatingAdmissionPolicy '{policy.name}' with binding '{binding.name}' denied request: {failure.message}"
    )
    error = from_status(
        {
            "message": f'{resource.group_resource} "{attributes.name}" is forbidden: {message}',
            "reason": failure.reason,
            "code": _CODES[failure.reason],
            "details": {"name": attributes.name, "group": resource.group, "kind": resource.plural},
        }
    )
    error.causes = (Cause("", message, ""),)
    return error


def _note(attributes: Attributes, policy: _Policy, binding: _Binding, failures: Sequence[_Failure]) -> None:
    noted = [
        {
            "message": failure.message,
            "policy": policy.name,
            "binding": binding.name,
            "expressionIndex": str(failure.number),
            "validationActions": list(binding.actions),
        }
        for failure in failures
    ]
    before = orjson.loads(attributes.call.annotations.get(_FAILURE, "[]"))
    attributes.call.annotations[_FAILURE] = orjson.dumps([*before, *noted]).decode()[:_MOST_ANNOTATION]
