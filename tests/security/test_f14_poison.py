"""F14: one bad manifest among a hundred. Nothing is sent, the place is named; `keep_going` sends the other ninety-nine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import kastra
from kastra.app import Kastra

GOOD = 99

CRD = """apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ranges.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: ranges, kind: Range}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {low: {type: integer}, high: {type: integer}}
            x-kubernetes-validations:
            - {rule: self.low <= self.high, message: low must not exceed high}
"""

HEAD = "apiVersion: mastra.ai/v1\nkind: {kind}\nmetadata:\n  name: poison\nspec:\n"

# The manifest, where the error must stand, its field, and what it says.
POISON = {
    "an unknown field": (
        HEAD.format(kind="Agent") + "  instructions: x\n  toolz: [a]\n", "7:3", "spec.toolz", 'unknown field "spec.toolz"'
    ),
    "a wrong type": (
        HEAD.format(kind="Agent") + "  instructions: x\n  maxSteps: many\n", "7:3", "spec.maxSteps", "integer"
    ),
    "a value out of range": (
        HEAD.format(kind="Agent") + "  instructions: x\n  maxSteps: 0\n", "7:3", "spec.maxSteps", "greater than or equal to 1"
    ),
    "a malformed reference": (
        HEAD.format(kind="Agent") + "  instructions: x\n  tools:\n  - toolRef: {namespace: other}\n",
        "8:5", "spec.tools[0].name", "Required value",
    ),
    "a rule of CEL": (
        "apiVersion: example.com/v1\nkind: Range\nmetadata: {name: poison}\nspec:\n  low: 5\n  high: 3\n",
        "4:1", "spec", "low must not exceed high",
    ),
    "an unknown kind": ("apiVersion: mastra.ai/v1\nkind: Agnet\nmetadata: {name: poison}\n", "2:1", "kind", '"Agnet"'),
    "an unknown version": ("apiVersion: mastra.ai/v9\nkind: Agent\nmetadata: {name: poison}\n", "1:1", "apiVersion", "v9"),
    "no name": ("apiVersion: mastra.ai/v1\nkind: Agent\nmetadata: {}\n", "3:1", "metadata.name", "Required value"),
    "an impossible name": (
        "apiVersion: mastra.ai/v1\nkind: Agent\nmetadata:\n  name: No Spaces\nspec: {instructions: x}\n",
        "4:3", "metadata.name", "RFC 1123",
    ),
    "a label that is none": (
        "apiVersion: mastra.ai/v1\nkind: Agent\nmetadata: {name: x, labels: {a: 1}}\nspec: {instructions: x}\n",
        "3:30", "metadata.labels.a", "must be a string",
    ),
    "a label key that is none": (
        "apiVersion: mastra.ai/v1\nkind: Agent\nmetadata: {name: x, labels: {a b: c}}\nspec: {instructions: x}\n",
        "3:21", "metadata.labels", "name part must consist of",
    ),
    "finalizers that are no list": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, finalizers: a}\n",
        "3:21", "metadata.finalizers", "must be a list",
    ),
    "an owner without a uid": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  ownerReferences: [{kind: A, name: b, apiVersion: v1}]\n",
        "5:21", "metadata.ownerReferences[0].uid", "uid must not be empty",
    ),
    "a workflow step that leads nowhere": (
        HEAD.format(kind="Workflow") + "  initialStep: a\n  steps:\n  - {id: a, tool: t, next: nowhere}\n",
        "8:22", "spec.steps[0].next", "nowhere",
    ),
    "a template that does not parse": (
        HEAD.format(kind="Tool") + "  http:\n    url: https://x.test/${{ input. }}\n", "7:5", "spec.http.url", ""
    ),
    "text that is no YAML": ("apiVersion: [\n", "2:1", "", ""),
    "a key twice": ("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  name: y\n", "5:3", "metadata.name", "twice"),
    "no mapping": ("- 1\n", "1:1", "", "must be a mapping"),
    "bytes that are no text": ("\udcff\n", "1:1", "", "not UTF-8"),
}  # fmt: skip


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "crd.yaml").write_text(CRD)
    for number in range(GOOD - 1):
        body = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: good-{number}}}\ndata: {{k: v}}\n"
        (folder / f"good-{number:02}.yaml").write_text(body)
    return folder


@pytest.fixture
async def k() -> AsyncIterator[Kastra]:
    async with kastra.open(":memory:", reconcile=False) as opened:
        yield opened


async def sent(k: Kastra) -> int:
    found = (await k.client.list("configmaps")).items
    return len(found) + sum(obj.name == "ranges.example.com" for obj in (await k.client.list("crd")).items)


async def test_every_poison_is_named_by_its_place_and_keeps_everything_back(k: Kastra, manifests: Path) -> None:
    for name, (text, place, field, says) in POISON.items():
        (manifests / "poison.yaml").write_bytes(text.encode(errors="surrogateescape"))
        report = await k.apply(manifests)
        try:
            assert not report.ok
            assert report.applied == []
            errors = [problem for problem in report.problems if problem.severity == "error"]
            assert str(errors[0]).startswith(f"{manifests}/poison.yaml:{place}")
            assert errors[0].field == field
            assert says in errors[0].message
            assert await sent(k) == 0
        except AssertionError as error:
            error.add_note(f"{name}: {[str(problem) for problem in report.problems]}")
            raise


async def test_the_others_are_sent_when_asked_to_keep_going(manifests: Path) -> None:
    async with kastra.open(":memory:", reconcile=False) as k:
        for name, (text, *_) in POISON.items():
            (manifests / f"poison-{name.replace(' ', '-')}.yaml").write_bytes(text.encode(errors="surrogateescape"))
        report = await k.apply(manifests, keep_going=True)
        assert not report.ok
        assert len({problem.file for problem in report.problems}) == len(POISON)
        assert len(report.applied) == await sent(k) == GOOD
        assert {applied.verb for applied in report.applied} == {"created"}


async def test_what_only_the_server_can_know_concerns_its_object_alone(k: Kastra, manifests: Path) -> None:
    first = await k.apply(manifests)
    assert first.ok
    (manifests / "good-00.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good-0}\ndata: {k: mine}\n"
    )
    report = await k.apply(manifests, field_manager="another")
    [error] = [problem for problem in report.problems if problem.severity == "error"]
    assert f"{manifests}/good-00.yaml:3:" in str(error)
    assert "conflict" in error.message
    assert len(report.applied) == GOOD - 1
