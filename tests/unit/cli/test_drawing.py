"""Pictures of workflows and networks: everything is in them, nothing overlaps, and no text becomes code of a notation."""

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kastra.cli.drawing.dot import dot
from kastra.cli.drawing.layout import PlacedBox, PlacedGroup, layout
from kastra.cli.drawing.mermaid import mermaid
from kastra.cli.drawing.model import Box, Diagram
from kastra.cli.drawing.network import network_diagram
from kastra.cli.drawing.overlay import overlay, overlay_network
from kastra.cli.drawing.svg import svg
from kastra.cli.drawing.text import text
from kastra.cli.drawing.workflow import workflow_diagram

KITCHEN: Mapping[str, Any] = {
    "steps": [
        {
            "id": "gather",
            "do": {
                "flow": "DAG",
                "steps": [
                    {"id": "fetch", "tool": {"name": "crawler"}},
                    {"id": "classify", "agent": {"name": "triage"}, "dependsOn": ["fetch"]},
                    {
                        "id": "late",
                        "set": {},
                        "dependsOn": 'steps["fetch"].status == "Failed" || steps.classify.status == "x"',
                    },
                ],
            },
        },
        {
            "id": "fan",
            "parallel": {"join": "settled", "steps": [{"id": "a", "agent": {"name": "w"}}, {"id": "b", "set": {}}]},
        },
        {
            "id": "route",
            "branch": {
                "mode": "first",
                "cases": [{"when": "input.p > 0.8", "steps": [{"id": "fast", "tool": {"name": "t"}}]}],
                "default": {"next": "review"},
            },
        },
        {"id": "each", "forEach": {"items": "input.urls", "steps": [{"id": "sum", "agent": {"name": "s"}}]}},
        {
            "id": "poll",
            "loop": {"until": "prev.done", "maxIterations": 3, "steps": [{"id": "check", "tool": {"name": "c"}}]},
        },
        {"id": "nap", "sleep": {"duration": "10m"}, "when": "input.tired"},
        {"id": "review", "approve": {"message": "Publish?"}},
        {
            "id": "publish",
            "workflow": {"name": "publish"},
            "catch": [{"errors": ["timeout"], "next": "review"}, {"steps": [{"id": "sorry", "set": {}}]}],
            "compensate": {"steps": [{"id": "unpublish", "tool": {"name": "unpublish"}}]},
            "next": "END",
        },
    ],
    "finally": [{"id": "notify", "tool": {"name": "slack"}}],
}
NETWORK: Mapping[str, Any] = {
    "router": {
        "mode": "router",
        "model": {"provider": "openai", "name": "gpt-4o"},
        "rules": [{"when": "has(state.done)", "next": "END"}],
    },
    "members": [
        {"name": "search", "kind": "Agent", "maxCalls": 4, "canHandoffTo": ["write"]},
        {"name": "write", "kind": "Agent", "description": "writes"},
    ],
    "defaultAgent": "write",
}


def kitchen() -> Diagram:
    return workflow_diagram("workflow/kitchen", KITCHEN)


def test_every_step_is_a_box_with_its_step_key() -> None:
    keys = [box.key for box in kitchen().group.walk()]
    assert keys == [
        "start",
        "gather", "gather/fetch", "gather/classify", "gather/late",
        "fan", "fan/a", "fan/b",
        "route", "route/case[0]/fast",
        "each", "each/sum",
        "poll", "poll/check",
        "nap", "review",
        "publish", "publish/catch[1]/sorry", "publish/compensate/unpublish",
        "end",
        "finally", "finally/notify",
    ]  # fmt: skip


def test_arrows_follow_the_order_the_dependencies_and_the_jumps() -> None:
    diagram = kitchen()
    arrows = {(arrow.source, arrow.target): arrow for arrow in diagram.group.arrows}
    assert ("gather", "fan") in arrows
    assert (arrows["route", "review"].label, arrows["route", "review"].dashed) == ("otherwise", True)
    assert arrows["publish", "review"].label == "on timeout"
    assert ("publish", "end") in arrows
    [gather] = [box for box in diagram.group.boxes if box.key == "gather"]
    inner = [(arrow.source, arrow.target) for arrow in gather.groups[0].arrows]
    assert inner == [
        ("gather/fetch", "gather/classify"),
        ("gather/fetch", "gather/late"),
        ("gather/classify", "gather/late"),
    ]


def placed(diagram: Diagram) -> Iterator[tuple[PlacedGroup, list[PlacedBox]]]:
    def walk(group: PlacedGroup) -> Iterator[tuple[PlacedGroup, list[PlacedBox]]]:
        yield group, group.boxes
        for box in group.boxes:
            for inner in box.groups:
                yield from walk(inner)

    yield from walk(layout(diagram))


def overlaps(one: PlacedBox, other: PlacedBox) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def check_places(diagram: Diagram) -> None:
    for group, boxes in placed(diagram):
        assert not any(overlaps(one, other) for one, other in combinations(boxes, 2))
        for box in boxes:
            assert box.x >= group.x - 0.01
            assert box.y >= group.y - 0.01
            assert box.x + box.width <= group.x + group.width + 0.01
            assert box.y + box.height <= group.y + group.height + 0.01
            for inner in box.groups:
                assert inner.x >= box.x
                assert inner.y + inner.height <= box.y + box.height + 0.01


def test_no_box_lies_on_another_and_each_is_inside_what_holds_it() -> None:
    check_places(kitchen())
    check_places(network_diagram("network/x", NETWORK))


def test_what_follows_stands_below() -> None:
    [(_, boxes), *_] = placed(kitchen())
    y = {box.box.key: box.y for box in boxes}
    order = ["start", "gather", "fan", "route", "each", "poll", "nap", "review", "publish", "end", "finally"]
    assert [y[key] for key in order] == sorted(y[key] for key in order)


@st.composite
def specs(draw: st.DrawFn) -> Mapping[str, Any]:
    count = draw(st.integers(1, 9))
    dag = draw(st.booleans())
    steps: list[dict[str, Any]] = []
    for index in range(count):
        step: dict[str, Any] = {"id": f"s{index}"}
        if draw(st.booleans()) and count < 5:
            step["do"] = draw(specs())
        else:
            step["tool"] = {"name": draw(st.text(max_size=12))}
        if dag:
            step["dependsOn"] = [f"s{n}" for n in draw(st.sets(st.integers(0, index - 1), max_size=3))] if index else []
        elif draw(st.booleans()):
            step["next"] = draw(st.sampled_from([*(f"s{n}" for n in range(count)), "END"]))
        steps.append(step)
    return {"flow": "DAG" if dag else "Sequence", "steps": steps}


@settings(max_examples=60, deadline=None)
@given(specs())
def test_any_workflow_can_be_drawn(spec: Mapping[str, Any]) -> None:
    diagram = workflow_diagram("workflow/x", spec)
    check_places(diagram)
    root = ElementTree.fromstring(svg(diagram))
    assert len(root.findall(".//{*}rect")) == sum(box.kind not in ("start", "end") for box in diagram.group.walk())
    for picture in (mermaid(diagram), dot(diagram), text(diagram)):
        assert "s0" in picture


EVIL = [
    '"><script>alert(1)</script>',
    "]]>&amp;<!--",
    'x" ]; evil [',
    "end\nsubgraph",
    "\x00\x1b[31m\ufffe",
    "`%%{init}%%`",
    "\\",
]


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_no_text_becomes_code(evil: str) -> None:
    spec = {
        "description": evil,
        "steps": [
            {"id": "a", "tool": {"name": evil}, "when": evil, "next": "b"},
            {
                "id": "b",
                "branch": {"cases": [{"when": evil, "steps": [{"id": "c", "set": {}}]}, {"when": evil, "next": "a"}]},
            },
        ],
    }
    diagram = workflow_diagram(evil, spec)
    overlay(diagram, [{"key": "a", "phase": evil}], evil)
    root = ElementTree.fromstring(svg(diagram))
    allowed = {"svg", "style", "defs", "marker", "path", "text", "g", "title", "rect", "circle"}
    assert {element.tag.partition("}")[2] for element in root.iter()} <= allowed
    for line in mermaid(diagram).splitlines()[4:]:
        quoted = re.findall(r'"([^"]*)"', line)
        assert not any(re.search(r"[\"<>\[\]{}`|\\%]", part.replace("<br/>", "")) for part in quoted)
        assert "script" not in re.sub(r'"[^"]*"', "", line)
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', "", dot(diagram))
    assert not re.search(r"script|evil|init|amp", plain)
    assert all(char.isprintable() or char == "\n" for char in text(diagram))


def test_mermaid_and_dot_name_every_box_once() -> None:
    diagram = kitchen()
    keys = [box.key for box in diagram.group.walk()]
    declared = re.findall(r"^ *(?:subgraph )?(n\d+)(?:\[|\(\()", mermaid(diagram), re.MULTILINE)
    assert sorted(declared, key=lambda name: int(name[1:])) == [f"n{index}" for index in range(len(keys))]
    holders = [box.key for box in diagram.group.walk() if box.groups]
    for key in keys:
        named = f'subgraph "cluster {key}" {{' if key in holders else f'"{key}" ['
        lines = [line for line in dot(diagram).splitlines() if line.strip().startswith(named)]
        assert len(lines) == 1


def test_text_shows_the_order_and_only_says_where_a_step_leads_when_that_is_not_the_next_one() -> None:
    shown = text(kitchen())
    assert re.search(r"^  fan +parallel +join settled$", shown, re.MULTILINE)
    assert re.search(r"^      input.p > 0.8:|^    input.p > 0.8:", shown, re.MULTILINE)
    assert re.search(
        r"^  publish .* -> .*END.*review \(on timeout\)|^  publish .* -> .*review \(on timeout\)", shown, re.MULTILINE
    )
    assert re.search(r"^  each +forEach +items input.urls$", shown, re.MULTILINE)


def states(diagram: Diagram) -> dict[str, tuple[str, str]]:
    return {box.key: (box.state, box.note) for box in diagram.group.walk() if box.state}


def test_a_run_shows_how_each_step_went() -> None:
    diagram = kitchen()
    rows = [
        {"key": "gather", "phase": "Succeeded"},
        {"key": "each", "phase": "Failed"},
        {"key": "each[*]/sum", "counts": {"Succeeded": 7, "Failed": 1}},
        {"key": "nap", "phase": "Skipped"},
        {"key": "review", "phase": "Succeeded"},
        {"key": "review@2", "phase": "Waiting"},
        {"key": "poll#*/check", "counts": {"Succeeded": 1}},
        {"key": "route/case[0]/fast", "phase": "Succeeded"},
    ]
    overlay(diagram, rows, "Failed")
    assert states(diagram) == {
        "start": ("Succeeded", ""),
        "gather": ("Succeeded", ""),
        "route/case[0]/fast": ("Succeeded", ""),
        "each": ("Failed", ""),
        "each/sum": ("Failed", "1 failed, 7 succeeded"),
        "poll/check": ("Succeeded", ""),
        "nap": ("Skipped", ""),
        "review": ("Waiting", "1 succeeded, 1 waiting"),
        "end": ("Failed", ""),
    }
    root = ElementTree.fromstring(svg(diagram))
    assert any("Failed" in (rect.get("class") or "") for rect in root.iter("{http://www.w3.org/2000/svg}rect"))
    assert "✗ each" in text(diagram)
    assert re.search(r"class n\d+ Failed", mermaid(diagram))


def test_a_network_is_its_router_and_members_and_a_run_shows_who_was_chosen() -> None:
    diagram = network_diagram("network/research", NETWORK)
    boxes: dict[str, Box] = {box.key: box for box in diagram.group.walk()}
    assert boxes["router"].detail == "openai/gpt-4o"
    assert "default" in boxes["member/write"].detail
    arrows = {(arrow.source, arrow.target): arrow.label for arrow in diagram.group.arrows}
    assert arrows["member/search", "member/write"] == "hands off"
    assert arrows["router", "end"] == "has(state.done)"
    keys = [
        "turn[0]/route",
        "turn[0]/search/turn[0]",
        "turn[0]/search/turn[0]/tool[0]",
        "turn[1]/search",
        "turn[2]/write",
    ]
    overlay_network(diagram, keys, "Succeeded")
    assert states(diagram) == {
        "member/search": ("Succeeded", "2x"),
        "member/write": ("Succeeded", "1x"),
        "end": ("Succeeded", ""),
    }
