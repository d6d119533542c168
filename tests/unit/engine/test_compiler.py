"""The compiler refuses what could only fail later, and says where and why."""

from typing import Any

import pytest

from kastra.engine.compiler import GraphError, check_workflow, compile_workflow
from kastra.engine.graph import END, Flow, unsupported
from tests.unit.engine.harness import tool


def causes(steps: list[Any], **spec: Any) -> list[tuple[str, str]]:
    return [(cause.field, cause.message) for cause in check_workflow({"steps": steps, **spec})]


MISTAKES: list[tuple[list[Any], dict[str, Any], str, str]] = [
    ([], {}, "spec.steps", "Required value"),
    ([{"tool": {"name": "t"}}], {}, "spec.steps[0].id", "Required value"),
    ([tool("a b", "t")], {}, "spec.steps[0].id", '"a b": must be 1 to 63 letters'),
    ([tool("a/b", "t")], {}, "spec.steps[0].id", "must be"),
    ([tool("finally", "t")], {}, "spec.steps[0].id", "reserved word"),
    ([tool("a"), tool("a")], {}, "spec.steps[1].id", 'Duplicate value: "a"'),
    ([{"id": "a"}], {}, "spec.steps[0]", "exactly one of agent, tool"),
    ([{"id": "a", "tool": {"name": "t"}, "set": {}}], {}, "spec.steps[0].set", "tool is already given"),
    ([{"id": "a", "tool": {}}], {}, "spec.steps[0].tool.name", "Required value"),
    ([{"id": "a", "python": {}}], {}, "spec.steps[0].python", "exactly one of entrypoint and inline"),
    ([tool("first"), tool("b", next="frist")], {}, "spec.steps[1].next", 'there is no step "frist" here; did you mean "first"?'),
    ([tool("a")], {"initialStep": "b"}, "spec.initialStep", 'there is no step "b"'),
    ([tool("a", next="c"), tool("b"), tool("c")], {}, "spec.steps[1].id", 'no step leads to "b"'),
    ([tool("a", dependsOn=["b"]), tool("b", next="a")], {}, "spec.steps[1].next", "in a DAG, dependsOn says what comes next"),
    ([tool("a", dependsOn=["b"]), tool("b", dependsOn=["a"])], {}, "spec.steps[0].dependsOn", "a cycle: a -> b -> a"),
    ([tool("a", dependsOn=["a"])], {}, "spec.steps[0].dependsOn[0]", "can't depend on itself"),
    ([tool("a", dependsOn=["x"])], {}, "spec.steps[0].dependsOn[0]", 'there is no step "x" here'),
    ([tool("a"), tool("b", dependsOn=["a"])], {"flow": "Sequence"}, "spec.steps[1].dependsOn", "only the steps of a DAG"),
    ([tool("a"), tool("b", dependsOn="true")], {}, "spec.steps[1].dependsOn", "must ask for the status of a step"),
    ([tool("a", input={"from": ["gone"]})], {}, "spec.steps[0].input.from", '"gone" is no step and no output name'),
    ([tool("a"), tool("b", output={"type": "a"}), tool("c", input={"from": ["a"]})], {}, "spec.steps[2].input.from", "is the id of one step and the output name of another"),
    ([tool("check-it", "t"), tool("b", when="steps.check-it.output")], {}, "spec.steps[1].when", 'write steps["check-it"]'),
    ([tool("a", when="steps.b.output > 1")], {}, "spec.steps[0].when", 'there is no step "b" here'),
    ([tool("a", when="input >")], {}, "spec.steps[0].when", "Syntax error"),
    ([tool("a", when="inptu > 1")], {}, "spec.steps[0].when", "undeclared reference to 'inptu'"),
    ([tool("a", when="${{ true }}")], {}, "spec.steps[0].when", "stands bare here"),
    ([tool("a", when=3)], {}, "spec.steps[0].when", "must be a CEL expression"),
    ([tool("a", input={"with": {"x": ["${{ nope }}"]}})], {}, "spec.steps[0].with.x[0]", "undeclared reference to 'nope'"),
    ([tool("a", retry={"initialInterval": "soon"})], {}, "spec.steps[0].retry", '"soon" is no duration'),
    ([tool("a", timeout={"attempt": "x"})], {}, "spec.steps[0].timeout", "is no duration"),
    ([{"id": "l", "loop": {"steps": [tool("a")], "maxIterations": 3}}], {}, "spec.steps[0].loop", "exactly one of while and until"),
    ([{"id": "l", "loop": {"steps": [tool("a")], "until": "true"}}], {}, "spec.steps[0].loop.maxIterations", "a loop always has an end"),
    ([{"id": "f", "forEach": {"steps": [tool("a")]}}], {}, "spec.steps[0].forEach.items", "Required value"),
    ([{"id": "b", "branch": {"cases": []}}], {}, "spec.steps[0].branch.cases", "at least one case"),
    ([{"id": "b", "branch": {"cases": [{"when": "true"}]}}], {}, "spec.steps[0].branch.cases[0]", "exactly one of steps and next"),
    ([{"id": "p", "parallel": {"join": "most", "steps": [tool("a")]}}], {}, "spec.steps[0].parallel.join", 'Unsupported value: "most"'),
    ([{"id": "p", "parallel": {"join": 3, "steps": [tool("a")]}}], {}, "spec.steps[0].parallel.join", "from 1 to the number of steps"),
    ([{"id": "p", "parallel": {"steps": [tool("a", next="b"), tool("b")]}}], {}, "spec.steps[0].parallel.steps[0].next", "parallel steps have no order"),
    ([{"id": "d", "do": {"steps": [tool("a", when="steps.later")]}}, tool("b")], {}, "spec.steps[0].do.steps[0].when", 'no step "later"'),
    ([{"id": "s", "sleepUntil": "2026-13-01"}], {}, "spec.steps[0].sleepUntil", "Invalid value"),
    ([tool("a", catch=[{"next": "z"}])], {}, "spec.steps[0].catch[0].next", 'no step "z"'),
    ([tool("a")], {"output": {"as": "${{ steps.b }}"}}, "spec.output.as", 'no step "b"'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "spec", "field", "message"), MISTAKES, ids=[f"{m[2]}-{i}" for i, m in enumerate(MISTAKES)]
)
def test_a_mistake_is_named_with_its_place(steps: list[Any], spec: dict[str, Any], field: str, message: str) -> None:
    found = causes(steps, **spec)
    assert any(where == field and message in what for where, what in found), found


def test_a_sound_workflow_becomes_a_graph_of_indices() -> None:
    graph = compile_workflow({"steps": [tool("a", next="c"), tool("b", next="END"), tool("c", next="b")]})
    assert graph.scope.flow is Flow.SEQUENCE
    assert [step.next for step in graph.scope.steps] == [2, END, 1]


def test_flow_is_DAG_as_soon_as_a_step_depends_on_another() -> None:
    graph = compile_workflow({"steps": [tool("a"), tool("b", dependsOn=["a"])]})
    assert (graph.scope.flow, graph.scope.steps[1].depends) == (Flow.DAG, (0,))


def test_a_step_inside_sees_the_ids_around_it_but_not_those_of_its_siblings_bodies() -> None:
    inside = {"id": "box", "do": {"steps": [tool("b", when="steps.a.output > 1")]}}
    assert causes([tool("a"), inside]) == []
    found = causes([inside | {"do": {"steps": [tool("b")]}}, tool("c", when="steps.b.output > 1")])
    assert found == [("spec.steps[1].when", 'Invalid value: there is no step "b" here')]


def test_variables_of_a_loop_or_a_forEach_are_known_inside_it_only() -> None:
    loop = {
        "id": "l",
        "loop": {"until": "iteration > 2", "maxIterations": 3, "steps": [tool("a", when="iteration > 1")]},
    }
    each = {
        "id": "e",
        "forEach": {"items": "input", "as": "url", "indexAs": "i", "steps": [tool("b", when='url != "" && i > 0')]},
    }
    assert causes([loop, each]) == []
    assert causes([tool("a", when="iteration > 1")])[0][0] == "spec.steps[0].when"


def test_one_label_of_several_steps_may_be_used_and_so_may_one_that_is_its_own_steps_id() -> None:
    steps = [
        tool("a", output={"type": "draft"}),
        tool("b", output={"type": "draft"}),
        tool("c", input={"from": ["draft"]}),
    ]
    assert causes(steps) == []
    assert causes([tool("a", output={"type": "a"}), tool("b", input={"from": ["a"]})]) == []


def test_what_is_accepted_but_not_executed_is_named_with_its_path() -> None:
    graph = compile_workflow({"steps": [tool("t", queue="slow")], "streaming": {"events": ["run.*"]}})
    assert {path for path, _ in unsupported(graph)} == {"spec.steps[0].queue", "spec.streaming"}


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(GraphError) as refused:
        compile_workflow({"steps": [tool("a", next="x"), tool("b", when="1 +"), {"id": "c"}]})
    assert [cause.field for cause in refused.value.causes] == [
        "spec.steps[0].next",
        "spec.steps[1].when",
        "spec.steps[2]",
    ]


def test_a_chain_of_a_thousand_steps_is_compiled_without_recursion() -> None:
    steps = [tool(f"s{n}", "t", **({"dependsOn": [f"s{n - 1}"]} if n else {})) for n in range(1500)]
    assert causes(steps) == []
