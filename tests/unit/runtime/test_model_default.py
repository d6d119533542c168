"""What a Run executes has a model wherever the specs name none and there is a default, and its hash says so."""

from typing import Any

import pytest

from kastra.api.object import Object
from kastra.api.types import Closure, ClosureObject
from kastra.runtime.closure import closure_hash
from kastra.runtime.model_default import choice_of, default_model, namespaces_asked, with_default_models

OWN = {"provider": "scripted", "name": "scripted", "parameters": {"rules": []}}
DEFAULT = {"provider": "openai", "name": "gpt-4o", "parameters": {}}


def obj(kind: str, name: str, namespace: str = "default", **spec: Any) -> ClosureObject:
    return ClosureObject(kind=kind, namespace=namespace, name=name, uid=name, generation=1, spec=spec, refs={})


def closure(*objects: ClosureObject) -> Closure:
    found = {f"{o['kind']}/{o['namespace']}/{o['name']}": o for o in objects}
    made = Closure(root=next(iter(found)), objects=found)
    made["hash"] = closure_hash(made)
    return made


def namespace(name: str, model: str = "") -> Object:
    annotations = {"mastra.ai/default-model": model} if model else {}
    metadata = {"name": name, "annotations": annotations}
    return Object.of({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def models(found: Closure) -> dict[str, Any]:
    return {key: value["spec"].get("model") for key, value in found["objects"].items()}


def test_agents_without_a_model_get_the_default_and_others_keep_theirs() -> None:
    before = closure(
        obj("Workflow", "w", steps=[]),
        obj("Agent", "a"),
        obj("Agent", "b", model=OWN),
        obj("Agent", "c", modelRef={"name": "m"}),
    )
    after = with_default_models(before, {"default": None}, "openai/gpt-4o")
    assert models(after) == {
        "Workflow/default/w": None,
        "Agent/default/a": DEFAULT,
        "Agent/default/b": OWN,
        "Agent/default/c": None,
    }
    assert after["hash"] == closure_hash(after) != before["hash"]
    assert models(before)["Agent/default/a"] is None


def test_the_namespace_of_each_agent_decides_before_the_configured_default() -> None:
    before = closure(obj("Agent", "a", "one"), obj("Agent", "a", "two"))
    after = with_default_models(before, {"one": namespace("one", "groq/x"), "two": namespace("two")}, "openai/gpt-4o")
    assert models(after)["Agent/one/a"]["provider"] == "groq"
    assert models(after)["Agent/two/a"] == DEFAULT


@pytest.mark.parametrize("default", ["", "no-slash"])
def test_without_a_usable_default_nothing_changes(default: str) -> None:
    before = closure(obj("Agent", "a"))
    assert with_default_models(before, {"default": None}, default) is before


INLINE = {"name": "i", "kind": "Agent", "spec": {}}
GIVEN = {"name": "i", "kind": "Agent", "spec": {"model": OWN}}


@pytest.mark.parametrize(
    ("objects", "asked"),
    [
        ([obj("Agent", "a", "one", model=OWN), obj("Agent", "b", "two"), obj("Tool", "t", "three")], {"two"}),
        ([obj("Agent", "a", "one", modelRef={"name": "m"}), obj("Model", "m", "two")], set()),
        ([obj("Network", "n", "one", members=[INLINE], router={"mode": "sequential"})], {"one"}),
        ([obj("Network", "n", "one", members=[GIVEN, GIVEN])], {"one"}),
        ([obj("Network", "n", "one", members=[GIVEN, GIVEN], router={"model": OWN})], set()),
        ([obj("Agent", "a", model=OWN), obj("Network", "n", "one", members=[INLINE])], set()),
    ],
    ids=["an-agent", "none", "an-inline-member", "a-router", "a-given-router", "not-the-root"],
)
def test_only_namespaces_of_what_lacks_a_model_are_asked(objects: list[ClosureObject], asked: set[str]) -> None:
    before = closure(*objects)
    assert namespaces_asked(before) == asked
    changed = with_default_models(before, dict.fromkeys(asked), "openai/gpt-4o") is not before
    assert changed is bool(asked)


def test_a_closure_in_which_nothing_is_missing_stays_the_same() -> None:
    before = closure(obj("Agent", "a", model=OWN), obj("Tool", "t"))
    assert with_default_models(before, {}, "openai/gpt-4o") is before


def test_a_network_gets_a_model_for_its_router_and_its_inline_agents() -> None:
    members = [
        {"name": "in", "kind": "Agent", "path": "spec.agents[0]", "spec": {"instructions": ["x"]}},
        {"name": "own", "kind": "Agent", "path": "spec.agents[1]", "spec": {"model": OWN}},
        {"name": "t", "kind": "Tool", "path": "spec.tools[0]", "ref": {"name": "t"}},
    ]
    before = closure(obj("Network", "n", router={"mode": "router", "maxSteps": 4}, members=members))
    spec = with_default_models(before, {"default": None}, "openai/gpt-4o")["objects"]["Network/default/n"]["spec"]
    assert spec["router"] == {"mode": "router", "maxSteps": 4, "model": DEFAULT}
    assert [member.get("spec", {}).get("model") for member in spec["members"]] == [DEFAULT, OWN, None]


@pytest.mark.parametrize(
    "router", [{"mode": "roundRobin"}, {"mode": "router", "model": OWN}, {"mode": "router", "modelRef": {"name": "m"}}]
)
def test_a_router_that_needs_no_other_model_gets_none(router: dict[str, Any]) -> None:
    members = [{"name": name, "kind": "Tool", "ref": {"name": name}} for name in "ab"]
    before = closure(obj("Network", "n", router=router, members=members))
    assert with_default_models(before, {"default": None}, "openai/gpt-4o") is before


def test_a_network_that_runs_by_itself_is_left_to_its_own_run() -> None:
    members = [{"name": name, "kind": "Tool", "ref": {"name": name}} for name in "ab"]
    before = closure(obj("Workflow", "w"), obj("Network", "n", router={}, members=members))
    assert with_default_models(before, {"default": None}, "openai/gpt-4o") is before


def test_a_default_is_written_provider_slash_name() -> None:
    assert choice_of("openrouter/meta/llama") == {"provider": "openrouter", "name": "meta/llama", "parameters": {}}
    assert [choice_of(text) for text in ("", "x", "/x", "x/")] == [None] * 4
    assert default_model(namespace("n", " groq/x "), "openai/y") == "groq/x"
    assert default_model(None, "openai/y") == "openai/y"
