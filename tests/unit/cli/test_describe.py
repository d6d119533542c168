"""`kastra describe` answers 'why isn't it ready', and never shows a Secret."""

from typing import Any

Kastra = Any


def section(lines: list[str], title: str) -> list[str]:
    start = lines.index(title) + 1
    end = next((index for index in range(start, len(lines)) if not lines[index]), len(lines))
    return lines[start:end]


def test_what_is_not_ready_says_why_at_the_top(kitchen: Kastra) -> None:
    found = kitchen("describe", "agent", "waiter", "-n", "kitchen")
    assert found.code == 0
    [ready] = [line for line in found.lines if line.startswith("Ready:")]
    assert ready.split(None, 1)[1].startswith('False, because: NotFound: spec.tools[0]: no Tool "menu"')


def test_spec_status_conditions_and_events_have_sections(kitchen: Kastra) -> None:
    lines = kitchen("describe", "agent/cook", "-n", "kitchen").lines
    assert lines[0].split() == ["Name:", "cook"]
    assert "  instructions: You cook." in section(lines, "Spec:")
    conditions = section(lines, "Conditions:")
    assert conditions[0].split() == ["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"]
    assert any(line.split()[:2] == ["Ready", "True"] for line in conditions)
    assert any(line.startswith("Events:") for line in lines)


def test_children_are_listed_with_their_readiness(changeable: Kastra) -> None:
    manifest = (
        "apiVersion: mastra.ai/v1\nkind: System\nmetadata: {name: shop}\n"
        "spec: {tools: [{name: finder, spec: {python: {entrypoint: 'kitchen_tools:find'}}}]}\n"
    )
    assert changeable("apply", "-f", "-", stdin=manifest).code == 0
    children = section(changeable("describe", "system/shop").lines, "Children:")
    assert any(line.split()[0] == "Tool" for line in children[1:])


def test_a_secret_shows_sizes_and_never_values(kitchen: Kastra) -> None:
    found = kitchen("describe", "secret", "key", "-n", "kitchen")
    assert "token:   11 bytes" in [" ".join(line.split(" ")) for line in found.lines]
    for text in ("canary-5f2a", "Y2FuYXJ5LTVmMmE"):
        assert text not in found.stdout


def test_data_of_other_kinds_is_shown(kitchen: Kastra) -> None:
    lines = kitchen("describe", "cm/prices", "-n", "kitchen").lines
    assert section(lines, "Data:") == ['  omelette: "7"']


def test_a_name_that_is_not_there_is_an_error(kitchen: Kastra) -> None:
    found = kitchen("describe", "agent", "nobody")
    assert found.code == 1
    assert 'agents.mastra.ai "nobody" not found' in found.stderr
