"""References resolve by the grammar, in its order, and what doesn't resolve says what is missing."""

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import pytest

from kastra.api.object import Object
from kastra.api.types import Reference
from kastra.runtime.cache import Cache
from kastra.runtime.references import MEMBER_LABEL, Missing, Resolver
from kastra.testing.clock import VirtualClock

from .memory import KINDS, MemoryClient, manifest, resource

AGENT = manifest("Agent", "asker", "cooking")


async def outcome(
    reference: Reference,
    objects: Sequence[Mapping[str, Any]],
    referrer: Mapping[str, Any] = AGENT,
    cached: bool = False,
    extra_kinds: Sequence[Any] = (),
) -> Object | Missing:
    client, clock = MemoryClient([*KINDS, *extra_kinds]), VirtualClock()
    for body in objects:
        await client.create(body)
    if not cached:
        return await Resolver(client).resolve(reference, Object.of(referrer))
    cache = Cache(client, clock)
    cache.informer("Tool")
    async with anyio.create_task_group() as tasks:
        cache.start(tasks)
        await cache.wait_synced()
        found = await Resolver(client, cache).resolve(reference, Object.of(referrer))
        tasks.cancel_scope.cancel()
    return found


def place(found: Object | Missing) -> str:
    assert isinstance(found, Object), found
    return f"{found.kind} {found.namespace}/{found.name}"


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("name", "namespace", "expected"),
    [
        ("x", "", "Tool cooking/x"),
        ("x", "home", "Tool home/x"),
        ("home/x", "", "Tool home/x"),
        ("home.x", "", "Tool home/x"),
        ("home.x.y", "", "Tool home/x.y"),
        ("agents/helper", "", "Agent cooking/helper"),
        ("dotted.name", "", "Tool cooking/dotted.name"),
    ],
)
async def test_each_written_form_means_what_the_grammar_says(
    name: str, namespace: str, expected: str, cached: bool
) -> None:
    objects = [
        manifest("Tool", "x", "cooking"),
        manifest("Tool", "x", "home"),
        manifest("Tool", "x.y", "home"),
        manifest("Tool", "dotted.name", "cooking"),
        manifest("Tool", "name", "dotted"),
        manifest("Agent", "helper", "cooking"),
    ]
    assert place(await outcome(Reference("spec.tool", "Tool", name, namespace), objects, cached=cached)) == expected


async def test_a_known_plural_before_the_slash_is_a_kind_even_if_a_namespace_is_called_so() -> None:
    objects = [manifest("Tool", "x", "agents"), manifest("Agent", "x", "cooking")]
    assert place(await outcome(Reference("spec.tool", "Tool", "agents/x"), objects)) == "Agent cooking/x"


@pytest.mark.parametrize("cached", [False, True])
async def test_inside_a_system_a_sibling_comes_first(cached: bool) -> None:
    system = {"apiVersion": "mastra.ai/v1", "kind": "System", "name": "kitchen", "uid": "u-kitchen"}
    child = manifest("Agent", "asker", "cooking", ownerReferences=[system])
    sibling = manifest("Tool", "kitchen-x", "cooking", ownerReferences=[system], labels={MEMBER_LABEL: "x"})
    objects = [manifest("Tool", "x", "cooking"), sibling]
    reference = Reference("spec.tool", "Tool", "x")
    assert place(await outcome(reference, objects, child, cached)) == "Tool cooking/kitchen-x"
    assert place(await outcome(reference, objects, AGENT, cached)) == "Tool cooking/x"
    assert place(await outcome(reference, objects[:1], child, cached)) == "Tool cooking/x"


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (Reference("spec.tools[0]", "Tool", "x"), 'spec.tools[0]: no Tool "x" in namespace "cooking"'),
        (Reference("spec.tools[0]", "Tool", "x", "home"), 'spec.tools[0]: no Tool "x" in namespace "home"'),
        (
            Reference("spec.t", "Tool", "home.x"),
            'spec.t: no Tool "home.x" in namespace "cooking" and no Tool "x" in namespace "home"',
        ),
        (Reference("spec.t", "Tool", "agents/x"), 'spec.t: no Agent "x" in namespace "cooking"'),
        (
            Reference("spec.t", "Tool", "a/b/c"),
            'spec.t: "a/b/c" is no reference; write name, namespace/name or plural/name',
        ),
    ],
)
async def test_what_is_missing_is_named_with_the_place_where_it_was_looked_for(
    reference: Reference, message: str, cached: bool
) -> None:
    found = await outcome(reference, [], cached=cached)
    assert isinstance(found, Missing)
    assert (found.reason, found.message) == ("NotFound", message)


async def test_a_near_miss_is_suggested() -> None:
    found = await outcome(
        Reference("spec.t", "Tool", "recipe-findr"), [manifest("Tool", "recipe-finder", "cooking")], cached=True
    )
    assert isinstance(found, Missing)
    assert found.message.endswith('; did you mean "recipe-finder"?')


async def test_an_unknown_kind_is_a_reason_of_its_own() -> None:
    found = await outcome(Reference("spec.x", "Gadget", "x"), [])
    assert isinstance(found, Missing)
    assert (found.reason, found.message) == ("InvalidKind", 'spec.x: there is no kind "Gadget"')


async def test_a_plural_of_two_groups_is_ambiguous_only_if_both_have_the_object() -> None:
    theirs = resource("Gizmo", "tools", "example.com")
    ours, gizmo = manifest("Tool", "x", "cooking"), {**manifest("Tool", "x", "cooking"), "kind": "Gizmo"}
    gizmo["apiVersion"] = "example.com/v1"
    reference = Reference("spec.t", "Agent", "tools/x")
    assert place(await outcome(reference, [gizmo], extra_kinds=[theirs])) == "Gizmo cooking/x"
    found = await outcome(reference, [ours, gizmo], extra_kinds=[theirs])
    assert isinstance(found, Missing)
    assert found.reason == "AmbiguousReference"
    assert "Tool cooking/x (mastra.ai/v1) and Gizmo cooking/x (example.com/v1)" in found.message


@pytest.mark.parametrize(
    ("allowed", "annotation", "permitted"),
    [
        (None, None, True),
        ({"from": "All"}, None, True),
        ({"from": "Same"}, None, False),
        ({"from": "Selector", "selector": {"matchLabels": {"team": "food"}}}, None, True),
        ({"from": "Selector", "selector": {"matchLabels": {"team": "cars"}}}, None, False),
        (
            {
                "from": "Selector",
                "selector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["food"]}]},
            },
            None,
            True,
        ),
        (
            {"from": "Selector", "selector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}},
            None,
            False,
        ),
        ({"from": "All"}, "Same", True),
        (None, "Same", False),
        (None, "cooking, garden", True),
        (None, "garden", False),
    ],
)
async def test_a_target_decides_from_which_namespaces_it_may_be_referred_to(
    allowed: Any, annotation: str | None, permitted: bool
) -> None:
    annotations = {"mastra.ai/allowed-namespaces": annotation} if annotation else {}
    objects = [
        manifest("Namespace", "cooking", labels={"team": "food"}),
        manifest("Namespace", "home", annotations=annotations),
        manifest("Tool", "x", "home", spec={"allowedNamespaces": allowed} if allowed else {}),
    ]
    found = await outcome(Reference("spec.t", "Tool", "home/x"), objects)
    if permitted:
        assert place(found) == "Tool home/x"
    else:
        assert isinstance(found, Missing)
        assert found.reason == "RefNotPermitted"
        assert 'Tool "home/x" doesn\'t allow namespace "cooking"' in found.message


async def test_a_resolution_tells_required_from_optional_and_sums_up() -> None:
    client = MemoryClient()
    await client.create(manifest("Tool", "here", "cooking"))
    resolver, asker = Resolver(client), Object.of(AGENT)
    optional = Reference("spec.b", "Tool", "gone", optional=True)
    good = await resolver.resolve_all([Reference("spec.a", "Tool", "here"), optional], asker)
    assert (good.ok, good.reason, good.message) == (True, "Resolved", "1 reference resolved")
    assert [item.reference.path for item in good.missing] == ["spec.b"]
    bad = await resolver.resolve_all([Reference(f"spec.t[{i}]", "Tool", f"t{i}") for i in range(7)], asker)
    assert (bad.ok, bad.reason) == (False, "NotFound")
    assert bad.message.count("no Tool") == 5
    assert bad.message.endswith("; and 2 more")


async def test_a_reference_that_is_repeated_is_looked_up_once() -> None:
    client = MemoryClient()
    await client.create(manifest("Tool", "x", "cooking"))
    references = [Reference(f"spec.t[{i}]", "Tool", "x") for i in range(9)]
    found = await Resolver(client).resolve_all(references, Object.of(AGENT))
    assert len(found.resolved) == 9
    assert client.calls["get", "Tool"] == 1
