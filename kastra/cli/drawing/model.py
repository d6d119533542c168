"""What is in a picture: boxes, arrows between them, and boxes that hold others.

A Diagram says nothing of places, colours or notations. Read next: `kastra.cli.drawing.workflow`, which makes one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Box:
    """One step, member or marker.

    Args:
        key: unlike that of any other box; the stepKey of a step, without numbers of items and iterations.
        label: its name.
        kind: of the step or member; `start` and `end` for the two markers.
        detail: what else is good to know, such as the agent's name or a condition.
        groups: what is inside, if it holds steps: one group, or one for each case of a branch.
        state: how it went in a Run (`Succeeded`, ...); empty without one.
        note: how often, where it ran more than once.
    """

    key: str
    label: str
    kind: str
    detail: str = ""
    groups: list["Group"] = field(default_factory=list)
    state: str = ""
    note: str = ""


@dataclass(slots=True)
class Arrow:
    """From one box of a group to another of the same group, by key.

    Args:
        dashed: it is taken on a condition, or leads back.
    """

    source: str
    target: str
    label: str = ""
    dashed: bool = False


@dataclass(slots=True)
class Group:
    """Boxes side by side and the arrows between them.

    Args:
        key: unlike that of any other group.
        label: such as the condition of a case; empty for none.
    """

    key: str
    label: str = ""
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)

    def walk(self) -> Iterator[Box]:
        """Every box in here and further inside."""
        for box in self.boxes:
            yield box
            for group in box.groups:
                yield from group.walk()


@dataclass(slots=True)
class Diagram:
    """A whole picture.

    Args:
        title: such as `workflow/x`.
        subtitle: such as the phase of the Run.
    """

    title: str
    group: Group
    subtitle: str = ""


def clean(text: object, longest: int = 60) -> str:
    """A text on one line, without control characters, cut where it is too long."""
    line = " ".join("".join(char if char.isprintable() else " " for char in str(text)).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
