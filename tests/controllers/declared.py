"""A custom kind, Reconcilers for it, and workflows that they run, for the tests of controllers without code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from kastra.api.object import Object
from kastra.config import Settings
from kastra.testing import ControlPlane

CONDITIONS: Mapping[str, Any] = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {"type": "object", "required": ["type", "status"], "x-kubernetes-preserve-unknown-fields": True,
              "properties": {"type": {"type": "string"}, "status": {"type": "string"}}},
}  # fmt: skip
STATUS: Mapping[str, Any] = {
    "type": "object",
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {"observedGeneration": {"type": "integer"}, "conditions": CONDITIONS},
}


def definition(
    kind: str = "Page", *, scope: str = "Namespaced", status: bool = True, versions: Sequence[str] = ("v1",)
) -> dict[str, Any]:
    """A CustomResourceDefinition in example.com; the last version is the stored one."""
    plural = f"{kind.lower()}s"
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}, "status": STATUS},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": name,
                    "served": True,
                    "storage": name == versions[-1],
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}} if status else {},
                }
                for name in versions
            ],
        },
    }


def page(name: str = "home", namespace: str = "default", kind: str = "Page", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "example.com/v1", "kind": kind, "metadata": metadata, "spec": spec}


def reconciler(name: str = "pages", kind: str = "Page", version: str = "v1", **spec: Any) -> dict[str, Any]:
    subject = {"apiVersion": f"example.com/{version}", "kind": kind}
    return {
        "apiVersion": "mastra.ai/v1",
        "kind": "Reconciler",
        "metadata": {"name": name},
        "spec": {"for": subject, **spec},
    }


def publish(folder: Path, name: str = "publish") -> list[dict[str, Any]]:
    """A workflow that appends its title to a file, and fails while a file `broken` is there."""
    code = (
        "def publish(title: str) -> dict:\n"
        "    from pathlib import Path\n"
        f"    folder = Path({str(folder)!r})\n"
        f"    with (folder / '{name}.txt').open('a') as file:\n"
        "        file.write(title + '\\n')\n"
        "    if (folder / 'broken').exists():\n"
        "        raise ValueError('the site is down')\n"
        "    return {'url': 'https://example.com/' + title, 'ok': title != 'draft'}\n"
    )
    tool = {
        "apiVersion": "mastra.ai/v1",
        "kind": "Tool",
        "metadata": {"name": name},
        "spec": {"description": "Publishes.", "python": {"inline": code}, "retry": 0},
    }
    workflow = {
        "apiVersion": "mastra.ai/v1",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": {
            "steps": [{"id": "do", "tool": name, "retry": 0, "input": {"with": {"title": "${{ input.title }}"}}}],
            "output": {"as": "${{ steps.do.output }}"},
        },
    }
    return [tool, workflow]


def published(folder: Path, name: str = "publish") -> list[str]:
    """The titles that the workflow was run with."""
    file = folder / f"{name}.txt"
    return file.read_text().split() if file.exists() else []


async def finish_runs(env: ControlPlane) -> None:
    """Settle until no Run is under way. Python tools work in real time, in threads."""
    with anyio.fail_after(10):
        while True:
            await env.settle()
            runs = (await env.client.list("runs")).items
            if all(run.is_condition_true("Complete") for run in runs):
                await env.settle()
                again = (await env.client.list("runs")).items
                if all(run.is_condition_true("Complete") for run in again):
                    return
            await anyio.sleep(0.01)


async def until_runs_are(env: ControlPlane, *phases: str) -> None:
    """Settle until the Runs, in the order of their creation, are in these phases. The pool works beside the controllers."""
    with anyio.fail_after(10):
        while await runs_of(env) != list(phases):
            await anyio.sleep(0.01)
            await env.settle()
    await env.settle()


async def runs_of(env: ControlPlane, obj: Object | None = None) -> list[str]:
    """Phases of the Runs in the order of creation."""
    runs = (await env.client.list("runs")).items
    if obj is not None:
        runs = [run for run in runs if any(owner["uid"] == obj.uid for owner in run.owner_references)]
    return [
        run.status.get("phase", "")
        for run in sorted(runs, key=lambda run: int(run.labels.get("mastra.ai/reconciliation-number", "0")))
    ]


def plane(folder: Path, *, execute: bool = True) -> ControlPlane:
    """A control plane whose project is `folder`."""
    return ControlPlane(settings=Settings(project=folder, controllers=()), execute=execute)
