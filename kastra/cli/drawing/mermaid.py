"""A Diagram as a Mermaid flowchart, for Markdown files of those who render them.

Names become `n0`, `n1`, ...; all text stands in quotes with what Mermaid would read as code written as entities.
Source: mermaid.js.org, flowchart syntax. Read next: `kastra.cli.drawing.model`.
"""

from .layout import text_lines
from .model import Box, Diagram, Group

_COLOURS = {
    "Succeeded": "stroke:#1a7f37,stroke-width:2px",
    "Failed": "stroke:#cf222e,stroke-width:3px",
    "Running": "stroke:#0969da,stroke-width:2px",
    "Waiting": "stroke:#9a6700,stroke-width:2px",
    "Skipped": "stroke-dasharray:3 3",
}
_LIKE = {
    "InDoubt": "Failed",
    "Abandoned": "Failed",
    "Pending": "Running",
    "Suspended": "Waiting",
    "Retrying": "Waiting",
}


def mermaid(diagram: Diagram) -> str:
    """The whole flowchart."""
    names = {box.key: f"n{index}" for index, box in enumerate(diagram.group.walk())}
    lines = ["---", f"title: {_yaml(diagram.title)}", "---", "flowchart TD"]
    lines += _group(diagram.group, names, "  ")
    states = {_LIKE.get(box.state, box.state) for box in diagram.group.walk()} & _COLOURS.keys()
    lines += [f"  classDef {state} {_COLOURS[state]}" for state in sorted(states)]
    for box in diagram.group.walk():
        state = _LIKE.get(box.state, box.state)
        if state in _COLOURS:
            lines.append(f"  class {names[box.key]} {state}")
    return "\n".join(lines) + "\n"


def _group(group: Group, names: dict[str, str], indent: str) -> list[str]:
    lines: list[str] = []
    for box in group.boxes:
        lines += _box(box, names, indent)
    for arrow in group.arrows:
        line = "-.->" if arrow.dashed else "-->"
        label = f"|{_quoted(arrow.label)}|" if arrow.label else ""
        lines.append(f"{indent}{names[arrow.source]} {line}{label} {names[arrow.target]}")
    return lines


def _box(box: Box, names: dict[str, str], indent: str) -> list[str]:
    name = names[box.key]
    if box.kind in ("start", "end"):
        return [f"{indent}{name}(({_quoted(box.kind)}))"]
    label = _quoted("\n".join(text_lines(box)))
    if not box.groups:
        return [f"{indent}{name}[{label}]"]
    lines = [f"{indent}subgraph {name}[{label}]"]
    for index, group in enumerate(box.groups):
        if len(box.groups) == 1 and not group.label:
            lines += _group(group, names, f"{indent}  ")
            continue
        lines.append(f"{indent}  subgraph {name}g{index}[{_quoted(group.label or ' ')}]")
        lines += _group(group, names, f"{indent}    ")
        lines.append(f"{indent}  end")
    lines.append(f"{indent}end")
    return lines


def _quoted(text: str) -> str:
    escaped = "".join(
        char if char.isalnum() or char in " .,:()_-/" else f"#{ord(char)};" for char in text.replace("\n", "\0")
    )
    return '"' + escaped.replace("#0;", "<br/>") + '"'


def _yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
