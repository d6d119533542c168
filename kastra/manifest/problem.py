"""A problem with a manifest, printed like a compiler's: place, field, what is wrong, the line, a suggestion.

    manifests/agent.yaml:9:7 error spec.model.provider: Unsupported value: "opnai": supported values: "openai", ...
       9 |       provider: opnai
         |                 ^^^^^ did you mean "openai"?

Read next: `kastra.manifest.loader`, whose manifests locate their fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .position import NOWHERE, START, Mark

_RED, _YELLOW, _BOLD, _DIM, _END = "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
_LINE_LIMIT = 200
_PATH_LIMIT = 120
# What a terminal would act on instead of showing it: controls and changes of direction, one for one, so that carets line up.
_UNSHOWN = dict.fromkeys((*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")
_UNSHOWN.pop(ord("\t"))
_UNSHOWN.pop(ord("\n"))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong, or worth a warning, at a place in a file.

    Args:
        file: as the user named it; `-` for standard input.
        mark: where the field's key stands; `NOWHERE` for what isn't about a place in the file.
        field: Kubernetes field path; empty for the whole document.
        line: the text of the source line that `caret` is on; empty when unknown.
        caret: the place to underline, usually the value.
        length: how many characters to underline; 0 for one caret.
        suggestion: what to write instead, as a sentence fragment.
    """

    severity: Literal["error", "warning"]
    file: str
    mark: Mark
    field: str
    message: str
    line: str = ""
    caret: Mark = START
    length: int = 0
    suggestion: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.mark.line}:{self.mark.column}" if self.mark != NOWHERE else f"{self.file}:"
        field = self.field if len(self.field) <= _PATH_LIMIT else self.field[:_PATH_LIMIT] + "…"
        return f"{where} {self.severity} {field + ': ' if field else ''}{self.message}"


def render(problem: Problem, *, color: bool = False) -> str:
    """The problem as lines for a terminal, without a final newline; nothing in a file reaches it as a command."""
    head = str(problem).translate(_UNSHOWN)
    if color:
        shade = _RED if problem.severity == "error" else _YELLOW
        head = head.replace(f" {problem.severity} ", f" {shade}{problem.severity}{_END} ", 1)
        head = f"{_BOLD}{head.split(' ', 1)[0]}{_END} {head.split(' ', 1)[1]}"
    if not problem.line.strip() or len(problem.line) > _LINE_LIMIT:
        return head + (f"\n      {problem.suggestion.translate(_UNSHOWN)}" if problem.suggestion else "")
    number = str(problem.caret.line)
    gutter = " " * len(number)
    # Tabs are kept, so that the caret lines up however wide the terminal makes them.
    indent = "".join(c if c == "\t" else " " for c in problem.line[: problem.caret.column - 1])
    underline = "^" * max(1, min(problem.length, len(problem.line) - problem.caret.column + 1))
    suggestion = f" {problem.suggestion.translate(_UNSHOWN)}" if problem.suggestion else ""
    dim, end = (_DIM, _END) if color else ("", "")
    return (
        f"{head}\n{dim}   {number} |{end} {problem.line.translate(_UNSHOWN)}\n{dim}   {gutter} |{end} {indent}{underline}{suggestion}"
    ).rstrip()


def summary(problems: Sequence[Problem], not_applied: int) -> str:
    """The last line: `1 error, 3 objects not applied`."""
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    parts = [_count(errors, "error")] if errors else []
    parts += [_count(warnings, "warning")] if warnings else []
    parts += [f"{_count(not_applied, 'object')} not applied"] if not_applied else []
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
