"""Role-based access: who may do what follows from Roles, ClusterRoles and their bindings, as they are stored now.

The four kinds are compiled into an index by subject, anew only when one of them has changed, and answers are remembered
until then, so that a request usually costs one look-up. Nothing is ever denied by a rule: what no rule allows is refused.

Source: plugin/pkg/auth/authorizer/rbac of kubernetes/kubernetes. Read next: `kastra.apiserver.rbac_rules`.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from operator import is_
from typing import Any, NamedTuple

import orjson

from kastra.store.interface import Entry, Key, Storage

from .authorization import EVERYTHING, MASTERS, SERVICE_ACCOUNT, Access, Decision
from .call import User
from .rbac import RBAC
from .rbac_rules import Rule, compile_rules

ROLES, CLUSTER_ROLES = f"roles.{RBAC}", f"clusterroles.{RBAC}"
ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS = f"rolebindings.{RBAC}", f"clusterrolebindings.{RBAC}"
_KINDS = (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)
_REMEMBERED = 8192
_Subject = tuple[str, str]
_OF_MASTERS = Decision(True, "the group system:masters may do everything")

_log = logging.getLogger("kastra.apiserver")


class Grant(NamedTuple):
    """What one binding gives.

    Args:
        namespace: to which it is limited; empty for everywhere.
        source: the binding and the role, for the reason of a decision.
    """

    namespace: str
    rules: Sequence[Rule]
    source: str


class RBACAuthorizer:
    """Decides by what `storage` holds."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._seen: list[Sequence[Entry]] = []
        self._seen_at = -1
        self._grants: dict[_Subject, list[Grant]] = {}
        self._answers: dict[tuple[str, tuple[str, ...], Access], Decision] = {}
        # Those that hold whatever the object's name is, so that each of thousands isn't decided anew.
        self._nameless: dict[tuple[str, tuple[str, ...], tuple[str, ...], str], Decision] = {}

    def authorize(self, user: User, access: Access) -> Decision:
        """Whether some binding of the user, or of a group of theirs, allows it."""
        if MASTERS in user.groups:
            return _OF_MASTERS
        if self._storage.revision != self._seen_at:
            self._refresh()
        # All of the access but its name.
        any_name = (user.name, user.groups, access[:5], access.path)
        known = self._nameless.get(any_name)
        if known is not None:
            return known
        question = (user.name, user.groups, access)
        known = self._answers.get(question)
        if known is None:
            known, nameless = self._decide(user, access)
            if len(self._answers) + len(self._nameless) >= _REMEMBERED:
                self._answers.clear()
                self._nameless.clear()
            if nameless:
                self._nameless[any_name] = known
            else:
                self._answers[question] = known
        return known

    def rules_for(self, user: User, namespace: str) -> Sequence[Mapping[str, Any]]:
        """The rules of `held` as PolicyRules, each once."""
        return [rule.plain() for rule in dict.fromkeys(self.held(user, namespace))]

    def held(self, user: User, namespace: str) -> list[Rule]:
        """Every rule that holds for the user in a namespace; only those of cluster scope for an empty one."""
        self._refresh()
        found = [rule for grant in self._of(user, namespace) for rule in grant.rules]
        if MASTERS in user.groups:
            found = [*compile_rules(EVERYTHING), *found]
        return found

    def rules_of_role(self, kind: str, namespace: str, name: str) -> list[Rule] | None:
        """The rules of a Role or ClusterRole; None if there is none."""
        key = Key(ROLES, namespace, name) if kind == "Role" else Key(CLUSTER_ROLES, "", name)
        entry = self._storage.get(key)
        return None if entry is None else compile_rules(orjson.loads(entry.body).get("rules") or ())

    def _decide(self, user: User, access: Access) -> tuple[Decision, bool]:
        """The answer, and whether it is the same for every name."""
        for grant in self._of(user, access.namespace):
            for rule in grant.rules:
                if rule.allows(access):
                    return Decision(True, f"RBAC: allowed by {grant.source}"), not rule.names
        return Decision(False), False

    def _of(self, user: User, namespace: str) -> Iterator[Grant]:
        for subject in (("User", user.name), *(("Group", group) for group in user.groups)):
            for grant in self._grants.get(subject, ()):
                if not grant.namespace or grant.namespace == namespace:
                    yield grant

    def _refresh(self) -> None:
        """Compile anew if anything changed: an unchanged list of the store is the same object."""
        revision = self._storage.revision
        if revision == self._seen_at:
            return
        present = [self._storage.list(kind).entries for kind in _KINDS]
        if self._seen and all(map(is_, present, self._seen)):
            self._seen_at = revision
            return
        roles = {entry.key: entry for entries in present[:2] for entry in entries}
        compiled: dict[Key, Sequence[Rule]] = {}
        grants: dict[_Subject, list[Grant]] = {}
        for entry in (*present[2], *present[3]):
            binding = orjson.loads(entry.body)
            key = _role_key(binding.get("roleRef") or {}, entry.key.namespace)
            role = roles.get(key)
            if role is None:
                continue
            if key not in compiled:
                compiled[key] = compile_rules(orjson.loads(role.body).get("rules") or ())
            grant = Grant(entry.key.namespace, compiled[key], _source(entry, key))
            for subject in binding.get("subjects") or ():
                grants.setdefault(_subject(subject), []).append(grant)
        # Only now: were one of them unreadable, what they grant would be asked again, and not taken from before the change.
        self._grants, self._seen, self._seen_at = grants, present, revision
        self._answers.clear()
        self._nameless.clear()
        _log.debug("access rules compiled", extra={"bindings": len(present[2]) + len(present[3])})


def _role_key(ref: Mapping[str, Any], namespace: str) -> Key:
    name = str(ref.get("name", ""))
    return Key(ROLES, namespace, name) if ref.get("kind") == "Role" else Key(CLUSTER_ROLES, "", name)


def _source(binding: Entry, role: Key) -> str:
    kind = "RoleBinding" if binding.key.namespace else "ClusterRoleBinding"
    place = f"{binding.key.namespace}/{binding.key.name}" if binding.key.namespace else binding.key.name
    return f'{kind} "{place}" of {"Role" if role.namespace else "ClusterRole"} "{role.name}"'


def _subject(subject: Mapping[str, Any]) -> _Subject:
    kind, name = str(subject.get("kind", "")), str(subject.get("name", ""))
    if kind == "ServiceAccount":
        return "User", f"{SERVICE_ACCOUNT}{subject.get('namespace', '')}:{name}"
    return kind, name
