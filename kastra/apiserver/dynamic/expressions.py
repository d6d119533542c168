"""What may an expression about a request refer to, and who does it ask? CEL as in Kubernetes' admission.

`authorizer` is a text that says what is asked so far, since the CEL library has no types of ours:
`authorizer.group("apps").resource("deployments").check("create").allowed()` reads as in Kubernetes.

Source: apiserver/pkg/cel/library/authz.go, pkg/admission/plugin/cel. Read next: `kastra.apiserver.dynamic.policies`.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from kastra.api.errors import INVALID, REQUIRED, Cause
from kastra.apiserver.authorization import Access, Authorizer, service_account
from kastra.apiserver.call import User
from kastra.cel import CelError, Environment, Program, environment
from kastra.cel.authorizer import AUTHORIZER, answering

VARIABLES = ("object", "oldObject", "request", "authorizer:string")
CONDITIONS: Environment = environment(*VARIABLES)
"""Of the `matchConditions` of a webhook, which decide whether to ask at all."""
POLICY_CONDITIONS: Environment = environment(*VARIABLES, "namespaceObject", "params")
"""Of those of a policy."""
POLICIES: Environment = environment(*VARIABLES, "namespaceObject", "params", "variables")
"""Of what a policy evaluates."""


class Condition:
    """One of `matchConditions`, compiled."""

    __slots__ = ("name", "program")

    def __init__(self, raw: Mapping[str, Any], env: Environment) -> None:
        self.name: str = raw["name"]
        self.program: Program = env.compile(raw["expression"])


def meets(conditions: Sequence[Condition], values: Mapping[str, Any]) -> bool:
    """Whether all hold. One that is false settles it, whatever goes wrong in others.

    Raises:
        CelError: none is false and one failed.
    """
    failed: CelError | None = None
    for condition in conditions:
        try:
            if not condition.program.test(values):
                return False
        except CelError as error:
            failed = failed or CelError(f"{condition.name}: {error.reason}", error.expression)
    if failed is not None:
        raise failed
    return True


def values_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the variables of a condition stand for.

    Args:
        request: of the AdmissionReview; its objects are the variables `object` and `oldObject`.
    """
    plain = {key: value for key, value in request.items() if key not in {"object", "oldObject"}}
    return {
        "object": request.get("object"),
        "oldObject": request.get("oldObject"),
        "request": plain,
        "authorizer": AUTHORIZER,
    }


def asked(authorizer: Authorizer, user: User) -> AbstractContextManager[None]:
    """While this lasts, `authorizer` in expressions stands for this authorizer and this user."""

    def decide(question: Mapping[str, str]) -> tuple[bool, str]:
        account = question.get("serviceAccount")
        namespace, _, name = (account or "").partition("/")
        who = user if account is None else service_account(namespace, name)
        access = Access(
            question["verb"],
            question.get("group", ""),
            question.get("resource", ""),
            question.get("subresource", ""),
            question.get("namespace", ""),
            question.get("name", ""),
            question.get("path", ""),
        )
        return authorizer.authorize(who, access)

    return answering(decide)


def expression_causes(text: str, path: str, env: Environment, *results: str) -> list[Cause]:
    """What is wrong with an expression.

    Args:
        results: the types that it may have, apart from one that only evaluating shows; none for any.
    """
    if not text.strip():
        return [Cause(REQUIRED, "Required value: expression is not specified", path)]
    try:
        program = env.compile(text)
    except CelError as error:
        place = f"{error.line}:{error.column}: " if error.line else ""
        return [Cause(INVALID, f"Invalid value: {text!r}: compilation failed: {place}{error.reason}", path)]
    if results and program.result_type not in {*results, "dyn"}:
        return [Cause(INVALID, f"Invalid value: {text!r}: must evaluate to {' or '.join(results)}", path)]
    return []


def condition_causes(conditions: Sequence[Mapping[str, Any]], path: str, env: Environment) -> list[Cause]:
    """What is wrong with `matchConditions`."""
    causes: list[Cause] = []
    for index, condition in enumerate(conditions):
        causes += expression_causes(condition["expression"], f"{path}[{index}].expression", env, "bool")
        if not condition["name"]:
            causes.append(Cause(REQUIRED, "Required value", f"{path}[{index}].name"))
    return causes
