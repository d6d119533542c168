"""The one exception of everything that can go wrong with an expression."""

from typing import Literal

Stage = Literal["compile", "evaluate", "budget"]


class CelError(Exception):
    """An expression can't be compiled, failed, or would cost too much.

    Args:
        reason: what is wrong, in words for whoever wrote the expression.
        expression: its text.
        stage: `compile` (always wrong), `evaluate` (wrong with these values) or `budget` (too expensive).
        line: of the error within the expression, from 1; 0 when unknown.
        column: in that line, from 1; 0 when unknown.
        path: of the field that holds the expression, where a template knows it.
    """

    def __init__(
        self,
        reason: str,
        expression: str = "",
        stage: Stage = "evaluate",
        line: int = 0,
        column: int = 0,
        path: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.expression = expression
        self.stage: Stage = stage
        self.line = line
        self.column = column
        self.path = path

    def __str__(self) -> str:
        """`1:4: reason`, with the field before it where it is known; the expression itself isn't repeated."""
        place = f"{self.line}:{self.column}: " if self.line else ""
        return f"{self.path}: {place}{self.reason}" if self.path else f"{place}{self.reason}"
