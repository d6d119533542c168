"""Kinds and names are given the way kubectl takes them."""

import pytest

from kastra.api.meta import ObjectRef
from kastra.api.scheme import Scheme
from kastra.cli.arguments import category, display_object, parse_one, parse_targets


def parsed(scheme: Scheme, text: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(target.resource.kind, target.names) for target in parse_targets(scheme, text.split())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("agents", [("Agent", ())]),
        ("ag x y", [("Agent", ("x", "y"))]),
        ("Agent.mastra.ai x", [("Agent", ("x",))]),
        ("agents,tools", [("Agent", ()), ("Tool", ())]),
        ("agents,tools x", [("Agent", ("x",)), ("Tool", ("x",))]),
        ("agent/x tool/y", [("Agent", ("x",)), ("Tool", ("y",))]),
        ("agent/x ag/y", [("Agent", ("x", "y"))]),
    ],
)
def test_every_form_of_arguments(scheme: Scheme, text: str, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    assert parsed(scheme, text) == expected


def test_a_category_stands_for_its_kinds_and_all_for_the_namespaced_ones(scheme: Scheme) -> None:
    kinds = [kind for kind, _ in parsed(scheme, "kastra")]
    assert {"Agent", "Tool", "Workflow", "Network", "System", "Run", "Reconciler"} <= set(kinds)
    assert [kind for kind in kinds if kind != "Reconciler"] == [kind for kind, _ in parsed(scheme, "all")]
    assert category(scheme, "nothing") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "You must specify the type of resource"),
        ("agnts", 'the server doesn\'t have a resource type "agnts"; did you mean "agents"'),
        ("agents agent/x", "there is no need to specify a resource type as a separate argument"),
        ("agent/", "must have a single resource and name"),
        ("agent/x/y", "must have a single resource and name"),
        ("kastra x", "is a category of kinds"),
    ],
)
def test_what_follows_no_form_is_refused_with_the_reason(scheme: Scheme, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_targets(scheme, text.split())


def test_exactly_one_object_can_be_asked_for(scheme: Scheme) -> None:
    resource, name = parse_one(scheme, ["workflow/x"])
    assert (resource.kind, name) == ("Workflow", "x")
    with pytest.raises(ValueError, match="exactly one object"):
        parse_one(scheme, ["workflow", "x", "y"])


def test_results_name_an_object_by_kind_and_group(scheme: Scheme) -> None:
    assert display_object(scheme, ObjectRef("Agent.mastra.ai", "x", "default")) == "agent.mastra.ai/x"
    assert display_object(scheme, ObjectRef("Namespace", "x")) == "namespace/x"
    assert display_object(scheme, ObjectRef("Gone.example.com", "x")) == "gone.example.com/x"
