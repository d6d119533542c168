"""Questions about access, asked by creating an object and answered in its status; nothing is stored.

    SelfSubjectAccessReview, SelfSubjectRulesReview    what may I do?
    SubjectAccessReview, LocalSubjectAccessReview      what may somebody else do?
    SelfSubjectReview                                  who am I?
    TokenReview                                        whose token is this?

Source: k8s.io/api authorization/v1 and authentication/v1. Read next: `kastra.apiserver.authorization`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from kastra.api.errors import BadRequest
from kastra.api.scheme import Resource

from . import reviewschemas
from .authorization import Access, Authorizer
from .call import User
from .strategy import Strategy

AUTHORIZATION, AUTHENTICATION = "authorization.k8s.io", "authentication.k8s.io"
_Answer = Callable[["Reviewers", str, Mapping[str, Any], User], Mapping[str, Any]]


class TokenReader(Protocol):
    """Recognises tokens."""

    def user_of(self, token: str, audiences: Sequence[str]) -> User | None:
        """The user of a token that is good for one of the audiences; None for any other."""
        ...


class TokenIssuer(Protocol):
    """Makes tokens for ServiceAccounts."""

    def request(self, namespace: str, name: str, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a TokenRequest. Raises NotFound, Invalid."""
        ...


class Reviewers(Protocol):
    """Who answers."""

    authorizer: Authorizer
    token_reader: TokenReader | None


class ReviewStrategy(Strategy):
    """A kind of question."""

    def __init__(self, answer: _Answer) -> None:
        self.answer = answer


def _access_review(own: bool, local: bool = False) -> _Answer:
    def answer(reviewers: Reviewers, namespace: str, obj: Mapping[str, Any], user: User) -> Mapping[str, Any]:
        spec = obj.get("spec") or {}
        access = _access(spec)
        if not own:
            user = _subject(spec)
        if local and access.namespace not in ("", namespace):
            raise BadRequest(f"spec.resourceAttributes.namespace must be {namespace!r}, the namespace of the review")
        if local:
            access = access._replace(namespace=namespace)
        decision = reviewers.authorizer.authorize(user, access)
        status: dict[str, Any] = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return status

    return answer


def _access(spec: Mapping[str, Any]) -> Access:
    asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (asked is None) == (path is None):
        raise BadRequest("exactly one of spec.resourceAttributes and spec.nonResourceAttributes must be specified")
    if path is not None:
        return Access(path.get("verb", ""), path=path.get("path", ""))
    assert asked is not None
    names = ("verb", "group", "resource", "subresource", "namespace", "name")
    verb, group, resource, subresource, namespace, name = (str(asked.get(field) or "") for field in names)
    if "/" in resource and not subresource:
        resource, _, subresource = resource.partition("/")
    return Access(verb, group, resource, subresource, namespace, name)


def _subject(spec: Mapping[str, Any]) -> User:
    if not spec.get("user") and not spec.get("groups"):
        raise BadRequest("at least one of spec.user and spec.groups must be specified")
    return User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", spec.get("extra") or {})


def _rules_review(reviewers: Reviewers, namespace: str, obj: Mapping[str, Any], user: User) -> Mapping[str, Any]:
    asked = (obj.get("spec") or {}).get("namespace")
    if not asked:
        raise BadRequest("no namespace on request: spec.namespace is required")
    rules = [dict(rule) for rule in reviewers.authorizer.rules_for(user, asked)]
    return {
        "resourceRules": [rule for rule in rules if not rule.get("nonResourceURLs")],
        "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
        "incomplete": False,
    }


def _self_review(reviewers: Reviewers, namespace: str, obj: Mapping[str, Any], user: User) -> Mapping[str, Any]:
    return {"userInfo": user_info(user)}


def _token_review(reviewers: Reviewers, namespace: str, obj: Mapping[str, Any], user: User) -> Mapping[str, Any]:
    spec = obj.get("spec") or {}
    token, audiences = spec.get("token"), tuple(spec.get("audiences") or ())
    if not token:
        raise BadRequest("token is required for TokenReview in authentication")
    found = reviewers.token_reader.user_of(token, audiences) if reviewers.token_reader is not None else None
    if found is None:
        return {"authenticated": False, "user": {}, "error": "the token is not known, or not for these audiences"}
    answer: dict[str, Any] = {"authenticated": True, "user": user_info(found)}
    if audiences:
        answer["audiences"] = list(audiences)
    return answer


def user_info(user: User) -> dict[str, Any]:
    """A user as authentication.k8s.io UserInfo."""
    info: dict[str, Any] = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def _review(
    group: str, kind: str, schema: Mapping[str, Any], answer: _Answer, *, namespaced: bool = False
) -> tuple[Resource, Strategy]:
    resource = Resource(
        group,
        "v1",
        kind,
        f"{kind.lower()}s",
        kind.lower(),
        f"{kind}List",
        namespaced=namespaced,
        storage_version="v1",
        has_generation=False,
        schema=schema,
        builtin=True,
        verbs=("create",),
    )
    return resource, ReviewStrategy(answer)


REVIEWS: Sequence[tuple[Resource, Strategy]] = (
    _review(AUTHORIZATION, "SelfSubjectAccessReview", reviewschemas.SELF_ACCESS, _access_review(own=True)),
    _review(AUTHORIZATION, "SelfSubjectRulesReview", reviewschemas.SELF_RULES, _rules_review),
    _review(AUTHORIZATION, "SubjectAccessReview", reviewschemas.ACCESS, _access_review(own=False)),
    _review(
        AUTHORIZATION,
        "LocalSubjectAccessReview",
        reviewschemas.ACCESS,
        _access_review(own=False, local=True),
        namespaced=True,
    ),
    _review(AUTHENTICATION, "SelfSubjectReview", reviewschemas.SELF, _self_review),
    _review(AUTHENTICATION, "TokenReview", reviewschemas.TOKEN, _token_review),
)
"""Every kind of question, with how it is answered."""
