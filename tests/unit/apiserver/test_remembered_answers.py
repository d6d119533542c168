"""What is remembered of answers never answers another question."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kastra.api.meta import ObjectRef
from kastra.apiserver.authorization import Access
from kastra.apiserver.bootstrap import start
from kastra.apiserver.call import User
from kastra.apiserver.loopback import LoopbackClient
from kastra.apiserver.rbac_authorizer import RBACAuthorizer
from kastra.store.interface import Draft, Key
from kastra.store.objects import open_store
from kastra.testing.clock import VirtualClock

ADA = User("ada", ())
RBAC = "rbac.authorization.k8s.io"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[tuple[LoopbackClient, RBACAuthorizer]]:
    clock = VirtualClock()
    async with await open_store(tmp_path / "kastra.db", clock=clock) as store:
        yield LoopbackClient((await start(store, clock)).registry), RBACAuthorizer(store)


async def grant(client: LoopbackClient, name: str, *names: str, verb: str = "get") -> None:
    rule = {
        "verbs": [verb],
        "apiGroups": [""],
        "resources": ["configmaps"],
        **({"resourceNames": names} if names else {}),
    }
    head = {"apiVersion": f"{RBAC}/v1", "metadata": {"name": name}}
    await client.create({**head, "kind": "ClusterRole", "rules": [rule]})
    subject = {"kind": "User", "name": "ada", "apiGroup": RBAC}
    role = {"kind": "ClusterRole", "name": name, "apiGroup": RBAC}
    await client.create({**head, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]})


def access(name: str, verb: str = "get") -> Access:
    return Access(verb, "", "configmaps", namespace="default", name=name)


async def test_a_right_to_one_name_is_none_to_another_whichever_is_asked_first(
    parts: tuple[LoopbackClient, RBACAuthorizer],
) -> None:
    client, authorizer = parts
    await grant(client, "one", "mine")
    asked = [authorizer.authorize(ADA, access(name)).allowed for name in ("mine", "theirs", "", "mine", "theirs")]
    assert asked == [True, False, False, True, False]


async def test_a_right_to_all_names_ends_with_its_role(parts: tuple[LoopbackClient, RBACAuthorizer]) -> None:
    client, authorizer = parts
    await grant(client, "one", "mine")
    await grant(client, "all")
    assert all(authorizer.authorize(ADA, access(name)).allowed for name in ("theirs", "mine", "another"))
    assert not authorizer.authorize(ADA, access("theirs", "delete")).allowed
    await client.delete(ObjectRef(f"clusterrolebindings.{RBAC}", "all"))
    asked = [authorizer.authorize(ADA, access(name)).allowed for name in ("theirs", "mine", "another")]
    assert asked == [False, True, False]


async def test_while_a_binding_cannot_be_read_nothing_is_granted_as_before_it(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with await open_store(tmp_path / "kastra.db", clock=clock) as store:
        client, authorizer = LoopbackClient((await start(store, clock)).registry), RBACAuthorizer(store)
        await grant(client, "all")
        assert authorizer.authorize(ADA, access("mine")).allowed
        await client.delete(ObjectRef(f"clusterrolebindings.{RBAC}", "all"))
        body = b'{"metadata":{"name":"broken"},"roleRef":{"kind":"ClusterRole","name":"all"},"subjects":[1]}'
        await store.create(Key(f"clusterrolebindings.{RBAC}", "", "broken"), Draft(body, "uid-of-broken"))
        for _ in range(2):
            with pytest.raises(AttributeError):
                authorizer.authorize(ADA, access("mine"))
