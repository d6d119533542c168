"""A Diagram in Graphviz' language, for those who have it and want another layout. No program of Graphviz' is called here.

Source: graphviz.org, the DOT language. Read next: `kastra.cli.drawing.model`.
"""

from .layout import text_lines
from .model import Box, Diagram, Group

_COLOURS = {
    "Succeeded": "#1a7f37",
    "Failed": "#cf222e",
    "InDoubt": "#cf222e",
    "Abandoned": "#cf222e",
    "Running": "#0969da",
    "Pending": "#0969da",
    "Waiting": "#9a6700",
    "Suspended": "#9a6700",
    "Retrying": "#9a6700",
}


def dot(diagram: Diagram) -> str:
    """The whole graph."""
    lines = [
        "digraph {",
        f"  label={_quoted(diagram.title)}; labelloc=t; compound=true; rankdir=TB;",
        '  node [shape=box, style=rounded, fontname="sans-serif"]; edge [fontname="sans-serif"];',
        *_group(diagram.group, "  "),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _group(group: Group, indent: str) -> list[str]:
    lines: list[str] = []
    boxes = {box.key: box for box in group.boxes}
    for box in group.boxes:
        lines += _box(box, indent)
    for arrow in group.arrows:
        source, target = boxes[arrow.source], boxes[arrow.target]
        options = [f"label={_quoted(arrow.label)}"] if arrow.label else []
        options += ["style=dashed"] if arrow.dashed else []
        # Arrows join boxes, not clusters, so one of a cluster begins at something inside and is cut at its border.
        options += [f"ltail={_quoted(f'cluster {source.key}')}"] if source.groups else []
        options += [f"lhead={_quoted(f'cluster {target.key}')}"] if target.groups else []
        end = f" [{', '.join(options)}]" if options else ""
        lines.append(f"{indent}{_quoted(_anchor(source))} -> {_quoted(_anchor(target))}{end};")
    return lines


def _box(box: Box, indent: str) -> list[str]:
    colour = f", color={_quoted(_COLOURS[box.state])}, penwidth=2" if box.state in _COLOURS else ""
    if box.kind in ("start", "end"):
        shape = "circle" if box.kind == "start" else "doublecircle"
        return [f"{indent}{_quoted(box.key)} [shape={shape}, label={_quoted('')}, width=0.25{colour}];"]
    label = _quoted("\n".join(text_lines(box)))
    if not any(group.boxes for group in box.groups):
        return [f"{indent}{_quoted(box.key)} [label={label}{colour}];"]
    lines = [
        f"{indent}subgraph {_quoted(f'cluster {box.key}')} {{",
        f"{indent}  label={label}{colour.replace(', ', '; ')};",
    ]
    for index, group in enumerate(box.groups):
        lines.append(f"{indent}  subgraph {_quoted(f'cluster {box.key} {index}')} {{ label={_quoted(group.label)};")
        lines += _group(group, f"{indent}    ")
        lines.append(f"{indent}  }}")
    lines.append(f"{indent}}}")
    return lines


def _anchor(box: Box) -> str:
    """The first box inside, all the way down."""
    for group in box.groups:
        if group.boxes:
            return _anchor(group.boxes[0])
    return box.key


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
