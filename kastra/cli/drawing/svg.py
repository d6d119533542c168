"""A Diagram as SVG: one self-contained file, light or dark as its reader prefers, no script and no font of its own.

All text is escaped, and characters that XML doesn't have are left out. Read next: `kastra.cli.drawing.layout`.
"""

import itertools
from xml.sax.saxutils import escape, quoteattr

from .layout import CHAR, LINE, PAD, PlacedArrow, PlacedBox, PlacedGroup, layout, text_lines
from .model import Diagram

_STYLE = """
text{font:13px ui-sans-serif,system-ui,sans-serif;fill:#1f2328}.dim{fill:#59636e;font-size:11px}.title{font-weight:600;font-size:15px}
.box{fill:#fff;stroke:#818b98}.holder{fill:#f6f8fa}.arrow{fill:none;stroke:#818b98;stroke-width:1.3}.dashed{stroke-dasharray:5 4}
.head{fill:#818b98}.marker{fill:#59636e}.Succeeded{stroke:#1a7f37;stroke-width:2}.Failed,.InDoubt,.Abandoned{stroke:#cf222e;stroke-width:2.5}
.Running,.Pending{stroke:#0969da;stroke-width:2}.Waiting,.Suspended,.Retrying{stroke:#9a6700;stroke-width:2}.Skipped{stroke-dasharray:3 3}
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.dim{fill:#9198a1}.box{fill:#151b23;stroke:#656c76}.holder{fill:#0d1117}}
"""
_MARGIN = 20.0
_HEAD = 58.0


def svg(diagram: Diagram) -> str:
    """The whole file."""
    placed = layout(diagram)
    titles = [len(diagram.title) * 9.0, len(diagram.subtitle) * CHAR]
    width = max(placed.width, *titles) + 2 * _MARGIN
    height = placed.height + _HEAD + _MARGIN
    left = _MARGIN + (width - 2 * _MARGIN - placed.width) / 2
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label={quoteattr(_xml(diagram.title))}>'
        ),
        f"<style>{escape(_STYLE)}</style>",
        (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path class="head" d="M0 0 8 4 0 8z"/></marker></defs>'
        ),
        _text(_MARGIN, 24, diagram.title, "title"),
        _text(_MARGIN, 43, diagram.subtitle, "dim") if diagram.subtitle else "",
        f'<g transform="translate({left:.1f} {_HEAD:.1f})">',
        *_group(placed),
        "</g></svg>",
    ]
    return "\n".join(filter(None, parts)) + "\n"


def _group(group: PlacedGroup) -> list[str]:
    parts = [_text(group.x, group.y + 12, group.group.label, "dim")] if group.group.label else []
    for box in group.boxes:
        parts += _box(box)
    for arrow in group.arrows:
        parts += _arrow(arrow)
    return parts


def _box(placed: PlacedBox) -> list[str]:
    box = placed.box
    state = box.state if box.state.isalpha() else ""
    where = f'x="{placed.x:.1f}" y="{placed.y:.1f}" width="{placed.width:.1f}" height="{placed.height:.1f}"'
    if box.kind in ("start", "end"):
        radius = placed.width / 2
        ring = (
            ""
            if box.kind == "start"
            else f'<circle class="box" cx="{placed.centre:.1f}" cy="{placed.y + radius:.1f}" r="{radius - 6:.1f}"/>'
        )
        circle = f'<circle class="marker {state}" cx="{placed.centre:.1f}" cy="{placed.y + radius:.1f}" r="{radius - 3:.1f}"/>'
        return [f"<g><title>{escape(box.label)}</title>{circle}{ring}</g>"]
    holder = " holder" if placed.groups else ""
    said = ": ".join(filter(None, (box.key, box.state, box.note)))
    parts = [f'<g><title>{escape(_xml(said))}</title><rect class="box{holder} {state}" rx="6" {where}/>']
    for index, line in enumerate(text_lines(box)):
        y = placed.y + LINE * (index + 1)
        parts.append(_text(placed.x + PAD, y, line, "dim" if index else ""))
    parts.append("</g>")
    for group in placed.groups:
        parts += _group(group)
    return parts


def _arrow(placed: PlacedArrow) -> list[str]:
    points = placed.points
    if placed.back:
        path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    else:
        # Down from one point to the next, so that curves meet boxes at a right angle.
        path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            middle = (y0 + y1) / 2
            path += f" C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
    dashed = " dashed" if placed.arrow.dashed else ""
    parts = [f'<path class="arrow{dashed}" marker-end="url(#head)" d="{path}"/>']
    if placed.arrow.label:
        (x0, y0), (x1, y1) = (points[1], points[2]) if placed.back else points[:2]
        parts.append(_text((x0 + x1) / 2 + 5, (y0 + y1) / 2, placed.arrow.label, "dim"))
    return parts


def _text(x: float, y: float, text: str, kind: str) -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(_xml(text))}</text>'


def _xml(text: str) -> str:
    """The text without what XML 1.0 doesn't allow."""
    return "".join(
        char
        for char in text
        if char in "\t\n" or (char >= " " and char not in "\ufffe\uffff" and not "\ud800" <= char <= "\udfff")
    )
