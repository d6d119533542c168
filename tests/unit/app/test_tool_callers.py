"""Who asks an agent directly gets nothing done by its tools that he may not do himself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kastra.api.meta import ObjectRef
from kastra.apiserver.call import User
from kastra.apiserver.loopback import LoopbackClient
from kastra.apiserver.rbac_authorizer import RBACAuthorizer
from kastra.apiserver.rbac_defaults import ensure_default_roles
from kastra.app.composition import compose
from kastra.config import Settings

RBAC = "rbac.authorization.k8s.io"
CALLS = (
    ("workflow_run", {"workflow": "work"}),
    ("event_emit", {"type": "x"}),
    ("workflow_list", {}),
)
RULES = [
    *(
        {"when": f"size(results) == {n}", "call": {"tool": tool, "arguments": arguments}}
        for n, (tool, arguments) in enumerate(CALLS)
    ),
    {"object": {"results": "${{ results }}"}},
]
AGENT = {
    "model": {"provider": "scripted", "parameters": {"rules": RULES}},
    "outputSchema": {"type": "object"},
    "tools": [
        {"builtin": {"name": "workflow", "workflows": ["work"]}},
        {"builtin": {"name": "event.emit", "types": ["*"]}},
    ],
}


def manifest(kind: str, name: str, group: str = "mastra.ai", **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, **fields}


async def test_tools_of_a_direct_call_act_with_the_rights_of_who_asks(tmp_path: Path) -> None:
    async with compose(Settings(project=tmp_path, data=tmp_path / ".kastra"), path=":memory:") as parts:
        registry = parts.api.registry
        await ensure_default_roles(registry)
        registry.authorizer = RBACAuthorizer(registry.storage)
        await parts.client.create(manifest("Workflow", "work", spec={"steps": [{"id": "a", "set": {"done": True}}]}))
        await parts.client.create(manifest("Agent", "a", spec=AGENT))
        rule = {"apiGroups": ["mastra.ai"], "resources": ["agents/generate"], "verbs": ["create"]}
        await parts.client.create(manifest("Role", "asker", RBAC, rules=[rule]))
        for name, role in (
            ("eve", {"kind": "Role", "name": "asker"}),
            ("rob", {"kind": "ClusterRole", "name": "runner"}),
        ):
            subject = {"kind": "User", "name": name, "apiGroup": RBAC}
            await parts.client.create(
                manifest("RoleBinding", name, RBAC, roleRef={"apiGroup": RBAC, **role}, subjects=[subject])
            )
        assert parts.manager is not None
        await parts.manager.settle()

        async def ask(name: str) -> list[Mapping[str, Any]]:
            client = LoopbackClient(registry, user=User(name, ("system:authenticated",)))
            ref = ObjectRef("agents", "a", "default")
            (answer,) = [record async for record in client.connect(ref, "generate", {"input": "go"})]
            found: list[Mapping[str, Any]] = answer["object"]["results"]
            return found

        assert [told["error"]["type"] for told in await ask("eve")] == ["authorization"] * 3
        assert (await parts.client.list("runs")).items == []
        ran, emitted, listed = await ask("rob")
        assert (ran["phase"], emitted["type"]) == ("Succeeded", "x")
        assert [entry["name"] for entry in listed["workflows"]] == ["work"]
