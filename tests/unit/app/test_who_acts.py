"""Controllers and Runs act as themselves, never with the rights of whoever asked for them."""

from pathlib import Path

import anyio
import pytest

from kastra.api.errors import Forbidden
from kastra.api.meta import ObjectRef
from kastra.apiserver.admission import Attributes
from kastra.apiserver.authorization import Access, service_account
from kastra.apiserver.call import User
from kastra.apiserver.loopback import LoopbackClient
from kastra.apiserver.rbac_authorizer import RBACAuthorizer
from kastra.apiserver.rbac_defaults import ensure_default_roles
from kastra.app.composition import Composition, compose
from kastra.client.interface import WriteOptions
from kastra.config import Settings

WORKFLOW = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Workflow",
    "metadata": {"name": "greet"},
    "spec": {
        "steps": [{"id": "hello", "set": {"text": "hello"}}],
        "output": {"said": "${{ steps.hello.output.text }}"},
    },
}
RUN = {
    "apiVersion": "mastra.ai/v1",
    "kind": "Run",
    "metadata": {"name": "once"},
    "spec": {"target": {"kind": "Workflow", "name": "greet"}},
}
CONTROLLERS = "system:serviceaccount:kube-system:controllers"
RUNS = "system:serviceaccount:kube-system:runs"


async def finished(parts: Composition, name: str) -> dict[str, object]:
    with anyio.fail_after(20):
        async with parts.client.watch("runs", "default") as events:
            async for event in events:
                status = event.object.data.get("status") or {}
                if event.object.name == name and status.get("phase") in {"Succeeded", "Failed"}:
                    return dict(status)
    raise AssertionError("the watch ended")


@pytest.fixture
async def parts(tmp_path: Path):
    async with compose(Settings(project=tmp_path, data=tmp_path / ".kastra"), path=":memory:") as parts:
        yield parts


async def test_each_part_writes_under_its_own_name(parts: Composition) -> None:
    wrote: set[tuple[str, str, str]] = set()

    async def note(attributes: Attributes) -> None:
        wrote.add((attributes.user.name, attributes.resource.kind, attributes.subresource))

    parts.api.registry.admission.validating.append(note)
    user = LoopbackClient(parts.api.registry, user=User("ada", ("system:masters",)))
    await user.create(WORKFLOW)
    await user.create(RUN)
    assert (await finished(parts, "once"))["phase"] == "Succeeded"
    assert {entry for entry in wrote if entry[0] == "ada"} == {("ada", "Workflow", ""), ("ada", "Run", "")}
    assert (CONTROLLERS, "Workflow", "status") in wrote
    assert {name for name, _, _ in wrote} <= {"ada", CONTROLLERS, RUNS}


async def test_their_default_roles_are_enough(parts: Composition) -> None:
    registry = parts.api.registry
    await ensure_default_roles(registry)
    registry.authorizer = RBACAuthorizer(registry.storage)
    await parts.client.create(WORKFLOW)
    await parts.client.create(RUN)
    assert (await finished(parts, "once"))["phase"] == "Succeeded"


@pytest.mark.parametrize("account", ["controllers", "runs"])
async def test_they_can_not_give_rights_away(parts: Composition, account: str) -> None:
    registry = parts.api.registry
    await ensure_default_roles(registry)
    registry.authorizer = authorizer = RBACAuthorizer(registry.storage)
    client = LoopbackClient(registry, user=service_account("kube-system", account))
    if account == "runs":
        with pytest.raises(Forbidden):
            await client.create(WORKFLOW, WriteOptions(dry_run=True))
        with pytest.raises(Forbidden):
            await client.get(ObjectRef("ClusterRole", "admin"))
    for verb in ("impersonate", "bind"):
        assert not authorizer.authorize(service_account("kube-system", account), Access(verb, "", "users")).allowed


async def test_a_client_in_process_is_refused_what_its_user_may_not_do(parts: Composition) -> None:
    registry = parts.api.registry
    await ensure_default_roles(registry)
    registry.authorizer = RBACAuthorizer(registry.storage)
    nobody = LoopbackClient(registry, user=User("nobody"))
    ref = ObjectRef("Workflow", "greet", "default")
    for call in (
        lambda: nobody.get(ref),
        lambda: nobody.list("workflows"),
        lambda: nobody.create(WORKFLOW),
        lambda: nobody.update(WORKFLOW),
        lambda: nobody.apply(WORKFLOW, WriteOptions(field_manager="me")),
        lambda: nobody.patch(ref, {}),
        lambda: nobody.delete(ref),
        lambda: nobody.delete_collection("workflows", "default"),
        lambda: nobody.watch("workflows").__aenter__(),
        lambda: anext(nobody.connect(ObjectRef("Run", "once", "default"), "steps")),
    ):
        with pytest.raises(Forbidden, match='User "nobody" cannot '):
            await call()
