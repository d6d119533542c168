"""A kind's validator is asked once for what it has found valid, and always for everything else."""

from collections.abc import Mapping, Sequence
from typing import Any

import kastra
from kastra.api.errors import INVALID, Cause
from kastra.app.validation import Remembered
from kastra.runtime.manager import RECONCILE_TOPIC


class Counting:
    """Refuses `spec: {size: 0}` and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, obj: Mapping[str, Any]) -> Sequence[Cause]:
        self.asked += 1
        return [Cause(INVALID, "too small", "spec.size")] if obj["spec"]["size"] == 0 else []


def obj(size: int = 1, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "K", "metadata": {"name": "a", **metadata}, "spec": {"size": size}}


def test_what_was_valid_is_valid_whatever_the_server_has_added() -> None:
    check = Counting()
    remembered = Remembered(check)
    assert remembered(obj()) == []
    served = obj(uid="u", resourceVersion="5", creationTimestamp="t") | {"status": {"phase": "x"}}
    assert not remembered(served)
    assert check.asked == 1


def test_whatever_the_author_changes_is_looked_at() -> None:
    check = Counting()
    remembered = Remembered(check)
    variants = [obj(), obj(2), obj(namespace="n"), obj(labels={"a": "b"}), obj(annotations={"a": "b"}), obj(name="b")]
    for variant in variants * 2:
        assert not remembered(variant)
    assert check.asked == len(variants)


def test_what_was_refused_is_refused_again() -> None:
    check = Counting()
    remembered = Remembered(check)
    for _ in range(2):
        assert [cause.field for cause in remembered(obj(0))] == ["spec.size"]
    assert check.asked == 2


async def test_objects_applied_together_are_looked_at_once_each(tmp_path) -> None:
    """What is referred to is Ready when that which refers to it arrives."""
    documents = [
        f"apiVersion: mastra.ai/v1\nkind: Tool\nmetadata: {{name: t{n}}}\nspec: {{http: {{url: 'https://x.test/{n}'}}}}\n"
        for n in range(30)
    ]
    documents += [
        f"apiVersion: mastra.ai/v1\nkind: Agent\nmetadata: {{name: a{n}}}\n"
        f"spec: {{instructions: x, tools: [t{n}], model: {{provider: scripted, parameters: {{rules: [{{reply: x}}]}}}}}}\n"
        for n in range(30)
    ]
    (tmp_path / "all.yaml").write_text("---\n".join(documents))
    async with kastra.open(":memory:", execute=False) as k, k.bus.subscribe(RECONCILE_TOPIC) as outcomes:
        report = await k.apply(tmp_path)
        await k.settle()
        assert report.ok
        looked = [(event["kind"], event["name"]) for _, event in await outcomes.batch()]
    objects = [one for one in looked if one[0] in ("Tool.mastra.ai", "Agent.mastra.ai")]
    assert len(set(objects)) == 60
    assert len(objects) == 60
