"""What was converted, what was not, where it stands, and what to do about it.

Messages name fields, never values: a report is pasted into tickets. Should a key of the input have got into one all the
same, it is blanked when it is added. Read next: `kastra.migrate.node`, which knows the places.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .node import Node

Level = Literal["not-migrated", "dropped", "note"]
"""not-migrated: a stub stands in its place. dropped: the field has no counterpart and is gone. note: converted; look at it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Args:
        field: path within the document of the input.
        object: `Kind/name` that it is about; empty for a whole file.
        advice: what to do.
    """

    level: Level
    file: str
    line: int
    column: int
    field: str
    object: str
    message: str
    advice: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        about = f" {self.object}" if self.object else ""
        path = f" {self.field}:" if self.field else ":" if about else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{where} {self.level}{about}{path} {self.message}{advice}"


@dataclass(slots=True)
class Report:
    """Collects findings.

    Args:
        scrub: takes keys of the input out of a text.
    """

    scrub: Callable[[str], str]
    findings: list[Finding] = field(default_factory=list)

    def add(self, level: Level, node: Node, about: str, message: str, advice: str = "") -> None:
        """Note something about the value at `node`."""
        line, column = node.mark
        clean = self.scrub
        found = Finding(
            level, node.origin.file, line, column, clean(node.field), clean(about), clean(message), clean(advice)
        )
        if found not in self.findings:
            self.findings.append(found)

    @property
    def complete(self) -> bool:
        """Whether everything was converted."""
        return all(finding.level == "note" for finding in self.findings)

    def lines(self) -> list[str]:
        """The findings as text, in the order of the input."""
        return [self.scrub(str(finding)) for finding in self.ordered()]

    def ordered(self) -> list[Finding]:
        """The findings by file and place."""
        return sorted(self.findings, key=lambda f: (f.file, f.line, f.column, f.field, f.message))

    def to_json(self) -> list[dict[str, Any]]:
        """The findings as plain data."""
        return [
            {key: self.scrub(v) if isinstance(v, str) else v for key, v in asdict(f).items()} for f in self.ordered()
        ]
