"""F20: patterns are RE2's and rules have a cost. What could run away is refused with its place when the kind is created."""

import copy
import time
from typing import Any

import pytest

from kastra.api.errors import Invalid
from kastra.api.meta import ObjectRef
from tests.contract.client import WIDGETS, widget

SPEC = "spec.versions[0].schema.openAPIV3Schema.properties[spec]"
BUSY = 10
"""How much slower than the machine of the criterion, and how busy, the one that runs this may be."""


def defined(**properties: Any) -> dict[str, Any]:
    """The kind Gauge, with these fields."""
    made = copy.deepcopy(WIDGETS)
    made["metadata"]["name"] = "gauges.example.com"
    made["spec"]["names"] = {"plural": "gauges", "kind": "Gauge"}
    version = made["spec"]["versions"][0]
    del version["selectableFields"]
    version["schema"]["openAPIV3Schema"]["properties"]["spec"] = {"type": "object", "properties": properties}
    return made


def gauge(**spec: Any) -> dict[str, Any]:
    return {**widget("g", **spec), "kind": "Gauge"}


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?=a)b",
        r"(?!a)b",
        r"(?<=a)b",
        r"(?<!a)b",
        r"(a)\1",
        r"(?P<x>a)(?P=x)",
        r"(?>a+)b",
        r"a++b",
        "(",
        "[z-a]",
        "a{1001}",
    ],
)
async def test_what_re2_does_not_have_is_refused_with_its_place(client, pattern: str) -> None:
    with pytest.raises(Invalid) as refused:
        await client.create(defined(a={"type": "string", "pattern": pattern}))
    assert {cause.field for cause in refused.value.causes} == {f"{SPEC}.properties[a].pattern"}
    assert [resource for resource in client.scheme if resource.kind == "Gauge"] == []


EVIL = ["^(a+)+$", "^(a|aa)+$", "(.*)*,(.*)*,(.*)*", "(x+x+)+y", r"^([a-zA-Z0-9])(([.-]|[_]+)?([a-zA-Z0-9]+))*(@){1}$"]


@pytest.mark.parametrize("pattern", EVIL)
async def test_an_evil_pattern_is_judged_in_linear_time(client, pattern: str) -> None:
    await client.create(defined(a={"type": "string", "pattern": pattern}))
    started = time.thread_time()
    with pytest.raises(Invalid) as refused:
        await client.create(gauge(a="a" * 200_000 + "!"))
    assert time.thread_time() - started < 0.1 * BUSY
    assert len(str(refused.value)) < 5_000, "the value isn't repeated in full"


@pytest.mark.parametrize("pattern", EVIL)
async def test_an_evil_pattern_in_a_rule_is_judged_in_linear_time(client, pattern: str) -> None:
    rule = {"rule": f"self.matches({pattern!r})", "message": "no match"}
    await client.create(defined(a={"type": "string", "maxLength": 10_000, "x-kubernetes-validations": [rule]}))
    started = time.thread_time()
    with pytest.raises(Invalid, match="no match"):
        await client.create(gauge(a="a" * 9_999 + "!"))
    assert time.thread_time() - started < 0.1 * BUSY


NUMBERS = {"type": "array", "items": {"type": "integer"}}
TEXTS = {"type": "array", "items": {"type": "string"}}


@pytest.mark.parametrize(
    ("node", "rule"),
    [
        (NUMBERS, "self.all(x, self.all(y, self.all(z, x + y + z > 0)))"),
        (NUMBERS, "self.map(x, self.map(y, self.map(z, 1))).size() > 0"),
        (TEXTS, "self.all(x, self.all(y, x.contains(y)))"),
        (TEXTS, "self.exists(x, self.exists(y, x.matches(y)))"),
        ({"type": "string"}, "self.replace('a', self).replace('a', self).size() > 0"),
        ({"type": "object", "additionalProperties": NUMBERS}, "self.all(k, self[k].all(x, self.all(l, l != k)))"),
    ],
)
async def test_a_rule_that_nothing_bounds_is_refused_with_its_place(client, node: dict[str, Any], rule: str) -> None:
    with pytest.raises(Invalid) as refused:
        await client.create(defined(a={**node, "x-kubernetes-validations": [{"rule": rule}]}))
    fields = {cause.field for cause in refused.value.causes}
    assert fields <= {
        f"{SPEC}.properties[a].x-kubernetes-validations[0].rule",
        "spec.versions[0].schema.openAPIV3Schema",
    }
    assert fields


async def test_many_items_are_refused_or_judged_at_once(client) -> None:
    """The estimate allows for a loop over a list; the run-time limit holds when the list is longer than anyone thought."""
    rule = {"rule": "self.all(x, x >= 0 && x < 1000000)"}
    await client.create(defined(a={**NUMBERS, "maxItems": 1_000, "x-kubernetes-validations": [rule]}))
    assert await client.create(gauge(a=list(range(1_000))))
    await client.delete(ObjectRef("gauges", "g", "default"))
    started = time.thread_time()
    with pytest.raises(Invalid):
        await client.create(gauge(a=list(range(100_000))))
    assert time.thread_time() - started < 0.1 * BUSY
