"""May this user do that? The question, the answer, and how a refusal is told.

Asked once per request, after the user is known and before anything else is looked at. Who answers is an `Authorizer`;
`kastra.apiserver.rbac_authorizer` is the one that servers use.

Source: apiserver/pkg/authorization/authorizer of kubernetes/kubernetes. Read next: `kastra.apiserver.rbac_authorizer`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from kastra.api.errors import Forbidden
from kastra.api.scheme import Resource

from .call import User

MASTERS = "system:masters"
"""The group that may do everything, whatever roles there are."""

AUTHENTICATED = "system:authenticated"
"""Everybody who was recognised."""

UNAUTHENTICATED = "system:unauthenticated"

SERVICE_ACCOUNT = "system:serviceaccount:"
"""How the user names of ServiceAccounts begin."""


EVERYTHING: Sequence[Mapping[str, Any]] = (
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
)
"""The PolicyRules that allow all there is."""


def service_account(namespace: str, name: str, uid: str = "", extra: Mapping[str, Sequence[str]] | None = None) -> User:
    """A ServiceAccount as a user, with the groups that all of them are in."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    return User(f"{SERVICE_ACCOUNT}{namespace}:{name}", groups, uid, extra or {})


class Access(NamedTuple):
    """What somebody wants to do: a verb on a resource, or on a path that is none.

    Args:
        resource: plural; empty for a path.
        namespace: empty for cluster-scoped resources and for all namespaces.
        name: of one object; empty for collections and for new objects.
        path: where there is no resource, such as `/metrics`.
    """

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def target(self) -> str:
        """Resource and subresource, as rules name them: `runs/cancel`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Decision(NamedTuple):
    """The answer, and because of what."""

    allowed: bool
    reason: str = ""


class Authorizer(Protocol):
    """Decides."""

    def authorize(self, user: User, access: Access) -> Decision:
        """Whether `user` may do that."""
        ...

    def rules_for(self, user: User, namespace: str) -> Sequence[Mapping[str, Any]]:
        """The PolicyRules that hold for the user in a namespace, for whoever wants to see them."""
        ...


class AllowEverything:
    """For registries without users: embedded, and in tests."""

    def authorize(self, user: User, access: Access) -> Decision:
        """Yes."""
        return Decision(True)

    def rules_for(self, user: User, namespace: str) -> Sequence[Mapping[str, Any]]:
        """Everything."""
        return EVERYTHING


def access_to(resource: Resource, verb: str, namespace: str = "", name: str = "", subresource: str = "") -> Access:
    """What a verb on a resource comes to."""
    return Access(verb, resource.group, resource.plural, subresource, namespace, name)


def require(authorizer: Authorizer, user: User, access: Access) -> None:
    """Do nothing if it is allowed. Raises Forbidden in Kubernetes' words."""
    decision = authorizer.authorize(user, access)
    if not decision.allowed:
        raise refusal(user, access, decision.reason)


def refusal(user: User, access: Access, reason: str = "") -> Forbidden:
    """403, which says who may not do what where."""
    if not access.resource:
        message = f'forbidden: User "{user.name}" cannot {access.verb} path "{access.path}"'
        return Forbidden(f"{message}: {reason}" if reason else message)
    qualified = f"{access.resource}.{access.group}" if access.group else access.resource
    scope = f' in the namespace "{access.namespace}"' if access.namespace else " at the cluster scope"
    named = f'"{access.name}" ' if access.name else ""
    message = (
        f'{qualified} {named}is forbidden: User "{user.name}" cannot {access.verb} resource "{access.target}" '
        f'in API group "{access.group}"{scope}'
    )
    message = f"{message}: {reason}" if reason else message
    return Forbidden(message, name=access.name, group=access.group, kind=access.resource)
