"""Where everything in a Diagram stands: layers from top to bottom, as few crossings as a few sweeps give, boxes within boxes.

Each group is laid out by itself, the innermost first, since a box is as large as what it holds. Arrows that lead back don't
count when boxes are put into layers; one that spans several layers passes through a free place in each. All lengths are in
pixels of a font whose characters are about 7 wide. The same Diagram always gives the same places.

Source: Sugiyama's method (layers by longest path, barycentres). Read next: `kastra.cli.drawing.svg`.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kastra.cli.text_width import columns

from .model import Arrow, Box, Diagram, Group

CHAR = 7.2
LINE = 18.0
PAD = 12.0
GAP_X, GAP_Y = 28.0, 44.0
_MARKER = 22.0
_SWEEPS = 6

Point = tuple[float, float]


@dataclass(slots=True)
class PlacedBox:
    """A box; `x`, `y` of its upper left corner, in the whole picture."""

    box: Box
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    groups: list["PlacedGroup"] = field(default_factory=list)

    @property
    def centre(self) -> float:
        """Its middle, from left to right."""
        return self.x + self.width / 2


@dataclass(slots=True)
class PlacedArrow:
    """An arrow along points; `back` if it leads upwards."""

    arrow: Arrow
    points: list[Point]
    back: bool = False


@dataclass(slots=True)
class PlacedGroup:
    """A group with everything in it."""

    group: Group
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    boxes: list[PlacedBox] = field(default_factory=list)
    arrows: list[PlacedArrow] = field(default_factory=list)


def layout(diagram: Diagram) -> PlacedGroup:
    """Everything in its place, beginning at (0, 0)."""
    placed = _group(diagram.group)
    _move(placed, 0.0, 0.0)
    return placed


def text_lines(box: Box) -> list[str]:
    """What stands in a box, line by line."""
    if box.kind in ("start", "end"):
        return []
    head = box.label if box.kind in ("", "step") else f"{box.label}  ({box.kind})"
    return [line for line in (head, box.detail, box.note) if line]


def _group(group: Group) -> PlacedGroup:
    boxes = {box.key: _box(box) for box in group.boxes}
    arrows = [arrow for arrow in group.arrows if arrow.source in boxes and arrow.target in boxes]
    back = _leading_back([box.key for box in group.boxes], arrows)
    forward = [arrow for index, arrow in enumerate(arrows) if index not in back]
    ranks = _ranks(list(boxes), forward)
    rows, chains = _rows(ranks, forward)
    _order(rows, chains)
    sizes = {key: (placed.width, placed.height) for key, placed in boxes.items()}
    places, width, height = _coordinates(rows, sizes, chains)
    for key, placed in boxes.items():
        placed.x, placed.y = places[key][0] - placed.width / 2, places[key][1] - placed.height / 2
    top = LINE if group.label else 0.0
    lanes = 0
    made: list[PlacedArrow] = []
    chain_of = {id(arrow): chain for arrow, chain in zip(forward, chains, strict=True)}
    for index, arrow in enumerate(arrows):
        source, target = boxes[arrow.source], boxes[arrow.target]
        if index in back:
            lanes += 1
            side = width + lanes * 14.0
            middle, end = source.y + source.height / 2, target.y + target.height / 2
            points = [(source.x + source.width, middle), (side, middle), (side, end), (target.x + target.width, end)]
            made.append(PlacedArrow(arrow, points, True))
            continue
        middle_points = [places[name] for name in chain_of[id(arrow)][1:-1]]
        points = [(source.centre, source.y + source.height), *middle_points, (target.centre, target.y)]
        made.append(PlacedArrow(arrow, points))
    width += lanes * 14.0
    if group.label:
        width = max(width, columns(group.label) * CHAR)
        for placed in boxes.values():
            placed.y += top
        for one in made:
            one.points = [(x, y + top) for x, y in one.points]
    return PlacedGroup(group, max(width, 1.0), height + top, boxes=list(boxes.values()), arrows=made)


def _box(box: Box) -> PlacedBox:
    if box.kind in ("start", "end"):
        return PlacedBox(box, _MARKER, _MARKER)
    lines = text_lines(box)
    width = max((columns(line) for line in lines), default=1) * CHAR + 2 * PAD
    height = len(lines) * LINE + PAD
    placed = PlacedBox(box, width, height)
    if box.groups:
        placed.groups = [_group(group) for group in box.groups]
        inner = sum(group.width for group in placed.groups) + GAP_X * (len(placed.groups) - 1)
        placed.width = max(width, inner + 2 * PAD)
        at = (placed.width - inner) / 2
        for group in placed.groups:
            group.x, group.y = at, height
            at += group.width + GAP_X
        placed.height = height + max(group.height for group in placed.groups) + PAD
    return placed


def _leading_back(order: Sequence[str], arrows: Sequence[Arrow]) -> set[int]:
    """Which arrows close a cycle: those that a walk from the first box meets on their way back."""
    outgoing: dict[str, list[tuple[int, str]]] = {key: [] for key in order}
    for index, arrow in enumerate(arrows):
        outgoing[arrow.source].append((index, arrow.target))
    state: dict[str, int] = {}
    back: set[int] = set()
    for start in order:
        if start in state:
            continue
        state[start] = 1
        stack = [(start, iter(outgoing[start]))]
        while stack:
            key, rest = stack[-1]
            for index, target in rest:
                if state.get(target) == 1:
                    back.add(index)
                elif target not in state:
                    state[target] = 1
                    stack.append((target, iter(outgoing[target])))
                    break
            else:
                state[key] = 2
                stack.pop()
    return back


def _ranks(keys: Sequence[str], arrows: Sequence[Arrow]) -> dict[str, int]:
    """The layer of each box: one below the lowest of those that lead to it."""
    before: dict[str, list[str]] = {key: [] for key in keys}
    after: dict[str, list[str]] = {key: [] for key in keys}
    for arrow in arrows:
        before[arrow.target].append(arrow.source)
        after[arrow.source].append(arrow.target)
    missing = {key: len(sources) for key, sources in before.items()}
    ready = [key for key in keys if not missing[key]]
    ranks: dict[str, int] = {}
    for key in ready:
        ranks[key] = max((ranks[source] + 1 for source in before[key]), default=0)
        for target in after[key]:
            missing[target] -= 1
            if not missing[target]:
                ready.append(target)
    if "end" in ranks:
        ranks["end"] = max(ranks[key] + (0 if key == "end" or "end" in before[key] else 1) for key in keys)
        for key in keys:
            if "end" in before[key]:
                ranks[key] = ranks["end"] + 1
    return ranks


def _rows(ranks: Mapping[str, int], arrows: Sequence[Arrow]) -> tuple[list[list[str]], list[list[str]]]:
    """The layers, with a place for each arrow that passes through one; and for each arrow what it passes, ends included."""
    rows: list[list[str]] = [[] for _ in range(max(ranks.values(), default=0) + 1)]
    for key, rank in ranks.items():
        rows[rank].append(key)
    chains = []
    for index, arrow in enumerate(arrows):
        chain = [arrow.source]
        for rank in range(ranks[arrow.source] + 1, ranks[arrow.target]):
            name = f"\0{index}/{rank}"
            rows[rank].append(name)
            chain.append(name)
        chains.append([*chain, arrow.target])
    return [row for row in rows if row], chains


def _order(rows: list[list[str]], chains: Sequence[Sequence[str]]) -> None:
    """Put each layer in the order of what it hangs on, from above and from below by turns."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for chain in chains:
        for upper, lower in itertools.pairwise(chain):
            above.setdefault(lower, []).append(upper)
            below.setdefault(upper, []).append(lower)
    for sweep in range(_SWEEPS):
        neighbours, order = (above, rows[1:]) if sweep % 2 == 0 else (below, rows[-2::-1])
        place = {key: index for row in rows for index, key in enumerate(row)}
        for row in order:
            weight = {
                key: sum(place[other] for other in neighbours[key]) / len(neighbours[key])
                if neighbours.get(key)
                else float(place[key])
                for key in row
            }
            row.sort(key=weight.__getitem__)
            place.update({key: index for index, key in enumerate(row)})


def _coordinates(
    rows: Sequence[Sequence[str]], sizes: Mapping[str, tuple[float, float]], chains: Sequence[Sequence[str]]
) -> tuple[dict[str, Point], float, float]:
    """The middle of each place, and the size of all."""
    widths = [sum(sizes.get(key, (8.0, 0.0))[0] for key in row) + GAP_X * (len(row) - 1) for row in rows]
    width = max(widths, default=0.0)
    places: dict[str, Point] = {}
    y = 0.0
    for row, taken in zip(rows, widths, strict=True):
        height = max(sizes.get(key, (0.0, 0.0))[1] for key in row)
        x = (width - taken) / 2
        for key in row:
            own = sizes.get(key, (8.0, 0.0))[0]
            places[key] = (x + own / 2, y + height / 2)
            x += own + GAP_X
        y += height + GAP_Y
    return places, width, max(0.0, y - GAP_Y)


def _move(group: PlacedGroup, x: float, y: float) -> None:
    """From places within each group to places in the whole picture."""
    group.x, group.y = x, y
    for arrow in group.arrows:
        arrow.points = [(px + x, py + y) for px, py in arrow.points]
    for box in group.boxes:
        box.x, box.y = box.x + x, box.y + y
        for inner in box.groups:
            _move(inner, box.x + inner.x, box.y + inner.y)
