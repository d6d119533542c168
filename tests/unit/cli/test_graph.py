"""`kastra graph`: a picture of what was applied, or of a Run with how its steps went."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from .conftest import Kastra


def test_a_workflow_is_drawn_as_text_by_its_name_alone(kitchen: Kastra) -> None:
    result = kitchen("graph", "dinner", "-n", "kitchen")
    assert result.code == 0, result.stderr
    assert result.lines[0] == "workflow/dinner"
    assert result.lines[1].split() == ["suggest", "agent", "cook"]


@pytest.mark.parametrize(("form", "begins"), [("svg", "<svg "), ("mermaid", "---"), ("dot", "digraph {")])
def test_each_form_goes_to_standard_output_or_to_a_file(
    kitchen: Kastra, tmp_path: Path, form: str, begins: str
) -> None:
    shown = kitchen("graph", "workflow/dinner", "-n", "kitchen", "-o", form)
    assert shown.stdout.startswith(begins)
    file = tmp_path / "picture"
    written = kitchen("graph", "workflow/dinner", "-n", "kitchen", "-o", form, "--file", file)
    assert (written.stdout, file.read_text()) == ("", shown.stdout)


def test_a_run_is_drawn_with_how_its_steps_went(kitchen: Kastra) -> None:
    lines = kitchen("graph", "run/first", "-n", "kitchen").lines
    assert lines[:2] == ["run/first of workflow/dinner", "Succeeded"]
    assert lines[2].split()[:2] == ["✓", "suggest"]
    picture = kitchen("graph", "run/first", "-n", "kitchen", "-o", "svg").stdout
    rects = ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect")
    assert ["Succeeded" in (rect.get("class") or "") for rect in rects] == [True]


def test_a_run_is_drawn_as_it_was_when_it_started(changeable: Kastra) -> None:
    edited = (changeable.folder / "kitchen.yaml").read_text().replace("- id: suggest", "- id: renamed")
    (changeable.folder / "kitchen.yaml").write_text(edited)
    assert changeable("apply", "-f", "kitchen.yaml").code == 0
    assert "renamed" in changeable("graph", "dinner", "-n", "kitchen").stdout
    assert "suggest" in changeable("graph", "run/first", "-n", "kitchen").stdout


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("agent/cook", "a Agent can't be drawn; these can: Workflow, Network, Run"),
        ("none", 'workflows.mastra.ai "none" not found'),
    ],
)
def test_what_cannot_be_drawn_is_named(kitchen: Kastra, target: str, says: str) -> None:
    result = kitchen("graph", target, "-n", "kitchen")
    assert result.code == 1
    assert says in result.stderr
