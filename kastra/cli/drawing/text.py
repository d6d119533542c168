"""A Diagram as indented text, for a terminal: steps in their order, where each leads if that isn't simply the next one.

Read next: `kastra.cli.drawing.model`.
"""

from kastra.cli.text_width import columns

from .model import Box, Diagram, Group

_SIGNS = {
    "Succeeded": "✓",
    "Failed": "✗",
    "Abandoned": "✗",
    "InDoubt": "?",
    "Skipped": "-",
    "Running": "•",
    "Pending": "•",
    "Waiting": "…",
    "Suspended": "‖",
    "Retrying": "↻",
}


def text(diagram: Diagram) -> str:
    """The whole text."""
    lines = [diagram.title, *([diagram.subtitle] if diagram.subtitle else [])]
    marked = any(box.state for box in diagram.group.walk())
    lines += _group(diagram.group, "  ", marked)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _group(group: Group, indent: str, marked: bool) -> list[str]:
    boxes = [box for box in group.boxes if box.kind not in ("start", "end")]
    names = {box.key: box.label for box in boxes} | {"end": "END"}
    width = max((columns(box.label) for box in boxes), default=0)
    lines: list[str] = []
    for index, box in enumerate(boxes):
        follows = boxes[index + 1].key if index + 1 < len(boxes) else "end"
        sign = f"{_SIGNS.get(box.state, ' ')} " if marked else ""
        parts = [
            box.label + " " * (width - columns(box.label)),
            f"{box.kind:<9}",
            box.detail,
            _leads(group, box, follows, names),
        ]
        if box.note:
            parts.append(f"({box.note})")
        lines.append(f"{indent}{sign}{'  '.join(filter(None, parts))}")
        for inner in box.groups:
            deeper = f"{indent}{'  ' if marked else ''}  "
            if inner.label:
                lines.append(f"{deeper}{inner.label}:")
                deeper += "  "
            lines += _group(inner, deeper, marked)
    return lines


def _leads(group: Group, box: Box, follows: str, names: dict[str, str]) -> str:
    """Where it goes on, unless that is what stands below."""
    arrows = [arrow for arrow in group.arrows if arrow.source == box.key and arrow.target in names]
    if len(arrows) == 1 and arrows[0].target == follows and not arrows[0].label:
        return ""
    said = [f"{names[arrow.target]} ({arrow.label})" if arrow.label else names[arrow.target] for arrow in arrows]
    return f"-> {', '.join(said)}" if said else ""
